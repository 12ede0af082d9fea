/** Of ajv what the test of the schemas uses: its own types are those of all its options. */
declare module 'ajv/dist/2020.js' {
  interface Fault {
    keyword: string
    instancePath: string
    message?: string
  }
  export interface ValidateFunction {
    (data: unknown): boolean
    errors?: Fault[] | null
  }
  export class Ajv2020 {
    constructor(options: { strictTypes: boolean })
    compile(schema: unknown): ValidateFunction
  }
}

/** Files that are compiled in as they are. */
declare module '*.conflist' {
  const text: string
  export default text
}
declare module '*.service' {
  const text: string
  export default text
}
declare module '*.socket' {
  const text: string
  export default text
}
declare module '*.timer' {
  const text: string
  export default text
}

/** Parts of pages that are compiled in as they are. */
declare module '*.css' {
  const text: string
  export default text
}
declare module '*/page.js' {
  const text: string
  export default text
}

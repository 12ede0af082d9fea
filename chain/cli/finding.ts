/** What an examination of a node says. */

/** `problem`: something that is there does not work; `notice`: something that can be had elsewhere cannot be had here. */
export interface Finding {
  about: string
  level: 'fine' | 'notice' | 'problem'
  says: string
  hint?: string
}

/** What an examination of a node says. */
import type { Label } from '../observe/model.ts'
import type { Step } from './doctor/step.ts'

/** `problem`: something that is there does not work; `notice`: something that can be had elsewhere cannot be had here, or will not work before long. */
export interface Finding {
  about: string
  level: 'fine' | 'notice' | 'problem'
  says: string
  hint?: string
  /** Of what containers have, and have left: which kind of damage it is ("leaked-address"). */
  kind?: string
  label?: Label
  /** What comes of it. */
  why?: string
  /** What it was concluded from, in sentences. */
  evidence?: readonly string[]
  /** What mends it, for a shell. */
  commands?: readonly string[]
  /** What `--repair` does; absent where it is not ours to mend. */
  repair?: readonly Step[]
}

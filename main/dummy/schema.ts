/** dummy's configuration. */
import * as z from 'zod/mini'
import { ipam } from '../../chain/plugin/schema.ts'

export const configuration = z.object({ ipam })

/**
 * A caller in a process of its own; prints the answer, if there is one. usage: caller.ts PLUGIN [insist], with a plugin's environment
 * and standard input. Who insists calls again where the service was too slow to take the call, as on a machine with much to do.
 */
import { callService } from '../../chain/service/client.ts'

const [plugin = '', insists] = process.argv.slice(2)
const environment = Object.fromEntries(
  Object.entries(process.env).map(([name, value]) => [name, value ?? '']),
)
const input = await Bun.stdin.text()
let answer = callService(plugin, environment, input)
for (let attempt = 0; insists && !answer && attempt < 50; attempt++)
  answer = callService(plugin, environment, input)
console.log(JSON.stringify({ answer }))

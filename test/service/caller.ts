/** A caller in a process of its own. usage: caller.ts PLUGIN, with a plugin's environment and standard input; prints the answer, if there is one */
import { callService } from '../../chain/service/client.ts'

const [plugin = ''] = process.argv.slice(2)
const environment = Object.fromEntries(
  Object.entries(process.env).map(([name, value]) => [name, value ?? '']),
)
const answer = callService(plugin, environment, await Bun.stdin.text())
console.log(JSON.stringify({ answer }))

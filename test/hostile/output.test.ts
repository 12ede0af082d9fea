/** An ADD whose result cannot be handed over has failed: it is undone, and the log has the reason. */
import { afterAll, expect, test } from 'bun:test'
import { removeBridges } from '../fixtures/bridge.ts'
import { freshNamespace } from '../fixtures/namespace.ts'
import { ourExecutable, ours } from '../fixtures/plugin.ts'
import { difference, snapshot } from '../fixtures/snapshot.ts'

afterAll(removeBridges)

const config = {
  cniVersion: '1.1.0',
  name: 'output-net',
  type: 'bridge',
  bridge: 'output0',
  ipMasq: true,
  ipam: { type: 'host-local', subnet: '10.62.0.0/24' },
}
const prevResult = {
  cniVersion: '1.1.0',
  interfaces: [{ name: 'eth0', sandbox: '/x' }],
  ips: [{ address: '10.62.0.9/24', interface: 0 }],
}
const portmap = {
  ...config,
  type: 'portmap',
  prevResult,
  runtimeConfig: { portMappings: [{ hostPort: 8062, containerPort: 80, protocol: 'tcp' }] },
}

/** Ways in which standard output cannot be written, in a shell. */
const outputs = [
  { name: 'a full file', script: 'exec "$0" >/dev/full', why: 'No space left on device' },
  {
    name: 'a pipe that is not read',
    script: 'exec 3> >(:); wait $!; exec "$0" >&3 3>&-',
    why: 'Broken pipe',
  },
  { name: 'a descriptor for reading alone', script: 'exec "$0" 1</dev/null', why: 'Bad file descriptor' },
]

test.each(
  outputs.flatMap(output => [config, portmap].map(given => ({ ...output, type: given.type, given }))),
)('$type: ADD into $name leaves nothing', ({ given, script, why }) => {
  using container = freshNamespace('output')
  const before = snapshot()
  const { exitCode, stderr } = Bun.spawnSync(['bash', '-c', script, ourExecutable(given.type)], {
    env: {
      PATH: process.env.PATH,
      CNI_COMMAND: 'ADD',
      CNI_CONTAINERID: container.name,
      CNI_NETNS: container.path,
      CNI_IFNAME: 'eth0',
      CNI_PATH: ours,
    },
    stdin: Buffer.from(JSON.stringify(given)),
  })
  expect({ exitCode, stderr: stderr.toString() }).toEqual({
    exitCode: 1,
    stderr: expect.stringContaining(why),
  })
  expect(container.links().map(({ name }) => name)).toEqual(['lo'])
  expect(
    difference(before, snapshot()).added.filter(
      line => !/last_reserved|\/host-local\/|route_localnet|localnet/.test(line),
    ),
  ).toEqual([])
})

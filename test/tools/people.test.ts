import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { code } from '../../chain/protocol/error.ts'
import { removeBridges } from '../fixtures/bridge.ts'
import { ours } from '../fixtures/plugin.ts'

const root = `${import.meta.dir}/../..`

const read = (path: string) => Bun.file(`${root}/${path}`).text()

async function sources(isMeant = (_path: string) => true): Promise<string> {
  const paths = ['chain', 'main', 'ipam', 'meta', 'tools/static'].flatMap(folder => [
    ...new Bun.Glob(`${folder}/**/*.{ts,c}`).scanSync({ cwd: root }),
  ])
  return (await Promise.all(paths.filter(isMeant).map(read))).join('\n')
}

describe('docs/errors.md', () => {
  test('has a part for each code, and for no other', async () => {
    const page = await read('docs/errors.md')
    const parts = Array.from(page.matchAll(/^## (\d+): (\w+)$/gm), ([, number, name]) => [
      name,
      Number(number),
    ])
    expect(Object.fromEntries(parts)).toEqual(code)
    expect(parts.map(([, number]) => number)).toEqual(Object.values(code).toSorted((a, b) => a - b))
  })

  test('quotes what the plugins say', async () => {
    const page = await read('docs/errors.md')
    const said = await sources()
    const cells = Array.from(page.matchAll(/^\| (`[^|]+) \|/gm), ([, cell = '']) => cell)
    const phrases = cells.flatMap(cell =>
      Array.from(cell.matchAll(/`([^`]+)`/g), ([, phrase = '']) => phrase),
    )
    const fragments = phrases
      .flatMap(phrase => phrase.split('…'))
      .map(each => each.trim().replace(/^:\s*/, ''))
    // what the kernel's errors are called is put together
    const known = fragments.filter(each => each.length > 3 && !/\(E[A-Z]+\)$/.test(each))
    expect(known.length).toBeGreaterThan(50)
    expect(known.filter(fragment => !said.includes(fragment))).toEqual([])
  })
})

describe('docs/operate.md', () => {
  test('names every path of state that the code has', async () => {
    const page = await read('docs/operate.md')
    const said = await sources(path => !path.startsWith('chain/cli/')) // which looks at what is others'
    const paths = Array.from(
      said.matchAll(/['`](\/(?:run|etc|var\/lib)\/[\w./-]+)/g),
      ([, path = '']) => path,
    )
    const below = Array.from(said.matchAll(/RUN_FOLDER\}\/([\w-]+)/g), ([, name]) => `/run/catena/${name}`)
    const records = Array.from(
      said.matchAll(/recordsIn<[^(]*\(\s*'([\w-]+)/g),
      ([, name]) => `/run/catena/${name}`,
    )
    const all = [...new Set([...paths, ...below, ...records])].map(path => path.replace(/\/$/, ''))
    expect(records.length).toBeGreaterThan(4)
    const isNamed = (path: string) =>
      page.includes(`\`${path}\``) || page.includes(`\`${path.replace(/\/[^/]*$/, '')}\``)
    expect(all.filter(path => !isNamed(path))).toEqual([])
  })
})

test('docs/glossary.md has each word once, in order, in one sentence', async () => {
  const rows = Array.from((await read('docs/glossary.md')).matchAll(/^\| ([\w-][\w -]*) \| (.*) \|$/gm))
  const entries = rows.filter(([, word]) => word !== 'word')
  const words = entries.map(([, word = '']) => word)
  expect(words.length).toBeGreaterThan(20)
  expect(words).toEqual([...new Set(words)].toSorted((a, b) => a.localeCompare(b, 'en')))
  expect(
    entries.filter(([, , says = '']) => !/^[^.]*(\.\d[^.]*)*\.$/.test(says)).map(([row]) => row),
  ).toEqual([])
})

/** A page's links that lead to files that are not there. */
async function deadLinks(path: string): Promise<string[]> {
  const text = await read(path)
  const folder = `${root}/${path}`.replace(/[^/]*$/, '')
  const targets = Array.from(text.matchAll(/\]\(([^)\s]+)\)/g), ([, target = '']) => target)
  const dead = await Promise.all(
    targets.map(async target => {
      if (/^[a-z]+:/.test(target)) return []
      const [file = '', anchor] = target.split('#')
      const there = file === '' ? `${root}/${path}` : `${folder}${file}`
      if (!existsSync(there)) return [target]
      if (anchor === undefined) return []
      const headings = Array.from(
        (await Bun.file(there).text()).matchAll(/^#+ (.*)$/gm),
        ([, heading = '']) => heading,
      )
      const anchors = headings.map(heading =>
        heading
          .toLowerCase()
          .replaceAll(/[^\w -]/g, '')
          .replaceAll(' ', '-'),
      )
      return anchors.includes(anchor) ? [] : [target]
    }),
  )
  return dead.flat()
}

const documents = ['*.md', 'docs/**/*.md', 'test/**/*.md'].flatMap(pattern => [
  ...new Bun.Glob(pattern).scanSync({ cwd: root }),
])

test.each(documents)('no link of %s leads nowhere', async path => {
  expect(await deadLinks(path)).toEqual([])
})

const CONFIGURATIONS = '/etc/cni/net.d'

const list = (backend: string) => ({
  cniVersion: '1.1.0',
  name: `privileges-${backend}`,
  plugins: [
    {
      type: 'bridge',
      bridge: 'privileges0',
      isDefaultGateway: true,
      ipMasq: true,
      ipMasqBackend: backend,
      ipam: { type: 'host-local', ranges: [[{ subnet: '10.77.0.0/16' }]] },
    },
    { type: 'portmap', backend, capabilities: { portMappings: true } },
    { type: 'firewall', backend },
    { type: 'tuning', sysctl: { 'net.core.somaxconn': '512' } },
  ],
})

function shell(script: string): { status: number; output: string } {
  const { exitCode, stdout } = Bun.spawnSync(['sh', '-c', `exec 2>&1\n${script}`], {
    env: { PATH: `${process.env.PATH}:/usr/sbin:/sbin:${ours}`, CNI_PATH: ours },
  })
  return { status: exitCode, output: stdout.toString() }
}

const withCapabilities = (names: readonly string[], command: string) =>
  shell(
    `exec setpriv --bounding-set=-all${names.map(name => `,+${name}`).join('')} --inh-caps=-all -- ${command}`,
  )

describe('what docs/operate.md says about privileges', () => {
  beforeAll(() => {
    mkdirSync(CONFIGURATIONS, { recursive: true })
    // folders of state that other tests have made unreadable for whoever may not read everything
    for (const folder of ['/run/cni', '/run/catena']) rmSync(folder, { recursive: true, force: true })
    for (const backend of ['nftables', 'iptables']) {
      writeFileSync(`${CONFIGURATIONS}/privileges-${backend}.conflist`, JSON.stringify(list(backend)))
    }
    expect(shell('ip netns add limited')).toEqual({ status: 0, output: '' })
  })
  afterAll(() => {
    shell('ip netns delete limited')
    removeBridges()
  })

  const ports = `--cap-args '{"portMappings":[{"hostPort":8077,"containerPort":80,"protocol":"tcp"}]}'`

  test.each(['nftables', 'iptables'])('CAP_NET_ADMIN and CAP_SYS_ADMIN suffice: %s', backend => {
    for (const command of [
      `add privileges-${backend} limited ${ports}`,
      `check privileges-${backend} limited`,
      `del privileges-${backend} limited`,
    ]) {
      const { status, output } = withCapabilities(['net_admin', 'sys_admin'], `catena ${command}`)
      expect({ command, status, output: status === 0 ? '' : output }).toEqual({
        command,
        status: 0,
        output: '',
      })
    }
  })

  test.each([
    ['sys_admin', 'net_admin', /enter network namespace [^:]*: Operation not permitted \(EPERM\)/],
    ['net_admin', 'sys_admin', /create veth [^:]*: Operation not permitted \(EPERM\)/],
  ])('without CAP_%s the error says so', (_, other, words) => {
    const { status, output } = withCapabilities([other], `catena add privileges-nftables limited ${ports}`)
    expect(status).toBe(1)
    expect(output).toMatch(words)
    shell('catena del privileges-nftables limited')
  })

  const hardened = (mounts: string, verb: string) =>
    shell(`exec unshare --mount sh -c '${mounts} && exec catena ${verb} privileges-nftables limited'`)
  const readOnly = (path: string) => `mount --bind ${path} ${path} && mount -o remount,ro,bind ${path}`

  test('what a read-only /proc/sys and a read-only /run do is said in words', () => {
    shell('echo 0 >/proc/sys/net/ipv4/ip_forward')
    const tunables = hardened(readOnly('/proc/sys'), 'add')
    expect(tunables.output).toContain('open /proc/sys/net/ipv4/ip_forward: Read-only file system (EROFS)')
    expect(shell('catena del privileges-nftables limited').status).toBe(0)
    const run = hardened(readOnly('/run'), 'add')
    expect(run.output).toMatch(/open \/run\/catena\/[^:]*: Read-only file system \(EROFS\)/)
    expect(shell('catena del privileges-nftables limited').status).toBe(0)
  })

  test.each([
    [
      'RestrictNamespaces',
      'namespaces',
      'enter network namespace /run/netns/limited: Operation not permitted (EPERM)',
    ],
    ['RestrictAddressFamilies', 'netlink', 'Address family not supported by protocol (EAFNOSUPPORT)'],
  ])('what %s does is said in words', (_, denied, words) => {
    const program = '/run/deny'
    expect(Bun.spawnSync(['gcc', '-o', program, `${root}/test/static/deny.c`]).stderr.toString()).toBe('')
    const { status, output } = shell(
      `exec ${program} ${denied} ${ours}/catena add privileges-nftables limited ${ports}`,
    )
    expect({ status, output }).toEqual({ status: 1, output: expect.stringContaining(words) })
    expect(shell('catena del privileges-nftables limited').status).toBe(0)
  })
})

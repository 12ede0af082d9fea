/** What a release is packed in: archives that others read, an image whose digests are right, manifests that say what the command takes. */
import { expect, test } from 'bun:test'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { version } from '../../package.json'
import { imageOf } from '../../tools/release/image.ts'
import { tar } from '../../tools/release/tar.ts'
import { ourExecutable } from '../fixtures/plugin.ts'

const root = `${import.meta.dir}/../..`
const text = (content: string) => new TextEncoder().encode(content)

/** GNU tar's words on an archive. */
function read(archive: Uint8Array, ...words: string[]): string {
  const { exitCode, stdout, stderr } = Bun.spawnSync(['tar', ...words], {
    stdin: Buffer.from(archive),
    env: { TZ: 'UTC' },
  })
  expect({ exitCode, stderr: `${stderr}` }).toEqual({ exitCode: 0, stderr: '' })
  return stdout.toString()
}

test('GNU tar reads our archives: folders, files of any length, links, rights, time and owner', () => {
  const folder = mkdtempSync('/run/tar-')
  try {
    const archive = tar(
      [
        { name: 'a/', mode: 0o755 },
        { name: 'a/file', mode: 0o640, content: text('x'.repeat(513)) },
        { name: 'a/empty', mode: 0o644, content: text('') },
        { name: 'a/link', mode: 0o640, linkTo: 'a/file' },
      ],
      1_000_000_000,
    )
    expect(archive.length % 512).toBe(0)
    const lines = read(archive, '-tvf', '-', '--numeric-owner').trim().split('\n')
    expect(lines.map(line => line.replace(/\s+/g, ' '))).toEqual([
      'drwxr-xr-x 0/0 0 2001-09-09 01:46 a/',
      '-rw-r----- 0/0 513 2001-09-09 01:46 a/file',
      '-rw-r--r-- 0/0 0 2001-09-09 01:46 a/empty',
      'hrw-r----- 0/0 0 2001-09-09 01:46 a/link link to a/file',
    ])
    read(archive, '-xf', '-', '-C', folder)
    expect(readFileSync(`${folder}/a/link`, 'utf8')).toBe('x'.repeat(513))
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('a name that no archive can hold is refused', () => {
  expect(() => tar([{ name: 'n'.repeat(101), mode: 0o644 }], 0)).toThrow('too long')
})

test('every blob of an image is what its name says, from the index down to the file, for both processors', () => {
  const executables = { amd64: text('for amd64'), arm64: text('for arm64') }
  const variants = (['amd64', 'arm64'] as const).map(architecture => ({
    architecture,
    executable: executables[architecture],
  }))
  const about = { name: 'localhost/catena:1', version: '1', commit: 'c', seconds: 1_000_000_000 }
  const image = imageOf(variants, about)
  expect(Buffer.from(image).equals(Buffer.from(imageOf(variants, about)))).toBe(true)
  const folder = mkdtempSync('/run/image-')
  try {
    read(image, '-xf', '-', '-C', folder)
    const sha256 = (bytes: Uint8Array) =>
      `sha256:${new Bun.CryptoHasher('sha256').update(bytes).digest('hex')}`
    const blob = ({ digest, size }: { digest: string; size: number }) => {
      const bytes = readFileSync(`${folder}/blobs/${digest.replace(':', '/')}`)
      expect({ digest: sha256(bytes), size: bytes.length }).toEqual({ digest, size })
      return bytes
    }
    const json = (descriptor: { digest: string; size: number }) => JSON.parse(blob(descriptor).toString())
    const [named] = JSON.parse(readFileSync(`${folder}/index.json`, 'utf8')).manifests
    expect(named.annotations['io.containerd.image.name']).toBe('localhost/catena:1')
    for (const { platform, ...descriptor } of json(named).manifests) {
      const manifest = json(descriptor)
      const config = json(manifest.config)
      expect(config).toMatchObject({
        architecture: platform.architecture,
        os: 'linux',
        config: { Entrypoint: ['/catena'] },
      })
      const layer = Bun.gunzipSync(new Uint8Array(blob(manifest.layers[0])))
      expect(sha256(layer)).toBe(config.rootfs.diff_ids[0])
      expect(read(layer, '-xOf', '-', 'catena')).toBe(`for ${platform.architecture}`)
    }
  } finally {
    rmSync(folder, { recursive: true })
  }
})

interface Container {
  image: string
  args?: string[]
  securityContext: { capabilities: unknown }
  volumeMounts?: { name: string }[]
}

const yaml = (path: string) =>
  Bun.YAML.parse(readFileSync(`${root}/deploy/kubernetes/${path}`, 'utf8')) as never

test('the DaemonSet and its removal say what this version of the command takes', () => {
  const { spec } = (yaml('base/daemonset.yaml') as { spec: { template: { spec: object } } }).spec.template
  const { initContainers, volumes } = spec as { initContainers: Container[]; volumes: { name: string }[] }
  const { images } = yaml('base/kustomization.yaml') as { images: { newName: string; newTag: string }[] }
  expect(images).toMatchObject([{ newName: 'localhost/catena', newTag: version }])
  const { patches } = yaml('uninstall/kustomization.yaml') as { patches: { patch: string }[] }
  const [{ value: removal }] = Bun.YAML.parse(patches[0]?.patch ?? '') as [{ value: Container[] }]
  expect(removal.map(({ image }) => image)).toEqual([`localhost/catena:${version}`])
  const place = mkdtempSync('/run/host-')
  try {
    const ends = [...initContainers, ...removal].map(({ args = [], volumeMounts = [] }) => {
      const known = volumeMounts.every(({ name }) => volumes.some(volume => volume.name === name))
      const words = args.map(word => (word === '/host' ? place : word))
      return {
        args,
        known,
        status: Bun.spawnSync([ourExecutable('catena'), ...words], { stdout: 'ignore' }).exitCode,
      }
    })
    expect(ends).toEqual(ends.map(({ args }) => ({ args, known: true, status: 0 })))
    expect(ends).toHaveLength(3)
  } finally {
    rmSync(place, { recursive: true })
  }
})

test('what stays of the DaemonSet is of the same image, small, and ends when it is told to, as process 1 too', async () => {
  const { spec } = (
    yaml('base/daemonset.yaml') as { spec: { template: { spec: { containers: Container[] } } } }
  ).spec.template
  const [staying, ...more] = spec.containers
  expect({ image: staying?.image, more }).toEqual({ image: 'catena', more: [] })
  const words = [
    'unshare',
    '--pid',
    '--fork',
    '--kill-child',
    ourExecutable('catena'),
    ...(staying?.args ?? []),
  ]
  const parent = Bun.spawn(words, { stdout: 'pipe' })
  const { value } = await parent.stdout.getReader().read()
  expect(new TextDecoder().decode(value)).toStartWith(`catena ${version} `)
  const pid = Number(readFileSync(`/proc/${parent.pid}/task/${parent.pid}/children`, 'utf8'))
  const own = /^Anonymous: +(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1]
  expect(Number(own)).toBeLessThan(8000)
  process.kill(pid, 'SIGTERM')
  expect(await parent.exited).toBe(0)
})

test('the two commands at the top of the README are those of the page that test/release/node.sh runs', () => {
  const commandsOf = (page: string) =>
    /```sh\n([\s\S]*?)```/.exec(readFileSync(`${root}/${page}`, 'utf8'))?.[1]
  expect(commandsOf('README.md')).toContain('catena install')
  expect(commandsOf('README.md')).toBe(commandsOf('docs/install.md') ?? '')
})

test('where a runtime looks elsewhere, the second container of the DaemonSet fails', () => {
  const place = mkdtempSync('/run/host-')
  try {
    const run = (...words: string[]) =>
      Bun.spawnSync([ourExecutable('catena'), ...words, '--root', place], { stdout: 'ignore' }).exitCode
    expect(run('install')).toBe(0)
    Bun.spawnSync(['mkdir', '-p', `${place}/etc/containerd`])
    const section = '[plugins."io.containerd.grpc.v1.cri".cni]'
    writeFileSync(
      `${place}/etc/containerd/config.toml`,
      `version = 2\n${section}\nbin_dir = "/usr/lib/cni"\n`,
    )
    expect(run('doctor', '--node')).toBe(1)
  } finally {
    rmSync(place, { recursive: true })
  }
})

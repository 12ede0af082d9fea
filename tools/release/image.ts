/**
 * An OCI image of nothing but the executable, for each processor that there is one for, as one archive that containerd, podman and
 * skopeo read (https://github.com/opencontainers/image-spec, image-layout.md). Needs no daemon.
 */
import { tar } from './tar.ts'

export interface Variant {
  /** Go's word for the processor. */
  architecture: 'amd64' | 'arm64'
  executable: Uint8Array
}

interface Descriptor {
  mediaType: string
  digest: string
  size: number
}

/** The archive of an image with a name. */
export function imageOf(
  variants: readonly Variant[],
  about: { name: string; version: string; commit: string; seconds: number },
): Uint8Array {
  const { name, version, commit, seconds } = about
  const blobs = new Map<string, Uint8Array>()
  const keep = (mediaType: string, content: Uint8Array): Descriptor => {
    const digest = `sha256:${sha256(content)}`
    blobs.set(digest, content)
    return { mediaType, digest, size: content.length }
  }
  const document = (mediaType: string, value: object) => keep(mediaType, Buffer.from(JSON.stringify(value)))
  const created = new Date(1000 * seconds).toISOString()
  const annotations = {
    'org.opencontainers.image.created': created,
    'org.opencontainers.image.licenses': 'Apache-2.0',
    'org.opencontainers.image.revision': commit,
    'org.opencontainers.image.title': 'catena',
    'org.opencontainers.image.version': version,
  }
  const manifests = variants.map(({ architecture, executable }) => {
    const layer = tar([{ name: 'catena', mode: 0o755, content: executable }], seconds)
    const config = document('application/vnd.oci.image.config.v1+json', {
      created,
      architecture,
      os: 'linux',
      config: { Entrypoint: ['/catena'], WorkingDir: '/', Labels: annotations },
      rootfs: { type: 'layers', diff_ids: [`sha256:${sha256(layer)}`] },
      history: [{ created, created_by: 'catena' }],
    })
    const layers = [
      keep('application/vnd.oci.image.layer.v1.tar+gzip', Bun.gzipSync(Buffer.from(layer), { level: 9 })),
    ]
    const manifest = { schemaVersion: 2, mediaType: MANIFEST, config, layers, annotations }
    return { ...document(MANIFEST, manifest), platform: { architecture, os: 'linux' } }
  })
  const list = document(INDEX, { schemaVersion: 2, mediaType: INDEX, manifests, annotations })
  const named = {
    ...list,
    annotations: { 'io.containerd.image.name': name, 'org.opencontainers.image.ref.name': version },
  }
  const files = [
    { name: 'oci-layout', content: Buffer.from('{"imageLayoutVersion":"1.0.0"}') },
    {
      name: 'index.json',
      content: Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: INDEX, manifests: [named] })),
    },
    ...[...blobs].map(([digest, content]) => ({ name: `blobs/${digest.replace(':', '/')}`, content })),
  ]
  return tar(
    files.map(file => ({ ...file, mode: 0o644 })),
    seconds,
  )
}

const MANIFEST = 'application/vnd.oci.image.manifest.v1+json'
const INDEX = 'application/vnd.oci.image.index.v1+json'

const sha256 = (content: Uint8Array) => new Bun.CryptoHasher('sha256').update(content).digest('hex')

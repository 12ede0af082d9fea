/** What executables are built for. */

export interface Target {
  /** Bun's word for it, after "bun-linux-". */
  bun: string
  /** The npm package that holds Bun for musl. */
  package: string
  /** The compiler's word for the processor, and what precedes the names of its tools. */
  machine: 'x86_64' | 'aarch64'
  prefix: string
  flags: readonly string[]
}

const processor = process.arch === 'arm64' ? 'aarch64' : 'x86_64'

function target(
  bun: string,
  name: string,
  machine: Target['machine'],
  flags: readonly string[] = [],
): Target {
  return {
    bun,
    package: `@oven/bun-linux-${name}`,
    machine,
    prefix: machine === processor ? '' : `${machine}-linux-gnu-`,
    flags,
  }
}

export const targets: Readonly<Record<string, Target>> = {
  x64: target('x64-musl', 'x64-musl', 'x86_64'),
  /** For processors without AVX2 (before 2013). */
  'x64-baseline': target('x64-musl-baseline', 'x64-musl-baseline', 'x86_64'),
  // libgcc's helpers for atomics look at a variable of glibc's
  arm64: target('arm64-musl', 'aarch64-musl', 'aarch64', ['-mno-outline-atomics']),
}

export const thisMachine = process.arch === 'arm64' ? 'arm64' : 'x64'

/** The built executable's own warm service, as an installation runs it; its callers come through the loader. And what strikes it. */
import { readdirSync } from 'node:fs'
import { askStatus } from '../../chain/service/client.ts'
import type { StatusDocument } from '../../chain/service/status.ts'
import { type Call, environmentOf, ourExecutable, ours, stdinOf, type Verb } from '../fixtures/plugin.ts'

export interface BuiltService extends AsyncDisposable {
  pid: number
  /** What it has logged. */
  log(): string
  status(): StatusDocument
  /** The process that does the calls of a service with one worker; waits for it where it has just been started. */
  worker(): number
  /** Ends it by a signal; answers the exit status, 128 and the signal's number where it died of it. */
  end(signal?: NodeJS.Signals): Promise<number>
}

/** Starts a service and waits until a worker answers. One worker unless said otherwise, so that it is known who does a call. */
export async function builtService(...flags: string[]): Promise<BuiltService> {
  const words = [
    ourExecutable('catena'),
    'serve',
    ...(flags.length > 0 ? flags : ['--workers', '1', '--most', '1']),
  ]
  const service = started(words)
  await service.logged(/serving at/)
  service.status()
  return service
}

/** Starts any program that may become a service; waits for nothing. */
export function started(words: string[]) {
  const child = Bun.spawn(words, { stdin: 'ignore', stdout: 'ignore', stderr: 'pipe' })
  const reader = child.stderr.getReader()
  const decoder = new TextDecoder()
  let text = ''
  const status = () => {
    const answer = askStatus(20_000)
    if (!answer) throw new Error(`the service does not answer: ${text}`)
    return answer
  }
  const end = async (signal: NodeJS.Signals = 'SIGTERM') => {
    child.kill(signal)
    return await child.exited
  }
  return {
    pid: child.pid,
    exited: child.exited,
    log: () => text,
    /** Waits for words in the log. */
    async logged(words: RegExp) {
      while (!words.test(text)) {
        const { value, done } = await reader.read()
        if (done) throw new Error(`it has ended without ${words}: ${text}`)
        text += decoder.decode(value)
      }
    },
    status,
    worker: () => status().workers[0]?.process ?? 0,
    end,
    async [Symbol.asyncDispose]() {
      await end()
    },
  }
}

/** Compiles strike.c; answers the program's path. */
export function compileStrike(folder: string): string {
  const file = `${folder}/strike`
  const { exitCode, stderr } = Bun.spawnSync(['gcc', '-O1', '-o', file, `${import.meta.dir}/strike.c`])
  if (exitCode !== 0) throw new Error(stderr.toString())
  return file
}

export interface Struck {
  /** Of the caller: as a runtime sees it. 137 where it was killed. */
  status: number
  stdout: string
  stderr: string
  /** System calls that the worker made for the caller, up to the stroke or to the end. */
  calls: number
  /** Whether the stroke fell; not where the worker was done before. */
  fell: boolean
  milliseconds: number
}

export interface Stroke {
  program: string
  worker: number
  /** Who is killed, or the path of a namespace that is taken away. */
  whom: 'worker' | 'caller' | `/${string}`
  /** At which of the worker's system calls. */
  point: number
}

/** Calls a plugin, and strikes when the worker that does the call has come to a point. */
export async function strike(
  { program, worker, whom, point }: Stroke,
  { plugin, verb, call }: { plugin: string; verb: Verb; call: Call },
): Promise<Struck> {
  const words = [program, `${point}`, `${worker}`, whom, ourExecutable(plugin)]
  const begun = performance.now()
  const child = Bun.spawn(words, {
    env: environmentOf(verb, call, call.path ?? ours),
    stdin: Buffer.from(stdinOf(call)),
    stderr: 'pipe',
  })
  const [stdout, said, status] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited])
  const milliseconds = performance.now() - begun
  const [, log = '', word, calls = '0'] = /^([\s\S]*?)(struck|over) (\d+)\n$/.exec(said) ?? []
  if (!word) throw new Error(`strike.c says: ${said}`)
  return {
    ...{ status, stdout, stderr: log, milliseconds },
    ...{ calls: Number(calls), fell: word === 'struck' },
  }
}

/** How many descriptors a process has open. */
export function descriptorsOf(process: number): number {
  return readdirSync(`/proc/${process}/fd`).length
}

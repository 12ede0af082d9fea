/**
 * The worker of a warm service, held by a tracer for a call: system calls are refused to it as to a plugin that is a process. It lives on,
 * and the next call is to find it as it was.
 */
import { existsSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import { ourExecutable } from '../../fixtures/plugin.ts'
import { type BuiltService, builtService } from '../../torture/built-service.ts'
import { type Ended, injectionOf, type Place, type Point, placesIn, type Run } from './points.ts'

export interface HeldWorker {
  /** Starts a service. */
  begin(): Promise<void>
  /** As of points.ts, from the first byte that the caller says on. */
  placesOf(run: Run): Promise<Place[]>
  runWith(run: Run, point: Point): Promise<Ended | undefined>
  /** What is wrong with the worker since. */
  faults(): Promise<string[]>
  end(): Promise<void>
}

const trace = `/run/injection-${process.pid}.trace`
/** Milliseconds that a worker may take to let go of what a call had opened; and how often it is looked at meanwhile. */
const SETTLING = 3000
const LOOKING = 20

/** What a process has open; nothing where it has ended. What is being closed right now may be named by its number alone. */
function openOf(process: number): string[] {
  const folder = `/proc/${process}/fd`
  const targetOf = (name: string) => {
    try {
      return readlinkSync(`${folder}/${name}`)
    } catch {
      return name
    }
  }
  return existsSync(folder) ? readdirSync(folder).map(targetOf) : []
}

/** One worker, which makes room for no other meanwhile. */
const ONE_FOR_LONG = ['--workers', '1', '--most', '1', '--calls', '1000000', '--memory', '1000']

/** The exit status: whoever is not told it hears that the service has ended, as after a kill. */
const isLastWord = /^sendto\(\d+, "\\[01]", 1, /

export function heldWorker(): HeldWorker {
  let service: BuiltService | undefined
  let heldLast = 0
  /** How many descriptors it may have open: as many as a fresh one, and after a success a socket that it keeps for the next call. */
  let fresh = 0
  let usual = 0

  const afresh = async () => {
    await service?.end()
    service = await builtService(...ONE_FOR_LONG)
    fresh = (await openSettled(worker())).length
  }
  const worker = () => service?.worker() ?? 0

  /** What a worker has open once it has let go of what was a call's; waits as long as that is more than usual. */
  const openSettled = async (process: number, enough = 0): Promise<string[]> => {
    const end = performance.now() + (enough === 0 ? 4 * LOOKING : SETTLING)
    for (;;) {
      worker() // the status is a call too, after which a worker lets go of what the kernel has done with
      await pause(LOOKING)
      const open = openOf(process)
      if (open.length <= enough || performance.now() > end) return open
    }
  }

  /** Runs a plugin while the worker is traced. */
  const held = async (run: Run, options: readonly string[]): Promise<Ended & { traced: string }> => {
    const process = worker()
    heldLast = process
    const tracer = Bun.spawn(['strace', '-o', trace, ...options, '-p', `${process}`], { stderr: 'pipe' })
    await tracer.stderr.getReader().read() // "Process … attached"
    const caller = Bun.spawn([ourExecutable(run.type)], {
      env: run.environment,
      stdin: Buffer.from(run.stdin),
      stderr: 'pipe',
    })
    const [stdout, stderr, status] = await Promise.all([
      caller.stdout.text(),
      caller.stderr.text(),
      caller.exited,
    ])
    tracer.kill()
    await tracer.exited
    const traced = readFileSync(trace, 'latin1')
    rmSync(trace)
    const signal = existsSync(`/proc/${process}/exe`) ? undefined : 'SIGKILL'
    usual = fresh + (status === 0 ? 1 : 0)
    return { status, signal, stdout, stderr, traced }
  }

  return {
    begin: afresh,
    async placesOf(run) {
      const { status, stdout, traced } = await held(run, [])
      if (status !== 0) throw new Error(`${run.type} fails undisturbed: ${stdout}`)
      return placesIn(traced, 'recvmsg(').filter(({ text }) => !isLastWord.test(text))
    },
    async runWith(run, point) {
      const { traced, ...ended } = await held(run, injectionOf(point))
      const reached = point.error === 'killed' ? ended.signal !== undefined : traced.includes('(INJECTED)')
      // the caller is not killed with the worker: he has a document, and status 1
      return reached ? { ...ended, signal: undefined } : undefined
    },
    async faults() {
      if (worker() !== heldLast) {
        await afresh() // a service that loses workers takes its time to start others
        return []
      }
      const open = await openSettled(heldLast, usual)
      if (open.length <= usual) return []
      await afresh()
      return [`the worker has ${open.length} descriptors open, not ${usual}: ${open.join(', ')}`]
    },
    async end() {
      await service?.end()
    },
  }
}

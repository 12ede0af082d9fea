/** Who holds a lock, for the sentence of an error: found in /proc, where every open file tells its locks. */

import { decodeText } from './bytes.ts'
import { listFolder } from './files.ts'
import { errno, isErrno } from './libc/errno.ts'
import { close, O_RDONLY, open, type Place, readAll } from './libc/file.ts'
import { status } from './libc/status.ts'

const SHOWN = 3

/** "process 4711 (/opt/cni/bin/bridge, ADD, running for 41 s)", for the locks on a file or on one place in it. */
export function describeHolders(path: string, place?: Place): string {
  const inode = status(path)?.inode
  const holders = inode === undefined ? [] : findHolders(lockLine(inode, place))
  if (holders.length === 0) return 'a process that /proc does not show'
  const shown = holders.slice(0, SHOWN).map(describeProcess).join(', ')
  return holders.length > SHOWN ? `${shown} and ${holders.length - SHOWN} more` : shown
}

/** Matches "lock: 1: OFDLCK ADVISORY WRITE -1 00:1b:1234 START END" (proc_pid_fdinfo(5)). */
function lockLine(inode: string, place: Place | undefined): RegExp {
  const start = place && (BigInt(place.high) << 32n) + BigInt(place.low)
  return new RegExp(`^lock:\\s.*:${inode} ${start ?? '\\d+'} `, 'm')
}

function findHolders(line: RegExp): string[] {
  const processes = (listFolder('/proc') ?? []).filter(name => /^\d+$/.test(name))
  return processes.filter(pid => {
    const descriptors = quietly(() => listFolder(`/proc/${pid}/fdinfo`)) ?? []
    return descriptors.some(name => line.test(read(`/proc/${pid}/fdinfo/${name}`)))
  })
}

function describeProcess(pid: string): string {
  const commandLine = read(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').trim()
  if (isWorker.test(commandLine)) return `process ${pid} (a worker: catena serve --status says at what)`
  const command = commandLine || /^Name:\s+(.*)$/m.exec(read(`/proc/${pid}/status`))?.[1] || 'gone by now'
  const verb = /(?:^|\0)CNI_COMMAND=([A-Z]+)/.exec(read(`/proc/${pid}/environ`))?.[1]
  const seconds = secondsSinceStart(pid)
  const facts = [
    command.length > LONG ? `${command.slice(0, LONG)}…` : command,
    ...(verb ? [verb] : []),
    ...(seconds === undefined ? [] : [`running for ${seconds} s`]),
  ]
  return `process ${pid} (${facts.join(', ')})`
}

/** Of the warm service's, whose command line and age are not the call's. */
const isWorker = /^catena serve --worker /

const LONG = 160 // characters of a command line

const TICKS = 100 // USER_HZ, the unit of /proc/<pid>/stat on all our machines
const START_TIME = 19 // the 22nd field of proc_pid_stat(5), counted after the command's name

function secondsSinceStart(pid: string): number | undefined {
  const text = read(`/proc/${pid}/stat`)
  const started = Number(text.slice(text.lastIndexOf(')') + 2).split(' ')[START_TIME])
  const uptime = Number.parseFloat(read('/proc/uptime'))
  const seconds = Math.round(uptime - started / TICKS)
  return Number.isNaN(seconds) ? undefined : Math.max(0, seconds)
}

function read(path: string): string {
  return (
    quietly(() => {
      const descriptor = open(path, O_RDONLY)
      try {
        return decodeText(readAll(descriptor, path))
      } finally {
        close(descriptor)
      }
    }) ?? ''
  )
}

/** Processes come and go while one looks, and some may not be looked at. */
function quietly<T>(body: () => T): T | undefined {
  try {
    return body()
  } catch (thrown) {
    if (isErrno(thrown, errno.ENOENT, errno.ESRCH, errno.EACCES, errno.EPERM)) return undefined
    throw thrown
  }
}

import { afterEach, expect, test } from 'bun:test'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { RUN_FOLDER, recordsIn } from '../../chain/plugin/state.ts'
import type { Attachment } from '../../chain/protocol/attachment.ts'

const NAME = 'state-test'
afterEach(() => rmSync(`${RUN_FOLDER}/${NAME}`, { recursive: true, force: true }))

/** A record as it stands in a file. */
function written(record: object): void {
  mkdirSync(`${RUN_FOLDER}/${NAME}`, { recursive: true })
  writeFileSync(`${RUN_FOLDER}/${NAME}/one.json`, JSON.stringify(record))
}

const older = { network: 'net', containerId: 'c1', interface: 'eth0' }
const attachment: Attachment = { network: 'net', containerId: 'c1', ifname: 'eth0' }

test('an attachment in a record of an older version is understood', () => {
  const records = recordsIn<Attachment & { netns: string }>(NAME, ({ ifname }) => ifname === 'eth0')
  written({ ...older, netns: '/run/netns/c1' })
  expect(records.recall('one')).toEqual({ ...attachment, netns: '/run/netns/c1' })
})

test('so are the attachments of interfaces that share a chain, under whatever name', () => {
  const records = recordsIn<Record<string, { attachment: Attachment }>>(NAME, () => true)
  written({ interface: { attachment: { ...older, interface: 'interface' } } })
  expect(records.recall('one')).toEqual({ interface: { attachment: { ...attachment, ifname: 'interface' } } })
})

test('what is recorded now is read as it was', () => {
  const records = recordsIn<Attachment>(NAME, () => true)
  records.remember('one', attachment)
  expect(records.recall('one')).toEqual(attachment)
})

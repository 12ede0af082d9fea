/** The cache in libcni's place and format: either runtime finds what the other left. */
import { expect, test } from 'bun:test'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { listCached, readCached, removeCached, writeCached } from '../../chain/runtime/cache.ts'
import { delNetworkList, getCachedResult, parseNetworkList } from '../../chain/runtime/network.ts'
import { fakePlugins } from '../fixtures/fake.ts'

function cache() {
  const cacheFolder = mkdtempSync('/run/cache-')
  mkdirSync(`${cacheFolder}/results`, { mode: 0o700 })
  return {
    cacheFolder,
    put: (name: string, text: string) => writeFileSync(`${cacheFolder}/results/${name}`, text),
    files: () => readdirSync(`${cacheFolder}/results`),
    [Symbol.dispose]: () => rmSync(cacheFolder, { recursive: true }),
  }
}

const key = { network: 'net', containerId: 'container-1', ifname: 'eth0' }

const full = {
  ...key,
  netns: '/run/netns/one',
  args: [
    ['IgnoreUnknown', '1'],
    ['K8S_POD_NAME', 'a<b'],
  ] as const,
  capabilityArgs: { portMappings: [{ hostPort: 80, containerPort: 8080 }], mac: '02:00:00:00:00:01' },
  configuration: '{"name": "net"}',
  result: { cniVersion: '1.1.0', ips: [{ gateway: '10.1.0.1', address: '10.1.0.2/16' }], dns: {} },
}

// the field order of libcni's struct cachedInfo; maps in alphabetical order; encoding/json's escapes
const wire =
  '{"kind":"cniCacheV1","containerId":"container-1","config":"eyJuYW1lIjogIm5ldCJ9","ifName":"eth0","networkName":"net",' +
  '"netns":"/run/netns/one","cniArgs":[["IgnoreUnknown","1"],["K8S_POD_NAME","a\\u003cb"]],' +
  '"capabilityArgs":{"mac":"02:00:00:00:00:01","portMappings":[{"containerPort":8080,"hostPort":80}]},' +
  '"result":{"cniVersion":"1.1.0","dns":{},"ips":[{"address":"10.1.0.2/16","gateway":"10.1.0.1"}]}}'

test('an attachment is kept in the file, the format and the permissions of libcni', () => {
  using place = cache()
  rmSync(`${place.cacheFolder}/results`, { recursive: true })
  writeCached(full, place)
  const file = `${place.cacheFolder}/results/net-container-1-eth0`
  expect(readFileSync(file, 'utf8')).toBe(wire)
  expect(statSync(file).mode & 0o777).toBe(0o600)
  expect(statSync(`${place.cacheFolder}/results`).mode & 0o777).toBe(0o700)
  expect(place.files()).toEqual(['net-container-1-eth0'])
})

test('what libcni kept is read', () => {
  using place = cache()
  place.put('net-container-1-eth0', wire)
  expect(readCached(key, place)).toEqual(full as never)
})

test('empty parts are left out, as libcni leaves them out', () => {
  using place = cache()
  writeCached({ ...key, configuration: '{}', args: [], capabilityArgs: {}, netns: '' }, place)
  expect(readFileSync(`${place.cacheFolder}/results/net-container-1-eth0`, 'utf8')).toBe(
    '{"kind":"cniCacheV1","containerId":"container-1","config":"e30=","ifName":"eth0","networkName":"net"}',
  )
})

test('the oldest format is a result by itself', () => {
  using place = cache()
  place.put(
    'net-container-1-eth0',
    '{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.1.0.2/16"}],"dns":{}}',
  )
  expect(getCachedResult({ name: 'net', cniVersion: '1.1.0' }, key, place)).toEqual({
    cniVersion: '1.1.0',
    ips: [{ address: '10.1.0.2/16' }],
  })
})

test.each([
  { name: 'an empty file', text: '', details: 'it is empty, or not a file' },
  { name: 'half a file', text: wire.slice(0, 200), details: 'it is not a JSON object' },
])('$name is no result: it is refused by name', ({ text, details }) => {
  using place = cache()
  place.put('net-container-1-eth0', text)
  const message = `cannot read the cached result in ${place.cacheFolder}/results/net-container-1-eth0`
  expect(() => readCached(key, place)).toThrow(expect.objectContaining({ code: 6, message, details }))
})

test.each([
  { name: 'an empty file', text: '' },
  { name: 'half a file', text: wire.slice(0, 200) },
  { name: 'a result of an unknown version', text: wire.replace('"1.1.0"', '"7.0.0"') },
])('DEL goes on without a result where the cache has $name, and removes it', async ({ text }) => {
  using place = cache()
  using plugins = fakePlugins('one')
  place.put('net-container-1-eth0', text)
  const list = parseNetworkList('{"cniVersion": "1.1.0", "name": "net", "plugins": [{"type": "one"}]}')
  const options = { ...place, path: [plugins.path], lockFolder: `${place.cacheFolder}/locks` }
  await delNetworkList(list, key, options)
  expect(plugins.calls()[0]?.stdin).not.toHaveProperty('prevResult')
  expect(place.files()).toEqual([])
})

test('attachments are listed by file name; what is no attachment is passed over', () => {
  using place = cache()
  for (const [network, containerId] of [
    ['b', 'two'],
    ['a', 'two'],
    ['a', 'one'],
  ] as const) {
    writeCached({ ...key, network, containerId, configuration: '{}' }, place)
  }
  place.put('broken-two-eth0', '{')
  place.put('old-two-eth0', '{"cniVersion":"1.1.0"}')
  place.put('nameless-two-eth0', wire.replace('"eth0"', '""'))
  place.put('.catena-0123456789abcdef', wire)
  const found = (filter: { containerId?: string; network?: string }) =>
    listCached(filter, place).map(({ network, containerId }) => `${network} ${containerId}`)
  expect(found({})).toEqual(['a one', 'a two', 'b two'])
  expect(found({ containerId: 'two' })).toEqual(['a two', 'b two'])
  expect(found({ network: 'a' })).toEqual(['a one', 'a two'])
})

test('one container whose name is a part of another one is told apart', () => {
  using place = cache()
  writeCached({ ...key, network: 'net-two', containerId: 'one', configuration: '{}' }, place)
  expect(listCached({ containerId: 'two' }, place)).toEqual([])
})

test('no folder, no attachments', () => {
  expect(listCached({}, { cacheFolder: '/run/nowhere' })).toEqual([])
})

test('removing twice is a success twice', () => {
  using place = cache()
  writeCached({ ...key, configuration: '{}' }, place)
  expect([removeCached(key, place), removeCached(key, place)]).toEqual(['removed', 'absent'])
})

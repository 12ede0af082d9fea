import { expect, test } from 'bun:test'
import { parseResolvConf } from '../../../ipam/host-local/resolv.ts'

test.each([
  {
    name: 'nameservers in their order',
    text: 'nameserver 10.0.0.2\nnameserver fd00::2\n',
    dns: { nameservers: ['10.0.0.2', 'fd00::2'] },
  },
  { name: 'the last domain', text: 'domain a.example\ndomain b.example', dns: { domain: 'b.example' } },
  { name: 'search lists of all lines', text: 'search a b\nsearch c\n', dns: { search: ['a', 'b', 'c'] } },
  {
    name: 'options of all lines',
    text: 'options ndots:2 rotate\r\n  options  timeout:1\n',
    dns: { options: ['ndots:2', 'rotate', 'timeout:1'] },
  },
  {
    name: 'no comments, blank lines and words alone',
    text: '# nameserver 1.1.1.1\n; domain x\n\nnameserver\nfoo bar\n',
    dns: {},
  },
])('resolv.conf gives $name', ({ text, dns }) => {
  expect(parseResolvConf(text) as object).toEqual(dns)
})

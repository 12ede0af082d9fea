/** What STATUS tries in a namespace of its own, and what is left of that: nothing. */
import { expect, test } from 'bun:test'
import { readdirSync } from 'node:fs'
import { errno, SystemError } from '../../chain/linux/libc/errno.ts'
import { createLink, listLinks } from '../../chain/linux/netlink/link.ts'
import { ownNamespaceIdentity } from '../../chain/linux/netns.ts'
import { requireKernel } from '../../chain/plugin/probe.ts'
import { difference, snapshot } from '../fixtures/snapshot.ts'

const veth = { name: 'probed0', kind: { type: 'veth', peer: { name: 'probed1' } } } as const

test('a trial has a namespace to itself, which goes with what was made there', () => {
  const before = snapshot()
  const home = ownNamespaceIdentity()
  let names: string[] = []
  requireKernel('veth pairs', route => {
    expect(listLinks(route).map(({ name }) => name)).toEqual(['lo'])
    createLink(route, veth)
    names = listLinks(route).map(({ name }) => name)
  })
  expect(names.sort()).toEqual(['lo', 'probed0', 'probed1'])
  expect(ownNamespaceIdentity()).toBe(home)
  expect(difference(before, snapshot())).toEqual({ added: [], gone: [] })
})

test('what the kernel refuses is not provided, in its own words', () => {
  const twice = () =>
    requireKernel('two of a name', route => {
      createLink(route, veth)
      createLink(route, veth)
    })
  expect(twice).toThrow(
    expect.objectContaining({
      code: 50,
      message: "this node's kernel does not provide two of a name",
      details: expect.stringContaining('File exists'),
    }),
  )
  const refused = () => {
    throw new SystemError('open /dev/none', errno.ENOENT)
  }
  expect(() => requireKernel('it', refused)).toThrow(
    expect.objectContaining({ code: 50, details: expect.stringContaining('open /dev/none') }),
  )
})

test('any other failure is not taken for the kernel’s', () => {
  const fault = new TypeError('no such function')
  expect(() =>
    requireKernel('it', () => {
      throw fault
    }),
  ).toThrow(fault)
})

test('no descriptor stays open, whatever came of the trial', () => {
  const opened = () => readdirSync('/proc/self/fd').length
  const attempt = () => {
    try {
      requireKernel('it', route => void createLink(route, { ...veth, mtu: -1 }))
    } catch {}
  }
  attempt()
  const before = opened()
  for (let count = 0; count < 5; count++) attempt()
  expect(opened()).toBe(before)
})

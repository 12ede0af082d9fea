/** All or nothing, and every step: what an ADD and a DEL are made of. */
import { describe, expect, test } from 'bun:test'
import { newLink } from '../../chain/linux/netlink/link.ts'
import { KernelError, request } from '../../chain/linux/netlink/socket.ts'
import { allOrNothing, everyStep, reversible } from '../../chain/plugin/undo.ts'
import { CniError } from '../../chain/protocol/error.ts'
import { freshNamespace } from '../fixtures/namespace.ts'

describe('all or nothing', () => {
  test('what succeeds is not undone, and what was kept is closed', async () => {
    const seen: string[] = []
    const answer = await allOrNothing((undo, keep) => {
      undo('take back', () => seen.push('undone'))
      keep({ [Symbol.dispose]: () => seen.push('closed') })
      return 7
    })
    expect([answer, seen]).toEqual([7, ['closed']])
  })

  test('what fails is undone backwards, each step after the one before it, with what was kept still open', async () => {
    const seen: string[] = []
    const failure = new Error('no')
    const attempt = allOrNothing(async (undo, keep) => {
      keep({ [Symbol.dispose]: () => seen.push('closed') })
      undo('undo the first', async () => {
        await Promise.resolve()
        seen.push('first')
      })
      undo('undo the second', () => seen.push('second'))
      throw failure
    })
    expect(await attempt.catch(thrown => thrown)).toBe(failure)
    expect(seen).toEqual(['second', 'first', 'closed'])
  })

  test('what cannot be undone stands in the details; the others are undone all the same, and the first error counts', async () => {
    const seen: string[] = []
    const failure = new CniError(11, 'try again', { details: 'it is busy' })
    const attempt = allOrNothing(undo => {
      undo('delete the first', () => seen.push('first'))
      undo('delete the second', () => {
        throw new Error('stuck')
      })
      throw failure
    })
    expect(await attempt.catch(thrown => thrown)).toMatchObject({
      code: 11,
      message: 'try again',
      details: 'it is busy; could not delete the second: stuck',
      cause: failure,
    })
    expect(seen).toEqual(['first'])
  })
})

describe('a reversible step', () => {
  const steps = (forth: () => unknown) => {
    const registered: string[] = []
    const attempt = () => reversible(what => registered.push(what), 'take it back', { forth, back: () => {} })
    return { attempt, registered }
  }

  test('says how it is undone when it was taken', () => {
    const { attempt, registered } = steps(() => 7)
    expect([attempt(), registered]).toEqual([7, ['take it back']])
  })

  test('has nothing to undo where the kernel refused it', () => {
    using namespace = freshNamespace()
    const { attempt, registered } = steps(() =>
      request(namespace.route, newLink({ name: 'lo', kind: { type: 'bridge' } })),
    )
    expect(attempt).toThrow(KernelError)
    expect(registered).toEqual([])
  })

  test('may have been taken where no answer came', () => {
    const { attempt, registered } = steps(() => {
      throw new Error('no memory for the answer')
    })
    expect(attempt).toThrow('no memory for the answer')
    expect(registered).toEqual(['take it back'])
  })
})

describe('every step', () => {
  test('is taken in order, those that are not asked for passed over', async () => {
    const seen: string[] = []
    await everyStep({ one: () => seen.push('one'), two: undefined, three: async () => seen.push('three') })
    expect(seen).toEqual(['one', 'three'])
  })

  test('is taken whatever became of the others; one error names all, with the code of the first', async () => {
    const seen: string[] = []
    const attempt = everyStep({
      'delete the link': () => {
        throw new CniError(11, 'busy', { details: 'try again' })
      },
      'delete the rules': () => {
        throw new CniError(5, 'disk full', { details: 'look at /run' })
      },
      'delete the file': () => seen.push('file'),
    })
    expect(await attempt.catch(thrown => thrown)).toMatchObject({
      code: 11,
      message: 'delete the link: busy; delete the rules: disk full',
      details: 'try again; look at /run',
    })
    expect(seen).toEqual(['file'])
  })
})

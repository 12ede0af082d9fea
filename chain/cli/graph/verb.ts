/** `catena graph`: text for a terminal, SVG or a page for a browser. */
import { readFile, writeAtomically } from '../../linux/files.ts'
import { graphOf } from '../../observe/graph.ts'
import type { NodeModel } from '../../observe/model.ts'
import type { Output } from '../output.ts'

export interface GraphFlags {
  svg?: boolean
  html?: boolean
  text?: boolean
  all?: boolean
  output?: string
  width?: number
}

export async function showGraph(
  node: NodeModel,
  { network, flags }: { network: string | undefined; flags: GraphFlags },
  output: Output,
): Promise<void> {
  const graph = graphOf(node, { foreign: flags.all ?? false, ...(network === undefined ? {} : { network }) })
  const host = readFile('/proc/sys/kernel/hostname')?.trim() || 'host'
  const draw = async (): Promise<string | undefined> => {
    if (flags.html) return (await import('./html.ts')).drawHtml(graph, { host, time: new Date() })
    if (flags.svg)
      return (await import('./svg.ts')).drawSvg(graph, {
        host,
        ...(flags.width ? { width: flags.width } : {}),
      })
    if (!flags.text && flags.output === undefined) return undefined
    const { drawText } = await import('./text.ts')
    return `${drawText(graph, { style: output.style, width: flags.width ?? output.width })}\n`
  }
  const document = await draw()
  if (document !== undefined && flags.output !== undefined) {
    writeAtomically(flags.output, document, { mode: 0o644, durable: false })
    output.success(`${flags.output} is written`)
  } else if (document !== undefined) output.text(document)
  else {
    const { drawText } = await import('./text.ts')
    output.answer({ version: 1, host, ...graph }, () =>
      drawText(graph, { style: output.style, width: flags.width ?? output.width }),
    )
  }
}

/** A trace as one page that needs nothing else: no script, nothing from elsewhere, light and dark. */

import { flat, isFailure, type Span, shareNames, sharesOf, type Trace } from '../../trace/spans.ts'
import { formatMilliseconds } from '../render.ts'
import style from './trace.css' with { type: 'text' }

const POLICY = "default-src 'none'; style-src 'unsafe-inline'"

const markup: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' }
const escaped = (text: string) => text.replace(/[&<>"]/g, sign => markup[sign] ?? sign)

export function drawPage(trace: Trace): string {
  const { root, container, ifname, began, error } = trace
  const title = escaped(`${root.name} ${container} ${ifname}`)
  const plugins = root.children.filter(({ of }) => of === 'plugin')
  const failure = error
    ? `<p class="bad">${escaped(error.msg)} (code ${error.code})${error.details ? `<br>${escaped(error.details)}` : ''}</p>`
    : ''
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="${POLICY}">
<title>${title}</title>
<style>
${style}</style>
<body>
<header><h1>${title}</h1><span class="quiet">${formatMilliseconds(root.took)} · ${escaped(began)}</span></header>
${failure}
<section class="shares">
${plugins.map(sharesBar).join('\n')}
</section>
<section class="rows">
${flat(root)
  .slice(1)
  .map(({ span, depth }) => row(span, depth, root))
  .join('\n')}
</section>
</html>
`
}

const percent = (part: number, whole: number) => `${((100 * part) / Math.max(whole, 1e-9)).toFixed(2)}%`

function sharesBar(span: Span): string {
  const shares = [...sharesOf(span)].filter(([, took]) => took > 0.01)
  const parts = shares.map(
    ([share, took]) =>
      `<i class="${share}" style="width:${percent(took, span.took)}" title="${shareNames[share]} ${formatMilliseconds(took)}"></i>`,
  )
  const legend = shares.map(
    ([share, took]) =>
      `<span><b class="${share}"></b>${shareNames[share]} ${formatMilliseconds(took)}</span>`,
  )
  return `<figure><figcaption>${escaped(span.name)} <span class="quiet">${formatMilliseconds(span.took)}</span></figcaption><div class="bar">${parts.join('')}</div><div class="legend quiet">${legend.join('')}</div></figure>`
}

function row(span: Span, depth: number, root: Span): string {
  const lines = [span.name, ...(span.more ?? [])]
  const more = span.more ? ` <span class="quiet">+${span.more.length}</span>` : ''
  const refusal = span.refusal === undefined ? '' : `<div class="bad">${escaped(span.refusal)}</div>`
  const kind = isFailure(span) ? `${span.of} refused` : span.of
  const bar = `<i class="${kind}" style="margin-left:${percent(Math.min(span.at, root.took), root.took)};width:${percent(span.took, root.took)}"></i>`
  const summary = `<span class="name" style="padding-left:${depth - 1}em">${escaped(span.name)}${more}</span><span class="lane">${bar}</span><span class="time">${formatMilliseconds(span.took)}</span>`
  return `<details class="${span.of}"><summary>${summary}</summary><div class="inside">${lines.map(line => `<code>${escaped(line)}</code>`).join('')}${refusal}<span class="quiet">${shareNames[span.of]}, ${formatMilliseconds(span.at)} after the beginning</span></div></details>`
}

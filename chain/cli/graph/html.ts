/** A graph as one page that needs nothing else: data, style and script stand in it. */
import type { Graph } from '../../observe/graph.ts'
import style from './page.css' with { type: 'text' }
import script from './page.js' with { type: 'text' }

/** Nothing is loaded from anywhere, and nothing that stands in the data is taken for markup. */
const POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"

export function drawHtml(graph: Graph, { host, time }: { host: string; time: Date }): string {
  const data = JSON.stringify({ graph, host, time: time.toISOString() }).replaceAll('<', '\\u003c')
  const title = host.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="${POLICY}">
<title>Networks of ${title}</title>
<style>
${style}</style>
<body>
<script type="application/json" id="data">${data}</script>
<script>
${script}</script>
</html>
`
}

/** Plots as SVG: lines over one axis in steps, values on the other from zero. Pure. */

export interface Line {
  name: string
  colour: string
  dashed?: boolean
  points: readonly (readonly [x: number, y: number])[]
}

export interface Plot {
  title: string
  x: string
  y: string
  lines: readonly Line[]
}

const SIZE = { width: 720, height: 380 }
const EDGE = { left: 64, right: 150, top: 40, bottom: 48 }
const INNER = { width: SIZE.width - EDGE.left - EDGE.right, height: SIZE.height - EDGE.top - EDGE.bottom }

/** A step of 1, 2 or 5 times a power of ten, of which an axis to `most` has five or so. */
export function stepFor(most: number): number {
  const rough = most / 5
  const power = 10 ** Math.floor(Math.log10(rough))
  return ([1, 2, 5, 10].find(each => each * power >= rough) ?? 10) * power
}

export function drawPlot({ title, x, y, lines }: Plot): string {
  const points = lines.flatMap(line => line.points)
  const [mostX, mostY] = [Math.max(...points.map(([at]) => at)), Math.max(...points.map(([, at]) => at))]
  const placeX = (value: number) => EDGE.left + (value / mostX) * INNER.width
  const placeY = (value: number) => EDGE.top + INNER.height - (value / (mostY * 1.05)) * INNER.height
  const marks = (most: number) =>
    Array.from({ length: Math.floor(most / stepFor(most)) + 1 }, (_, index) => index * stepFor(most))
  const grid = [
    ...marks(mostY * 1.05).map(value => {
      const at = placeY(value).toFixed(1)
      return `<path d="M${EDGE.left} ${at}H${EDGE.left + INNER.width}" stroke="#8883"/><text x="${EDGE.left - 8}" y="${at}" text-anchor="end" dominant-baseline="middle">${round(value)}</text>`
    }),
    ...marks(mostX).map(
      value =>
        `<text x="${placeX(value).toFixed(1)}" y="${EDGE.top + INNER.height + 18}" text-anchor="middle">${round(value)}</text>`,
    ),
  ]
  const drawn = lines.map(({ name, colour, dashed, points }, index) => {
    const path = points.map(([at, value]) => `${placeX(at).toFixed(1)} ${placeY(value).toFixed(1)}`).join('L')
    const key = EDGE.top + 8 + 20 * index
    const style = `fill="none" stroke="${colour}" stroke-width="1.8"${dashed ? ' stroke-dasharray="5 4"' : ''}`
    const beside = SIZE.width - EDGE.right + 12
    return `<path d="M${path}" ${style}/><path d="M${beside} ${key}h24" ${style}/><text x="${beside + 32}" y="${key}" dominant-baseline="middle">${name}</text>`
  })
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${SIZE.width} ${SIZE.height}" font-family="sans-serif" font-size="12" fill="#777">`,
    `<title>${title}</title>`,
    `<text x="${EDGE.left}" y="22" font-size="14">${title}</text>`,
    ...grid,
    `<text x="${EDGE.left + INNER.width / 2}" y="${SIZE.height - 8}" text-anchor="middle">${x}</text>`,
    `<text transform="translate(16 ${EDGE.top + INNER.height / 2}) rotate(-90)" text-anchor="middle">${y}</text>`,
    ...drawn,
    '</svg>',
    '',
  ].join('\n')
}

const round = (value: number) => Number(value.toPrecision(3)).toString()

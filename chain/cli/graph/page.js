// The page of `catena graph --html`: draws the data that stands in it, finds, filters, and shows what is known of a container.
const { graph, host, time } = JSON.parse(document.getElementById('data').textContent)

function make(tag, of = {}, ...children) {
  const { style, ...properties } = of
  const element = Object.assign(document.createElement(tag), properties)
  if (style) element.className = style
  element.append(...children.filter(child => child !== undefined))
  return element
}

const when = new Date(time).toLocaleString('en-GB', { dateStyle: 'medium', timeStyle: 'short' })

const rate = bits =>
  bits >= 1e6 ? `${+(bits / 1e6).toFixed(1)} Mbit/s` : `${+(bits / 1e3).toFixed(1)} kbit/s`
const limitsOf = ({ toContainer, fromContainer }) =>
  [toContainer && `↓ ${rate(toContainer)}`, fromContainer && `↑ ${rate(fromContainer)}`]
    .filter(Boolean)
    .join('  ')

function cardOf(container) {
  const { name, hostEnd, ifname, kind, addresses, ports, limits, runtime, health, label } = container
  const state = health.isHealthy ? '' : label === 'unknown' ? ' doubt' : ' ill'
  const card = make(
    'button',
    { type: 'button', style: `card${state}${label === 'live' ? '' : ' loose'}` },
    make('span', { style: 'end mono' }, hostEnd),
    make('b', {}, name),
    make('span', { style: 'quiet mono' }, kind && kind !== 'veth' ? `${ifname} (${kind})` : ifname),
    ...addresses.map(address => make('span', { style: 'address mono' }, address)),
    health.isHealthy ? undefined : make('span', { style: 'bad' }, health.says),
    ports.length
      ? make('span', { style: 'ports mono' }, ...ports.map(port => make('i', {}, port)))
      : undefined,
    make('span', { style: 'quiet' }, [runtime, limitsOf(limits)].filter(Boolean).join(' · ')),
  )
  card.addEventListener('click', () => show(container, card))
  card.dataset.text = [name, container.network, container.containerId, hostEnd, ...addresses, ...ports]
    .join(' ')
    .toLowerCase()
  card.dataset.ill = String(!health.isHealthy)
  return card
}

function panelOf(hub) {
  const facts = [
    ...hub.addresses,
    hub.networks.length ? `network ${hub.networks.join(', ')}` : '',
    hub.mtu ? `MTU ${hub.mtu}` : '',
  ]
  return make(
    'section',
    { style: 'panel' },
    make(
      'div',
      { style: 'bar' },
      make('b', {}, hub.name),
      make('span', { style: hub.isUp ? 'quiet' : 'bad' }, hub.isUp ? hub.kind : `${hub.kind}, down`),
      make('span', { style: 'address mono' }, facts.filter(Boolean).join('   ')),
    ),
    make('div', { style: 'cards' }, ...hub.containers.map(cardOf)),
  )
}

function linkOf({ name, kind, addresses, on, isUplink, isUp }) {
  const words = [
    kind === 'device' ? '' : kind,
    on ? `on ${on}` : '',
    isUplink ? 'default route' : '',
    isUp ? '' : 'down',
  ]
  return make(
    'span',
    { style: `link${isUplink ? ' uplink' : ''}${isUp ? '' : ' down'}` },
    make('b', {}, name),
    make('span', { style: 'address mono' }, addresses.join('  ')),
    make('span', { style: 'quiet' }, ` ${words.filter(Boolean).join(', ')}`),
  )
}

const details = make('aside', { hidden: true })

function show(container, card) {
  for (const other of document.querySelectorAll('.chosen')) other.classList.remove('chosen')
  card.classList.add('chosen')
  const {
    name,
    network,
    containerId,
    ifname,
    hostEnd,
    addresses,
    ports,
    limits,
    runtime,
    netns,
    since,
    mtu,
    label,
    health,
  } = container
  const rows = {
    state: `${label}: ${health.says}`,
    network,
    'container ID': containerId,
    interface: [ifname, hostEnd].filter(Boolean).join(' – '),
    addresses: addresses.join(', '),
    ports: ports.join(', '),
    limits: limitsOf(limits),
    MTU: mtu,
    runtime,
    namespace: netns,
    since,
    because: container.evidence.join('; '),
    ...Object.fromEntries(
      container.disagreements.map(({ about, says }) => [
        about,
        says.map(side => `${side.source}: ${side.value}`).join('; '),
      ]),
    ),
    ask: `catena path outside ${name}; catena doctor --state`,
  }
  const close = make('button', { type: 'button', ariaLabel: 'Close' }, '×')
  close.addEventListener('click', hide)
  const list = Object.entries(rows)
    .filter(([, value]) => value !== undefined && value !== '')
    .flatMap(([key, value]) => [make('dt', {}, key), make('dd', { style: 'mono' }, String(value))])
  details.replaceChildren(close, make('h2', {}, name), make('dl', {}, ...list))
  details.hidden = false
}

function hide() {
  details.hidden = true
  for (const other of document.querySelectorAll('.chosen')) other.classList.remove('chosen')
}

const search = make('input', { type: 'search', placeholder: 'name, address, port …', ariaLabel: 'Find' })
const onlyIll = make('button', { type: 'button', ariaPressed: 'false' }, 'only unhealthy')
const themes = ['auto', 'light', 'dark']
const theme = make('button', { type: 'button' }, 'auto')

function filter() {
  const wanted = search.value.trim().toLowerCase()
  const isStrict = onlyIll.ariaPressed === 'true'
  for (const card of document.querySelectorAll('.card'))
    card.hidden = !card.dataset.text.includes(wanted) || (isStrict && card.dataset.ill !== 'true')
  for (const panel of document.querySelectorAll('.panel')) {
    const cards = [...panel.querySelectorAll('.card')]
    panel.hidden = cards.length > 0 && cards.every(card => card.hidden)
  }
}

search.addEventListener('input', filter)
onlyIll.addEventListener('click', () => {
  onlyIll.ariaPressed = String(onlyIll.ariaPressed !== 'true')
  filter()
})
theme.addEventListener('click', () => {
  const next = themes[(themes.indexOf(theme.textContent) + 1) % themes.length]
  theme.textContent = next
  document.documentElement.dataset.theme = next
})
document.addEventListener('keydown', ({ key }) => key === 'Escape' && hide())

const containers = graph.hubs.flatMap(hub => hub.containers)
const ill = containers.filter(({ health }) => !health.isHealthy).length
document.body.append(
  make(
    'header',
    {},
    make('h1', {}, `host ${host}`),
    make(
      'span',
      { style: 'quiet' },
      `${containers.length} containers, ${ill === 0 ? 'all healthy' : `${ill} not healthy`} · ${when}`,
    ),
    search,
    onlyIll,
    theme,
  ),
  make(
    'main',
    { style: 'frame' },
    make('div', { style: 'links' }, ...graph.links.map(linkOf)),
    make('div', { style: 'hubs' }, ...graph.hubs.map(panelOf)),
  ),
  details,
)

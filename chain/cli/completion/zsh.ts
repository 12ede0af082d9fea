/** The command's words as a script for zsh, a function for each verb. */
import type { Flag, Value, Verb } from './grammar.ts'

const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`
const functionOf = (path: readonly string[]) => ['_catena', ...path].join('_').replace(/\W/g, '_')

const ACTIONS = {
  folder: '_files -/',
  file: '_files',
  network: '_catena_networks',
  namespace: '_catena_namespaces',
  free: ' ',
}

const actionOf = (value: Value) =>
  value.kind === 'word' ? `(${value.words.join(' ')})` : ACTIONS[value.kind]

/** The words of `_arguments` for a flag: one for each of its names, which exclude one another. */
function specifications({ names, says, value }: Flag): string[] {
  const others = names.length > 1 ? `(${names.join(' ')})` : ''
  const about = `[${says.replace(/[\\[\]:]/g, '\\$&')}]`
  return names.map(name => {
    const takes = value ? `${name.startsWith('--') ? '=' : ''}${about}: :${actionOf(value)}` : about
    return quoted(`${others}${name}${takes}`)
  })
}

function functionFor({ path, flags, places, below }: Verb): string {
  const words = flags.flatMap(specifications)
  if (below.length === 0) {
    const own = places.map((value, at) => quoted(`${at + 1}: :${actionOf(value)}`))
    return `${functionOf(path)}() {\n  _arguments ${[...words, ...own].join(' \\\n    ')}\n}`
  }
  const names = below.map(({ name, says }) => quoted(`${name}:${says.replaceAll(':', '\\:')}`))
  const calls = below.map(({ name }) => `${name}) ${functionOf([...path, name])} ;;`)
  return `${functionOf(path)}() {
  local state line
  local -a below=(
    ${names.join('\n    ')}
  )
  _arguments -C ${[...words, "'1: :->verb'", "'*:: :->rest'"].join(' \\\n    ')}
  case $state in
    verb) _describe -t commands verb below ;;
    rest)
      case $line[1] in
        ${calls.join('\n        ')}
      esac
      ;;
  esac
}`
}

export function zsh(verbs: readonly Verb[]): string {
  return `#compdef catena
# catena's words for zsh: to be a file _catena in a folder of $fpath
_catena_networks() {
  local -a offered=(\${(f)"$(catena completion networks 2>/dev/null)"})
  compadd -a offered
}
_catena_namespaces() {
  local -a offered=(/run/netns/*(N:t))
  compadd -a offered
}
${verbs.map(functionFor).join('\n')}
if [[ $funcstack[1] == _catena ]]; then _catena "$@"; else compdef _catena catena; fi
`
}

/** The command's words as a script for fish. */
import { stepsOf, type Value, type Verb } from './grammar.ts'

const quoted = (text: string) => `'${text.replace(/[\\']/g, '\\$&')}'`

const SOURCES = {
  folder: '(__fish_complete_directories)',
  file: '(__fish_complete_path)',
  network: '(catena completion networks 2>/dev/null)',
  namespace: '(__catena_namespaces)',
  free: '',
}

const offered = (value: Value) =>
  `-a ${quoted(value.kind === 'word' ? value.words.join(' ') : SOURCES[value.kind])}`

/** The condition: the verb so far, and how many arguments it has. */
const at = ({ path }: Verb, position: number | '' = '') =>
  `-n ${quoted(`__catena_at "${path.join(' ')}" ${position}`.trimEnd())}`

function linesOf(verb: Verb): string[] {
  const flags = verb.flags.map(({ names, says, value }) => {
    const forms = names.map(name => name.replace(/^--/, '-l ').replace(/^-(?!l )/, '-s '))
    const takes = value ? ` -r ${offered(value)}` : ''
    return `${at(verb)} ${forms.join(' ')}${takes} -d ${quoted(says)}`
  })
  const below = verb.below.map(({ name, says }) => `${at(verb, 0)} -a ${name} -d ${quoted(says)}`)
  const places = verb.places.map((value, position) => `${at(verb, position)} ${offered(value)}`)
  return [...below, ...places, ...flags].map(words => `complete -c catena -f ${words}`)
}

export function fish(verbs: readonly Verb[]): string {
  const { takers, descents } = stepsOf(verbs)
  return `# catena's words for fish: to be ~/.config/fish/completions/catena.fish, or vendor_completions.d/catena.fish
function __catena_namespaces
    set -l found /run/netns/*
    string replace -r '.*/' '' -- $found
end
function __catena_at
    set -l verb ''
    set -l position 0
    set -l takes 0
    set -l words (commandline -opc)
    for each in $words[2..-1]
        if test $takes = 1
            set takes 0
            continue
        end
        switch "$verb:$each"
            case ${takers.flatMap(({ words }) => words.map(quoted)).join(' ')}
                set takes 1
            case '*:-*'
            case ${descents.map(quoted).join(' ')}
                set verb (string trim -- "$verb $each")
                set position 0
            case '*'
                set position (math $position + 1)
        end
    end
    test "$verb" = "$argv[1]"; or return 1
    test (count $argv) = 1; or test $position = $argv[2]
end
complete -c catena -f
${verbs.flatMap(linesOf).join('\n')}
`
}

/** The command's words as a script for bash. */
import { stepsOf, type Value, type Verb } from './grammar.ts'

const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`

/** What is offered in a place, as the script calls it: a kind, or "=" and words. */
const offer = (value: Value) => quoted(value.kind === 'word' ? `=${value.words.join(' ')}` : value.kind)

const offerWords = (words: readonly string[]) => offer({ kind: 'word', words })

/** For bash 4 and later, with or without the package bash-completion. */
export function bash(verbs: readonly Verb[]): string {
  const { takers, descents } = stepsOf(verbs)
  const values = takers.map(
    ({ words, value }) => `${words.map(quoted).join(' | ')}) takes=${offer(value)} ;;`,
  )
  const flags = verbs.map(verb => {
    const names = verb.flags.flatMap(flag => flag.names)
    return `${quoted(verb.path.join(' '))}) takes=${offerWords(names)} ;;`
  })
  const places = verbs.flatMap(({ path, below, places: own }) => {
    const names = below.map(({ name }) => name)
    const offers = names.length > 0 ? [offerWords(names)] : own.map(offer)
    return offers.map((what, at) => `${quoted(`${path.join(' ')}:${at}`)}) takes=${what} ;;`)
  })
  return `# catena's words for bash: to be sourced, or to be /usr/share/bash-completion/completions/catena
_catena() {
  local word=\${COMP_WORDS[COMP_CWORD]} verb='' position=0 takes='' each
  local -a offered=()
  COMPREPLY=()
  [[ $word == '=' ]] && word='' # bash parts --into=/opt at the =
  for each in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    [[ $each == '=' ]] && continue
    [[ -n $takes ]] && { takes=''; continue; }
    case "$verb:$each" in
      ${values.join('\n      ')}
      *:-*) ;;
      ${descents.map(quoted).join(' | ')}) verb=\${verb:+$verb }$each position=0 ;;
      *) position=$((position + 1)) ;;
    esac
  done
  if [[ -z $takes && $word == -* ]]; then
    case "$verb" in
      ${flags.join('\n      ')}
    esac
  elif [[ -z $takes ]]; then
    case "$verb:$position" in
      ${places.join('\n      ')}
    esac
  fi
  case "$takes" in
    folder) mapfile -t COMPREPLY < <(compgen -d -- "$word") && compopt -o filenames 2>/dev/null ;;
    file) mapfile -t COMPREPLY < <(compgen -f -- "$word") && compopt -o filenames 2>/dev/null ;;
    network) mapfile -t offered < <("$1" completion networks 2>/dev/null) ;;
    namespace) for each in /run/netns/*; do [[ -e $each ]] && offered+=("\${each##*/}"); done ;;
    =*) read -ra offered <<<"\${takes#=}" ;;
  esac
  for each in "\${offered[@]}"; do
    [[ $each == "$word"* ]] && COMPREPLY+=("$(printf %q "$each")")
  done
  return 0
}
complete -F _catena catena
`
}

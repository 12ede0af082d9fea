# Prints what zsh's line editor offers for what is typed, one word a line: its own completion runs in a shell on a terminal of its own, and
# the builtin that collects the offers prints them.
# usage: zsh -f completed.zsh FOLDER-OF-COMPLETIONS 'TYPED WORDS'
zmodload zsh/zpty
zpty shell zsh -f -i
say() { zpty -w shell "$1"; }
hear() { local line; while zpty -r shell line; do [[ $line == *$1* ]] && return; done; }

say "PROMPT=; fpath=($1 \$fpath); autoload -Uz compinit; compinit -u -d \$HOME/dump; bindkey '^I' complete-word; stty -echo"
say 'compadd() {
  if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then builtin compadd "$@"; return; fi
  local -a hits
  builtin compadd -A hits "$@"
  (( $#hits )) && print -r -- "offered ${(j:|:)hits}"
  return 1
}
finish() { print -r -- "of""fered.end"; exit; }
comppostfuncs=(finish); print -r -- read"y"'
hear ready
zpty -w -n shell "$2"$'\t'
while zpty -r shell line; do
  [[ $line == *offered.end* ]] && break
  [[ $line == *offered\ * ]] && print -rl -- ${(s:|:)${line##*offered }%%$'\r'*}
done

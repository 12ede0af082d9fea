/** Compiled and run by language.test.ts: what programs ask ICU for. */
const day = new Date(Date.UTC(2026, 10, 26, 17, 5))
const answers = {
  normalized: ['é'.normalize('NFD').length, 'ﬁ'.normalize('NFKC')],
  cased: ['straße'.toUpperCase(), 'İ'.toLocaleLowerCase('tr'), 'ÀÉ'.toLowerCase()],
  sorted: ['z', 'ä', 'a', 'Z'].toSorted((one, other) => one.localeCompare(other)),
  sortedBy: ['z', 'ä', 'a'].toSorted(new Intl.Collator('sv').compare),
  numbered: [(1234567.5).toLocaleString('en'), (1234567.5).toLocaleString('de')],
  dated: day.toLocaleString('en-US', { timeZone: 'Europe/Berlin', timeZoneName: 'short' }),
  local: day.toString(),
  plural: new Intl.PluralRules('en').select(1),
  segments: [...new Intl.Segmenter('en', { granularity: 'word' }).segment('two words')].length,
  named: new Intl.DisplayNames('en', { type: 'region' }).of('FR'),
  listed: new Intl.ListFormat('en').format(['a', 'b', 'c']),
  domain: new URL('http://bücher.example/').host,
  matched: /^\p{Lu}\p{Script=Greek}$/u.test('Ωω'),
  decoded: new TextDecoder('shift_jis').decode(new Uint8Array([0x83, 0x65])),
}
console.log(JSON.stringify(answers))

package gate

// What the fuzzer reads kola's reports with.
type KolaResult = kolaResult

// DecodeKola reads a report.
var DecodeKola = decodeKola

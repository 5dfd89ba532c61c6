package prow

// DecodeJUnitWithin reads with limits that a test can reach.
var DecodeJUnitWithin = decodeJUnit

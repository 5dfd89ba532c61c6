package publishtest

// RegistryCases are the cases, for the proof that each can fail.
var RegistryCases = registryCases

// CheckGoroutines is the last check of the suite.
var CheckGoroutines = checkGoroutines

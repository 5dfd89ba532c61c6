package linkcheck

// Guarded is the transport that looks at what it dials.
var Guarded = guarded

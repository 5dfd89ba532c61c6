package walk

// NodeSpec is what a node image is built of, by the flags or by the definition.
var NodeSpec = nodeSpec

# The commands that people type; .ci/run is what a change must pass.

.PHONY: check test interop fuzz bench golden

check:
	.ci/run style tests

test:
	go test ./...

interop:
	.ci/run interop

fuzz:
	.ci/run fuzz

bench:
	go run ./internal/bench

# Rewrite what the project exports and compiles; read the difference.
golden:
	go test ./internal/archtest -update

// The registry of the tests: OCI artefacts, in memory.
module hand-gesture-api/infra/tools/registry

go 1.26.0

require github.com/google/go-containerregistry v0.22.1 // indirect

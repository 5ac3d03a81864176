// Modules with the definitions of custom resources. The tests read their files; nothing is built.
module hand-gesture-api/infra/tools/crds

go 1.26.0

require (
	github.com/elastic/cloud-on-k8s/v3 v3.5.0
	github.com/prometheus-operator/prometheus-operator v0.85.0
	sigs.k8s.io/gateway-api v1.5.0
)

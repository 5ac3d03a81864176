output "collector_endpoint" {
  description = "Endpoint of the collector, OTLP/HTTP."
  value       = "http://${local.collector}:4318"
}

output "page" {
  description = "URL of the Jaeger UI, or the command that reaches it."
  value = (var.exposure.kind == "none"
    ? "kubectl --namespace ${var.jaeger_namespace} port-forward service/jaeger-query 16686, then http://localhost:16686"
  : "${local.scheme}://${local.page_host}")
}

output "api" {
  description = "URL of the service, or the command that reaches it."
  value = (var.exposure.kind == "none"
    ? "kubectl --namespace ${var.service_namespace} port-forward service/hand-gesture-api 3000:80, then http://localhost:3000"
  : "${local.scheme}://${local.service_host}/api")
}

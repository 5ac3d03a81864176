# Values that the charts receive for every choice, with mocked providers.

mock_provider "helm" {}
mock_provider "kubernetes" {}

variables {
  service_image = { repository = "registry.example.com/hand-gesture-api" }
}

run "storage_defaults_to_memory" {
  command = plan
  assert {
    condition     = yamldecode(helm_release.jaeger.values[0]).storage.type == "memory"
    error_message = "spans are kept in memory"
  }
  assert {
    condition     = yamldecode(helm_release.jaeger.values[0]).sampling.defaultProbability == 1
    error_message = "everything is sampled"
  }
  assert {
    condition     = output.collector_endpoint == "http://jaeger-collector.tracing.svc.cluster.local:4318"
    error_message = output.collector_endpoint
  }
  assert {
    condition     = yamldecode(helm_release.service.values[0]).settings.jaegerCollectorHost == "jaeger-collector.tracing.svc.cluster.local"
    error_message = "the service sends to the collector"
  }
  assert {
    condition     = length(kubernetes_secret_v1.storage) == 0
    error_message = "no secret is made"
  }
  assert {
    condition     = kubernetes_namespace_v1.this["jaeger"].metadata[0].labels["pod-security.kubernetes.io/enforce"] == "restricted"
    error_message = "pod security is restricted"
  }
}

run "badger_sets_volume_size" {
  command = plan
  variables {
    storage = { type = "badger", volume_size = "5Gi" }
  }
  assert {
    condition     = yamldecode(helm_release.jaeger.values[0]).storage.badger.size == "5Gi"
    error_message = "the volume's size"
  }
}

run "elasticsearch_password_is_written_to_a_secret" {
  command = plan
  variables {
    storage                   = { type = "elasticsearch", host = "es.elastic.svc", scheme = "https", user = "elastic", ca_secret = "ca" }
    storage_password          = "hunter2"
    storage_password_revision = 1
    sampling_probability      = 0.1
    collector_replicas        = 2
  }
  assert {
    condition     = yamldecode(helm_release.jaeger.values[0]).storage.elasticsearch.existingSecret == "storage-credentials"
    error_message = "the chart reads the secret"
  }
  assert {
    condition     = kubernetes_secret_v1.storage[0].data_wo_revision == 1
    error_message = "the secret is made"
  }
  assert {
    condition     = !strcontains(join("", helm_release.jaeger.values), "hunter2")
    error_message = "the password is in no value"
  }
  assert {
    condition     = yamldecode(helm_release.jaeger.values[0]).collector.replicas == 2
    error_message = "two collectors"
  }
  assert {
    condition     = yamldecode(helm_release.service.values[0]).settings.otelTracesSamplerArg == "0.1"
    error_message = "a tenth is sampled"
  }
}

run "opensearch_reads_an_existing_secret" {
  command = plan
  variables {
    storage = { type = "opensearch", host = "os.search.svc", user = "admin", secret_name = "mine", secret_key = "pw", index_prefix = "blue" }
  }
  assert {
    condition     = yamldecode(helm_release.jaeger.values[0]).storage.elasticsearch.existingSecretKey == "pw"
    error_message = "the secret's key"
  }
  assert {
    condition     = yamldecode(helm_release.jaeger.values[0]).storage.elasticsearch.indexPrefix == "blue"
    error_message = "the prefix"
  }
}

run "provisioned_elasticsearch_needs_no_secret" {
  command = plan
  variables {
    storage = { type = "elasticsearch", provision = true }
  }
  assert {
    condition     = yamldecode(helm_release.jaeger.values[0]).provisionDataStore.elasticsearch
    error_message = "it is provisioned"
  }
  assert {
    condition     = length(kubernetes_secret_v1.storage) == 0
    error_message = "its secret is ECK's"
  }
}

run "kafka_brokers_enable_the_ingester" {
  command = plan
  variables {
    storage       = { type = "cassandra", host = "cassandra.cassandra.svc" }
    kafka_brokers = ["kafka.kafka.svc:9092"]
  }
  assert {
    condition     = yamldecode(helm_release.jaeger.values[0]).ingester.enabled
    error_message = "there is an ingester"
  }
  assert {
    condition     = yamldecode(helm_release.jaeger.values[0]).storage.kafka.brokers == ["kafka.kafka.svc:9092"]
    error_message = "its brokers"
  }
}

run "ingress_derives_hosts_from_address" {
  command = plan
  variables {
    exposure = { kind = "ingress", address = "192.0.2.10", page_login_secret = "logins", cluster_issuer = "letsencrypt" }
  }
  assert {
    condition     = yamldecode(helm_release.jaeger.values[0]).ingress.host == "jaeger.192.0.2.10.nip.io"
    error_message = "the page's host"
  }
  assert {
    condition     = yamldecode(helm_release.service.values[0]).ingress.host == "asl.192.0.2.10.nip.io"
    error_message = "the service's host"
  }
  assert {
    condition     = output.api == "https://asl.192.0.2.10.nip.io/api"
    error_message = output.api
  }
}

run "http_route_names_its_gateway" {
  command = plan
  variables {
    exposure = {
      kind           = "http_route", service_host = "asl.example.com", page_host = "jaeger.example.com",
      page_anonymous = true, gateway = { name = "gateway", namespace = "gateways" }
    }
  }
  assert {
    condition     = yamldecode(helm_release.service.values[0]).httpRoute.parentRefs[0].name == "gateway"
    error_message = "the gateway"
  }
}

run "spinkube_service_scales_from_replicas_to_max" {
  command = plan
  variables {
    storage           = { type = "elasticsearch", host = "es" }
    service_runtime   = "spinkube"
    service_replicas  = 2
    service_settings  = { lowConfidenceThreshold = "0.8" }
    autoscaling       = { enabled = true, max = 4 }
    network_policies  = true
    create_namespaces = false
  }
  assert {
    condition     = yamldecode(helm_release.service.values[0]).autoscaling == { enabled = true, minReplicas = 2, maxReplicas = 4 }
    error_message = "it scales from 2 to 4"
  }
  assert {
    condition     = yamldecode(helm_release.service.values[0]).settings.lowConfidenceThreshold == "0.8"
    error_message = "further settings"
  }
  assert {
    condition     = length(kubernetes_namespace_v1.this) == 0
    error_message = "no namespace is made"
  }
}

run "changed_file_of_a_chart_is_a_difference" {
  command = plan
  assert {
    condition     = yamldecode(helm_release.jaeger.values[0]).global.chartDigest != yamldecode(helm_release.service.values[0]).global.chartDigest
    error_message = "each chart has a digest of its own"
  }
}

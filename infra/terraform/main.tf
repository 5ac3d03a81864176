locals {
  jaeger_namespace  = var.create_namespaces ? kubernetes_namespace_v1.this["jaeger"].metadata[0].name : var.jaeger_namespace
  service_namespace = var.create_namespaces ? kubernetes_namespace_v1.this["service"].metadata[0].name : var.service_namespace

  page_host    = coalesce(var.exposure.page_host, "jaeger.${coalesce(var.exposure.address, "none")}.nip.io")
  service_host = coalesce(var.exposure.service_host, "asl.${coalesce(var.exposure.address, "none")}.nip.io")
  scheme       = var.exposure.cluster_issuer == null ? "http" : "https"
  collector    = "jaeger-collector.${var.jaeger_namespace}.svc.cluster.local"

  writes_password = var.storage_password_revision > 0
  secret_name     = local.writes_password ? "storage-credentials" : var.storage.secret_name == null ? "" : var.storage.secret_name
  secret_key      = local.writes_password ? "password" : var.storage.secret_key

  # The chart configures OpenSearch by Elasticsearch's keys.
  has_indices = contains(["elasticsearch", "opensearch"], var.storage.type)
  cassandra   = var.storage.type == "cassandra"

  autoscaling = { for name, replicas in {
    collector = var.collector_replicas
    query     = var.query_replicas
    service   = var.service_replicas
    } : name => {
    enabled     = var.autoscaling.enabled
    minReplicas = replicas
    maxReplicas = max(replicas, var.autoscaling.max)
  } }

  # Terraform compares a chart's version and values only. This value is read by no template: it makes every
  # changed file of a chart a difference.
  chart_digest = { for chart in ["jaeger", "hand-gesture-api"] : chart => sha256(join("", [
    for file in fileset("${path.module}/../helm/${chart}", "**") :
    "${file} ${filesha256("${path.module}/../helm/${chart}/${file}")}\n"
    if file != "README.md" && !startswith(file, "examples/")
  ])) }

  # Exposure of a chart. Both charts have the same keys.
  exposure = { for name, host in { jaeger = local.page_host, service = local.service_host } : name => {
    ingress = {
      enabled   = var.exposure.kind == "ingress"
      className = var.exposure.class_name
      host      = host
      tls = {
        clusterIssuer = var.exposure.cluster_issuer == null ? "" : var.exposure.cluster_issuer
        secretName    = var.exposure.cluster_issuer == null ? "" : "${name}-tls"
      }
    }
    httpRoute = {
      enabled    = var.exposure.kind == "http_route"
      host       = host
      parentRefs = var.exposure.gateway == null ? [] : [var.exposure.gateway]
    }
  } }

  jaeger_values = merge(local.exposure.jaeger, {
    global = { chartDigest = local.chart_digest["jaeger"] }
    image  = { tag = var.jaeger_version == null ? "" : var.jaeger_version }
    storage = {
      type   = var.storage.type
      badger = { size = var.storage.volume_size }
      elasticsearch = {
        scheme            = var.storage.scheme
        host              = coalesce(var.storage.host, "elasticsearch")
        port              = coalesce(var.storage.port, 9200)
        user              = local.has_indices ? var.storage.user : ""
        existingSecret    = local.has_indices ? local.secret_name : ""
        existingSecretKey = local.secret_key
        indexPrefix       = var.storage.index_prefix
        shards            = var.storage.shards
        replicas          = var.storage.replicas
        tls               = { existingSecret = local.has_indices ? var.storage.ca_secret : "" }
      }
      cassandra = {
        host              = coalesce(var.storage.host, "cassandra")
        port              = coalesce(var.storage.port, 9042)
        user              = local.cassandra ? var.storage.user : ""
        existingSecret    = local.cassandra ? local.secret_name : ""
        existingSecretKey = local.secret_key
        tls = {
          enabled        = local.cassandra && var.storage.ca_secret != ""
          existingSecret = local.cassandra ? var.storage.ca_secret : ""
        }
      }
      kafka = { brokers = var.kafka_brokers }
    }
    provisionDataStore = { elasticsearch = var.storage.provision }
    ingester           = { enabled = length(var.kafka_brokers) > 0 }
    sampling           = { defaultProbability = var.sampling_probability }
    collector          = { replicas = var.collector_replicas, autoscaling = local.autoscaling.collector }
    query = {
      replicas    = var.query_replicas
      autoscaling = local.autoscaling.query
      auth        = { htpasswdSecret = var.exposure.page_login_secret, anonymous = var.exposure.page_anonymous }
    }
    networkPolicy = { enabled = var.network_policies }
  })

  service_values = merge(local.exposure.service, {
    global        = { chartDigest = local.chart_digest["hand-gesture-api"] }
    runtime       = var.service_runtime
    image         = { repository = var.service_image.repository, tag = var.service_image.tag == null ? "" : var.service_image.tag }
    replicas      = var.service_replicas
    autoscaling   = local.autoscaling.service
    networkPolicy = { enabled = var.network_policies }
    settings = merge({
      enableTracing        = "true"
      jaegerCollectorHost  = local.collector
      otelTracesSampler    = "parentbased_traceidratio"
      otelTracesSamplerArg = tostring(var.sampling_probability)
    }, var.service_settings)
  })
}

resource "kubernetes_namespace_v1" "this" {
  for_each = var.create_namespaces ? { jaeger = var.jaeger_namespace, service = var.service_namespace } : {}

  metadata {
    name   = each.value
    labels = { "pod-security.kubernetes.io/enforce" = "restricted" }
  }
}

# data_wo is write-only: neither plan nor state contains the password.
resource "kubernetes_secret_v1" "storage" {
  count = local.writes_password ? 1 : 0

  metadata {
    name      = local.secret_name
    namespace = local.jaeger_namespace
  }
  data_wo          = { password = var.storage_password }
  data_wo_revision = var.storage_password_revision
}

resource "helm_release" "jaeger" {
  name      = "jaeger"
  namespace = local.jaeger_namespace
  chart     = "${path.module}/../helm/jaeger"
  values    = concat([yamlencode(local.jaeger_values)], var.jaeger_values)
  timeout   = var.timeout_seconds

  depends_on = [kubernetes_secret_v1.storage]
}

resource "helm_release" "service" {
  name      = "hand-gesture-api"
  namespace = local.service_namespace
  chart     = "${path.module}/../helm/hand-gesture-api"
  values    = concat([yamlencode(local.service_values)], var.service_values)
  timeout   = var.timeout_seconds

  depends_on = [helm_release.jaeger]
}

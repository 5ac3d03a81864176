variable "jaeger_namespace" {
  description = "Namespace of Jaeger."
  type        = string
  default     = "tracing"
}

variable "service_namespace" {
  description = "Namespace of the service."
  type        = string
  default     = "asl"
}

variable "create_namespaces" {
  description = "True to create both namespaces, with restricted pod security."
  type        = bool
  default     = true
}

variable "jaeger_version" {
  description = "Tag of Jaeger's image; null: the chart's."
  type        = string
  default     = null
}

variable "storage" {
  description = <<-TEXT
    Storage of spans.
    type: memory, badger, elasticsearch, opensearch or cassandra.
    host, port, scheme: address of an existing storage.
    user: its user. The password is storage_password, or the key secret_key of the existing secret secret_name.
    ca_secret: secret with the CA certificate (ca.crt), for https.
    index_prefix: "jaeger" gives jaeger-span-DATE.
    shards, replicas: of each index.
    volume_size: of badger's volume.
    provision: true for an elasticsearch that ECK's operator provisions, instead of an existing one.
  TEXT
  type = object({
    type         = optional(string, "memory")
    host         = optional(string)
    port         = optional(number)
    scheme       = optional(string, "http")
    user         = optional(string, "")
    secret_name  = optional(string)
    secret_key   = optional(string, "password")
    ca_secret    = optional(string, "")
    index_prefix = optional(string, "jaeger")
    shards       = optional(number, 1)
    replicas     = optional(number, 1)
    volume_size  = optional(string, "10Gi")
    provision    = optional(bool, false)
  })
  default = {}

  validation {
    condition     = contains(["memory", "badger", "elasticsearch", "opensearch", "cassandra"], var.storage.type)
    error_message = "storage.type must be memory, badger, elasticsearch, opensearch or cassandra."
  }
  validation {
    condition     = contains(["memory", "badger"], var.storage.type) || var.storage.host != null || var.storage.provision
    error_message = "storage.host is missing. Set it to the name of the existing storage, or set storage.provision = true for elasticsearch."
  }
  validation {
    condition     = !var.storage.provision || (var.storage.type == "elasticsearch" && var.storage.host == null && var.storage.user == "")
    error_message = "storage.provision creates an elasticsearch with a user of its own. Remove storage.host and storage.user, and set storage.type to elasticsearch."
  }
  validation {
    condition     = contains(["http", "https"], var.storage.scheme)
    error_message = "storage.scheme must be http or https."
  }
  validation {
    condition     = var.storage.user != "" || var.storage.secret_name == null
    error_message = "storage.secret_name needs storage.user. Set both."
  }
}

variable "storage_password" {
  description = <<-TEXT
    Password of storage.user. It is ephemeral: neither plan nor state contains it. To read it from another namespace's secret:
    TF_VAR_storage_password=$(kubectl --namespace elastic get secret NAME --output 'jsonpath={.data.elastic}' | base64 --decode)
  TEXT
  type        = string
  default     = null
  sensitive   = true
  ephemeral   = true
}

variable "storage_password_revision" {
  description = "Revision of storage_password. Raise it after a change: the password is written only then. 0: none is written."
  type        = number
  default     = 0

  validation {
    condition     = var.storage_password_revision == 0 || (var.storage.user != "" && var.storage.secret_name == null)
    error_message = "storage_password needs storage.user, and excludes storage.secret_name."
  }
  validation {
    condition     = var.storage_password_revision == 0 || var.storage_password != null
    error_message = "storage_password is missing: TF_VAR_storage_password=…"
  }
  validation {
    condition     = var.storage.user == "" || var.storage.secret_name != null || var.storage_password_revision > 0
    error_message = "storage.user needs a password: storage.secret_name, or storage_password with storage_password_revision = 1."
  }
}

variable "kafka_brokers" {
  description = "Brokers of a Kafka between collector and storage, such as kafka:9092. Empty: the collector writes to the storage."
  type        = list(string)
  default     = []

  validation {
    condition     = length(var.kafka_brokers) == 0 || !contains(["memory", "badger"], var.storage.type)
    error_message = "kafka_brokers needs a storage behind Kafka: elasticsearch, opensearch or cassandra."
  }
}

variable "sampling_probability" {
  description = "Fraction of requests that is traced, 0 to 1. A caller's decision takes precedence."
  type        = number
  default     = 1

  validation {
    condition     = var.sampling_probability >= 0 && var.sampling_probability <= 1
    error_message = "sampling_probability must be between 0 and 1."
  }
}

variable "collector_replicas" {
  description = "Number of collector pods."
  type        = number
  default     = 1

  validation {
    condition     = var.collector_replicas == 1 || !contains(["memory", "badger"], var.storage.type)
    error_message = "memory and badger run in one pod. Set collector_replicas to 1."
  }
}

variable "query_replicas" {
  description = "Number of query pods."
  type        = number
  default     = 1

  validation {
    condition     = var.query_replicas == 1 || !contains(["memory", "badger"], var.storage.type)
    error_message = "memory and badger run in one pod. Set query_replicas to 1."
  }
}

variable "autoscaling" {
  description = "Horizontal pod autoscaling by CPU of collector, query and service, from their replicas to max."
  type = object({
    enabled = optional(bool, false)
    max     = optional(number, 5)
  })
  default = {}

  validation {
    condition     = !var.autoscaling.enabled || !contains(["memory", "badger"], var.storage.type)
    error_message = "memory and badger run in one pod. Disable autoscaling."
  }
}

variable "service_image" {
  description = "Image of the service. tag: null for the chart's."
  type = object({
    repository = string
    tag        = optional(string)
  })
}

variable "service_runtime" {
  description = "Runtime of the service: container or spinkube."
  type        = string
  default     = "container"

  validation {
    condition     = contains(["container", "spinkube"], var.service_runtime)
    error_message = "service_runtime must be container or spinkube."
  }
}

variable "service_replicas" {
  description = "Number of service pods."
  type        = number
  default     = 1
}

variable "service_settings" {
  description = "Settings of the service besides tracing, as in its chart: { lowConfidenceThreshold = 0.8 }."
  type        = map(string)
  default     = {}
}

variable "exposure" {
  description = <<-TEXT
    Access from outside the cluster.
    kind: none, ingress or http_route.
    class_name: class of the ingress.
    address: address of the controller, for asl.ADDRESS.nip.io and jaeger.ADDRESS.nip.io.
    service_host, page_host: host names of service and Jaeger UI, instead of address.
    page_login_secret: secret with the users of the Jaeger UI (key htpasswd).
    page_anonymous: true to expose the Jaeger UI without authentication.
    cluster_issuer: cert-manager's issuer, for an ingress with TLS.
    gateway: parent of an http_route.
  TEXT
  type = object({
    kind              = optional(string, "none")
    class_name        = optional(string, "nginx")
    address           = optional(string)
    service_host      = optional(string)
    page_host         = optional(string)
    page_login_secret = optional(string, "")
    page_anonymous    = optional(bool, false)
    cluster_issuer    = optional(string)
    gateway           = optional(object({ name = string, namespace = string }))
  })
  default = {}

  validation {
    condition     = contains(["none", "ingress", "http_route"], var.exposure.kind)
    error_message = "exposure.kind must be none, ingress or http_route."
  }
  validation {
    condition     = var.exposure.kind == "none" || var.exposure.address != null || (var.exposure.service_host != null && var.exposure.page_host != null)
    error_message = "exposure has no host. Set exposure.address, or exposure.service_host and exposure.page_host."
  }
  validation {
    condition     = var.exposure.kind == "none" || var.exposure.page_anonymous || var.exposure.page_login_secret != ""
    error_message = "The Jaeger UI shows every user's data. Set exposure.page_login_secret, or exposure.page_anonymous = true."
  }
  validation {
    condition     = var.exposure.kind != "http_route" || var.exposure.gateway != null
    error_message = "exposure.kind http_route needs a parent. Set exposure.gateway."
  }
}

variable "network_policies" {
  description = "True to restrict traffic of Jaeger and service by network policies."
  type        = bool
  default     = false
}

variable "jaeger_values" {
  description = "Values of the chart jaeger as YAML documents, merged over the module's; the last takes precedence."
  type        = list(string)
  default     = []
}

variable "service_values" {
  description = "Values of the chart hand-gesture-api as YAML documents, merged over the module's; the last takes precedence."
  type        = list(string)
  default     = []
}

variable "timeout_seconds" {
  description = "Longest wait for a chart to become ready, in seconds."
  type        = number
  default     = 300
}

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
  description = "Whether to make both namespaces, with restricted pod security."
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
    Where spans are kept. type: memory, badger, elasticsearch, opensearch or cassandra. host, port, scheme: of a store that
    exists. user: its user; the password is storage_password, or in the secret secret_name (key secret_key) that exists.
    ca_secret: a secret with the authority's certificate (ca.crt), for https. index_prefix: "jaeger" gives jaeger-span-DATE.
    provision: an elasticsearch that ECK's operator makes, in the place of one that exists.
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
    error_message = "storage.type is memory, badger, elasticsearch, opensearch or cassandra."
  }
  validation {
    condition     = contains(["memory", "badger"], var.storage.type) || var.storage.host != null || var.storage.provision
    error_message = "storage.host is needed: the name of the store that exists. Or storage.provision = true, for elasticsearch."
  }
  validation {
    condition     = !var.storage.provision || (var.storage.type == "elasticsearch" && var.storage.host == null && var.storage.user == "")
    error_message = "storage.provision makes an elasticsearch with a user of its own: without storage.host and storage.user."
  }
  validation {
    condition     = contains(["http", "https"], var.storage.scheme)
    error_message = "storage.scheme is http or https."
  }
  validation {
    condition     = var.storage.user != "" || var.storage.secret_name == null
    error_message = "storage.secret_name is set, so storage.user is needed too."
  }
}

variable "storage_password" {
  description = <<-TEXT
    Password of storage.user. It is ephemeral: neither plan nor state has it. From a secret of another namespace:
    TF_VAR_storage_password=$(kubectl --namespace elastic get secret NAME --output 'jsonpath={.data.elastic}' | base64 --decode)
  TEXT
  type        = string
  default     = null
  sensitive   = true
  ephemeral   = true
}

variable "storage_password_revision" {
  description = "Raise it when storage_password has changed: only then is it written again. 0: there is no password to write."
  type        = number
  default     = 0

  validation {
    condition     = var.storage_password_revision == 0 || (var.storage.user != "" && var.storage.secret_name == null)
    error_message = "storage_password is written for storage.user, and not beside storage.secret_name."
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
  description = "Brokers of a Kafka between collector and storage, such as kafka:9092; none: spans go to the storage directly."
  type        = list(string)
  default     = []

  validation {
    condition     = length(var.kafka_brokers) == 0 || !contains(["memory", "badger"], var.storage.type)
    error_message = "kafka_brokers needs a storage behind Kafka: elasticsearch, opensearch or cassandra."
  }
}

variable "sampling_probability" {
  description = "Part of the requests that is traced, 0 to 1. A caller's decision is followed."
  type        = number
  default     = 1

  validation {
    condition     = var.sampling_probability >= 0 && var.sampling_probability <= 1
    error_message = "sampling_probability is from 0 to 1."
  }
}

variable "collector_replicas" {
  description = "Pods of the collector."
  type        = number
  default     = 1

  validation {
    condition     = var.collector_replicas == 1 || !contains(["memory", "badger"], var.storage.type)
    error_message = "memory and badger have one pod: collector_replicas is 1."
  }
}

variable "query_replicas" {
  description = "Pods of query."
  type        = number
  default     = 1

  validation {
    condition     = var.query_replicas == 1 || !contains(["memory", "badger"], var.storage.type)
    error_message = "memory and badger have one pod: query_replicas is 1."
  }
}

variable "autoscaling" {
  description = "Whether collector, query and service scale by their CPU, from their replicas to max."
  type = object({
    enabled = optional(bool, false)
    max     = optional(number, 5)
  })
  default = {}

  validation {
    condition     = !var.autoscaling.enabled || !contains(["memory", "badger"], var.storage.type)
    error_message = "memory and badger have one pod: autoscaling can't be enabled."
  }
}

variable "service_image" {
  description = "Image of the service: its repository and tag."
  type = object({
    repository = string
    tag        = optional(string)
  })
}

variable "service_runtime" {
  description = "container or spinkube."
  type        = string
  default     = "container"

  validation {
    condition     = contains(["container", "spinkube"], var.service_runtime)
    error_message = "service_runtime is container or spinkube."
  }
}

variable "service_replicas" {
  description = "Pods of the service."
  type        = number
  default     = 1
}

variable "service_settings" {
  description = "Further settings of the service, as in its chart: { lowConfidenceThreshold = 0.8 }."
  type        = map(string)
  default     = {}
}

variable "exposure" {
  description = <<-TEXT
    The way in. kind: none, ingress or http_route. address: the controller's, for asl.ADDRESS.nip.io and jaeger.ADDRESS.nip.io;
    or service_host and page_host. page_login_secret: a secret with logins for Jaeger's page (key htpasswd); or page_anonymous.
    tls: for an ingress, by cert-manager's cluster_issuer. gateway: for http_route.
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
    error_message = "exposure.kind is none, ingress or http_route."
  }
  validation {
    condition     = var.exposure.kind == "none" || var.exposure.address != null || (var.exposure.service_host != null && var.exposure.page_host != null)
    error_message = "exposure needs address, or service_host and page_host."
  }
  validation {
    condition     = var.exposure.kind == "none" || var.exposure.page_anonymous || var.exposure.page_login_secret != ""
    error_message = "Jaeger's page shows everybody's data: exposure needs page_login_secret, or page_anonymous = true."
  }
  validation {
    condition     = var.exposure.kind != "http_route" || var.exposure.gateway != null
    error_message = "exposure.kind http_route needs exposure.gateway."
  }
}

variable "network_policies" {
  description = "Whether to restrict who speaks with whom."
  type        = bool
  default     = false
}

variable "jaeger_values" {
  description = "Further values of the chart jaeger, as YAML; the last one wins."
  type        = list(string)
  default     = []
}

variable "service_values" {
  description = "Further values of the chart hand-gesture-api, as YAML; the last one wins."
  type        = list(string)
  default     = []
}

variable "timeout_seconds" {
  description = "How long to wait until a chart is ready."
  type        = number
  default     = 300
}

# An Elasticsearch that exists, one request in ten traced. The password comes from its own namespace,
# and stays out of plan and state:
#
#     export TF_VAR_elasticsearch_password=$(kubectl --namespace elastic get secret elasticsearch-es-elastic-user \
#       --output 'jsonpath={.data.elastic}' | base64 --decode)
#     terraform init && terraform apply -var image=REGISTRY/hand-gesture-api -var elasticsearch_host=elasticsearch-es-http.elastic.svc

terraform {
  required_version = ">= 1.11"

  required_providers {
    helm = {
      source  = "hashicorp/helm"
      version = "~> 3.1"
    }
    kubernetes = {
      source  = "hashicorp/kubernetes"
      version = "~> 3.0"
    }
  }
}

variable "kubeconfig" {
  description = "The cluster's configuration."
  type        = string
  default     = "~/.kube/config"
}

variable "image" {
  description = "The service's image, without its tag."
  type        = string
}

variable "tag" {
  description = "Its tag; null: the chart's."
  type        = string
  default     = null
}

variable "jaeger_version" {
  description = "Tag of Jaeger's image; null: the chart's."
  type        = string
  default     = null
}

variable "elasticsearch_host" {
  description = "Name of the Elasticsearch."
  type        = string
}

variable "elasticsearch_port" {
  description = "Its port."
  type        = number
  default     = 9200
}

variable "elasticsearch_scheme" {
  description = "http or https."
  type        = string
  default     = "https"
}

variable "elasticsearch_ca_secret" {
  description = "A secret in Jaeger's namespace with the authority's certificate (ca.crt); empty: a public authority."
  type        = string
  default     = ""
}

variable "elasticsearch_password" {
  description = "Password of the user elastic."
  type        = string
  sensitive   = true
  ephemeral   = true
}

variable "elasticsearch_password_revision" {
  description = "Raise it when the password has changed."
  type        = number
  default     = 1
}

provider "kubernetes" {
  config_path = var.kubeconfig
}

provider "helm" {
  kubernetes = {
    config_path = var.kubeconfig
  }
}

module "asl" {
  source = "../.."

  jaeger_version = var.jaeger_version
  service_image  = { repository = var.image, tag = var.tag }

  storage = {
    type      = "elasticsearch"
    scheme    = var.elasticsearch_scheme
    host      = var.elasticsearch_host
    port      = var.elasticsearch_port
    user      = "elastic"
    ca_secret = var.elasticsearch_ca_secret
  }
  storage_password          = var.elasticsearch_password
  storage_password_revision = var.elasticsearch_password_revision

  sampling_probability = 0.1
  collector_replicas   = 2
  query_replicas       = 2
  service_replicas     = 2
  network_policies     = true
}

output "collector_endpoint" {
  description = "Where spans go."
  value       = module.asl.collector_endpoint
}

output "page" {
  description = "Jaeger's page."
  value       = module.asl.page
}

output "api" {
  description = "The service."
  value       = module.asl.api
}

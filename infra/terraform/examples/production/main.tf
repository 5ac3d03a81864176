# Production: an existing Elasticsearch, one request in ten traced. The password comes from a secret of
# Elasticsearch's namespace and stays out of plan and state:
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
  description = "Path of the cluster's kubeconfig."
  type        = string
  default     = "~/.kube/config"
}

variable "image" {
  description = "Repository of the service's image."
  type        = string
}

variable "tag" {
  description = "Tag of the service's image; null: the chart's."
  type        = string
  default     = null
}

variable "jaeger_version" {
  description = "Tag of Jaeger's image; null: the chart's."
  type        = string
  default     = null
}

variable "elasticsearch_host" {
  description = "Host name of the Elasticsearch."
  type        = string
}

variable "elasticsearch_port" {
  description = "Port of the Elasticsearch."
  type        = number
  default     = 9200
}

variable "elasticsearch_scheme" {
  description = "Scheme of the Elasticsearch: http or https."
  type        = string
  default     = "https"
}

variable "elasticsearch_ca_secret" {
  description = "Secret in Jaeger's namespace with the CA certificate (ca.crt). Empty: a public CA."
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
  description = "Revision of the password. Raise it after a change."
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
  description = "Endpoint of the collector."
  value       = module.asl.collector_endpoint
}

output "page" {
  description = "URL of the Jaeger UI, or the command that reaches it."
  value       = module.asl.page
}

output "api" {
  description = "URL of the service, or the command that reaches it."
  value       = module.asl.api
}

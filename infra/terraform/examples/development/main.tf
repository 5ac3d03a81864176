# Evaluation: traces every request and keeps the traces in memory.
#
#     terraform init && terraform apply -var image=REGISTRY/hand-gesture-api

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

# Everything in memory, every request traced: for trying things out.
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

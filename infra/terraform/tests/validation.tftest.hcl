# Validation rejects what cannot work before anything is planned.

mock_provider "helm" {}
mock_provider "kubernetes" {}

variables {
  service_image = { repository = "registry.example.com/hand-gesture-api" }
}

run "rejects_unknown_storage" {
  command = plan
  variables { storage = { type = "mysql", host = "x" } }
  expect_failures = [var.storage]
}

run "rejects_elasticsearch_without_host" {
  command = plan
  variables { storage = { type = "elasticsearch" } }
  expect_failures = [var.storage]
}

run "rejects_provisioned_opensearch" {
  command = plan
  variables { storage = { type = "opensearch", provision = true } }
  expect_failures = [var.storage]
}

run "rejects_user_without_password" {
  command = plan
  variables { storage = { type = "elasticsearch", host = "x", user = "elastic" } }
  expect_failures = [var.storage_password_revision]
}

run "rejects_revision_without_password" {
  command = plan
  variables {
    storage                   = { type = "elasticsearch", host = "x", user = "elastic" }
    storage_password_revision = 1
  }
  expect_failures = [var.storage_password_revision]
}

run "rejects_kafka_without_storage" {
  command = plan
  variables { kafka_brokers = ["kafka:9092"] }
  expect_failures = [var.kafka_brokers]
}

run "rejects_two_collectors_on_memory" {
  command = plan
  variables { collector_replicas = 2 }
  expect_failures = [var.collector_replicas]
}

run "rejects_autoscaling_on_memory" {
  command = plan
  variables { autoscaling = { enabled = true } }
  expect_failures = [var.autoscaling]
}

run "rejects_sampling_in_percent" {
  command = plan
  variables { sampling_probability = 10 }
  expect_failures = [var.sampling_probability]
}

run "rejects_unknown_runtime" {
  command = plan
  variables { service_runtime = "docker" }
  expect_failures = [var.service_runtime]
}

run "rejects_exposed_ui_without_authentication" {
  command = plan
  variables { exposure = { kind = "ingress", address = "192.0.2.10" } }
  expect_failures = [var.exposure]
}

run "rejects_route_without_gateway" {
  command = plan
  variables { exposure = { kind = "http_route", address = "192.0.2.10", page_anonymous = true } }
  expect_failures = [var.exposure]
}

# What can't work is refused before anything is planned.

mock_provider "helm" {}
mock_provider "kubernetes" {}

variables {
  service_image = { repository = "registry.example.com/hand-gesture-api" }
}

run "unknown_storage" {
  command = plan
  variables { storage = { type = "mysql", host = "x" } }
  expect_failures = [var.storage]
}

run "elasticsearch_without_a_host" {
  command = plan
  variables { storage = { type = "elasticsearch" } }
  expect_failures = [var.storage]
}

run "opensearch_provisioned" {
  command = plan
  variables { storage = { type = "opensearch", provision = true } }
  expect_failures = [var.storage]
}

run "a_user_without_a_password" {
  command = plan
  variables { storage = { type = "elasticsearch", host = "x", user = "elastic" } }
  expect_failures = [var.storage_password_revision]
}

run "a_revision_without_a_password" {
  command = plan
  variables {
    storage                   = { type = "elasticsearch", host = "x", user = "elastic" }
    storage_password_revision = 1
  }
  expect_failures = [var.storage_password_revision]
}

run "kafka_without_a_store" {
  command = plan
  variables { kafka_brokers = ["kafka:9092"] }
  expect_failures = [var.kafka_brokers]
}

run "two_collectors_on_memory" {
  command = plan
  variables { collector_replicas = 2 }
  expect_failures = [var.collector_replicas]
}

run "autoscaling_on_memory" {
  command = plan
  variables { autoscaling = { enabled = true } }
  expect_failures = [var.autoscaling]
}

run "sampling_in_percent" {
  command = plan
  variables { sampling_probability = 10 }
  expect_failures = [var.sampling_probability]
}

run "an_unknown_runtime" {
  command = plan
  variables { service_runtime = "docker" }
  expect_failures = [var.service_runtime]
}

run "an_open_page" {
  command = plan
  variables { exposure = { kind = "ingress", address = "192.0.2.10" } }
  expect_failures = [var.exposure]
}

run "a_route_without_a_gateway" {
  command = plan
  variables { exposure = { kind = "http_route", address = "192.0.2.10", page_anonymous = true } }
  expect_failures = [var.exposure]
}

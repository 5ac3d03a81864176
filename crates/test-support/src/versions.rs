//! The versions of Jaeger: those that this project builds, tests and deploys.

/// The version that the tests run, built from `infra/tools/jaeger`.
pub const JAEGER_TESTED: &str = "2.13.0";

/// The version that the chart deploys: its `appVersion`.
pub const JAEGER_DEPLOYED: &str = "2.20.0";

/// The first version whose writes to Elasticsearch and OpenSearch report their result.
pub const JAEGER_SYNC: &str = "2.21.0";

/// Returns the version of the Jaeger under test. The variable `JAEGER_VERSION` says which one `JAEGER`
/// names.
pub fn jaeger() -> String {
    std::env::var("JAEGER_VERSION").unwrap_or_else(|_| JAEGER_TESTED.into())
}

/// Returns true if the Jaeger under test retries writes that Elasticsearch or OpenSearch did not take.
/// Versions from 2.20 on do not; `infra/README.md` says so.
pub fn jaeger_retries_writes() -> bool {
    jaeger() == JAEGER_TESTED
}

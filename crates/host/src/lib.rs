//! A host for the hand gesture component, **for development and tests**.
//!
//! It serves the component from the `spin.toml` that Spin reads, and does what Spin does as far as this
//! project's component can tell. It refuses what only Spin supports. Tests and benchmarks need nothing
//! but Rust for it, and control limits, log and collector. It is no replacement for Spin in production:
//! it has no TLS and no HTTP/2.
//!
//! # Parts, in the order of a start
//!
//! | module | task |
//! |---|---|
//! | [`manifest`] | reads `spin.toml`: one trigger, one component, variables with defaults |
//! | [`variables`] | resolves variables: command line, environment, default |
//! | [`outbound`] | parses and enforces `allowed_outbound_hosts` |
//! | [`options`] | what a server is started with, from the manifest |
//! | [`engine`] | compiles the component, caches compiled code |
//! | `guest`, [`sqlite`] | what the component imports: WASI, HTTP, Spin's variables; its SQLite |
//! | `linker` | all imports by their names |
//! | `instances` | makes instances, decides which requests they take and when they end |
//! | `memory` | limits and measures the memory of instances |
//! | `connections`, `spin_headers` | accepts connections, hands requests to instances |
//! | `turns` | bounds how many requests compute at a time |
//! | `lingering` | closes a connection so that its client can read the last response |
//! | [`serve`] | the server: threads, start and stop |
//! | [`log`] | the log of host and guests |
//! | `registers` | clears vector registers on threads that run guests |
//!
//! Beside the server: [`freezing`] freezes models into the component at build time, [`command`] runs a
//! component with a `main` in the same sandbox, [`collector`] collects spans, [`trace`] prints them, [`others`]
//! has the commands that serve a component on hosts that others wrote, and [`client`] calls a server.
//!
//! # Use
//!
//! ```no_run
//! # async fn serve() -> anyhow::Result<()> {
//! let manifest = host::Manifest::read("spin.toml".as_ref())?;
//! let options = host::Options::from_manifest(&manifest, &[], |name| std::env::var(name))?;
//! let server = host::Server::start(options).await?;
//! println!("{}", server.url());
//! server.stop().await;
//! # Ok(())
//! # }
//! ```

pub mod client;
pub mod collector;
pub mod command;
mod connections;
pub mod engine;
pub mod freezing;
mod guest;
mod instances;
mod lingering;
mod linker;
pub mod log;
pub mod manifest;
mod memory;
pub mod options;
pub mod others;
pub mod outbound;
mod registers;
pub mod serve;
mod spin_headers;
pub mod sqlite;
pub mod trace;
mod turns;
pub mod variables;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub use collector::Collector;
pub use freezing::freeze_models;
pub use log::{LogLine, LogSink};
pub use manifest::Manifest;
pub use options::{Limits, Options, ResponseHook};
pub use serve::{Server, Startup};

/// Returns the folder in which cargo builds a workspace: `CARGO_TARGET_DIR` of the environment, else `target` in
/// the workspace's root.
pub fn target(root: &Path) -> PathBuf {
    target_in(root, std::env::var_os("CARGO_TARGET_DIR"))
}

fn target_in(root: &Path, set: Option<OsString>) -> PathBuf {
    root.join(set.filter(|folder| !folder.is_empty()).unwrap_or_else(|| "target".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_is_cargos() {
        let target = |set: &str| target_in(Path::new("/w"), Some(set.into()));
        assert_eq!(target_in(Path::new("/w"), None), Path::new("/w/target"));
        assert_eq!(target(""), Path::new("/w/target"));
        assert_eq!(target("built"), Path::new("/w/built"));
        assert_eq!(target("/elsewhere"), Path::new("/elsewhere"));
    }
}

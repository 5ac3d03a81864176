//! `cargo xtask hostile`: sends mutated photos, forms and headers to the component, by the example `hostile`
//! of the crate `test-support`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::bench::process::Process;
use crate::bench::{PHOTO, agent, at_connections};
use crate::build::{Models, World};
use crate::{build, example, root};

/// The limit of each instance's memory, in bytes: that of hosts which are sparing with it.
const INSTANCE_MEMORY: usize = 128 << 20;
/// Time after which instances without requests have ended.
const SETTLE: Duration = Duration::from_secs(3);
/// Length of the load before it, by which the host has as many instances as it needs.
const WARM_UP: Duration = Duration::from_secs(2);

/// Arguments of `cargo xtask hostile`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Number of requests
    #[arg(long, value_name = "N", default_value_t = 2000)]
    count: u64,
    /// Number of the first request
    #[arg(long, value_name = "N", default_value_t = 0)]
    first: u64,
    /// Seed of the requests
    #[arg(long, value_name = "N", default_value_t = 17)]
    seed: u64,
    /// Connections at a time
    #[arg(long, value_name = "N", default_value_t = 4)]
    connections: usize,
    /// Send them to a server that runs already; its memory is not measured
    #[arg(long, value_name = "ADDRESS:PORT")]
    address: Option<SocketAddr>,
    /// Use the component that was built before
    #[arg(long)]
    no_build: bool,
    /// Keep requests that trap or get no answer in this folder
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
    #[command(flatten)]
    models: Models,
}

/// Sends the requests and prints the answers.
pub fn run(arguments: &Arguments) -> Result<()> {
    if let Some(folder) = &arguments.keep {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    if let Some(address) = arguments.address {
        return send(arguments, address);
    }
    if !arguments.no_build {
        build::run(&[World::Spin], &arguments.models, true)?;
    }
    let memory = INSTANCE_MEMORY.to_string();
    // Without traces, which `up` would keep: its memory would grow by each of them.
    let variables = [("otel_sdk_disabled".to_owned(), "true".to_owned())];
    let environment = [(host::options::MAX_INSTANCE_MEMORY, memory.as_str())];
    let mut server = Process::component(&variables, &environment)?;
    let (agent, health) = (agent(), format!("{}/health", server.url()));
    server.first_answer(|| agent.get(&health).call().is_ok_and(|answer| answer.status() == 200))?;
    // The example is built before anything is measured.
    example("hostile")?;
    let photo = std::fs::read(root().join(PHOTO)).context(PHOTO)?;
    at_connections(&server.url(), &photo, arguments.connections, WARM_UP)?;
    std::thread::sleep(SETTLE);
    let before = server.memory();
    let (sent, peak) = server.peak_memory(|| Ok(send(arguments, server.address)))?;
    std::thread::sleep(SETTLE);
    for (name, memory) in [("before", before), ("peak", peak), ("after", server.memory())] {
        if let Some(memory) = memory {
            println!("{memory:>8.1} MB of memory (PSS) {name}");
        }
    }
    if let Some(status) = server.ended()? {
        bail!("the server ended: {status}");
    }
    sent
}

fn send(arguments: &Arguments, address: SocketAddr) -> Result<()> {
    let Arguments { count, first, seed, connections, keep, .. } = arguments;
    let mut example = example("hostile")?;
    example.args([address.to_string(), first.to_string(), count.to_string(), seed.to_string()]);
    example.arg(connections.to_string()).args(keep);
    if !example.status().context("cannot run the example")?.success() {
        bail!("not every request was answered as it should be; see above");
    }
    Ok(())
}

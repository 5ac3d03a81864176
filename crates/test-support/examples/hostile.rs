//! Sends hostile requests to a server: `cargo xtask hostile` runs this.
//!
//! `hostile ADDRESS FIRST COUNT SEED CONNECTIONS [FOLDER]`

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use test_support::hostile::{Requests, send};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((address, first, count, seed, connections)) = parse(&arguments) else {
        eprintln!("usage: hostile ADDRESS FIRST COUNT SEED CONNECTIONS [FOLDER]");
        return ExitCode::FAILURE;
    };
    let folder = arguments.get(5).map(PathBuf::from);
    let numbers = first..first.saturating_add(count);
    let report = send(address, &Requests::new(seed), numbers, connections, folder.as_deref());
    print!("{report}");
    if report.is_well() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn parse(arguments: &[String]) -> Option<(SocketAddr, u64, u64, u64, usize)> {
    let [address, first, count, seed, connections, ..] = arguments else { return None };
    Some((
        address.parse().ok()?,
        first.parse().ok()?,
        count.parse().ok()?,
        seed.parse().ok()?,
        connections.parse().ok()?,
    ))
}

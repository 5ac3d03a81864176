//! Prints time and memory of decoding the photos that cost most of each kind, among those that are
//! decoded: `cargo run --release --package vision --example worst`, and the same with `--target
//! wasm32-wasip2`, where the runner of `.cargo/config.toml` runs it in the sandbox.
//!
//! Outside of WebAssembly, `jpeg-decoder` hands rows to threads: JPEGs take less time there and more
//! memory.

#[path = "../tests/files/mod.rs"]
mod files;

use std::time::{Duration, Instant};

use files::counting::{Counting, most_memory};
use files::worst::{ALL, Worst};
use vision::decode::{Limits, decode};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs of each photo, of which the fastest counts.
const RUNS: usize = 3;

fn main() {
    println!("| photo | body, MB | time, ms | memory, MB | becomes |");
    println!("|---|---|---|---|---|");
    for make in ALL {
        let Worst { name, file, .. } = make();
        let (mut time, mut memory, mut becomes) = (Duration::MAX, 0, String::new());
        for _ in 0..RUNS {
            let start = Instant::now();
            let (result, most) = most_memory(|| decode(&file, Limits::DEFAULT));
            time = time.min(start.elapsed());
            memory = most;
            becomes = match result {
                Ok(decoded) => format!("{:?}", decoded.photo),
                Err(error) => error.to_string(),
            };
        }
        println!(
            "| {name} | {:.2} | {:.0} | {:.1} | {becomes} |",
            file.len() as f64 / 1e6,
            time.as_secs_f64() * 1e3,
            memory as f64 / 1e6
        );
    }
}

//! Runs a command, a component with a `main`: the component's own tests and measurements, in the sandbox
//! that the component runs in.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use wasmtime::component::Component;
use wasmtime::{Result, Store};
use wasmtime_wasi::p2::bindings::Command;
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtxBuilder};

use crate::engine::serving_engine;
use crate::guest::{GuestState, Shared};
use crate::linker::linker;
use crate::log::{LogSink, Source};
use crate::memory::InstanceMemory;
use crate::registers::clear_upper_halves;

/// Runs a command component with these arguments, of which the first is its own name, and returns its
/// exit code.
///
/// The guest can print, and read the folders: each is a path, its name in the guest, and whether the guest may
/// write there. It has no environment, network or variables.
///
/// # Errors
///
/// A file that is not such a component, and a trap.
pub fn run_command(
    file: &Path,
    arguments: &[String],
    folders: &[(PathBuf, &str, bool)],
) -> Result<i32> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let engine = serving_engine(1)?;
        let component = Component::from_file(&engine, file)?;
        let mut wasi = WasiCtxBuilder::new();
        wasi.args(arguments);
        for (path, name, writable) in folders {
            let rights = if *writable { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
            wasi.preopened_dir(path, name, rights)?;
        }
        let shared = Arc::new(Shared::offline(LogSink::new(|line| match line.source {
            Source::Stdout(_) => println!("{}", line.text),
            _ => eprintln!("{}", line.text),
        })));
        let state = GuestState::new(shared, wasi, 0, InstanceMemory::unlimited());
        let mut store = Store::new(&engine, state);
        // Out of reach, but it must not overflow when the present epoch is added.
        store.set_epoch_deadline(u64::MAX / 2);
        let command = Command::instantiate_async(&mut store, &component, &linker(&engine)?).await?;
        clear_upper_halves();
        match command.wasi_cli_run().call_run(&mut store).await {
            Ok(Ok(())) => Ok(0),
            Ok(Err(())) => Ok(1),
            Err(error) => match error.downcast_ref::<I32Exit>() {
                Some(exit) => Ok(exit.0),
                None => Err(error),
            },
        }
    })
}

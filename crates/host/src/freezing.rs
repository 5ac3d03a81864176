//! Freezes the models into the component: the [`freeze`] crate's method, with this host's imports.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use freeze::{INITIALIZER, PruneError, Pruned, SnapshotError};
use wasmtime::Engine;
use wasmtime_wasi::random::Deterministic;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

use crate::guest::{GuestState, Shared, describe};
use crate::linker::linker;
use crate::log::LogSink;
use crate::memory::InstanceMemory;

/// The folder where the guest finds the models.
pub const MODELS: &str = "/models";

/// A frozen component.
pub struct Frozen {
    /// The component.
    pub component: Vec<u8>,
    /// The number of functions before and after pruning. `None` if nothing was pruned, because the
    /// linker has kept no symbols.
    pub functions: Option<[usize; 2]>,
}

/// An error of [`freeze_models`].
#[derive(Debug, thiserror::Error)]
pub enum FreezeError {
    /// The models' folder cannot be opened.
    #[error("cannot open the models' folder {}: {error:#}", folder.display())]
    Models {
        /// The folder.
        folder: PathBuf,
        /// The reason.
        error: wasmtime::Error,
    },
    /// The component does not export its initialiser.
    #[error("the component does not export `{INITIALIZER}`")]
    NoInitializer,
    /// The component is not valid, or its initialiser failed.
    #[error("the component's `{INITIALIZER}` failed: {}{}", describe(error), indented(output))]
    Failed {
        /// The reason.
        error: wasmtime::Error,
        /// The lines that the guest wrote to its standard streams.
        output: Vec<String>,
    },
    /// The frozen component cannot be pruned.
    #[error("cannot prune the frozen component")]
    Prune(#[from] PruneError),
    /// The initialiser wrote to its standard streams. The component keeps their handles, which are not
    /// valid in the instances made from it: each of their writes would trap.
    #[error(
        "the component's `{INITIALIZER}` must not print, or later prints trap; it printed:{}",
        indented(output)
    )]
    Printed {
        /// The lines that it wrote.
        output: Vec<String>,
    },
}

fn indented(lines: &[String]) -> String {
    lines.iter().map(|line| format!("\n  {line}")).collect()
}

/// Runs the component's initialiser and returns the component with the memory that it leaves, pruned.
///
/// The guest can read the folder `models` as [`MODELS`]. It has no environment, network or variables,
/// and always draws the same random numbers, so the same component and models give the same bytes.
/// Nothing that must be unpredictable, or different in each instance, may be drawn here.
///
/// This takes as long as compiling the component. It may be called on any thread.
///
/// # Errors
///
/// Every [`FreezeError`]. One mistake cannot be noticed here: a guest that reads its environment keeps
/// it empty, and `std::env` stays empty in every instance, whatever the manifest says. Loading a model
/// with tract does that. `wasi:cli/environment` itself still gives the real one.
pub fn freeze_models(component: &[u8], models: &Path) -> Result<Frozen, FreezeError> {
    // A snapshot is asynchronous. On a thread of its own, its runtime cannot clash with a caller's.
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| FreezeError::Failed { error: error.into(), output: Vec::new() })?
                .block_on(run(component, models))
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

async fn run(component: &[u8], models: &Path) -> Result<Frozen, FreezeError> {
    let mut wasi = WasiCtxBuilder::new();
    wasi.preopened_dir(models, MODELS, FsPerms::ReadOnly)
        .map_err(|error| FreezeError::Models { folder: models.to_owned(), error })?;
    // Several bytes that differ: a guest may ask until it gets something other than zero.
    let random = || Deterministic::new(vec![0x9e, 0x37, 0x79, 0xb9, 0x7f, 0x4a, 0x7c, 0x15]);
    wasi.secure_random(random());
    wasi.insecure_random(random());
    wasi.insecure_random_seed(0x9e37_79b9_7f4a_7c15);

    let output = Arc::new(Mutex::new(Vec::new()));
    let lines = output.clone();
    let shared = Arc::new(Shared::offline(LogSink::new(move |line| {
        if let Ok(mut lines) = lines.lock() {
            lines.push(line.text);
        }
    })));
    let state = GuestState::new(shared, wasi, 0, InstanceMemory::unlimited());
    let snapshot = async {
        let engine = Engine::new(&freeze::snapshot::config())?;
        freeze::snapshot(&engine, component, state, &linker(&engine)?).await
    };
    let snapshot = snapshot.await;
    // The store is gone, so the last line has been logged.
    let output = output.lock().map(|mut lines| std::mem::take(&mut *lines)).unwrap_or_default();
    let snapshot = match snapshot {
        Ok(_) if !output.is_empty() => return Err(FreezeError::Printed { output }),
        Ok(snapshot) => snapshot,
        Err(SnapshotError::NoInitializer) => return Err(FreezeError::NoInitializer),
        Err(SnapshotError::Failed(error)) => return Err(FreezeError::Failed { error, output }),
    };
    Ok(match freeze::prune(component, &snapshot, INITIALIZER)? {
        Some(Pruned { component, functions }) => Frozen { component, functions: Some(functions) },
        None => Frozen { component: snapshot, functions: None },
    })
}

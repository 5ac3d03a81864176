//! Pre-initialisation: the component's export `wizer-initialize` is run once, at build time,
//! and its memory as it is then becomes the component's initial memory.

use crate::guest::{GuestState, Shared, describe, linker};
use crate::log::LogSink;
use crate::outbound::AllowedHosts;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use freeze::{INITIALIZER, Pruned, SnapshotError, prune, snapshot};
use wasmtime::{Engine, StoreLimits};
use wasmtime_wasi::random::Deterministic;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

/// Where the guest finds the models.
pub const MODELS: &str = "/models";

/// A pre-initialised component.
pub struct Preinitialized {
    /// The component.
    pub component: Vec<u8>,
    /// How many functions it had, and how many it has without those that only pre-initialisation
    /// needed. None if the linker has left no records to find them by: nothing was removed then.
    pub functions: Option<[usize; 2]>,
}

/// Why a component could not be pre-initialised.
#[derive(Debug)]
pub enum PreinitError {
    /// The folder of the models cannot be opened.
    Models {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: wasmtime::Error,
    },
    /// The component does not export `wizer-initialize`.
    NoInitializer,
    /// The component is not valid or failed in `wizer-initialize`.
    Failed {
        /// What wasmtime or wizer say.
        source: wasmtime::Error,
        /// What the guest wrote to its standard streams, one line each.
        output: Vec<String>,
    },
    /// What only pre-initialisation needed can't be removed.
    Prune {
        /// Why.
        source: anyhow::Error,
    },
    /// The component wrote to its standard streams. It keeps their handles, which are not valid
    /// in the instances made from it: each of their writes would trap.
    Printed {
        /// What it wrote, one line each.
        output: Vec<String>,
    },
}

impl fmt::Display for PreinitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Models { folder, source } => {
                write!(f, "cannot open the models' folder {}", folder.display())?;
                write!(f, ": {source:#}")
            }
            Self::NoInitializer => write!(f, "the component does not export `{INITIALIZER}`"),
            Self::Failed { source, output } => {
                write!(f, "the component's `{INITIALIZER}` failed: {}", describe(source))?;
                write_lines(f, output)
            }
            Self::Prune { source } => {
                write!(f, "what only `{INITIALIZER}` needed can't be removed: {source:#}")
            }
            Self::Printed { output } => {
                write!(
                    f,
                    "the component's `{INITIALIZER}` must not print, as later prints would trap; \
                     it printed:"
                )?;
                write_lines(f, output)
            }
        }
    }
}

fn write_lines(f: &mut fmt::Formatter<'_>, lines: &[String]) -> fmt::Result {
    for line in lines {
        write!(f, "\n  {line}")?;
    }
    Ok(())
}

impl std::error::Error for PreinitError {}

/// Runs the component's export `wizer-initialize` and gives back the component as it is then, without
/// the functions and statics that only this export needed.
///
/// The guest can read `models` as `/models`. It gets nothing else: no environment, no network,
/// no variables (`spin:variables` fails), and always the same random numbers, so that the same
/// component and models give the same result, byte for byte. Nothing that must be
/// unpredictable or different in each instance may be drawn here.
///
/// This takes as long as compiling the component. It may be called on any thread.
///
/// # Errors
///
/// [`PreinitError`], with what the guest had to say if it failed. Having printed is a failure,
/// too: the guest keeps the handles of its streams, which are not valid in later instances.
///
/// What cannot be noticed here: a guest that reads its environment keeps that it is empty, and
/// `std::env` stays empty in every instance, whatever the manifest's `environment` says. Loading
/// a model with tract does that. `wasi:cli/environment` itself still gives the real one.
pub fn preinitialize(component: &[u8], models: &Path) -> Result<Preinitialized, PreinitError> {
    // wizer is asynchronous. On a thread of its own, its runtime cannot clash with a caller's.
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| PreinitError::Failed { source: error.into(), output: Vec::new() })?
                .block_on(run(component, models))
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

async fn run(component: &[u8], models: &Path) -> Result<Preinitialized, PreinitError> {
    let mut wasi = WasiCtxBuilder::new();
    wasi.preopened_dir(models, MODELS, FsPerms::ReadOnly)
        .map_err(|source| PreinitError::Models { folder: models.to_owned(), source })?;
    // Some bytes, not all alike: a guest may ask until it gets something other than zero.
    let random = || Deterministic::new(vec![0x9e, 0x37, 0x79, 0xb9, 0x7f, 0x4a, 0x7c, 0x15]);
    wasi.secure_random(random());
    wasi.insecure_random(random());
    wasi.insecure_random_seed(0x9e37_79b9_7f4a_7c15);

    let output = Arc::new(Mutex::new(Vec::new()));
    let lines = output.clone();
    let shared = Arc::new(Shared {
        variables: None,
        allowed_hosts: AllowedHosts::default(),
        allowed_hosts_setting: "the manifest, but not for pre-initialisation".to_owned(),
        own_address: None,
        log: LogSink::new(move |line| {
            if let Ok(mut lines) = lines.lock() {
                lines.push(line.text);
            }
        }),
    });
    let state = GuestState::new(shared, wasi, 0, StoreLimits::default());
    let result = async {
        let engine = Engine::new(&freeze::snapshot::config())?;
        snapshot(&engine, component, state, &linker(&engine)?).await
    }
    .await;
    // The store is gone, and the last line with it.
    let output = output.lock().map(|mut lines| std::mem::take(&mut *lines)).unwrap_or_default();
    match result {
        Err(SnapshotError::NoInitializer) => Err(PreinitError::NoInitializer),
        Err(SnapshotError::Failed(source)) => Err(PreinitError::Failed { source, output }),
        Ok(_) if !output.is_empty() => Err(PreinitError::Printed { output }),
        Ok(snapshot) => match prune(component, &snapshot, INITIALIZER) {
            Err(source) => Err(PreinitError::Prune { source }),
            Ok(None) => Ok(Preinitialized { component: snapshot, functions: None }),
            Ok(Some(Pruned { component, functions })) => {
                Ok(Preinitialized { component, functions: Some(functions) })
            }
        },
    }
}

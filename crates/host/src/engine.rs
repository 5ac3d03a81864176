//! The engine that runs components, and the cache of compiled code.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use sha2::{Digest, Sha256};
use wasmtime::component::Component;
use wasmtime::error::Context;
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, Result,
    bail,
};

use crate::options::{Limits, cache_folder};

/// The time from one epoch to the next.
const TICK: Duration = Duration::from_millis(250);

/// Epochs after which a guest that has not awaited anything yields its thread for a moment: 250 to
/// 500 ms.
///
/// This project's requests are shorter, so they are served one after the other, as in Spin. Taking
/// turns would only delay them all. A guest that never ends cannot keep a thread, and the server can
/// stop.
pub(crate) const SLICE_TICKS: u64 = 2;

/// Bytes of an ended instance's memory that stay with the process, reset, for the next instance that
/// gets its place. More than a prediction of a small photo writes, so the next instance has few page
/// faults; see docs/benchmarks.md.
const KEPT_MEMORY: usize = 8 << 20;

/// Compiled components that the cache keeps, each tens of megabytes. Older ones are deleted.
const KEPT_COMPONENTS: usize = 4;

/// Returns the engine for serving so many requests at a time. A thread advances its epoch as long as it
/// lives.
pub(crate) fn serving_engine(requests: usize) -> Result<Engine> {
    let mut config = Config::new();
    config.wasm_component_model_async(true);
    config.cranelift_opt_level(OptLevel::Speed);
    // Spin compiles these checks in as well, so timings here are comparable to Spin's.
    config.epoch_interruption(true);
    // Map the initial memory copy-on-write, however sparse it is: a frozen component begins with
    // megabytes of models, and copying them for each instance would take longer than a response.
    config.memory_guaranteed_dense_image_size(u64::MAX);
    // As in Spin, instances get their memory from a pool, if the system grants the addresses for it.
    let mut pool = PoolingAllocationConfig::new();
    pool.linear_memory_keep_resident(KEPT_MEMORY).pagemap_scan(Enabled::Auto);
    let places = u32::try_from(places(requests))?;
    pool.total_component_instances(places)
        .total_core_instances(4 * places)
        .total_memories(places)
        .total_tables(2 * places)
        .total_stacks(places);
    // Spin's limit: it refuses a component with a larger table, too.
    pool.table_elements(100_000);
    let mut pooled = config.clone();
    pooled.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    let engine = Engine::new(&pooled).or_else(|_| Engine::new(&config))?;
    let weak = engine.weak();
    std::thread::Builder::new().name("epoch".to_owned()).spawn(move || {
        loop {
            std::thread::sleep(TICK);
            match weak.upgrade() {
                Some(engine) => engine.increment_epoch(),
                None => break,
            }
        }
    })?;
    Ok(engine)
}

/// Returns the pool's places for instances: besides those with requests there are those that still send spans.
pub(crate) fn places(requests: usize) -> usize {
    2 * requests
}

/// A compiled component.
pub(crate) struct Loaded {
    pub(crate) component: Component,
    /// True if its code was in the cache.
    pub(crate) from_cache: bool,
    pub(crate) took: Duration,
    /// The reason why the cache could not be used, if it should have been.
    pub(crate) cache_problem: Option<String>,
}

/// Compiles a component, or takes its compiled code from the folder `cache`, which is created if it is
/// missing.
pub(crate) fn load(engine: &Engine, component: &Path, cache: Option<&Path>) -> Result<Loaded> {
    let start = Instant::now();
    let loaded = |component, from_cache, cache_problem| Loaded {
        component,
        from_cache,
        took: start.elapsed(),
        cache_problem,
    };
    let Some(folder) = cache else {
        return Ok(loaded(Component::new(engine, read(component)?)?, false, None));
    };
    // One at a time: servers of one process that start at once compile their component once, and do
    // not write the same unfinished file.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let file = folder.join(file_name(engine, digest_of_file(component)?));
    let mut problem = None;
    match private_folder(folder) {
        Ok(()) if file.is_file() => {
            // SAFETY: this runs whatever native code the file holds, so the file must be one that
            // `keep` wrote. Its name is the hash of the component and of the engine's version and
            // settings; `keep` writes it whole or not at all; and `private_folder` has checked that
            // nobody but the user can write to the folder, who could as well change this program.
            // wasmtime itself refuses code of other versions and settings.
            match unsafe { Component::deserialize_file(engine, &file) } {
                Ok(component) => {
                    // The age decides what is deleted first.
                    let _ = File::options()
                        .append(true)
                        .open(&file)
                        .and_then(|file| file.set_modified(SystemTime::now()));
                    return Ok(loaded(component, true, None));
                }
                Err(error) => problem = Some(format!("{}: {error:#}", file.display())),
            }
        }
        Ok(()) => {}
        Err(error) => {
            let component = Component::new(engine, read(component)?)?;
            return Ok(loaded(component, false, Some(error.to_string())));
        }
    }
    // Named by what is compiled: the file may have been written since.
    let wasm = read(component)?;
    let file = folder.join(file_name(engine, Sha256::digest(&wasm)));
    let code = engine.precompile_component(&wasm)?;
    if let Err(error) = keep(&file, &code) {
        problem = Some(format!("{}: {error}", file.display()));
    }
    // SAFETY: the code comes from this very engine. It is taken from the file just written where
    // possible, as the kernel then shares the pages of the memory image.
    let component = unsafe {
        match problem {
            None => Component::deserialize_file(engine, &file)?,
            Some(_) => Component::deserialize(engine, &code)?,
        }
    };
    Ok(loaded(component, false, problem))
}

/// Compiles a component ahead of its first start, unless that is done, and returns the file of its
/// compiled code, in [`cache_folder`].
///
/// # Errors
///
/// A component that cannot be read or compiled, or compiled code that cannot be kept.
pub fn compile(component: &Path) -> Result<PathBuf> {
    let Some(folder) = cache_folder(component) else {
        bail!(
            "cannot keep compiled code of {}: it lies in no folder `target`",
            component.display()
        );
    };
    let engine = serving_engine(Limits::default().concurrent_requests)?;
    match load(&engine, component, Some(&folder))?.cache_problem {
        None => Ok(folder.join(file_name(&engine, digest_of_file(component)?))),
        Some(problem) => bail!("cannot keep compiled code: {problem}"),
    }
}

fn read(component: &Path) -> Result<Vec<u8>> {
    std::fs::read(component).with_context(|| unreadable(component))
}

fn unreadable(component: &Path) -> String {
    format!("cannot read the component {}", component.display())
}

/// Reads the file piece by piece: where there is compiled code, nothing else needs it in memory.
fn digest_of_file(component: &Path) -> Result<sha2::digest::Output<Sha256>> {
    let mut digest = Sha256::new();
    let copied = File::open(component).and_then(|mut file| std::io::copy(&mut file, &mut digest));
    copied.with_context(|| unreadable(component))?;
    Ok(digest.finalize())
}

/// Returns `HASH-OF-COMPONENT.HASH-OF-ENGINE.cwasm`.
fn file_name(engine: &Engine, digest: sha2::digest::Output<Sha256>) -> String {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{digest:x}.{:016x}.cwasm", hasher.finish())
}

/// Creates the folder for the user alone, or checks that others cannot write to it.
fn private_folder(folder: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        if std::fs::metadata(folder)?.permissions().mode() & 0o022 != 0 {
            return Err(std::io::Error::other(format!(
                "cannot use {} for compiled code: others can write to it",
                folder.display()
            )));
        }
        Ok(())
    }
    #[cfg(not(unix))]
    std::fs::create_dir_all(folder)
}

/// Writes the file whole or not at all, and deletes the oldest ones beyond [`KEPT_COMPONENTS`].
fn keep(file: &Path, code: &[u8]) -> std::io::Result<()> {
    let unfinished = file.with_extension(format!("{}.tmp", std::process::id()));
    let written = File::create(&unfinished)
        .and_then(|mut file| file.write_all(code))
        .and_then(|()| std::fs::rename(&unfinished, file));
    if written.is_err() {
        let _ = std::fs::remove_file(&unfinished);
        return written;
    }
    let mut files: Vec<(SystemTime, PathBuf)> = file
        .parent()
        .unwrap_or(Path::new("."))
        .read_dir()?
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let modified = path.metadata().ok()?.modified().ok()?;
            (path.extension()? == "cwasm").then_some((modified, path))
        })
        .collect();
    files.sort();
    for (_, old) in files.iter().rev().skip(KEPT_COMPONENTS) {
        let _ = std::fs::remove_file(old);
    }
    Ok(())
}

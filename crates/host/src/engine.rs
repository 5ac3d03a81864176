//! The engine that runs components, and compiled code that is kept between starts.

use crate::options::{ComponentSource, Limits};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use wasmtime::component::Component;
use wasmtime::error::Context;
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, Result,
    bail,
};

/// How often the epoch advances.
const TICK: Duration = Duration::from_millis(250);

/// After how many ticks a guest that has not awaited anything gives its thread back for a
/// moment: after 250 to 500 ms. Requests of this project are shorter than that, so they are
/// served one after the other, as in Spin, and not in turns, which would only delay them all;
/// but a guest that never ends cannot keep a thread, and the server can stop.
pub(crate) const SLICE_TICKS: u64 = 2;

/// How much of an ended instance's memory stays with the process at most, set back to what it was at
/// first, for the next instance that gets its place.
///
/// A prediction of a small photo writes to 2 MB of it. Measured: a new instance's first prediction takes
/// 2 to 4 % longer than a warm one's then, 9 % (660 page faults in the place of 35) if it gets each page
/// anew.
const KEPT_MEMORY: usize = 8 << 20;

/// Compiled components that are kept; older ones are deleted. Each is tens of megabytes.
const KEPT: usize = 4;

/// The engine for serving so many requests at a time, with a thread that advances its epoch for as long
/// as it lives.
pub(crate) fn serving_engine(requests: usize) -> Result<Engine> {
    let mut config = Config::new();
    config.wasm_component_model_async(true);
    config.cranelift_opt_level(OptLevel::Speed);
    // Spin compiles these checks in too, so timings here are comparable to Spin's.
    config.epoch_interruption(true);
    // Always map the initial memory copy-on-write, however sparse it is: a pre-initialised
    // component begins with megabytes of models, and copying them for each instance would take
    // longer than answering a request.
    config.memory_guaranteed_dense_image_size(u64::MAX);
    // As Spin does, instances get their memory from a pool, if the system lets the process have the
    // addresses for it.
    let mut pool = PoolingAllocationConfig::new();
    pool.linear_memory_keep_resident(KEPT_MEMORY).pagemap_scan(Enabled::Auto);
    // Beside the instances with requests there are those that still send spans.
    let places = u32::try_from(2 * requests)?;
    pool.total_component_instances(places)
        .total_core_instances(4 * places)
        .total_memories(places)
        .total_tables(2 * places)
        .total_stacks(places);
    // Spin's number: a component with a larger table is refused there, too.
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

/// A compiled component and how it was come by.
pub(crate) struct Loaded {
    pub(crate) component: Component,
    pub(crate) from_cache: bool,
    pub(crate) took: Duration,
    /// Why the cache could not be used, if it should have been.
    pub(crate) cache_problem: Option<String>,
}

/// Compiles a component, or takes its compiled code from `cache`, a folder that is created if
/// need be.
pub(crate) fn load(
    engine: &Engine,
    source: &ComponentSource,
    cache: Option<&Path>,
) -> Result<Loaded> {
    let start = Instant::now();
    let loaded = |component, from_cache, cache_problem| Loaded {
        component,
        from_cache,
        took: start.elapsed(),
        cache_problem,
    };
    let Some(folder) = cache else {
        return Ok(loaded(Component::new(engine, read(source)?)?, false, None));
    };
    // One at a time: servers of one process that start at once compile their component once, and
    // don't write the same unfinished file.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let file = folder.join(file_name(engine, source)?);
    let mut problem = None;
    match private_folder(folder) {
        Ok(()) if file.is_file() => {
            // SAFETY: this runs whatever native code the file holds, so the file must be one
            // that `keep` wrote. Its name is the hash of the component and of the engine's
            // version and settings; `keep` writes it whole or not at all; and
            // `private_folder` has checked that nobody but the user can write to the folder,
            // who could as well change this program. wasmtime itself refuses code of other
            // versions and settings.
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
            let component = Component::new(engine, read(source)?)?;
            return Ok(loaded(component, false, Some(error.to_string())));
        }
    }
    // By what is compiled, which may have been written since.
    let wasm = read(source)?;
    let file = folder.join(file_name(engine, &ComponentSource::Bytes(wasm.clone()))?);
    let code = engine.precompile_component(&wasm)?;
    if let Err(error) = keep(&file, &code) {
        problem = Some(format!("{}: {error}", file.display()));
    }
    // SAFETY: the code comes from this very engine. It is taken from the file just written
    // where possible, as the kernel then shares the pages of the memory image.
    let component = unsafe {
        match problem {
            None => Component::deserialize_file(engine, &file)?,
            Some(_) => Component::deserialize(engine, &code)?,
        }
    };
    Ok(loaded(component, false, problem))
}

/// Compiles a component ahead of its first start, unless that is done, and returns the file of its
/// compiled code: of `compiled-components` in the folder `target` that the component lies in.
///
/// # Errors
///
/// If the component can't be read or compiled, or its compiled code can't be kept.
pub fn compile(component: &Path) -> Result<PathBuf> {
    let Some(folder) = cache_folder(component) else {
        bail!("{} is in no folder `target`, where compiled code is kept", component.display());
    };
    let engine = serving_engine(Limits::default().concurrent_requests)?;
    let source = ComponentSource::File(component.to_owned());
    match load(&engine, &source, Some(&folder))?.cache_problem {
        None => Ok(folder.join(file_name(&engine, &source)?)),
        Some(problem) => bail!("the compiled code is not kept: {problem}"),
    }
}

/// All of a component.
fn read(source: &ComponentSource) -> Result<Bytes> {
    match source {
        ComponentSource::Bytes(bytes) => Ok(bytes.clone()),
        ComponentSource::File(path) => {
            Ok(std::fs::read(path).with_context(|| unreadable(path))?.into())
        }
    }
}

fn unreadable(component: &Path) -> String {
    format!("cannot read the component {}", component.display())
}

/// `HASH-OF-COMPONENT.HASH-OF-ENGINE.cwasm`.
///
/// A file is read piece by piece: as a whole it takes 9 ms of memory that is needed for nothing else if
/// there is compiled code.
fn file_name(engine: &Engine, source: &ComponentSource) -> Result<String> {
    use std::fmt::Write;
    let mut digest = Sha256::new();
    match source {
        ComponentSource::Bytes(bytes) => digest.update(bytes),
        ComponentSource::File(path) => {
            let copied =
                File::open(path).and_then(|mut file| std::io::copy(&mut file, &mut digest));
            copied.with_context(|| unreadable(path))?;
        }
    }
    let mut name = String::new();
    for byte in digest.finalize() {
        let _ = write!(name, "{byte:02x}");
    }
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    let _ = write!(name, ".{:016x}.cwasm", hasher.finish());
    Ok(name)
}

/// Creates the folder, for the user alone, or checks that others cannot write to it.
fn private_folder(folder: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        if std::fs::metadata(folder)?.permissions().mode() & 0o022 != 0 {
            return Err(std::io::Error::other(format!(
                "{} is not used for compiled code: others can write to it",
                folder.display()
            )));
        }
        Ok(())
    }
    #[cfg(not(unix))]
    std::fs::create_dir_all(folder)
}

/// Writes the file whole or not at all, and deletes the oldest ones.
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
    for (_, old) in files.iter().rev().skip(KEPT) {
        let _ = std::fs::remove_file(old);
    }
    Ok(())
}

/// Where the compiled code of a component may be kept: in `compiled-components` in the folder
/// `target` that the component's file lies in, or nowhere if it lies in none.
pub fn cache_folder(component: &Path) -> Option<PathBuf> {
    let component = std::path::absolute(component).ok()?;
    component
        .ancestors()
        .skip(1)
        .find(|folder| folder.file_name().is_some_and(|name| name == "target"))
        .map(|target| target.join("compiled-components"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compiled_code_is_kept_in_target_only() {
        assert_eq!(
            cache_folder(Path::new("/p/target/wasm32-wasip2/release/a.wasm")),
            Some(PathBuf::from("/p/target/compiled-components"))
        );
        assert_eq!(cache_folder(Path::new("/p/a.wasm")), None);
        assert_eq!(cache_folder(Path::new("/p/target")), None);
    }
}

//! The snapshot: a component with its memory as its initialiser leaves it.

use wasmtime::component::Linker;
use wasmtime::{Config, Engine, OptLevel, Result, Store};
use wasmtime_wizer::Wizer;

/// The export that is called.
pub const INITIALIZER: &str = "wizer-initialize";

/// Bytes that wizer may fetch from the guest at once; it fetches the whole memory.
const SNAPSHOT_FUEL: usize = 4 << 30;

/// Returns the engine's configuration for [`snapshot`]: the initialiser runs once, so compiling fast
/// counts for more than running fast.
pub fn config() -> Config {
    let mut config = Config::new();
    config.wasm_component_model_async(true);
    config.cranelift_opt_level(OptLevel::None);
    config
}

/// Runs the export [`INITIALIZER`] of a component and returns the component with its memory as it is
/// then. `data` and `linker` are the guest's surroundings meanwhile.
///
/// # Errors
/// A component that is not valid, lacks the export, or traps in it.
pub async fn snapshot<T: Send + 'static>(
    engine: &Engine,
    component: &[u8],
    data: T,
    linker: &Linker<T>,
) -> Result<Vec<u8>> {
    let mut store = Store::new(engine, data);
    store.set_hostcall_fuel(SNAPSHOT_FUEL);
    let (component, _) = Wizer::new()
        .init_func(INITIALIZER)
        .keep_init_func(true)
        .run_component(&mut store, component, async |store, component| {
            linker.instantiate_async(store, component).await
        })
        .await?;
    Ok(component)
}

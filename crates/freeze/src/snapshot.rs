//! The snapshot: a component with its memory as its initialiser leaves it.
//!
//! wizer instruments the component and writes the snapshot; instantiating and calling happen here. Its
//! own runner needs features of wasmtime that nothing else here uses: a cache, a garbage collector,
//! threads and the text format of values.

use wasmtime::component::{Component, Instance, Lift, Linker, WasmList};
use wasmtime::error::Context as _;
use wasmtime::{Config, Engine, OptLevel, Store};
use wasmtime_wizer::{ComponentInstanceState, Wizer};

/// The initialiser: an export of the type `func()`.
pub const INITIALIZER: &str = "wizer-initialize";

/// Bytes that one call may return from the guest. wizer reads each memory by one call, and a memory
/// has up to 4 GiB.
const SNAPSHOT_FUEL: usize = 4 << 30;

/// An error of [`snapshot`].
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The component does not export [`INITIALIZER`].
    #[error("the component does not export `{INITIALIZER}`")]
    NoInitializer,
    /// The component is not valid, imports something that the linker lacks, has an initialiser of
    /// another type, or traps in it.
    #[error(transparent)]
    Failed(#[from] wasmtime::Error),
}

/// Returns the configuration of the engine for [`snapshot`]. The initialiser runs once, so compiling
/// fast matters more than running fast.
pub fn config() -> Config {
    let mut config = Config::new();
    config.wasm_component_model_async(true);
    config.cranelift_opt_level(OptLevel::None);
    config
}

/// Runs the export [`INITIALIZER`] of a component and returns the component with the memory and the
/// globals that it leaves.
///
/// The guest runs in a store with `data` and can import what `linker` has.
///
/// # Errors
/// Every [`SnapshotError`].
pub async fn snapshot<T: Send + 'static>(
    engine: &Engine,
    component: &[u8],
    data: T,
    linker: &Linker<T>,
) -> Result<Vec<u8>, SnapshotError> {
    let mut store = Store::new(engine, data);
    store.set_hostcall_fuel(SNAPSHOT_FUEL);
    let mut wizer = Wizer::new();
    wizer.init_func(INITIALIZER).keep_init_func(true);
    let (context, instrumented) = wizer.instrument_component(component)?;
    let instrumented =
        Component::new(engine, &instrumented).context("cannot compile the component")?;
    let Some(initializer) = instrumented.get_export_index(None, INITIALIZER) else {
        return Err(SnapshotError::NoInitializer);
    };
    let instance = linker.instantiate_async(&mut store, &instrumented).await?;
    instance
        .get_typed_func::<(), ()>(&mut store, initializer)?
        .call_async(&mut store, ())
        .await
        .context("the initialiser trapped")?;
    Ok(wizer.snapshot_component(&context, &mut Guest { store: &mut store, instance }).await?)
}

/// The instance that ran the initialiser, for wizer to read its memories and globals by.
struct Guest<'a, T: 'static> {
    store: &'a mut Store<T>,
    instance: Instance,
}

impl<T: Send> Guest<'_, T> {
    /// Calls a function that wizer has added to the component.
    async fn call<R: Lift + 'static>(&mut self, interface: &str, function: &str) -> R {
        // wizer's trait has no errors to return. Its own exports are there, and return what they hold.
        let missing = "wizer's own export";
        let store = &mut *self.store;
        let (_, interface) = self.instance.get_export(&mut *store, None, interface).expect(missing);
        let (_, function) =
            self.instance.get_export(&mut *store, Some(&interface), function).expect(missing);
        let function =
            self.instance.get_typed_func::<(), (R,)>(&mut *store, function).expect(missing);
        function.call_async(store, ()).await.expect(missing).0
    }
}

impl<T: Send> ComponentInstanceState for Guest<'_, T> {
    async fn call_func_ret_list_u8(
        &mut self,
        interface: &str,
        function: &str,
        contents: impl FnOnce(&[u8]) + Send,
    ) {
        let list: WasmList<u8> = self.call(interface, function).await;
        contents(list.as_le_slice(&*self.store));
    }

    async fn call_func_ret_s32(&mut self, interface: &str, function: &str) -> i32 {
        self.call(interface, function).await
    }

    async fn call_func_ret_s64(&mut self, interface: &str, function: &str) -> i64 {
        self.call(interface, function).await
    }

    async fn call_func_ret_f32(&mut self, interface: &str, function: &str) -> u32 {
        self.call::<f32>(interface, function).await.to_bits()
    }

    async fn call_func_ret_f64(&mut self, interface: &str, function: &str) -> u64 {
        self.call::<f64>(interface, function).await.to_bits()
    }
}

//! Everything that a guest may import, by its name.

use wasmtime::component::{HasSelf, Linker};
use wasmtime::{Engine, Result};
use wasmtime_wasi::cli::{WasiCli, WasiCliView};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView};
use wasmtime_wasi::random::{WasiRandom, WasiRandomView};

use crate::guest::{GuestState, bindings, bindings_p2};
use crate::sqlite;

/// Returns everything that this project's component and its test programs may import.
///
/// Interface by interface instead of all of WASI: every function that is linked is compiled for
/// [`GuestState`], and that is most of this crate's build.
pub(crate) fn linker(engine: &Engine) -> Result<Linker<GuestState>> {
    let mut linker = Linker::new(engine);
    link_wasi_p2(&mut linker)?;
    link_wasi_p3(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    bindings_p2::SpinVariables::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
    bindings::SpinVariables::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
    sqlite::imports::link(&mut linker)?;
    Ok(linker)
}

/// Links WASI 0.2 without sockets: what Rust's standard library imports.
fn link_wasi_p2(linker: &mut Linker<GuestState>) -> Result<()> {
    use wasmtime_wasi::p2::bindings::{cli, filesystem, random};
    type State = GuestState;
    // Streams, clocks, random numbers, standard input and output.
    wasmtime_wasi::p2::add_to_linker_proxy_interfaces_async(linker)?;
    random::insecure_seed::add_to_linker::<State, WasiRandom>(linker, State::random)?;
    cli::environment::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::exit::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::terminal_input::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::terminal_output::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::terminal_stdin::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::terminal_stdout::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::terminal_stderr::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    filesystem::preopens::add_to_linker::<State, WasiFilesystem>(linker, State::filesystem)?;
    filesystem::types::add_to_linker::<State, WasiFilesystem>(linker, State::filesystem)
}

/// Links the interfaces of WASI 0.3 that the Spin SDK imports.
fn link_wasi_p3(linker: &mut Linker<GuestState>) -> Result<()> {
    use wasmtime_wasi::p3::bindings::{cli, clocks, random};
    type State = GuestState;
    cli::environment::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::stdin::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    clocks::monotonic_clock::add_to_linker::<State, WasiClocks>(linker, State::clocks)?;
    random::random::add_to_linker::<State, WasiRandom>(linker, State::random)
}

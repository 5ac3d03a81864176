//! Link arguments of the component.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family == "wasm") {
        // What only pre-initialisation needs is removed after it (host/src/prune.rs): by the
        // linker's records of what refers to what, ...
        println!("cargo::rustc-link-arg-cdylib=--emit-relocs");
        // ... and by numbers in memory that could be functions. Few are about as large as this
        // (measured: none in the heap), and Spin takes tables of up to 100,000 functions.
        println!("cargo::rustc-link-arg-cdylib=--table-base=80000");
    }
}

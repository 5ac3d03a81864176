//! Link arguments of the component.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family == "wasm") {
        // `freeze::prune` follows the linker's relocations, ...
        println!("cargo::rustc-link-arg-cdylib=--emit-relocs");
        // ... and takes numbers in memory for functions if they could be indices in the table. Few
        // are near to this one. Spin tolerates tables of up to 100,000 functions.
        println!("cargo::rustc-link-arg-cdylib=--table-base=80000");
    }
}

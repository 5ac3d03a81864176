//! Link arguments of the components. To Cargo they are examples that are libraries, which only the arguments for
//! all targets reach.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family == "wasm") {
        // `freeze::prune` follows the linker's relocations, ...
        println!("cargo::rustc-link-arg=--emit-relocs");
        // ... and takes numbers in memory for functions if they could be indices in the table. Few
        // are near to this one. Spin tolerates tables of up to 100,000 functions.
        println!("cargo::rustc-link-arg=--table-base=80000");
    }
}

//! The component for Spin 4.1 and newer: WASI 0.3, by way of the Spin SDK.

#![cfg(target_family = "wasm")]

mod models;
mod p3;
#[cfg(feature = "sqlite")]
mod sqlite;

//! The component for Spin 2.6 and newer, and for what is built on it: WASI 0.2, with Spin's variables.

#![cfg(target_family = "wasm")]

mod models;
mod p2;

/// Spin's variables, as Spin's components of WASI 0.2 import them.
mod variables {
    #![allow(missing_docs)]
    wit_bindgen::generate!({ path: "wit/spin-variables.wit" });
    pub use fermyon::spin::variables::get;
}

/// The handler that the component exports.
struct Component;

impl p2::Guest for Component {
    fn handle(request: p2::IncomingRequest, response: p2::ResponseOutparam) {
        // A variable that the manifest leaves out is unset.
        p2::handle(request, response, |name| variables::get(name).ok());
    }
}

p2::export!(Component with_types_in p2::bindings);

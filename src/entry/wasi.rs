//! The component for every host of WASI 0.2 over HTTP: it imports nothing else, and its settings come from
//! the environment.

#![cfg(target_family = "wasm")]

mod models;
mod p2;

/// The handler that the component exports.
struct Component;

impl p2::Guest for Component {
    fn handle(request: p2::IncomingRequest, response: p2::ResponseOutparam) {
        // A database is no part of WASI.
        p2::handle(request, response, |_| None, None);
    }
}

p2::export!(Component with_types_in p2::bindings);

//! The component for Spin 2.6 and newer, and for what is built on it: WASI 0.2, with Spin's variables.

#![cfg(target_family = "wasm")]

mod models;
mod p2;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::sync::Arc;

use hand_gesture_api::database::Database;

/// Spin's variables, as Spin's components of WASI 0.2 import them.
mod variables {
    #![allow(missing_docs)]
    wit_bindgen::generate!({ path: "wit/spin-variables.wit" });
    pub use fermyon::spin::variables::get;
}

/// Returns the database of corrections, unless the component is built without it.
#[cfg(feature = "sqlite")]
fn database() -> Option<Arc<dyn Database>> {
    Some(Arc::new(database::Sqlite))
}
#[cfg(not(feature = "sqlite"))]
fn database() -> Option<Arc<dyn Database>> {
    None
}

/// The database of corrections: Spin's SQLite, as its components of WASI 0.2 import it.
#[cfg(feature = "sqlite")]
mod database {
    use futures_util::FutureExt;
    use futures_util::future::{LocalBoxFuture, ready};

    use hand_gesture_api::database::{Connection, Database, DatabaseError, Row, Value};

    mod bindings {
        #![allow(missing_docs)]
        wit_bindgen::generate!({ path: "wit/spin-sqlite.wit" });
    }
    use bindings::fermyon::spin::sqlite;

    /// The database `default` of the host.
    #[derive(Debug)]
    pub struct Sqlite;

    struct Open(sqlite::Connection);

    impl Database for Sqlite {
        fn open(&self) -> LocalBoxFuture<'_, Result<Box<dyn Connection>, DatabaseError>> {
            let opened = sqlite::Connection::open("default").map_err(failed);
            ready(opened.map(|connection| Box::new(Open(connection)) as Box<dyn Connection>))
                .boxed_local()
        }
    }

    impl Connection for Open {
        fn execute<'a>(
            &'a self,
            statement: &'a str,
            parameters: Vec<Value>,
        ) -> LocalBoxFuture<'a, Result<Vec<Row>, DatabaseError>> {
            let parameters: Vec<_> = parameters.into_iter().map(parameter).collect();
            let result = self.0.execute(statement, &parameters).map_err(failed);
            let values = |row: sqlite::RowResult| row.values.into_iter().map(value).collect();
            ready(result.map(|result| result.rows.into_iter().map(values).collect())).boxed_local()
        }
    }

    crate::sqlite::conversions!();
}

/// The handler that the component exports.
struct Component;

impl p2::Guest for Component {
    fn handle(request: p2::IncomingRequest, response: p2::ResponseOutparam) {
        // A variable that the manifest leaves out is unset.
        p2::handle(request, response, |name| variables::get(name).ok(), database());
    }
}

p2::export!(Component with_types_in p2::bindings);

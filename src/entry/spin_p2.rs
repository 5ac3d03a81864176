//! The component for Spin 2.6 and newer, and for what is built on it: WASI 0.2, with Spin's variables.

#![cfg(target_family = "wasm")]

mod models;
mod p2;

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
    use bindings::fermyon::spin::sqlite::{self, Error};

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
            let parameters = parameters.into_iter().map(|value| match value {
                Value::Integer(number) => sqlite::Value::Integer(number),
                Value::Real(number) => sqlite::Value::Real(number),
                Value::Text(text) => sqlite::Value::Text(text),
                Value::Null => sqlite::Value::Null,
            });
            let parameters: Vec<_> = parameters.collect();
            let result = self.0.execute(statement, &parameters).map_err(failed);
            let values = |row: sqlite::RowResult| row.values.into_iter().map(value).collect();
            ready(result.map(|result| result.rows.into_iter().map(values).collect())).boxed_local()
        }
    }

    fn value(value: sqlite::Value) -> Value {
        match value {
            sqlite::Value::Integer(number) => Value::Integer(number),
            sqlite::Value::Real(number) => Value::Real(number),
            sqlite::Value::Text(text) => Value::Text(text),
            sqlite::Value::Blob(bytes) => Value::Text(String::from_utf8_lossy(&bytes).into_owned()),
            sqlite::Value::Null => Value::Null,
        }
    }

    fn failed(error: Error) -> DatabaseError {
        match error {
            Error::NoSuchDatabase => DatabaseError::Unknown,
            Error::AccessDenied => DatabaseError::Denied,
            Error::DatabaseFull => DatabaseError::Full,
            Error::InvalidConnection => DatabaseError::Failed("the connection is not valid".into()),
            Error::Io(reason) => DatabaseError::Failed(reason),
        }
    }
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

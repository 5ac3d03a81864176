//! The database of corrections: `spin:sqlite`, as components of WASI 0.3 import it. While a statement runs, the
//! instance takes other requests.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use spin_sdk::sqlite;

use hand_gesture_api::database::{Connection, Database, DatabaseError, Row, Value};

/// The database `default` of the host.
#[derive(Debug)]
pub struct Sqlite;

struct Open(sqlite::Connection);

impl Database for Sqlite {
    fn open(&self) -> LocalBoxFuture<'_, Result<Box<dyn Connection>, DatabaseError>> {
        async {
            let connection = sqlite::Connection::open_default().await.map_err(failed)?;
            Ok(Box::new(Open(connection)) as Box<dyn Connection>)
        }
        .boxed_local()
    }
}

impl Connection for Open {
    fn execute<'a>(
        &'a self,
        statement: &'a str,
        parameters: Vec<Value>,
    ) -> LocalBoxFuture<'a, Result<Vec<Row>, DatabaseError>> {
        async move {
            let parameters = parameters.into_iter().map(parameter);
            let result = self.0.execute(statement, parameters).await.map_err(failed)?;
            let rows = result.collect().await.map_err(failed)?;
            Ok(rows.into_iter().map(|row| row.values.into_iter().map(value).collect()).collect())
        }
        .boxed_local()
    }
}

crate::sqlite::conversions!();

//! SQLite as guests import it, in both versions of the interface.

use std::sync::{Arc, Mutex};

use rusqlite::types::Value as Stored;
use wasmtime::Result;
use wasmtime::component::{
    Accessor, FutureReader, HasSelf, Linker, Resource, ResourceTable, StreamReader,
};

use super::{Connection, Failure, Found};
use crate::guest::GuestState;

/// The interface as components of WASI 0.3 import it.
mod bindings {
    #![allow(missing_docs)]
    wasmtime::component::bindgen!({
        inline: "
            package spin:sqlite@3.1.0;

            interface sqlite {
                resource connection {
                    open-async: static async func(database: string) -> result<connection, error>;
                    execute-async: async func(statement: string, parameters: list<value>)
                        -> result<tuple<list<string>, stream<row-result>, future<result<_, error>>>, error>;
                }

                variant error {
                    no-such-database,
                    access-denied,
                    invalid-connection,
                    database-full,
                    io(string),
                }

                record row-result {
                    values: list<value>,
                }

                variant value {
                    integer(s64),
                    real(f64),
                    text(string),
                    blob(list<u8>),
                    null,
                }
            }

            world spin-sqlite {
                import sqlite;
            }
        ",
        with: { "spin:sqlite/sqlite.connection": crate::sqlite::Connection },
    });
}
use bindings::spin::sqlite::sqlite;

/// The interface as components of WASI 0.2 import it.
mod bindings_p2 {
    #![allow(missing_docs)]
    wasmtime::component::bindgen!({
        path: "../../wit/spin-sqlite.wit",
        imports: { default: async },
        with: { "fermyon:spin/sqlite.connection": crate::sqlite::Connection },
    });
}
use bindings_p2::fermyon::spin::sqlite as sqlite_p2;

/// Links both versions of the interface.
pub(crate) fn link(linker: &mut Linker<GuestState>) -> Result<()> {
    bindings_p2::SpinSqlite::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    bindings::SpinSqlite::add_to_linker::<_, HasSelf<_>>(linker, |state| state)
}

/// Translates values and errors of one version of the interface.
macro_rules! translated {
    ($version:ident, $into:ident, $from:ident, $failure:ident) => {
        fn $into(value: $version::Value) -> Stored {
            match value {
                $version::Value::Integer(number) => Stored::Integer(number),
                $version::Value::Real(number) => Stored::Real(number),
                $version::Value::Text(text) => Stored::Text(text),
                $version::Value::Blob(bytes) => Stored::Blob(bytes),
                $version::Value::Null => Stored::Null,
            }
        }

        fn $from(row: Vec<Stored>) -> $version::RowResult {
            let values = row.into_iter().map(|value| match value {
                Stored::Integer(number) => $version::Value::Integer(number),
                Stored::Real(number) => $version::Value::Real(number),
                Stored::Text(text) => $version::Value::Text(text),
                Stored::Blob(bytes) => $version::Value::Blob(bytes),
                Stored::Null => $version::Value::Null,
            });
            $version::RowResult { values: values.collect() }
        }

        fn $failure(failure: Failure) -> $version::Error {
            match failure {
                Failure::NoSuchDatabase => $version::Error::NoSuchDatabase,
                Failure::AccessDenied => $version::Error::AccessDenied,
                Failure::Io(reason) => $version::Error::Io(reason),
            }
        }
    };
}
translated!(sqlite, into_stored, from_stored, failure);
translated!(sqlite_p2, into_stored_p2, from_stored_p2, failure_p2);

/// Returns a guest's connection.
fn connection(
    table: &ResourceTable,
    resource: &Resource<Connection>,
) -> Option<Arc<Mutex<rusqlite::Connection>>> {
    table.get(resource).ok().map(|connection| connection.0.clone())
}

fn full(error: impl std::fmt::Display) -> Failure {
    Failure::Io(error.to_string())
}

impl sqlite::Host for GuestState {}

impl sqlite::HostConnection for GuestState {
    fn drop(&mut self, connection: Resource<Connection>) -> Result<()> {
        self.table().delete(connection)?;
        Ok(())
    }
}

impl sqlite::HostConnectionWithStore<GuestState> for HasSelf<GuestState> {
    async fn open_async(
        accessor: &Accessor<GuestState, Self>,
        database: String,
    ) -> Result<Resource<Connection>, sqlite::Error> {
        let databases = accessor.with(|mut state| state.get().databases());
        let opened = databases.open(database).await.map_err(failure)?;
        accessor.with(|mut state| state.get().table().push(opened)).map_err(full).map_err(failure)
    }

    async fn execute_async(
        accessor: &Accessor<GuestState, Self>,
        resource: Resource<Connection>,
        statement: String,
        parameters: Vec<sqlite::Value>,
    ) -> Result<
        (Vec<String>, StreamReader<sqlite::RowResult>, FutureReader<Result<(), sqlite::Error>>),
        sqlite::Error,
    > {
        let found = accessor.with(|mut state| connection(state.get().table(), &resource));
        let connection = found.ok_or(sqlite::Error::InvalidConnection)?;
        let parameters = parameters.into_iter().map(into_stored).collect();
        let done = Connection::execute(connection, statement, parameters).await;
        let Found { columns, rows } = done.map_err(failure)?;
        let rows: Vec<_> = rows.into_iter().map(from_stored).collect();
        accessor
            .with(|mut store| -> wasmtime::Result<_> {
                let rows = StreamReader::new(&mut store, rows)?;
                let end = async { Ok::<_, wasmtime::Error>(Ok(())) };
                Ok((columns, rows, FutureReader::new(&mut store, end)?))
            })
            .map_err(full)
            .map_err(failure)
    }
}

impl sqlite_p2::Host for GuestState {}

impl sqlite_p2::HostConnection for GuestState {
    async fn open(&mut self, database: String) -> Result<Resource<Connection>, sqlite_p2::Error> {
        let opened = self.databases().open(database).await.map_err(failure_p2)?;
        self.table().push(opened).map_err(full).map_err(failure_p2)
    }

    async fn execute(
        &mut self,
        resource: Resource<Connection>,
        statement: String,
        parameters: Vec<sqlite_p2::Value>,
    ) -> Result<sqlite_p2::QueryResult, sqlite_p2::Error> {
        let connection = connection(self.table(), &resource);
        let connection = connection.ok_or(sqlite_p2::Error::InvalidConnection)?;
        let parameters = parameters.into_iter().map(into_stored_p2).collect();
        let done = Connection::execute(connection, statement, parameters).await;
        let Found { columns, rows } = done.map_err(failure_p2)?;
        let rows = rows.into_iter().map(from_stored_p2).collect();
        Ok(sqlite_p2::QueryResult { columns, rows })
    }

    async fn drop(&mut self, connection: Resource<Connection>) -> Result<()> {
        self.table().delete(connection)?;
        Ok(())
    }
}

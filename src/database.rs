//! The database: SQLite as hosts of Spin give it, behind traits that an entry implements.
//!
//! A [`Session`] runs the statements of one request, each with its span. Values are parameters, so neither
//! the statement nor the span holds any.

use std::fmt;

use futures_util::future::LocalBoxFuture;
use thiserror::Error;

use telemetry::{Query, Span};

/// A database that a host gives.
pub trait Database: fmt::Debug + Send + Sync {
    /// Opens a connection.
    ///
    /// # Errors
    /// Every [`DatabaseError`].
    fn open(&self) -> LocalBoxFuture<'_, Result<Box<dyn Connection>, DatabaseError>>;
}

/// A connection to a database.
pub trait Connection {
    /// Runs one statement and returns its rows. Parameters are numbered from 1.
    ///
    /// # Errors
    /// Every [`DatabaseError`].
    fn execute<'a>(
        &'a self,
        statement: &'a str,
        parameters: Vec<Value>,
    ) -> LocalBoxFuture<'a, Result<Vec<Row>, DatabaseError>>;
}

/// A row of a statement's result.
pub type Row = Vec<Value>;

/// A value of SQLite. Blobs are not used here.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A whole number.
    Integer(i64),
    /// A number.
    Real(f64),
    /// A text.
    Text(String),
    /// No value.
    Null,
}

/// The reason why a database does not serve.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DatabaseError {
    /// The host has no such database.
    #[error(
        "the host has no database `default`: declare [sqlite_database.default] in Spin's runtime configuration"
    )]
    Unknown,
    /// The component may not use the database.
    #[error(
        "the component may not use the database: list it in spin.toml, sqlite_databases = [\"default\"]"
    )]
    Denied,
    /// The database has no place left.
    #[error("the database is full")]
    Full,
    /// Anything else.
    #[error("the database failed: {0}")]
    Failed(String),
}

impl DatabaseError {
    /// Returns the kind of error, one of few words: `error.type` in a trace.
    pub fn kind(&self) -> &'static str {
        match self {
            DatabaseError::Unknown => "no_such_database",
            DatabaseError::Denied => "access_denied",
            DatabaseError::Full => "database_full",
            DatabaseError::Failed(_) => "database",
        }
    }
}

/// A statement, with what its span says of it.
#[derive(Clone, Copy, Debug)]
pub struct Statement {
    /// The operation, such as `INSERT`.
    pub operation: &'static str,
    /// The table.
    pub table: &'static str,
    /// The text. It holds no values.
    pub text: &'static str,
}

/// The statements of one request. The connection is opened with the first one.
pub struct Session<'a> {
    database: &'a dyn Database,
    connection: Option<Box<dyn Connection>>,
    span: &'a Span,
}

impl<'a> Session<'a> {
    /// Returns a session whose statements have spans below this one.
    pub fn new(database: &'a dyn Database, span: &'a Span) -> Session<'a> {
        Session { database, connection: None, span }
    }

    /// Runs a statement and returns its rows.
    ///
    /// # Errors
    /// Every [`DatabaseError`].
    pub async fn run(
        &mut self,
        statement: &Statement,
        parameters: Vec<Value>,
    ) -> Result<Vec<Row>, DatabaseError> {
        let Statement { operation, table, text } = *statement;
        let span = self.span.query(Query { system: "sqlite", operation, collection: table, text });
        let rows = self.rows(text, parameters).await;
        match &rows {
            Ok(rows) if !rows.is_empty() => {
                span.set("db.response.returned_rows", rows.len() as i64);
            }
            Ok(_) => {}
            Err(error) => span.fail(error.kind(), error),
        }
        rows
    }

    async fn rows(
        &mut self,
        text: &str,
        parameters: Vec<Value>,
    ) -> Result<Vec<Row>, DatabaseError> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(self.database.open().await?),
        };
        connection.execute(text, parameters).await
    }
}

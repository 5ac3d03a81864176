//! SQLite for guests, as Spin gives it: the file `sqlite_db.db` in the state folder, with SQLite's own defaults (a
//! rollback journal, and every transaction on the disk before it is answered). Each connection of a guest is one
//! of SQLite's, and a writer waits five seconds for another one.
//!
//! Only the database `default` is there. Of `spin:sqlite` 3.1.0, the functions are linked that wait without
//! blocking the instance, which are those that the Spin SDK calls.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::types::{Value as Stored, ValueRef};

pub(crate) mod imports;

/// The database that a guest gets without configuration.
pub const DEFAULT: &str = "default";
/// Its file in the state folder.
const FILE: &str = "sqlite_db.db";

/// The databases of a component.
#[derive(Debug, Clone, Default)]
pub(crate) struct Databases {
    /// The names that the manifest lists.
    pub(crate) allowed: Vec<String>,
    /// The folder with the default database. Without one it is in memory, and ends with its connection.
    pub(crate) folder: Option<PathBuf>,
}

/// A connection of a guest.
pub struct Connection(Arc<Mutex<rusqlite::Connection>>);

/// The result of a statement.
struct Found {
    columns: Vec<String>,
    rows: Vec<Vec<Stored>>,
}

/// The reason why a database does not serve. Both versions of the interface have these.
enum Failure {
    NoSuchDatabase,
    AccessDenied,
    Io(String),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Io(error.to_string())
    }
}

impl Databases {
    /// Opens a database by its name.
    async fn open(self, name: String) -> Result<Connection, Failure> {
        if !self.allowed.contains(&name) {
            return Err(Failure::AccessDenied);
        }
        if name != DEFAULT {
            return Err(Failure::NoSuchDatabase);
        }
        let connection = blocking(move || match &self.folder {
            Some(folder) => open_in(folder),
            None => Ok(rusqlite::Connection::open_in_memory()?),
        });
        Ok(Connection(Arc::new(Mutex::new(connection.await?))))
    }
}

fn open_in(folder: &Path) -> Result<rusqlite::Connection, Failure> {
    std::fs::create_dir_all(folder)
        .map_err(|error| Failure::Io(format!("cannot create {}: {error}", folder.display())))?;
    Ok(rusqlite::Connection::open(folder.join(FILE))?)
}

impl Connection {
    /// Runs one statement.
    async fn execute(
        connection: Arc<Mutex<rusqlite::Connection>>,
        statement: String,
        parameters: Vec<Stored>,
    ) -> Result<Found, Failure> {
        blocking(move || {
            let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            let mut statement = connection.prepare(&statement)?;
            let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
            let mut found = statement.query(rusqlite::params_from_iter(parameters))?;
            let mut rows = Vec::new();
            while let Some(row) = found.next()? {
                let values = (0..columns.len()).map(|column| Ok(stored(row.get_ref(column)?)));
                rows.push(values.collect::<Result<_, rusqlite::Error>>()?);
            }
            Ok(Found { columns, rows })
        })
        .await
    }
}

/// Returns a value. Text that is not UTF-8 is a blob.
fn stored(value: ValueRef<'_>) -> Stored {
    Stored::try_from(value).unwrap_or_else(|_| match value {
        ValueRef::Text(bytes) => Stored::Blob(bytes.to_vec()),
        _ => Stored::Null,
    })
}

/// Runs what blocks on a thread of its own.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Failure::Io(error.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a statement on a connection of its own.
    async fn run(databases: &Databases, statement: &str) -> Result<Vec<Vec<Stored>>, Failure> {
        let Connection(connection) = databases.clone().open(DEFAULT.into()).await?;
        let done = Connection::execute(connection, statement.into(), Vec::new()).await;
        done.map(|found| found.rows)
    }

    fn reason(failure: Failure) -> String {
        match failure {
            Failure::NoSuchDatabase => "no such database".into(),
            Failure::AccessDenied => "access denied".into(),
            Failure::Io(reason) => reason,
        }
    }

    #[tokio::test]
    async fn database_is_opened_by_the_manifests_leave() {
        let databases = |allowed: &[&str]| Databases {
            allowed: allowed.iter().map(|name| (*name).to_owned()).collect(),
            folder: None,
        };
        let open = async |allowed: &[&str], name: &str| {
            databases(allowed).open(name.into()).await.map(|_| ()).map_err(reason)
        };
        assert_eq!(open(&["default"], "default").await, Ok(()));
        assert_eq!(open(&[], "default").await, Err("access denied".into()));
        assert_eq!(open(&["default"], "other").await, Err("access denied".into()));
        assert_eq!(open(&["other"], "other").await, Err("no such database".into()));
    }

    #[tokio::test]
    async fn file_is_shared_by_connections_and_written_before_the_answer() {
        let folder = std::env::temp_dir().join(format!("host-sqlite-{}", std::process::id()));
        let databases =
            Databases { allowed: vec![DEFAULT.into()], folder: Some(folder.join("state")) };
        let rows = async |statement: &str| run(&databases, statement).await.map_err(reason);
        assert_eq!(rows("CREATE TABLE t (a)").await, Ok(vec![]));
        assert_eq!(rows("INSERT INTO t VALUES (1), ('x'), (NULL), (0.5)").await, Ok(vec![]));
        let expected =
            [Stored::Integer(1), Stored::Text("x".into()), Stored::Null, Stored::Real(0.5)];
        assert_eq!(
            rows("SELECT a FROM t").await,
            Ok(expected.map(|value| vec![value]).into_iter().collect())
        );
        // Spin changes none of SQLite's defaults: a rollback journal, synchronous FULL.
        let text = |text: &str| Ok(vec![vec![Stored::Text(text.into())]]);
        assert_eq!(rows("PRAGMA journal_mode").await, text("delete"));
        assert_eq!(rows("PRAGMA synchronous").await, Ok(vec![vec![Stored::Integer(2)]]));
        assert!(
            rows("SELECT b FROM t").await.is_err_and(|reason| reason.contains("no such column"))
        );
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}

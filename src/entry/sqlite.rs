//! Conversions between Spin's SQLite and [`hand_gesture_api::database`]. The bindings of WASI 0.2 and 0.3 have types
//! of their own with the same names, so this is a macro.

/// Defines the conversions of parameters, values and errors, for the bindings that are called `sqlite` where it stands.
macro_rules! conversions {
    () => {
        fn parameter(value: Value) -> sqlite::Value {
            match value {
                Value::Integer(number) => sqlite::Value::Integer(number),
                Value::Real(number) => sqlite::Value::Real(number),
                Value::Text(text) => sqlite::Value::Text(text),
                Value::Null => sqlite::Value::Null,
            }
        }

        fn value(value: sqlite::Value) -> Value {
            match value {
                sqlite::Value::Integer(number) => Value::Integer(number),
                sqlite::Value::Real(number) => Value::Real(number),
                sqlite::Value::Text(text) => Value::Text(text),
                sqlite::Value::Blob(bytes) => {
                    Value::Text(String::from_utf8_lossy(&bytes).into_owned())
                }
                sqlite::Value::Null => Value::Null,
            }
        }

        fn failed(error: sqlite::Error) -> DatabaseError {
            match error {
                sqlite::Error::NoSuchDatabase => DatabaseError::Unknown,
                sqlite::Error::AccessDenied => DatabaseError::Denied,
                sqlite::Error::DatabaseFull => DatabaseError::Full,
                sqlite::Error::InvalidConnection => {
                    DatabaseError::Failed("the connection is not valid".into())
                }
                sqlite::Error::Io(reason) => DatabaseError::Failed(reason),
            }
        }
    };
}
pub(crate) use conversions;

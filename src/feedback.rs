//! Corrections: `POST /feedback` stores a hand's landmarks with the letter that they really show,
//! `DELETE /feedback/{trace_id}` deletes that again, and `GET /feedback/export` gives all to those who have a
//! token. Off by default. docs/feedback.md has the reasons.
//!
//! The service keeps nothing of a photo that nobody corrects: a correction brings back what the answer to
//! `POST /predict` said. That is the landmarks, which are all that the classifier's letters are read from.

use std::hint::black_box;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;

use telemetry::Span;
use vision::landmarks::LANDMARKS;
use vision::letter::NO_HAND;

use crate::api;
use crate::database::{DatabaseError, Row, Session, Statement, Value};
use crate::predict::decimal;
use crate::problem::Problem;
use crate::sent;
use crate::settings::{Secret, Settings};

pub mod error;
pub use error::FeedbackError;

/// Most bytes of a body: several times an answer of `POST /predict`.
pub const MAX_BYTES: u64 = 16 * 1024;
/// Longest name, in bytes: of a label, of a model, of its version.
const MAX_NAME: usize = 64;
/// Rows that an export reads at a time.
const PAGE: usize = 500;
/// Media type of an export: JSON Lines.
const JSON_LINES: &str = "application/jsonl";

const TABLE: &str = "feedback";

/// Run once by each instance. One statement each, since that is what Spin takes.
const CREATE: [Statement; 2] = [
    Statement {
        operation: "CREATE TABLE",
        table: TABLE,
        text: "CREATE TABLE IF NOT EXISTS feedback (trace_id TEXT PRIMARY KEY, created INTEGER NOT NULL, \
               label TEXT NOT NULL, prediction TEXT NOT NULL, confidence REAL NOT NULL, \
               model_name TEXT NOT NULL, model_version TEXT NOT NULL, handedness TEXT NOT NULL, \
               aspect REAL NOT NULL, landmarks TEXT NOT NULL, user_id TEXT)",
    },
    Statement {
        operation: "CREATE INDEX",
        table: TABLE,
        text: "CREATE INDEX IF NOT EXISTS feedback_created ON feedback (created)",
    },
];
const EXPIRE: Statement = Statement {
    operation: "DELETE",
    table: TABLE,
    text: "DELETE FROM feedback WHERE created < ?1",
};
/// Stores a row if there is place, or replaces the one of the same trace and user. One statement, so that
/// requests at the same time cannot pass the limit together.
const STORE: Statement = Statement {
    operation: "INSERT",
    table: TABLE,
    text: "INSERT INTO feedback (trace_id, created, label, prediction, confidence, model_name, \
           model_version, handedness, aspect, landmarks, user_id) \
           SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11 \
           WHERE (SELECT COUNT(*) FROM feedback) < ?12 OR EXISTS (SELECT 1 FROM feedback WHERE trace_id = ?1) \
           ON CONFLICT (trace_id) DO UPDATE SET created = excluded.created, label = excluded.label, \
           prediction = excluded.prediction, confidence = excluded.confidence, \
           model_name = excluded.model_name, model_version = excluded.model_version, \
           handedness = excluded.handedness, aspect = excluded.aspect, landmarks = excluded.landmarks, \
           user_id = excluded.user_id \
           WHERE feedback.user_id IS NULL OR feedback.user_id = excluded.user_id RETURNING trace_id",
};
const FIND: Statement = Statement {
    operation: "SELECT",
    table: TABLE,
    text: "SELECT trace_id FROM feedback WHERE trace_id = ?1",
};
const DELETE: Statement = Statement {
    operation: "DELETE",
    table: TABLE,
    text: "DELETE FROM feedback WHERE trace_id = ?1 AND (user_id IS NULL OR user_id = ?2) \
           RETURNING trace_id",
};
const EXPORT: Statement = Statement {
    operation: "SELECT",
    table: TABLE,
    text: "SELECT rowid, trace_id, created, label, prediction, confidence, model_name, model_version, \
           handedness, aspect, landmarks FROM feedback WHERE rowid > ?1 ORDER BY rowid LIMIT ?2",
};

/// The body of a request: an answer of `POST /predict`, with the letter and the photo's aspect. What else
/// the answer has is ignored.
#[derive(Debug, Deserialize)]
struct Sent {
    trace_id: Option<String>,
    label: Option<String>,
    aspect: Option<f32>,
    #[serde(default, deserialize_with = "present")]
    hand: Option<Option<SentHand>>,
    prediction: Option<String>,
    confidence: Option<f32>,
    model: Option<Model>,
}

#[derive(Debug, Deserialize)]
struct SentHand {
    handedness: String,
    landmarks: [[f32; 3]; LANDMARKS],
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
struct Model {
    name: String,
    version: String,
}

/// Tells a field that is null from one that is missing.
fn present<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<SentHand>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// A correction, valid.
#[derive(Clone, Debug, PartialEq)]
pub struct Correction {
    trace_id: String,
    label: String,
    prediction: String,
    confidence: f32,
    model: Model,
    handedness: &'static str,
    aspect: f32,
    landmarks: [[f32; 3]; LANDMARKS],
}

/// Reads the correction in a body, valid for a model with these labels. `span` is that of the operation.
///
/// # Errors
/// Every [`FeedbackError`] of what callers send.
pub fn read(body: &[u8], labels: &[String], span: &Span) -> Result<Correction, FeedbackError> {
    let correction = parse(body, labels)?;
    span.set("feedback.trace_id", correction.trace_id.clone());
    span.set("feedback.label", correction.label.clone());
    span.set("prediction.label", correction.prediction.clone());
    span.set("prediction.confidence", decimal(correction.confidence));
    span.set("model.version", correction.model.version.clone());
    Ok(correction)
}

/// Stores a correction, or replaces the one of the same trace. `span` is that of the operation, `user` the
/// caller's id.
///
/// # Errors
/// [`Problem::Feedback`].
pub async fn store(
    session: &mut Session<'_>,
    correction: &Correction,
    settings: &Settings,
    user: Option<String>,
    now: SystemTime,
    span: &Span,
) -> Result<Response<Bytes>, Problem> {
    expire(session, settings, now).await?;
    let limit = settings.feedback_max_rows;
    let Correction { trace_id, label, .. } = correction;
    let stored = session.run(&STORE, correction.row(user, now, limit)).await;
    if stored.map_err(FeedbackError::from)?.is_empty() {
        let found = session.run(&FIND, vec![Value::Text(trace_id.clone())]).await;
        let found = found.map_err(FeedbackError::from)?;
        return Err(match found.is_empty() {
            true => FeedbackError::Full { limit },
            false => FeedbackError::Taken,
        }
        .into());
    }
    let stored = json!({"trace_id": trace_id, "label": label});
    Ok(api::json_response(&with_trace("stored", stored, span)))
}

/// Checks the trace's id in the path of a deletion, whose span `span` is.
///
/// # Errors
/// [`FeedbackError::TraceId`].
pub fn check_trace_id(trace_id: &str, span: &Span) -> Result<(), FeedbackError> {
    if !is_trace_id(trace_id) {
        return Err(FeedbackError::TraceId);
    }
    span.set("feedback.trace_id", trace_id.to_owned());
    Ok(())
}

/// Deletes the correction of a trace, if it is the caller's.
///
/// # Errors
/// [`Problem::Feedback`].
pub async fn delete(
    session: &mut Session<'_>,
    trace_id: &str,
    user: Option<String>,
    span: &Span,
) -> Result<Response<Bytes>, Problem> {
    let parameters = vec![Value::Text(trace_id.to_owned()), user.map_or(Value::Null, Value::Text)];
    let deleted = session.run(&DELETE, parameters).await.map_err(FeedbackError::from)?;
    if deleted.is_empty() {
        return Err(FeedbackError::Unknown.into());
    }
    Ok(api::json_response(&with_trace("deleted", json!({"trace_id": trace_id}), span)))
}

/// Returns all corrections as JSON Lines, in the order in which they came.
///
/// # Errors
/// [`Problem::Feedback`].
pub async fn export(
    session: &mut Session<'_>,
    settings: &Settings,
    now: SystemTime,
    span: &Span,
) -> Result<Response<Bytes>, Problem> {
    expire(session, settings, now).await?;
    let (mut text, mut count, mut last) = (String::new(), 0, 0);
    loop {
        let parameters = vec![Value::Integer(last), Value::Integer(PAGE as i64)];
        let rows = session.run(&EXPORT, parameters).await.map_err(FeedbackError::from)?;
        let read = rows.len();
        for row in rows {
            let (number, line) = line(row).ok_or_else(|| {
                FeedbackError::from(DatabaseError::Failed("a row has other columns".into()))
            })?;
            last = number;
            text += &line;
            text.push('\n');
        }
        count += read;
        if read < PAGE {
            break;
        }
    }
    span.set("feedback.rows", count as i64);
    let mut response = Response::new(Bytes::from(text));
    for (name, value) in [
        (CONTENT_TYPE, JSON_LINES),
        (CONTENT_DISPOSITION, "attachment; filename=\"feedback.jsonl\""),
        (CACHE_CONTROL, "no-store"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

/// Makes the table, unless it is there.
///
/// # Errors
/// Every [`DatabaseError`].
pub async fn prepare(session: &mut Session<'_>) -> Result<(), DatabaseError> {
    for statement in &CREATE {
        session.run(statement, Vec::new()).await?;
    }
    Ok(())
}

/// Checks that a request has the token of the setting.
///
/// # Errors
/// [`FeedbackError::NoToken`] and [`FeedbackError::Token`].
pub fn authorize(request: &HeaderMap, token: Option<&Secret>) -> Result<(), FeedbackError> {
    let token = token.ok_or(FeedbackError::NoToken)?;
    let sent = request.get(AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
    // RFC 9110, 11.1: the scheme is not case-sensitive.
    let (scheme, sent) = sent.split_at_checked("Bearer ".len()).unwrap_or_default();
    let is_right = scheme.eq_ignore_ascii_case(b"Bearer ")
        && is_equal(sent.trim_ascii(), token.expose().as_bytes());
    if is_right { Ok(()) } else { Err(FeedbackError::Token) }
}

/// Compares a secret in a time that depends on the lengths alone.
fn is_equal(a: &[u8], b: &[u8]) -> bool {
    let different = a.iter().zip(b).fold(0, |different, (a, b)| black_box(different | (a ^ b)));
    a.len() == b.len() && different == 0
}

/// Returns the model's labels that a correction may have: all but that of no hand.
pub fn labels(all: &[String]) -> impl Iterator<Item = &str> {
    all.iter().map(String::as_str).filter(|label| *label != NO_HAND)
}

/// Returns an answer with the id of the request's own trace, where requests are traced.
fn with_trace(name: &str, value: serde_json::Value, span: &Span) -> serde_json::Value {
    let mut answer = json!({ name: value });
    if let Some(trace_id) = span.trace_id() {
        answer["trace_id"] = trace_id.into();
    }
    answer
}

async fn expire(
    session: &mut Session<'_>,
    settings: &Settings,
    now: SystemTime,
) -> Result<(), FeedbackError> {
    let oldest = now.checked_sub(settings.feedback_retention).unwrap_or(UNIX_EPOCH);
    session.run(&EXPIRE, vec![Value::Integer(seconds(oldest))]).await?;
    Ok(())
}

/// Returns a time in seconds since 1970.
fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// True for a trace's id as `traceparent` has it (W3C Trace Context).
fn is_trace_id(text: &str) -> bool {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.len() == 32 && text.bytes().all(is_digit) && text.bytes().any(|byte| byte != b'0')
}

/// Parses a correction, valid for these labels.
fn parse(body: &[u8], labels: &[String]) -> Result<Correction, FeedbackError> {
    let sent: Sent = sent::parse(body, FeedbackError::Shape, FeedbackError::Syntax)?;
    let missing = FeedbackError::Missing;
    let trace_id = sent.trace_id.ok_or(missing("trace_id"))?;
    if !is_trace_id(&trace_id) {
        return Err(FeedbackError::TraceId);
    }
    let found = sent.label.ok_or(missing("label"))?;
    let mut known = self::labels(labels);
    let Some(label) = known.find(|label| label.eq_ignore_ascii_case(&found)) else {
        let known = self::labels(labels).collect::<Vec<_>>().join(", ");
        return Err(FeedbackError::Label { found: sent::cut(&found), known });
    };
    let hand = sent.hand.ok_or(missing("hand"))?.ok_or(FeedbackError::NoHand)?;
    let handedness = ["Right", "Left"].into_iter().find(|side| *side == hand.handedness);
    let handedness = handedness.ok_or(FeedbackError::Range("hand.handedness"))?;
    if !sent::are_near(&hand.landmarks) {
        return Err(FeedbackError::Range("hand.landmarks"));
    }
    let aspect = sent.aspect.ok_or(missing("aspect"))?;
    if !sent::is_aspect(aspect) {
        return Err(FeedbackError::Range("aspect"));
    }
    let is_short = |name: &String| !name.is_empty() && name.len() <= MAX_NAME;
    let prediction = sent.prediction.ok_or(missing("prediction"))?;
    if !is_short(&prediction) {
        return Err(FeedbackError::Range("prediction"));
    }
    let confidence = sent.confidence.ok_or(missing("confidence"))?;
    if !(0.0..=1.0).contains(&confidence) {
        return Err(FeedbackError::Range("confidence"));
    }
    let model = sent.model.ok_or(missing("model"))?;
    if ![&model.name, &model.version].into_iter().all(is_short) {
        return Err(FeedbackError::Range("model"));
    }
    let (label, landmarks) = (label.to_owned(), hand.landmarks);
    Ok(Correction { trace_id, label, prediction, confidence, model, handedness, aspect, landmarks })
}

impl Correction {
    /// Returns the parameters of [`STORE`].
    fn row(&self, user: Option<String>, now: SystemTime, limit: usize) -> Vec<Value> {
        let Correction { trace_id, label, prediction, model, .. } = self;
        let text = |text: &str| Value::Text(text.to_owned());
        vec![
            text(trace_id),
            Value::Integer(seconds(now)),
            text(label),
            text(prediction),
            Value::Real(decimal(self.confidence)),
            text(&model.name),
            text(&model.version),
            text(self.handedness),
            Value::Real(decimal(self.aspect)),
            // No key, so nothing to fail.
            Value::Text(serde_json::to_string(&self.landmarks).unwrap_or_default()),
            user.map_or(Value::Null, Value::Text),
            Value::Integer(i64::try_from(limit).unwrap_or(i64::MAX)),
        ]
    }
}

/// Returns the number of a row of [`EXPORT`], and the row as JSON.
fn line(row: Row) -> Option<(i64, String)> {
    let [
        Value::Integer(number),
        Value::Text(trace_id),
        Value::Integer(created),
        Value::Text(label),
        Value::Text(prediction),
        confidence,
        Value::Text(name),
        Value::Text(version),
        Value::Text(handedness),
        aspect,
        Value::Text(landmarks),
    ] = <[Value; 11]>::try_from(row).ok()?
    else {
        return None;
    };
    let landmarks: serde_json::Value = serde_json::from_str(&landmarks).ok()?;
    let line = json!({
        "trace_id": trace_id,
        "created": created,
        "label": label,
        "prediction": prediction,
        "confidence": real(confidence)?,
        "model": {"name": name, "version": version},
        "hand": {"handedness": handedness, "landmarks": landmarks},
        "aspect": real(aspect)?,
    });
    Some((number, line.to_string()))
}

/// Returns a number. A database may give a whole one as an integer.
fn real(value: Value) -> Option<f64> {
    match value {
        Value::Real(number) => Some(number),
        Value::Integer(number) => Some(number as f64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value as Json;

    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    fn known() -> Vec<String> {
        ["A", "B", "V", NO_HAND].map(str::to_owned).into()
    }

    /// Returns a correction of a hand whose points differ, with a part replaced where a place is named.
    fn sent(changed: &str, value: Json) -> Json {
        let landmarks: Vec<[f64; 3]> =
            (0..LANDMARKS).map(|i| [(10 + i) as f64 / 100.0, 0.5, -0.01]).collect();
        let mut body = json!({
            "trace_id": TRACE, "label": "V", "aspect": 1.5,
            "prediction": "B", "confidence": 0.61, "low_confidence": true, "top": [],
            "hand": {"handedness": "Left", "landmarks": landmarks, "presence": 0.99},
            "model": {"name": "asl-letters", "version": "tuned-full-1"},
        });
        if !changed.is_empty() {
            *body.pointer_mut(changed).expect("a part") = value;
        }
        body
    }

    fn read_json(body: &Json) -> Result<Correction, FeedbackError> {
        parse(body.to_string().as_bytes(), &known())
    }

    #[test]
    fn answer_with_label_and_aspect_is_a_correction() {
        let correction = read_json(&sent("", Json::Null)).expect("a correction");
        assert_eq!((correction.label.as_str(), correction.prediction.as_str()), ("V", "B"));
        assert_eq!((correction.handedness, correction.aspect), ("Left", 1.5));
        assert_eq!(correction.landmarks[2], [0.12, 0.5, -0.01]);
        let small = read_json(&sent("/label", json!("v"))).expect("a correction");
        assert_eq!(small.label, "V");
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let only = json!({"trace_id": TRACE, "label": "V"});
        let refused = read_json(&only).expect_err("no hand").to_string();
        assert!(refused.starts_with("The correction lacks hand. The service keeps "), "{refused}");
        for name in ["trace_id", "label", "aspect", "prediction", "confidence", "hand", "model"] {
            let mut body = sent("", Json::Null);
            body.as_object_mut().expect("an object").remove(name);
            assert_eq!(read_json(&body), Err(FeedbackError::Missing(name)));
        }
        for (place, value, expected) in [
            ("/hand", Json::Null, FeedbackError::NoHand),
            ("/trace_id", json!(TRACE.to_uppercase()), FeedbackError::TraceId),
            ("/trace_id", json!("0".repeat(32)), FeedbackError::TraceId),
            ("/trace_id", json!("' OR 1 --"), FeedbackError::TraceId),
            ("/aspect", json!(0.04), FeedbackError::Range("aspect")),
            ("/confidence", json!(1.1), FeedbackError::Range("confidence")),
            ("/prediction", json!(""), FeedbackError::Range("prediction")),
            ("/model/version", json!("x".repeat(65)), FeedbackError::Range("model")),
            ("/hand/handedness", json!("Both"), FeedbackError::Range("hand.handedness")),
            ("/hand/landmarks/3/1", json!(-10.5), FeedbackError::Range("hand.landmarks")),
        ] {
            assert_eq!(read_json(&sent(place, value)), Err(expected), "{place}");
        }
        // The label of no hand is none: nothing is learnt from it.
        for label in ["-", "", "AB", "\u{e9}", &"x".repeat(9000)] {
            match read_json(&sent("/label", json!(label))) {
                Err(FeedbackError::Label { found, known }) => {
                    assert!(
                        found.len() <= sent::MAX_REPEATED && known == "A, B, V",
                        "{found} {known}"
                    );
                }
                other => panic!("{other:?}"),
            }
        }
        for (body, kind) in [("", "json"), ("{", "json"), ("[]", "correction"), ("7", "correction")]
        {
            let error = parse(body.as_bytes(), &known()).expect_err(body);
            assert_eq!(error.kind(), kind, "{body}: {error}");
        }
        let lists = "[".repeat(16_000);
        assert_eq!(parse(lists.as_bytes(), &known()).expect_err("deep").kind(), "correction");
        let short = sent("/hand/landmarks", json!([[0, 0, 0]]));
        assert!(matches!(read_json(&short), Err(FeedbackError::Shape(_))));
    }

    #[test]
    fn token_is_compared_whole() {
        let lookup = |name: &str| (name == "feedback_token").then(|| "0123456789abcdef".to_owned());
        let token = Settings::read(lookup).0.feedback_token;
        let with = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().expect("a value"));
            authorize(&headers, token.as_ref())
        };
        assert_eq!(with("Bearer 0123456789abcdef"), Ok(()));
        assert_eq!(with("bearer  0123456789abcdef"), Ok(()));
        for other in [
            "",
            "Bearer",
            "Bearer ",
            "0123456789abcdef",
            "Basic 0123456789abcdef",
            "Bearer 0123456789abcde",
            "Bearer 0123456789abcdeg",
            "Bearer 0123456789abcdef0",
            "Bearer 0123456789ABCDEF",
        ] {
            assert_eq!(with(other), Err(FeedbackError::Token), "{other}");
        }
        assert_eq!(authorize(&HeaderMap::new(), token.as_ref()), Err(FeedbackError::Token));
        assert_eq!(authorize(&HeaderMap::new(), None), Err(FeedbackError::NoToken));
    }

    #[test]
    fn largest_correction_is_within_the_limit() {
        let mut body = sent("/prediction", json!("x".repeat(MAX_NAME)));
        body["hand"]["landmarks"] = json!(vec![[-9.123_456_789_012_345; 3]; LANDMARKS]);
        // The rest of an answer, too.
        let length = body.to_string().len() + 2000;
        assert!(length < MAX_BYTES as usize / 2, "{length}");
    }

    /// The statements on a real SQLite.
    #[cfg(not(target_family = "wasm"))]
    mod with_sqlite {
        use std::sync::{Arc, Mutex};

        use futures_util::FutureExt;
        use futures_util::future::{LocalBoxFuture, ready};
        use rusqlite::types::Value as Stored;

        use super::*;
        use crate::database::{Connection, Database};

        #[derive(Clone, Debug)]
        struct Memory(Arc<Mutex<rusqlite::Connection>>);

        impl Database for Memory {
            fn open(&self) -> LocalBoxFuture<'_, Result<Box<dyn Connection>, DatabaseError>> {
                ready(Ok(Box::new(self.clone()) as Box<dyn Connection>)).boxed_local()
            }
        }

        impl Connection for Memory {
            fn execute<'a>(
                &'a self,
                statement: &'a str,
                parameters: Vec<Value>,
            ) -> LocalBoxFuture<'a, Result<Vec<Row>, DatabaseError>> {
                let run = || -> rusqlite::Result<Vec<Row>> {
                    let connection = self.0.lock().expect("no panic");
                    let mut statement = connection.prepare(statement)?;
                    let columns = statement.column_count();
                    let parameters = parameters.into_iter().map(|value| match value {
                        Value::Integer(number) => Stored::Integer(number),
                        Value::Real(number) => Stored::Real(number),
                        Value::Text(text) => Stored::Text(text),
                        Value::Null => Stored::Null,
                    });
                    let found = statement
                        .query_map(rusqlite::params_from_iter(parameters), |row| {
                            (0..columns).map(|column| row.get(column).map(value)).collect()
                        })?;
                    found.collect()
                };
                let failed = |error: rusqlite::Error| DatabaseError::Failed(error.to_string());
                ready(run().map_err(failed)).boxed_local()
            }
        }

        fn value(value: Stored) -> Value {
            match value {
                Stored::Integer(number) => Value::Integer(number),
                Stored::Real(number) => Value::Real(number),
                Stored::Text(text) => Value::Text(text),
                Stored::Blob(_) | Stored::Null => Value::Null,
            }
        }

        /// A store with settings, whose clock is told.
        struct Store {
            database: Memory,
            settings: Settings,
        }

        impl Store {
            fn new(settings: &[(&str, &str)]) -> Store {
                let connection = rusqlite::Connection::open_in_memory().expect("a database");
                let database = Memory(Arc::new(Mutex::new(connection)));
                let lookup = |name: &str| {
                    settings.iter().find(|(known, _)| *known == name).map(|(_, v)| (*v).to_owned())
                };
                let store = Store { database, settings: Settings::read(lookup).0 };
                // Twice is once.
                for _ in 0..2 {
                    let span = Span::none();
                    let mut session = Session::new(&store.database, &span);
                    let prepared = prepare(&mut session).now_or_never();
                    assert_eq!(prepared.expect("nothing to wait for"), Ok(()));
                }
                store
            }

            fn store(&self, trace: u8, label: &str, user: Option<&str>, day: u64) -> Outcome {
                let mut body = sent("/label", json!(label));
                body["trace_id"] = json!(id(trace));
                let span = Span::none();
                let mut session = Session::new(&self.database, &span);
                let correction =
                    parse(body.to_string().as_bytes(), &known()).expect("a correction");
                let (settings, user) = (&self.settings, user.map(str::to_owned));
                let stored = store(&mut session, &correction, settings, user, at(day), &span);
                outcome(stored.now_or_never().expect("nothing to wait for"))
            }

            fn delete(&self, trace: u8, user: Option<&str>) -> Outcome {
                let span = Span::none();
                let mut session = Session::new(&self.database, &span);
                let (trace, user) = (id(trace), user.map(str::to_owned));
                let deleted = delete(&mut session, &trace, user, &span).now_or_never();
                outcome(deleted.expect("nothing to wait for"))
            }

            fn export(&self, day: u64) -> Vec<Json> {
                let span = Span::none();
                let mut session = Session::new(&self.database, &span);
                let exported = export(&mut session, &self.settings, at(day), &span).now_or_never();
                let exported = exported.expect("nothing to wait for").expect("an export");
                let text = String::from_utf8(exported.into_body().to_vec()).expect("text");
                text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
            }

            fn labels(&self, day: u64) -> Vec<(String, String)> {
                let text = |value: &Json| value.as_str().expect("text").to_owned();
                let lines = self.export(day);
                lines.iter().map(|line| (text(&line["trace_id"]), text(&line["label"]))).collect()
            }
        }

        type Outcome = Result<(), &'static str>;

        fn outcome(answer: Result<Response<Bytes>, Problem>) -> Outcome {
            answer.map(|_| ()).map_err(|problem| problem.kind())
        }

        fn id(trace: u8) -> String {
            format!("{trace:032x}")
        }

        fn at(day: u64) -> SystemTime {
            UNIX_EPOCH + Duration::from_secs(1_790_000_000 + 86_400 * day)
        }

        #[test]
        fn export_is_what_was_sent() {
            let store = Store::new(&[]);
            assert_eq!(store.store(1, "V", None, 0), Ok(()));
            let sent = sent("", Json::Null);
            let expected = json!({
                "trace_id": id(1),
                "created": 1_790_000_000,
                "label": "V",
                "prediction": "B",
                "confidence": 0.61,
                "model": sent["model"],
                "hand": {"handedness": "Left", "landmarks": sent["hand"]["landmarks"]},
                "aspect": 1.5,
            });
            assert_eq!(store.export(0), [expected]);
        }

        #[test]
        fn second_correction_replaces_the_first_of_the_same_user_alone() {
            let store = Store::new(&[("feedback_max_rows", "2")]);
            assert_eq!(store.store(1, "A", None, 0), Ok(()));
            assert_eq!(store.store(1, "B", None, 0), Ok(()));
            assert_eq!(store.store(2, "A", Some("ada"), 0), Ok(()));
            assert_eq!(store.store(2, "B", Some("bob"), 0), Err("taken"));
            assert_eq!(store.store(2, "B", None, 0), Err("taken"));
            // Also where there is no place for another one.
            assert_eq!(store.store(2, "V", Some("ada"), 0), Ok(()));
            assert_eq!(store.labels(0), [(id(1), "B".into()), (id(2), "V".into())]);
            let exported = format!("{:?}", store.export(0));
            assert!(!exported.contains("ada"), "{exported}");
        }

        #[test]
        fn caller_deletes_what_is_theirs() {
            let store = Store::new(&[]);
            assert_eq!(store.store(1, "A", None, 0), Ok(()));
            assert_eq!(store.store(2, "A", Some("ada"), 0), Ok(()));
            assert_eq!(store.delete(3, None), Err("no_correction"));
            assert_eq!(store.delete(2, None), Err("no_correction"));
            assert_eq!(store.delete(2, Some("bob")), Err("no_correction"));
            assert_eq!(store.delete(2, Some("ada")), Ok(()));
            assert_eq!(store.delete(1, Some("bob")), Ok(()), "it came without a user");
            assert_eq!(store.delete(1, None), Err("no_correction"));
            assert_eq!(store.export(0), Vec::<Json>::new());
        }

        #[test]
        fn rows_have_a_limit_and_an_age() {
            let store = Store::new(&[("feedback_max_rows", "2"), ("feedback_retention_days", "7")]);
            assert_eq!(store.store(1, "A", None, 0), Ok(()));
            assert_eq!(store.store(2, "A", None, 3), Ok(()));
            assert_eq!(store.store(3, "A", None, 7), Err("full"));
            assert_eq!(store.labels(7).len(), 2);
            // With the next correction, and with an export.
            assert_eq!(store.store(3, "A", None, 8), Ok(()));
            assert_eq!(store.labels(10), [(id(2), "A".into()), (id(3), "A".into())]);
            assert_eq!(store.labels(11), [(id(3), "A".into())]);
        }

        #[test]
        fn export_of_several_pages_has_each_row_once() {
            let store = Store::new(&[]);
            let count = PAGE as i64 * 2;
            {
                let connection = store.database.0.lock().expect("no panic");
                for number in 1..=count {
                    let row = "INSERT INTO feedback VALUES (printf('%032x', ?1), 1790000000, 'A', 'B', 1, \
                               'm', 'v', 'Right', 1, '[]', NULL)";
                    connection.execute(row, [number]).expect("a row");
                }
            }
            let found: Vec<String> = store.labels(0).into_iter().map(|(trace, _)| trace).collect();
            let expected: Vec<String> =
                (1..=count).map(|number| format!("{number:032x}")).collect();
            assert_eq!(found, expected);
        }

        #[test]
        fn failure_of_the_database_is_not_told_to_the_client() {
            let store = Store::new(&[]);
            let dropped =
                store.database.0.lock().expect("no panic").execute("DROP TABLE feedback", []);
            dropped.expect("dropped");
            assert_eq!(store.store(1, "A", None, 0), Err("database"));
            let error = DatabaseError::Failed("no such table: feedback".into());
            let problem = Problem::from(FeedbackError::from(error));
            assert_eq!(problem.status(), 503);
            assert!(problem.reason().contains("no such table") && problem.is_ours());
            assert!(!problem.to_string().contains("table"), "{problem}");
        }
    }
}

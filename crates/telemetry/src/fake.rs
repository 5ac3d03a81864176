//! A host for tests: its clock moves only by waiting, and its collector gives prepared answers.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use http::{Request, Response, header};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use crate::host::{Body, Host, SendError};

/// Bytes of a piece of an endless answer.
const PIECE: usize = 4096;

#[derive(Debug)]
pub struct Fake {
    start: Instant,
    slept: Mutex<Duration>,
    answers: Mutex<VecDeque<Answer>>,
    /// The time of each request, and its body.
    requests: Mutex<Vec<(Duration, Bytes)>>,
    log: Mutex<Vec<String>>,
    one_request: bool,
    /// Bytes taken of endless answers.
    taken: Arc<AtomicUsize>,
}

/// An answer of the collector.
#[derive(Debug)]
pub enum Answer {
    /// A status, and the header `Retry-After`.
    Status(u16, String),
    /// A status with headers and a body.
    Whole(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// 200 with the start of a body that ends in this way.
    Start(Vec<u8>, End),
    /// A refused connection.
    Refused,
    /// None at all.
    Silence,
}

/// The end of a body that is not complete.
#[derive(Debug)]
pub enum End {
    /// The connection breaks.
    Break,
    /// Nothing more comes.
    Stall,
    /// It goes on for ever.
    Never,
}

impl Fake {
    /// A host whose collector gives these answers, then 200.
    pub fn new(answers: impl IntoIterator<Item = Answer>) -> Fake {
        Fake {
            start: Instant::now(),
            slept: Mutex::default(),
            answers: Mutex::new(answers.into_iter().collect()),
            requests: Mutex::default(),
            log: Mutex::default(),
            one_request: false,
            taken: Arc::default(),
        }
    }

    /// The host with instances of one request each.
    pub fn of_one_request(self) -> Fake {
        Fake { one_request: true, ..self }
    }

    /// The times of all requests, in whole milliseconds.
    pub fn times(&self) -> Vec<u128> {
        lock(&self.requests).iter().map(|(time, _)| time.as_millis()).collect()
    }

    /// The number of spans in each request so far.
    pub fn spans_sent(&self) -> Vec<usize> {
        let requests = lock(&self.requests);
        requests.iter().map(|(_, body)| spans(body.clone()).len()).collect()
    }

    /// The spans of all requests so far, which are forgotten.
    pub fn take_spans(&self) -> Vec<Span> {
        let requests = std::mem::take(&mut *lock(&self.requests));
        requests.into_iter().flat_map(|(_, body)| spans(body)).collect()
    }

    /// The lines of the log.
    pub fn log(&self) -> Vec<String> {
        lock(&self.log).clone()
    }

    /// The number of bytes that were taken of endless answers.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

fn spans(body: Bytes) -> Vec<Span> {
    let export = ExportTraceServiceRequest::decode(body).expect("OTLP");
    let of_resource = export.resource_spans.into_iter();
    let of_scope = of_resource.flat_map(|of_resource| of_resource.scope_spans);
    of_scope.flat_map(|of_scope| of_scope.spans).collect()
}

/// An attribute's value as text.
pub fn attribute(span: &Span, name: &str) -> Option<String> {
    let pair = span.attributes.iter().find(|pair| pair.key == name)?;
    Some(match pair.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => text.clone(),
        Value::BoolValue(value) => value.to_string(),
        Value::IntValue(value) => value.to_string(),
        Value::DoubleValue(value) => value.to_string(),
        other => panic!("{name}: {other:?}"),
    })
}

#[async_trait]
impl Host for Fake {
    fn random(&self) -> u64 {
        // The middle: no jitter.
        u64::MAX / 2
    }

    fn now(&self) -> Instant {
        self.start + *lock(&self.slept)
    }

    async fn sleep(&self, duration: Duration) {
        *lock(&self.slept) += duration;
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Body>, SendError> {
        lock(&self.requests).push((*lock(&self.slept), request.into_body()));
        let answer = lock(&self.answers).pop_front();
        let (status, headers, body, end) =
            match answer.unwrap_or(Answer::Whole(200, Vec::new(), Vec::new())) {
                Answer::Status(status, retry_after) => {
                    (status, vec![(header::RETRY_AFTER.as_str(), retry_after)], Vec::new(), None)
                }
                Answer::Whole(status, headers, body) => (status, headers, body, None),
                Answer::Start(body, end) => (200, Vec::new(), body, Some(end)),
                Answer::Refused => {
                    return Err(SendError::Failed("the connection is refused".into()));
                }
                Answer::Silence => std::future::pending().await,
            };
        let start = stream::iter([Ok(Bytes::from(body))]);
        let body: Body = match end {
            None => Box::pin(start),
            Some(End::Break) => {
                let cut = SendError::Failed("the connection was cut".into());
                Box::pin(start.chain(stream::iter([Err(cut)])))
            }
            Some(End::Stall) => Box::pin(start.chain(stream::pending())),
            Some(End::Never) => {
                let taken = self.taken.clone();
                Box::pin(start.chain(stream::repeat_with(move || {
                    taken.fetch_add(PIECE, Ordering::Relaxed);
                    Ok(Bytes::from_static(&[b'x'; PIECE]))
                })))
            }
        };
        let response = headers
            .into_iter()
            .fold(Response::builder().status(status), |response, (name, value)| {
                response.header(name, value)
            });
        Ok(response.body(body).expect("a response"))
    }

    fn has_one_request(&self) -> bool {
        self.one_request
    }

    fn log(&self, line: fmt::Arguments<'_>) {
        lock(&self.log).push(line.to_string());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("no panic")
}

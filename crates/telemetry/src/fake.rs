//! A host for tests: its clock moves only by waiting, and its collector gives prepared answers.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response, header};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use crate::host::{Host, SendError};

#[derive(Debug)]
pub struct Fake {
    start: Instant,
    slept: Mutex<Duration>,
    answers: Mutex<VecDeque<Answer>>,
    /// The time of each request, and its body.
    requests: Mutex<Vec<(Duration, Bytes)>>,
    log: Mutex<Vec<String>>,
}

/// An answer of the collector.
#[derive(Debug)]
pub enum Answer {
    /// A status, and the header `Retry-After`.
    Status(u16, String),
    /// A refused connection.
    Refused,
    /// None at all.
    Silence,
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
        }
    }

    /// The times of all requests, in whole milliseconds.
    pub fn times(&self) -> Vec<u128> {
        lock(&self.requests).iter().map(|(time, _)| time.as_millis()).collect()
    }

    /// The spans of all requests so far, which are forgotten.
    pub fn take_spans(&self) -> Vec<Span> {
        let requests = std::mem::take(&mut *lock(&self.requests));
        requests
            .into_iter()
            .map(|(_, body)| ExportTraceServiceRequest::decode(body).expect("OTLP"))
            .flat_map(|export| export.resource_spans)
            .flat_map(|of_resource| of_resource.scope_spans)
            .flat_map(|of_scope| of_scope.spans)
            .collect()
    }

    /// The lines of the log.
    pub fn log(&self) -> Vec<String> {
        lock(&self.log).clone()
    }
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

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, SendError> {
        lock(&self.requests).push((*lock(&self.slept), request.into_body()));
        let answer = lock(&self.answers).pop_front();
        match answer.unwrap_or(Answer::Status(200, String::new())) {
            Answer::Status(status, retry_after) => {
                let response = Response::builder().status(status);
                let response = response.header(header::RETRY_AFTER, retry_after);
                Ok(response.body(Bytes::new()).expect("a response"))
            }
            Answer::Refused => Err(SendError::Failed("the connection is refused".into())),
            Answer::Silence => std::future::pending().await,
        }
    }

    fn log(&self, line: fmt::Arguments<'_>) {
        lock(&self.log).push(line.to_string());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("no panic")
}

//! The host of tracing: WASI 0.2.

use std::fmt;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body_util::BodyExt;
use wstd::http::error::ErrorCode;
use wstd::http::{Body, Client, Error};

use telemetry::host::{Host, MAX_RESPONSE_BYTES, SendError};

/// The host that the component runs in.
#[derive(Debug)]
pub struct Wasi;

#[async_trait]
impl Host for Wasi {
    fn random(&self) -> u64 {
        wasip2::random::random::get_random_u64()
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    async fn sleep(&self, duration: Duration) {
        wstd::task::sleep(duration.into()).await;
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, SendError> {
        let response = Client::new().send(request.map(Body::from)).await.map_err(failed)?;
        let (head, body) = response.into_parts();
        let mut body = body.into_boxed_body();
        let mut bytes = BytesMut::new();
        while bytes.len() < MAX_RESPONSE_BYTES
            && let Some(frame) = body.frame().await
        {
            if let Ok(data) = frame.map_err(failed)?.into_data() {
                bytes.extend_from_slice(&data);
            }
        }
        bytes.truncate(MAX_RESPONSE_BYTES);
        Ok(Response::from_parts(head, bytes.freeze()))
    }

    fn log(&self, line: fmt::Arguments<'_>) {
        eprintln!("{line}");
    }
}

/// Returns an error of the host in words.
fn failed(error: Error) -> SendError {
    let words = match error.downcast_ref::<ErrorCode>() {
        Some(ErrorCode::HttpRequestDenied) => return SendError::Denied,
        Some(ErrorCode::ConnectionRefused) => "the connection is refused".to_owned(),
        Some(ErrorCode::DnsError(_)) => "the name cannot be resolved".to_owned(),
        Some(ErrorCode::ConnectionTimeout) => "the connection timed out".to_owned(),
        Some(ErrorCode::ConnectionTerminated) => "the connection was cut".to_owned(),
        Some(other) => format!("{other:?}"),
        None => format!("{error:#}"),
    };
    SendError::Failed(words)
}

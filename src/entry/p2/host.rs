//! The host of tracing: WASI 0.2.

use std::fmt;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use wstd::http::error::ErrorCode;
use wstd::http::{Client, Error};

use telemetry::host::{Body, Host, SendError};

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

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Body>, SendError> {
        let request = request.map(|body| match body.is_empty() {
            // The client writes a body in memory even if it is empty: docs/library-faults.md.
            true => wstd::http::Body::from_http_body(Empty::<Bytes>::new()),
            false => body.into(),
        });
        let response = Client::new().send(request).await.map_err(failed)?;
        Ok(response.map(|body| {
            Box::pin(body.into_boxed_body().into_data_stream().map_err(failed)) as Body
        }))
    }

    fn has_one_request(&self) -> bool {
        true
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
        Some(ErrorCode::HttpProtocolError) => "no complete HTTP answer came".to_owned(),
        Some(other) => format!("{other:?}"),
        None => format!("{error:#}"),
    };
    SendError::Failed(words)
}

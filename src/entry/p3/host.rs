//! The host of tracing: WASI 0.3 by way of the Spin SDK.

use std::fmt;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt;
use http::{Request, Response};
use http_body_util::BodyExt;
use spin_sdk::http::FullBody;
use spin_sdk::wasip3::http::types::ErrorCode;

use telemetry::host::{Body, Host, SendError};

/// The host that the component runs in.
#[derive(Debug)]
pub struct Wasi;

#[async_trait]
impl Host for Wasi {
    fn random(&self) -> u64 {
        spin_sdk::wasip3::random::random::get_random_u64()
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    async fn sleep(&self, duration: Duration) {
        spin_sdk::time::sleep(duration).await;
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Body>, SendError> {
        let failed = |code| match code {
            ErrorCode::HttpRequestDenied => SendError::Denied,
            other => SendError::Failed(describe(&other)),
        };
        let response = spin_sdk::http::send(request.map(FullBody::new)).await.map_err(failed)?;
        Ok(response.map(|body| Box::pin(body.into_data_stream().map_err(failed)) as Body))
    }

    fn log(&self, line: fmt::Arguments<'_>) {
        eprintln!("{line}");
    }
}

/// Returns an error of the host in words.
fn describe(code: &ErrorCode) -> String {
    match code {
        ErrorCode::ConnectionRefused => "the connection is refused".to_owned(),
        ErrorCode::DnsError(_) => "the name cannot be resolved".to_owned(),
        ErrorCode::ConnectionTimeout => "the connection timed out".to_owned(),
        ErrorCode::ConnectionTerminated => "the connection was cut".to_owned(),
        ErrorCode::HttpProtocolError => "no complete HTTP answer came".to_owned(),
        other => format!("{other:?}"),
    }
}

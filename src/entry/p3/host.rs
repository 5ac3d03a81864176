//! The host of tracing: WASI 0.3 by way of the Spin SDK.

use std::fmt;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body_util::BodyExt;
use spin_sdk::http::FullBody;
use spin_sdk::wasip3::http::types::ErrorCode;

use telemetry::host::{Host, MAX_RESPONSE_BYTES, SendError};

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

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, SendError> {
        let failed = |code| match code {
            ErrorCode::HttpRequestDenied => SendError::Denied,
            other => SendError::Failed(describe(&other)),
        };
        let response = spin_sdk::http::send(request.map(FullBody::new)).await.map_err(failed)?;
        let (head, mut body) = response.into_parts();
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
fn describe(code: &ErrorCode) -> String {
    match code {
        ErrorCode::ConnectionRefused => "the connection is refused".to_owned(),
        ErrorCode::DnsError(_) => "the name cannot be resolved".to_owned(),
        ErrorCode::ConnectionTimeout => "the connection timed out".to_owned(),
        ErrorCode::ConnectionTerminated => "the connection was cut".to_owned(),
        other => format!("{other:?}"),
    }
}

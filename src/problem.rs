//! What is answered when a request can't be served: the one place where errors become responses.

use std::fmt;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;

use vision::decode::DecodeError;

/// The media types that `POST /predict` takes.
pub const ACCEPTED: &str = "image/jpeg, image/png, image/webp or multipart/form-data";

/// Why a request is not served.
#[derive(Debug)]
pub enum Problem {
    /// 400: the multipart body is malformed, or has not exactly one file.
    Multipart(String),
    /// 400: the body ended before it was complete.
    CutOff,
    /// 404: no such route.
    NotFound,
    /// 405: the route does not know this method.
    Method {
        /// The methods that it knows, as in `Allow`.
        allow: &'static str,
    },
    /// 413: the body is larger than the limit.
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// 415: the body is of a type that is not taken.
    MediaType(String),
    /// 415 for a HEIC photo, else 422: the photo can't be decoded.
    Decode(DecodeError),
    /// 500: the service itself failed. What exactly goes to the log, not to the client.
    Internal(String),
}

impl Problem {
    /// The response's status.
    pub fn status(&self) -> StatusCode {
        match self {
            Problem::Multipart(_) | Problem::CutOff => StatusCode::BAD_REQUEST,
            Problem::NotFound => StatusCode::NOT_FOUND,
            Problem::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Problem::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Problem::MediaType(_) | Problem::Decode(DecodeError::Heic) => {
                StatusCode::UNSUPPORTED_MEDIA_TYPE
            }
            Problem::Decode(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Problem::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The kind of problem, one of few: `error.type` in a trace.
    pub fn kind(&self) -> &'static str {
        match self {
            Problem::Multipart(_) => "multipart",
            Problem::CutOff => "cut_off",
            Problem::NotFound => "not_found",
            Problem::Method { .. } => "method",
            Problem::TooLarge { .. } => "too_large",
            Problem::MediaType(_) => "media_type",
            Problem::Decode(error) => error.kind(),
            Problem::Internal(_) => "internal",
        }
    }

    /// What happened, for those who run the service: with the reason that a client is not told.
    pub fn reason(&self) -> String {
        match self {
            Problem::Internal(reason) => reason.clone(),
            other => other.to_string(),
        }
    }

    /// The response: `application/problem+json` (RFC 9457), with the id of the request's trace
    /// where requests are traced.
    pub fn response(&self, trace_id: Option<String>) -> Response<Bytes> {
        #[derive(Serialize)]
        struct Body<'a> {
            r#type: &'a str,
            title: &'a str,
            status: u16,
            detail: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            trace_id: Option<String>,
        }
        let status = self.status();
        let body = Body {
            // RFC 9457: nothing more to say of the type than the status does.
            r#type: "about:blank",
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            detail: self.to_string(),
            trace_id,
        };
        let mut response = Response::new(serde_json::to_vec(&body).unwrap_or_default().into());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Problem::Method { allow } = self {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            let types = "image/jpeg, image/png, image/webp, multipart/form-data";
            headers.insert(http::header::ACCEPT, HeaderValue::from_static(types));
        }
        response
    }
}

impl fmt::Display for Problem {
    /// What to do, for the client.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Multipart(reason) => write!(
                f,
                "The multipart body can't be used ({reason}): send one file field with a photo."
            ),
            Problem::CutOff => write!(f, "The body ended too early: send it again."),
            Problem::NotFound => write!(f, "There is no such route: GET / lists all routes."),
            Problem::Method { allow } => {
                write!(f, "This route does not know that method: use one of {allow}.")
            }
            Problem::TooLarge { limit } => {
                write!(f, "The body is larger than {limit} bytes: send a smaller photo.")
            }
            Problem::MediaType(found) => {
                write!(f, "The Content-Type {found} is not taken: send a photo as {ACCEPTED}.")
            }
            Problem::Decode(error) => error.fmt(f),
            Problem::Internal(_) => {
                write!(f, "The service failed: try again; its log says more.")
            }
        }
    }
}

impl std::error::Error for Problem {}

impl From<DecodeError> for Problem {
    fn from(error: DecodeError) -> Problem {
        Problem::Decode(error)
    }
}

impl From<vision::engine::ModelError> for Problem {
    fn from(error: vision::engine::ModelError) -> Problem {
        Problem::Internal(error.to_string())
    }
}

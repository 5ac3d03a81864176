//! A problem: an error as a response, `application/problem+json` (RFC 9457). The one place where
//! errors become responses.
//!
//! A problem's text is the `detail` that the client reads: a sentence, then the remedy as a second
//! one. [`Problem::reason`] is for those who run the service.

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, ALLOW, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;
use thiserror::Error;

use vision::decode::{DecodeError, Format};

use crate::feedback::error::FeedbackError;
use crate::form::FormError;
use crate::media::{self, Content};
use crate::photo_url::PhotoUrlError;
use crate::spell::error::FramesError;

/// The reason why a request is not served.
#[derive(Debug, Error)]
pub enum Problem {
    /// 400: the form is malformed, or does not have exactly one photo.
    #[error(transparent)]
    Form(#[from] FormError),
    /// 400: the body ended before it was complete.
    #[error("The body ended after {received} bytes, before it was complete. Send it again.")]
    CutOff {
        /// Bytes that arrived.
        received: usize,
    },
    /// 400: the query's `box` is none.
    #[error(
        "The query's box cannot be read. Send x,y,width,height,rotation: the numbers of hand.box in the \
         answer before."
    )]
    Region,
    /// 404: there is no such route.
    #[error("There is no such route. GET / lists all routes.")]
    NotFound,
    /// 405: the route does not support the method.
    #[error("This route does not support that method. Use one of {allow}.")]
    Method {
        /// The methods that it supports, as in `Allow`.
        allow: &'static str,
    },
    /// 413: the body is larger than the limit.
    #[error("The body is larger than {limit} bytes. Send a smaller photo.")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// 413: the body is within the limit, and larger than the memory that the host leaves.
    #[error("The body is larger than the memory that is free. Send a smaller photo.")]
    NoMemory,
    /// 415: the body claims a media type that is not supported, and its content says no more.
    #[error(
        "The Content-Type {0} is not supported. Send a photo as {types}.",
        types = media::list(media::accepted())
    )]
    MediaType(String),
    /// 415: the body is encoded.
    #[error(
        "The Content-Encoding {0} is not supported. Send the photo itself: it is compressed already."
    )]
    ContentEncoding(String),
    /// 415: the photo is something else that is known.
    #[error(
        "The request holds {name} instead of a photo in {formats}. {remedy}",
        name = .0.name, formats = media::list(Format::ALL.map(Format::name)), remedy = .0.remedy
    )]
    NoPhoto(Content),
    /// 415 for a HEIC photo, else 422: the photo cannot be decoded.
    #[error("{}", detail(.0))]
    Decode(#[from] DecodeError),
    /// 400 for what is not JSON, 413 for a body over the limit, else 422: the frames of `POST /spell` cannot
    /// be read.
    #[error(transparent)]
    Frames(#[from] FramesError),
    /// 415 where photos are not fetched, 422 for what is no URL, 403 for one that is not allowed, 413 for a photo
    /// over the limit, 504 for one that is late, else 502: the photo at a URL cannot be fetched.
    #[error(transparent)]
    PhotoUrl(#[from] PhotoUrlError),
    /// 404 where corrections are off, 501 without a database, 400 for what is not JSON, 413 for a body over the
    /// limit, 409 for another user's, 401 and 403 without the token of an export, 507 and 503 by the database, else
    /// 422: a correction is not stored, deleted or given.
    #[error(transparent)]
    Feedback(#[from] FeedbackError),
    /// 500: the service itself failed. The client does not learn the reason.
    #[error("The service failed. Try again; its log names the reason.")]
    Internal(String),
}

/// Returns the detail of a photo that cannot be decoded.
fn detail(error: &DecodeError) -> String {
    match error {
        DecodeError::Empty => "The body is empty. Send the photo as the body, or in a form.".into(),
        DecodeError::UnknownFormat => format!(
            "The photo's format is not supported. Send a photo in {}.",
            media::list(Format::ALL.map(Format::name))
        ),
        DecodeError::Heic => {
            "HEIC photos are not supported. Send the photo as JPEG; on an iPhone: \
                              Settings, Camera, Formats, Most Compatible."
                .into()
        }
        DecodeError::TooManyPixels { width, height, limit } => format!(
            "The photo has {width} × {height} pixels, more than the limit of {limit}. Scale it down."
        ),
        DecodeError::TooManyPixelsOf { kind, width, height, limit } => format!(
            "The photo has {width} × {height} pixels, more than the limit of {limit} for a {kind}. \
             Scale it down, or save it again as an ordinary JPEG."
        ),
        DecodeError::TooLong { width, height, limit } => format!(
            "The photo has {width} × {height} pixels, and a side longer than the limit of {limit}. \
             Scale it down."
        ),
        DecodeError::TooNarrow { width, height, limit } => format!(
            "The photo has {width} × {height} pixels, and one side is more than {limit} times as long \
             as the other. Crop it."
        ),
        DecodeError::Incomplete { format } => format!(
            "The {format} file is incomplete: it ends before its picture does. Send the complete file."
        ),
        DecodeError::Unsupported { format, feature } => format!(
            "A {format} file with {feature} is not supported. Save it again as an ordinary JPEG."
        ),
        DecodeError::Broken { format, reason } => format!(
            "The {format} data cannot be decoded: {reason}. Save it again as an ordinary JPEG."
        ),
    }
}

impl From<vision::engine::ModelError> for Problem {
    fn from(error: vision::engine::ModelError) -> Problem {
        Problem::Internal(error.to_string())
    }
}

impl Problem {
    /// Returns the problem of bytes that cannot be decoded: what they are, if they are something else.
    pub fn undecoded(error: DecodeError, bytes: &[u8]) -> Problem {
        let content = match &error {
            DecodeError::UnknownFormat => media::recognize(bytes),
            DecodeError::Broken { .. } | DecodeError::Incomplete { .. } => {
                media::recognize_broken(bytes)
            }
            _ => None,
        };
        content.map_or(Problem::Decode(error), Problem::NoPhoto)
    }

    /// Returns the response's status.
    pub fn status(&self) -> StatusCode {
        match self {
            Problem::Form(_)
            | Problem::CutOff { .. }
            | Problem::Region
            | Problem::Frames(FramesError::Syntax(_)) => StatusCode::BAD_REQUEST,
            Problem::NotFound => StatusCode::NOT_FOUND,
            Problem::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Problem::TooLarge { .. }
            | Problem::NoMemory
            | Problem::Frames(FramesError::TooLarge { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
            Problem::MediaType(_)
            | Problem::ContentEncoding(_)
            | Problem::NoPhoto(_)
            | Problem::Decode(DecodeError::Heic) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Problem::Decode(_) | Problem::Frames(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Problem::PhotoUrl(error) => error.status(),
            Problem::Feedback(error) => error.status(),
            Problem::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Returns the kind of problem, one of few words: `error.type` in a trace.
    pub fn kind(&self) -> &'static str {
        match self {
            Problem::Form(_) => "multipart",
            Problem::CutOff { .. } => "cut_off",
            Problem::Region => "box",
            Problem::NotFound => "not_found",
            Problem::Method { .. } => "method",
            Problem::TooLarge { .. } => "too_large",
            Problem::NoMemory => "no_memory",
            Problem::MediaType(_) => "media_type",
            Problem::ContentEncoding(_) => "content_encoding",
            Problem::NoPhoto(_) => "no_photo",
            Problem::Decode(error) => error.kind(),
            Problem::Frames(error) => error.kind(),
            Problem::PhotoUrl(error) => error.kind(),
            Problem::Feedback(error) => error.kind(),
            Problem::Internal(_) => "internal",
        }
    }

    /// True for a failure of the service itself, which its log names.
    pub fn is_ours(&self) -> bool {
        matches!(self, Problem::Internal(_) | Problem::Feedback(FeedbackError::Database(_)))
    }

    /// Returns the error for those who run the service, with the reason that a client does not learn.
    pub fn reason(&self) -> String {
        match self {
            Problem::Internal(reason) => reason.clone(),
            Problem::Decode(error) => error.to_string(),
            Problem::Feedback(FeedbackError::Database(error)) => error.to_string(),
            other => other.to_string(),
        }
    }

    /// Returns the response, with the id of the request's trace where requests are traced.
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
            // RFC 9457: the type says no more than the status does.
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
        if let Problem::Feedback(FeedbackError::Token) = self {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        // RFC 9110, 15.5.16: these say whether it is the type or the coding that is not supported.
        if let Problem::ContentEncoding(_) = self {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        } else if status == StatusCode::UNSUPPORTED_MEDIA_TYPE
            && let Ok(types) = HeaderValue::try_from(media::accepted().join(", "))
        {
            headers.insert(ACCEPT, types);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::database::DatabaseError;

    fn body(response: &Response<Bytes>) -> Value {
        serde_json::from_slice(response.body()).expect("JSON")
    }

    /// One problem of each kind, with its status, its kind and its detail.
    fn all() -> Vec<(Problem, u16, &'static str, &'static str)> {
        let broken = DecodeError::Broken { format: Format::Jpeg, reason: "marker 0".into() };
        let pixels = DecodeError::TooManyPixels { width: 9000, height: 8000, limit: 50_000_000 };
        vec![
            (
                Problem::Form(FormError::NoFile),
                400,
                "multipart",
                "The form has no file. Send a form with exactly one file, the photo.",
            ),
            (
                Problem::Form(FormError::NoBoundary),
                400,
                "multipart",
                "The form cannot be read: its Content-Type has no boundary. Leave Content-Type out: \
                 the library that builds the form sets it, with the boundary.",
            ),
            (
                Problem::Form(FormError::BarePhoto(Format::Jpeg)),
                400,
                "multipart",
                "The form cannot be read: the body is the JPEG photo itself. Send it as image/jpeg.",
            ),
            (
                Problem::Form(FormError::CutOff("edge".into())),
                400,
                "multipart",
                "The form cannot be read: it ends before its last boundary, --edge--. Send it again, \
                 complete.",
            ),
            (
                Problem::Form(FormError::NoneChosen),
                400,
                "multipart",
                "The form's file is empty: no photo was chosen. Choose one, and send the form again.",
            ),
            (
                Problem::CutOff { received: 7 },
                400,
                "cut_off",
                "The body ended after 7 bytes, before it was complete. Send it again.",
            ),
            (
                Problem::Region,
                400,
                "box",
                "The query's box cannot be read. Send x,y,width,height,rotation: the numbers of \
                 hand.box in the answer before.",
            ),
            (
                Problem::NotFound,
                404,
                "not_found",
                "There is no such route. GET / lists all routes.",
            ),
            (
                Problem::Method { allow: "GET, HEAD, OPTIONS" },
                405,
                "method",
                "This route does not support that method. Use one of GET, HEAD, OPTIONS.",
            ),
            (
                Problem::TooLarge { limit: 1000 },
                413,
                "too_large",
                "The body is larger than 1000 bytes. Send a smaller photo.",
            ),
            (
                Problem::NoMemory,
                413,
                "no_memory",
                "The body is larger than the memory that is free. Send a smaller photo.",
            ),
            (
                Problem::MediaType("text/plain".into()),
                415,
                "media_type",
                "The Content-Type text/plain is not supported. Send a photo as image/jpeg, \
                 image/png, image/webp or multipart/form-data.",
            ),
            (
                Problem::ContentEncoding("gzip".into()),
                415,
                "content_encoding",
                "The Content-Encoding gzip is not supported. Send the photo itself: it is compressed \
                 already.",
            ),
            (
                Problem::undecoded(DecodeError::UnknownFormat, b"GIF89a"),
                415,
                "no_photo",
                "The request holds a GIF picture instead of a photo in JPEG, PNG or WebP. Save it as \
                 JPEG, and send that.",
            ),
            (
                Problem::Decode(DecodeError::Heic),
                415,
                "heic",
                "HEIC photos are not supported. Send the photo as JPEG; on an iPhone: Settings, \
                 Camera, Formats, Most Compatible.",
            ),
            (
                Problem::Decode(DecodeError::Empty),
                422,
                "empty",
                "The body is empty. Send the photo as the body, or in a form.",
            ),
            (
                Problem::undecoded(DecodeError::UnknownFormat, b"?"),
                422,
                "unknown_format",
                "The photo's format is not supported. Send a photo in JPEG, PNG or WebP.",
            ),
            (
                Problem::Decode(pixels),
                422,
                "too_many_pixels",
                "The photo has 9000 × 8000 pixels, more than the limit of 50000000. Scale it down.",
            ),
            (
                Problem::Decode(DecodeError::TooManyPixelsOf {
                    kind: "progressive JPEG".into(),
                    width: 9000,
                    height: 8000,
                    limit: 20_000_000,
                }),
                422,
                "too_many_pixels",
                "The photo has 9000 × 8000 pixels, more than the limit of 20000000 for a \
                 progressive JPEG. Scale it down, or save it again as an ordinary JPEG.",
            ),
            (
                Problem::Decode(DecodeError::TooLong { width: 1, height: 50_000_000, limit: 9 }),
                422,
                "shape",
                "The photo has 1 × 50000000 pixels, and a side longer than the limit of 9. Scale it \
                 down.",
            ),
            (
                Problem::Decode(DecodeError::TooNarrow { width: 1, height: 9000, limit: 20 }),
                422,
                "shape",
                "The photo has 1 × 9000 pixels, and one side is more than 20 times as long as the \
                 other. Crop it.",
            ),
            (
                Problem::Decode(DecodeError::Incomplete { format: Format::Jpeg }),
                422,
                "broken",
                "The JPEG file is incomplete: it ends before its picture does. Send the complete \
                 file.",
            ),
            (
                Problem::Decode(DecodeError::Unsupported {
                    format: Format::Jpeg,
                    feature: "arithmetic coding".into(),
                }),
                422,
                "unsupported",
                "A JPEG file with arithmetic coding is not supported. Save it again as an ordinary \
                 JPEG.",
            ),
            (
                Problem::Decode(broken),
                422,
                "broken",
                "The JPEG data cannot be decoded: marker 0. Save it again as an ordinary JPEG.",
            ),
            (
                Problem::Frames(FramesError::Syntax("expected value at line 1 column 1".into())),
                400,
                "json",
                "The body is not JSON: expected value at line 1 column 1. Send an object with frames; \
                 /openapi.json describes it.",
            ),
            (
                Problem::Frames(FramesError::TooLarge { limit: 1000 }),
                413,
                "too_large",
                "The body is larger than 1000 bytes. Send fewer frames.",
            ),
            (
                Problem::Frames(FramesError::Range { index: 3, what: "a landmark" }),
                422,
                "frames",
                "Frame 3: a landmark is out of range. /openapi.json has the ranges.",
            ),
            (
                Problem::Feedback(FeedbackError::Off),
                404,
                "feedback_off",
                "Corrections are not stored here. They are where the service's setting feedback is true.",
            ),
            (
                Problem::Feedback(FeedbackError::NoDatabase),
                501,
                "no_database",
                "This component has no database for corrections. Use one that is built for Spin, or leave the \
                 setting feedback out.",
            ),
            (
                Problem::Feedback(FeedbackError::Missing("hand")),
                422,
                "correction",
                "The correction lacks hand. The service keeps nothing of a photo: send the answer of POST \
                 /predict, with label and aspect (the photo's width by its height) added.",
            ),
            (
                Problem::Feedback(FeedbackError::Taken),
                409,
                "taken",
                "Another user has corrected this trace. Correct an answer of your own.",
            ),
            (
                Problem::Feedback(FeedbackError::Token),
                401,
                "token",
                "The export needs the service's token. Send Authorization: Bearer, then the token.",
            ),
            (
                Problem::Feedback(FeedbackError::Full { limit: 7 }),
                507,
                "full",
                "There are 7 corrections already (feedback_max_rows). Try again after some have expired or have \
                 been deleted.",
            ),
            (
                Problem::Feedback(DatabaseError::Denied.into()),
                503,
                "access_denied",
                "The database of corrections does not serve. Try again; the service's log names the reason.",
            ),
            (
                Problem::PhotoUrl(PhotoUrlError::Off),
                415,
                "url_off",
                "The request holds JSON instead of a photo in JPEG, PNG or WebP. Send the photo's own bytes \
                 as the body, or a form with one file. A URL in JSON is fetched only where the setting \
                 photo_url_allowed_host names its host.",
            ),
            (
                Problem::PhotoUrl(PhotoUrlError::NotText),
                422,
                "url",
                "The url is not text. Send {\"url\": \"https://…\"}.",
            ),
            (
                Problem::PhotoUrl(PhotoUrlError::Malformed("its port is not one")),
                422,
                "url",
                "The URL cannot be used: its port is not one. Expected is one such as \
                 https://photos.example/hand.jpg.",
            ),
            (
                Problem::PhotoUrl(PhotoUrlError::NotAllowed("https://a.example".into())),
                403,
                "not_allowed",
                "Photos are not fetched from https://a.example: no setting allows it \
                 (photo_url_allowed_host). Send the photo itself.",
            ),
            (
                Problem::PhotoUrl(PhotoUrlError::Private("10.0.0.1".into())),
                403,
                "private",
                "Photos are not fetched from 10.0.0.1, which is private, local or reserved. Send the photo \
                 itself.",
            ),
            (
                Problem::PhotoUrl(PhotoUrlError::Denied("https://a.example".into())),
                403,
                "not_allowed",
                "Photos are not fetched from https://a.example: the service's own host does not allow it \
                 (allowed_outbound_hosts). Send the photo itself.",
            ),
            (
                Problem::PhotoUrl(PhotoUrlError::Status(StatusCode::NOT_FOUND)),
                502,
                "status",
                "The photo's server answers 404 Not Found. Check the URL, or send the photo itself.",
            ),
            (
                Problem::PhotoUrl(PhotoUrlError::Timeout { limit_ms: 10_000 }),
                504,
                "timeout",
                "The photo did not come within 10000 ms (photo_url_timeout). Try again, or send the photo \
                 itself.",
            ),
            (
                Problem::PhotoUrl(PhotoUrlError::TooLarge { limit: 1000 }),
                413,
                "too_large",
                "The photo at that URL is larger than 1000 bytes. Send a smaller photo.",
            ),
            (
                Problem::Internal("the model at /models failed".into()),
                500,
                "internal",
                "The service failed. Try again; its log names the reason.",
            ),
        ]
    }

    #[test]
    fn problem_has_its_status_kind_and_detail() {
        for (problem, status, kind, detail) in all() {
            assert_eq!(problem.kind(), kind);
            let response = problem.response(None);
            assert_eq!(response.status(), status, "{kind}");
            assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json", "{kind}");
            let title = response.status().canonical_reason().expect("a known status");
            let expected =
                json!({"type": "about:blank", "title": title, "status": status, "detail": detail});
            assert_eq!(body(&response), expected, "{kind}");
        }
    }

    #[test]
    fn response_names_the_trace() {
        let response = Problem::NotFound.response(Some("0af7651916cd43dd".into()));
        assert_eq!(body(&response)["trace_id"], "0af7651916cd43dd");
    }

    #[test]
    fn headers_name_what_is_supported() {
        for (problem, status, kind, _) in all() {
            let response = problem.response(None);
            let header =
                |name| response.headers().get(name).map(|value| value.to_str().expect("text"));
            let allow = (status == 405).then_some("GET, HEAD, OPTIONS");
            assert_eq!(header(ALLOW), allow, "{kind}");
            let coding = kind == "content_encoding";
            let accept = "image/jpeg, image/png, image/webp, multipart/form-data";
            assert_eq!(header(ACCEPT), (status == 415 && !coding).then_some(accept), "{kind}");
            assert_eq!(header(ACCEPT_ENCODING), coding.then_some("identity"), "{kind}");
        }
    }

    #[test]
    fn internal_reason_is_not_told_to_the_client() {
        let error = vision::engine::ModelError::Run {
            name: "letters.onnx".into(),
            reason: "secret shape".into(),
        };
        let problem = Problem::from(error);
        assert!(problem.reason().contains("secret shape"), "{}", problem.reason());
        let response = problem.response(None);
        let text = String::from_utf8_lossy(response.body()).into_owned();
        assert!(!text.contains("secret") && !text.contains("letters.onnx"), "{text}");
        let headers = format!("{:?}", response.headers());
        assert!(!headers.contains("secret"), "{headers}");
    }

    #[test]
    fn reason_of_a_photo_is_the_decoders() {
        let broken = DecodeError::Broken { format: Format::Png, reason: "no IDAT".into() };
        assert_eq!(Problem::from(broken).reason(), "cannot decode the PNG photo: no IDAT");
    }
}

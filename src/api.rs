//! HTTP without a host: routes, media types, multipart bodies, CORS. What is here knows requests
//! and responses only, not how they come in.

use bytes::Bytes;
use futures_util::stream;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use serde::Serialize;
use serde_json::json;

use crate::problem::Problem;
use crate::settings::{Origins, Settings};

/// Name of the service, as told by `GET /`.
pub const NAME: &str = "hand-gesture-api";
/// Version of the service.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// OpenAPI 3.1 description of all routes.
const OPENAPI: &str = include_str!("openapi.json");

/// What a browser's page may read of a response and send with a request, beyond what any page may
/// (W3C Trace Context, Baggage and Server Timing).
const EXPOSED_HEADERS: &str = "traceparent, Server-Timing";
const ALLOWED_HEADERS: &str = "content-type, traceparent, tracestate, baggage";

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// `GET /`
    Index,
    /// `GET /health`
    Health,
    /// `GET /openapi.json`
    OpenApi,
    /// `POST /predict`
    Predict,
    /// `OPTIONS` of any route.
    Options {
        /// The methods of that route, as in `Allow`.
        allow: &'static str,
    },
}

const GET: &str = "GET, HEAD, OPTIONS";
const POST: &str = "POST, OPTIONS";

/// All paths, with what they lead to and the methods that they know.
const ROUTES: [(&str, Route, &str); 4] = [
    ("/", Route::Index, GET),
    ("/health", Route::Health, GET),
    ("/openapi.json", Route::OpenApi, GET),
    ("/predict", Route::Predict, POST),
];

/// The path as this service knows it, if it does.
pub fn known_path(path: &str) -> Option<&'static str> {
    ROUTES.into_iter().map(|(known, ..)| known).find(|known| *known == path)
}

/// Finds the route of a request.
///
/// # Errors
/// [`Problem::NotFound`] and [`Problem::Method`].
pub fn route(method: &Method, path: &str) -> Result<Route, Problem> {
    let (_, route, allow) =
        ROUTES.into_iter().find(|(known, ..)| *known == path).ok_or(Problem::NotFound)?;
    match *method {
        Method::OPTIONS => Ok(Route::Options { allow }),
        Method::GET | Method::HEAD if allow == GET => Ok(route),
        Method::POST if allow == POST => Ok(route),
        _ => Err(Problem::Method { allow }),
    }
}

/// The answer of `GET /`.
pub fn index() -> Response<Bytes> {
    json_response(&json!({
        "name": NAME,
        "version": VERSION,
        "routes": [
            {"method": "POST", "path": "/predict", "description": "A photo in, an ASL letter out"},
            {"method": "GET", "path": "/health", "description": "Whether the service answers"},
            {"method": "GET", "path": "/openapi.json", "description": "OpenAPI 3.1 description"},
            {"method": "GET", "path": "/", "description": "This page"},
        ],
    }))
}

/// The answer of `GET /health`.
pub fn health(tracing: bool) -> Response<Bytes> {
    let tracing = if tracing { "enabled" } else { "disabled" };
    json_response(&json!({"status": "ok", "tracing": tracing}))
}

/// The answer of `GET /openapi.json`.
pub fn openapi() -> Response<Bytes> {
    json_text(OPENAPI.replace("{{version}}", VERSION))
}

/// The answer to `OPTIONS`.
pub fn options(allow: &'static str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}

/// A 200 with a JSON body.
pub fn json_response(body: &impl Serialize) -> Response<Bytes> {
    // No type here has keys that are not strings, the only way to fail.
    json_text(serde_json::to_string(body).unwrap_or_default())
}

fn json_text(body: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Completes a response: its length, CORS headers, and no body for `HEAD`.
pub fn finish(
    method: &Method,
    request: &HeaderMap,
    settings: &Settings,
    response: Response<Bytes>,
) -> Response<Bytes> {
    let mut response = response;
    if response.status() != StatusCode::NO_CONTENT {
        let length = HeaderValue::from(response.body().len());
        response.headers_mut().insert(header::CONTENT_LENGTH, length);
    }
    allow_origin(method, request, &settings.cors_allowed_origins, response.headers_mut());
    if method == Method::HEAD {
        *response.body_mut() = Bytes::new();
    }
    response
}

/// The headers that let a page of an allowed origin use the service (Fetch standard, CORS).
fn allow_origin(method: &Method, request: &HeaderMap, allowed: &Origins, headers: &mut HeaderMap) {
    let origin = match allowed {
        Origins::These(list) if list.is_empty() => return,
        Origins::Any => HeaderValue::from_static("*"),
        Origins::These(list) => {
            // The answer depends on who asks: caches must know.
            headers.append(header::VARY, HeaderValue::from_static("Origin"));
            match request.get(header::ORIGIN) {
                Some(origin) if list.iter().any(|o| o.as_bytes() == origin.as_bytes()) => {
                    origin.clone()
                }
                _ => return,
            }
        }
    };
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.insert(HeaderName::from_static("timing-allow-origin"), origin);
    let mut set = |name, value| headers.insert(name, HeaderValue::from_static(value));
    set(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_HEADERS);
    if method == Method::OPTIONS {
        set(header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, POST, OPTIONS");
        set(header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS);
        // One hour; browsers take no more than two (Chromium) anyway.
        set(header::ACCESS_CONTROL_MAX_AGE, "3600");
    }
}

/// How the body of `POST /predict` holds the photo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// The body is the photo.
    Photo,
    /// The body is `multipart/form-data` with this boundary.
    Multipart(String),
}

impl BodyKind {
    /// From the request's headers, before the body is read.
    ///
    /// Which of the formats a photo has is read from its content later; a request without a
    /// `Content-Type` is taken for a photo.
    ///
    /// # Errors
    /// [`Problem::MediaType`], [`Problem::Multipart`] without a boundary, and
    /// [`Problem::TooLarge`] if the body's announced length is beyond the limit.
    pub fn of(headers: &HeaderMap, max_body_bytes: u64) -> Result<BodyKind, Problem> {
        let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
        let length = text(header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
        if length.is_some_and(|length| length > max_body_bytes) {
            return Err(Problem::TooLarge { limit: max_body_bytes });
        }
        let Some(content_type) = text(header::CONTENT_TYPE) else {
            return Ok(BodyKind::Photo);
        };
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        match essence.to_ascii_lowercase().as_str() {
            "image/jpeg" | "image/jpg" | "image/png" | "image/webp" => Ok(BodyKind::Photo),
            // Their bytes are looked at: the answer to a HEIC photo says what to do.
            "image/heic" | "image/heif" => Err(Problem::Decode(vision::decode::DecodeError::Heic)),
            "multipart/form-data" => multer::parse_boundary(&*content_type)
                .map(BodyKind::Multipart)
                .map_err(|error| Problem::Multipart(error.to_string())),
            _ => Err(Problem::MediaType(essence.chars().take(100).collect())),
        }
    }

    /// The photo in a body.
    ///
    /// # Errors
    /// [`Problem::Multipart`] if there is not exactly one file.
    pub async fn photo(self, body: Bytes) -> Result<Bytes, Problem> {
        match self {
            BodyKind::Photo => Ok(body),
            BodyKind::Multipart(boundary) => only_file(body, boundary).await,
        }
    }
}

/// The one field of a multipart body that has a file name; other fields are passed over.
async fn only_file(body: Bytes, boundary: String) -> Result<Bytes, Problem> {
    let malformed = |error: multer::Error| Problem::Multipart(error.to_string());
    let body = stream::iter([Ok::<_, std::convert::Infallible>(body)]);
    let mut parts = multer::Multipart::new(body, boundary);
    let mut file = None;
    while let Some(field) = parts.next_field().await.map_err(malformed)? {
        if field.file_name().is_none() {
            continue;
        }
        let bytes = field.bytes().await.map_err(malformed)?;
        if file.replace(bytes).is_some() {
            return Err(Problem::Multipart("it has more than one file".into()));
        }
    }
    file.ok_or_else(|| Problem::Multipart("it has no file".into()))
}

/// The stages of a prediction with their durations, for the `Server-Timing` header.
#[derive(Debug, Default)]
pub struct ServerTiming(Vec<(&'static str, f64)>);

impl ServerTiming {
    /// Adds a stage and its duration in milliseconds.
    pub fn add(&mut self, stage: &'static str, milliseconds: f64) {
        self.0.push((stage, milliseconds));
    }

    /// Writes the header, if there is any stage.
    pub fn write(&self, headers: &mut HeaderMap) {
        let stages: Vec<String> =
            self.0.iter().map(|(stage, ms)| format!("{stage};dur={ms:.2}")).collect();
        if let Ok(value) = HeaderValue::try_from(stages.join(", "))
            && !value.is_empty()
        {
            headers.insert(HeaderName::from_static("server-timing"), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_and_methods() {
        assert_eq!(route(&Method::POST, "/predict").ok(), Some(Route::Predict));
        assert_eq!(route(&Method::HEAD, "/health").ok(), Some(Route::Health));
        assert!(matches!(route(&Method::GET, "/predict"), Err(Problem::Method { allow: POST })));
        assert!(matches!(route(&Method::PUT, "/"), Err(Problem::Method { allow: GET })));
        assert!(matches!(route(&Method::OPTIONS, "/x"), Err(Problem::NotFound)));
    }

    fn kind(content_type: &str) -> Result<BodyKind, Problem> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::try_from(content_type).expect("a value"));
        BodyKind::of(&headers, 100)
    }

    #[test]
    fn media_types() {
        assert_eq!(kind("IMAGE/JPEG; quality=1").ok(), Some(BodyKind::Photo));
        assert_eq!(BodyKind::of(&HeaderMap::new(), 100).ok(), Some(BodyKind::Photo));
        let form = kind("multipart/form-data; boundary=\"a b\"");
        assert_eq!(form.ok(), Some(BodyKind::Multipart("a b".into())));
        assert!(matches!(kind("multipart/form-data"), Err(Problem::Multipart(_))));
        assert!(matches!(kind("application/json"), Err(Problem::MediaType(_))));
        assert_eq!(kind("image/heif").map_err(|problem| problem.status().as_u16()), Err(415));
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_anything_is_read() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("101"));
        assert!(matches!(BodyKind::of(&headers, 100), Err(Problem::TooLarge { limit: 100 })));
        assert!(BodyKind::of(&headers, 101).is_ok());
    }

    #[test]
    fn stages_are_told_in_the_server_timing_header() {
        let mut timing = ServerTiming::default();
        timing.add("decode", 1.2345);
        timing.add("find", 30.0);
        let mut headers = HeaderMap::new();
        timing.write(&mut headers);
        assert_eq!(headers["server-timing"], "decode;dur=1.23, find;dur=30.00");
    }
}

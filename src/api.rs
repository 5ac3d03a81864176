//! HTTP without a host: routes, answers that need no photo, CORS.
//!
//! [`ROUTES`] is the one list of routes. [`route`], `GET /` and `Allow` follow from it, and a test
//! compares the description in `openapi.json` with it and with the formats. That file is written by
//! hand: schemas generated from types would cost macros and code in the component, and say less.
//!
//! To add a route: a variant of [`Route`], a row of [`ROUTES`], a path in `openapi.json`, and an arm in
//! `service.rs`.

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use serde::Serialize;
use serde_json::json;

use crate::page::{self, File};
use crate::problem::Problem;
use crate::settings::{Origins, Settings};

/// The service's name.
pub const NAME: &str = "hand-gesture-api";
/// The service's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The OpenAPI 3.1 description of all routes.
const OPENAPI: &str = include_str!("openapi.json");

/// Headers of a response that a browser's page may read, beyond those that any page may (W3C Trace
/// Context, Server Timing).
const EXPOSED_HEADERS: &str = "traceparent, Server-Timing";
/// Headers that a browser's page may send (W3C Trace Context, Baggage), beside the one of the setting
/// `user_id_header`. `Authorization` is not one of them: an export is for programs, not for pages of others.
const ALLOWED_HEADERS: &str = "content-type, traceparent, tracestate, baggage";
/// Methods that a browser's page may use: those of all routes.
const ALLOWED_METHODS: &str = "GET, HEAD, POST, DELETE, OPTIONS";
/// Seconds for which a browser keeps the answer to a preflight request. Chromium's limit is two hours.
const MAX_AGE: &str = "3600";

/// The destination of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// `POST /predict`
    Predict,
    /// `POST /spell`
    Spell,
    /// `POST /feedback`
    Feedback,
    /// `DELETE /feedback/{trace_id}`
    FeedbackOfTrace,
    /// `GET /feedback/export`
    FeedbackExport,
    /// `GET /health`
    Health,
    /// `GET /openapi.json`
    OpenApi,
    /// `GET /`
    Index,
    /// `GET /docs`
    Docs,
    /// `GET` of a file that a page loads.
    File(&'static File),
    /// `OPTIONS` of any path.
    Options {
        /// The methods of that path, as in `Allow`.
        allow: &'static str,
    },
}

/// The method of a row of [`ROUTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `GET`, and with it `HEAD`.
    Get,
    /// `POST`.
    Post,
    /// `DELETE`.
    Delete,
}

impl Verb {
    /// Returns the method's name.
    pub const fn name(self) -> &'static str {
        match self {
            Verb::Get => "GET",
            Verb::Post => "POST",
            Verb::Delete => "DELETE",
        }
    }

    /// Returns all methods of a path with this one, as in `Allow`.
    pub const fn allow(self) -> &'static str {
        match self {
            Verb::Get => "GET, HEAD, OPTIONS",
            Verb::Post => "POST, OPTIONS",
            Verb::Delete => "DELETE, OPTIONS",
        }
    }

    fn includes(self, method: &Method) -> bool {
        match self {
            Verb::Get => [Method::GET, Method::HEAD].contains(method),
            Verb::Post => method == Method::POST,
            Verb::Delete => method == Method::DELETE,
        }
    }
}

/// A row of [`ROUTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The method.
    pub verb: Verb,
    /// The path.
    pub path: &'static str,
    /// The destination.
    pub route: Route,
    /// The description, as in `GET /`.
    pub description: &'static str,
}

/// The path with a parameter.
const FEEDBACK_OF_TRACE: &str = "/feedback/{trace_id}";

/// All routes, in the order in which `GET /` lists them. Each path has one row. The files that pages load
/// are routes too, and are not listed: [`page::FILES`].
pub const ROUTES: [Entry; 9] = [
    Entry {
        verb: Verb::Post,
        path: "/predict",
        route: Route::Predict,
        description: "A photo in, an ASL letter out",
    },
    Entry {
        verb: Verb::Post,
        path: "/spell",
        route: Route::Spell,
        description: "Frames of a hand in, a letter out: J and Z by their movement",
    },
    Entry {
        verb: Verb::Post,
        path: "/feedback",
        route: Route::Feedback,
        description: "An answer with the letter that its hand really shows in, where the setting feedback is on",
    },
    Entry {
        verb: Verb::Delete,
        path: FEEDBACK_OF_TRACE,
        route: Route::FeedbackOfTrace,
        description: "Deletes a correction of the caller's",
    },
    Entry {
        verb: Verb::Get,
        path: "/feedback/export",
        route: Route::FeedbackExport,
        description: "All corrections as JSON Lines, for those who have the token",
    },
    Entry {
        verb: Verb::Get,
        path: "/health",
        route: Route::Health,
        description: "Whether the service answers",
    },
    Entry {
        verb: Verb::Get,
        path: "/openapi.json",
        route: Route::OpenApi,
        description: "OpenAPI 3.1 description",
    },
    Entry {
        verb: Verb::Get,
        path: "/docs",
        route: Route::Docs,
        description: "This description to read and to try, for a browser",
    },
    Entry { verb: Verb::Get, path: "/", route: Route::Index, description: "This page" },
];

fn entry(path: &str) -> Option<Entry> {
    let of_a_file = |file: &'static File| {
        let File { path, .. } = *file;
        Entry { verb: Verb::Get, path, route: Route::File(file), description: "" }
    };
    let mut files = page::FILES.iter().map(of_a_file);
    let with_trace = || {
        trace_in(path)?;
        ROUTES.into_iter().find(|entry| entry.path == FEEDBACK_OF_TRACE)
    };
    let is_listed = |entry: &Entry| entry.path == path && !path.contains('{');
    ROUTES
        .into_iter()
        .find(is_listed)
        .or_else(|| files.find(|e| e.path == path))
        .or_else(with_trace)
}

/// Returns the trace in the path of `DELETE /feedback/{trace_id}`.
pub fn trace_in(path: &str) -> Option<&str> {
    let trace = path.strip_prefix("/feedback/")?;
    (!trace.is_empty() && !trace.contains('/')).then_some(trace)
}

/// Returns a path as this service knows it, if it does.
pub fn known_path(path: &str) -> Option<&'static str> {
    entry(path).map(|entry| entry.path)
}

/// Finds the route of a request.
///
/// # Errors
/// [`Problem::NotFound`] and [`Problem::Method`].
pub fn route(method: &Method, path: &str) -> Result<Route, Problem> {
    let Entry { verb, route, .. } = entry(path).ok_or(Problem::NotFound)?;
    let allow = verb.allow();
    match method {
        &Method::OPTIONS => Ok(Route::Options { allow }),
        method if verb.includes(method) => Ok(route),
        _ => Err(Problem::Method { allow }),
    }
}

impl Route {
    /// True if the route is there only where the setting `page` is on.
    pub fn is_of_the_page(self) -> bool {
        matches!(self, Route::Docs | Route::File(_))
    }
}

/// Returns the answer of `GET /` as JSON. Routes of the page are listed if it is on.
pub fn index(page: bool) -> Response<Bytes> {
    let listed = ROUTES.into_iter().filter(|entry| page || !entry.route.is_of_the_page());
    let routes = listed.map(|Entry { verb, path, description, .. }| {
        json!({"method": verb.name(), "path": path, "description": description})
    });
    let routes: Vec<_> = routes.collect();
    json_response(&json!({"name": NAME, "version": VERSION, "routes": routes}))
}

/// Returns the answer of `GET /health`.
pub fn health(tracing: bool) -> Response<Bytes> {
    let tracing = if tracing { "enabled" } else { "disabled" };
    json_response(&json!({"status": "ok", "tracing": tracing}))
}

/// Returns the answer of `GET /openapi.json`.
pub fn openapi() -> Response<Bytes> {
    json_text(OPENAPI.replace("{{version}}", VERSION))
}

/// Returns the answer to `OPTIONS`.
pub fn options(allow: &'static str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}

/// Returns a 200 with a JSON body.
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
    // A 304 may only have the length of what it stands for.
    if ![StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&response.status()) {
        let length = HeaderValue::from(response.body().len());
        response.headers_mut().insert(header::CONTENT_LENGTH, length);
    }
    allow_origin(method, request, settings, response.headers_mut());
    if method == Method::HEAD {
        *response.body_mut() = Bytes::new();
    }
    response
}

/// Adds the headers that let a page of an allowed origin use the service (Fetch standard, CORS). Errors
/// get them too: a page could not read them otherwise. Credentials are never allowed: there are none.
fn allow_origin(
    method: &Method,
    request: &HeaderMap,
    settings: &Settings,
    headers: &mut HeaderMap,
) {
    let origin = match &settings.cors_allowed_origins {
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
        set(header::ACCESS_CONTROL_ALLOW_METHODS, ALLOWED_METHODS);
        set(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed_headers(settings));
    }
}

/// Returns the headers that a page may send: all that the service reads of a request.
fn allowed_headers(settings: &Settings) -> HeaderValue {
    let standard = HeaderValue::from_static(ALLOWED_HEADERS);
    let Some(user) = &settings.user_id_header else { return standard };
    if ALLOWED_HEADERS.split(", ").any(|allowed| allowed == user.as_str()) {
        return standard;
    }
    // The name of a header is a valid value.
    HeaderValue::try_from(format!("{ALLOWED_HEADERS}, {user}")).unwrap_or(standard)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::media;

    #[test]
    fn route_follows_path_and_method() {
        assert_eq!(route(&Method::POST, "/predict").ok(), Some(Route::Predict));
        assert_eq!(route(&Method::HEAD, "/health").ok(), Some(Route::Health));
        let options = route(&Method::OPTIONS, "/predict").ok();
        assert_eq!(options, Some(Route::Options { allow: "POST, OPTIONS" }));
        for (method, path, expected) in
            [("GET", "/predict", "POST, OPTIONS"), ("PUT", "/", "GET, HEAD, OPTIONS")]
        {
            match route(&method.parse().expect("a method"), path) {
                Err(Problem::Method { allow }) => assert_eq!(allow, expected),
                other => panic!("{other:?}"),
            }
        }
        for file in &page::FILES {
            assert_eq!(route(&Method::GET, file.path).ok(), Some(Route::File(file)));
        }
        let feedback = |method: &Method, path| route(method, path).ok();
        assert_eq!(feedback(&Method::GET, "/feedback/export"), Some(Route::FeedbackExport));
        assert_eq!(feedback(&Method::DELETE, "/feedback/a"), Some(Route::FeedbackOfTrace));
        assert_eq!(known_path("/feedback/a"), Some("/feedback/{trace_id}"));
        for path in ["/feedback/", "/feedback/a/b", "/feedbacks"] {
            assert!(matches!(route(&Method::DELETE, path), Err(Problem::NotFound)), "{path}");
        }
        assert!(matches!(route(&Method::OPTIONS, "/x"), Err(Problem::NotFound)));
        assert!(matches!(route(&Method::GET, "/health/"), Err(Problem::NotFound)));
    }

    #[test]
    fn pages_may_use_the_methods_of_all_routes() {
        let all: BTreeSet<&str> =
            ROUTES.iter().flat_map(|entry| entry.verb.allow().split(", ")).collect();
        assert_eq!(all, ALLOWED_METHODS.split(", ").collect());
    }

    fn keys(object: &Value) -> BTreeSet<&str> {
        object.as_object().expect("an object").keys().map(String::as_str).collect()
    }

    #[test]
    fn openapi_describes_every_route() {
        let openapi: Value = serde_json::from_slice(openapi().body()).expect("JSON");
        assert_eq!(openapi["info"]["version"], VERSION);
        let paths = &openapi["paths"];
        assert_eq!(keys(paths), ROUTES.iter().map(|entry| entry.path).collect());
        for Entry { verb, path, .. } in ROUTES {
            let method = verb.name().to_ascii_lowercase();
            assert_eq!(keys(&paths[path]), BTreeSet::from([method.as_str()]), "{path}");
            let refusal = &paths[path][&method]["responses"]["405"]["$ref"];
            assert_eq!(refusal, "#/components/responses/MethodNotAllowed", "{path}");
        }
    }

    #[test]
    fn openapi_describes_every_media_type() {
        let openapi: Value = serde_json::from_str(OPENAPI).expect("JSON");
        let content = &openapi["paths"]["/predict"]["post"]["requestBody"]["content"];
        // A URL is taken only where a setting allows it, so `Accept` does not name JSON.
        let described = media::accepted().into_iter().chain(["application/json"]);
        assert_eq!(keys(content), described.collect());
        for media_type in media::accepted().into_iter().filter(|name| *name != media::FORM) {
            let schema = &content[media_type]["schema"];
            assert_eq!(schema["contentMediaType"], media_type);
        }
        let refusal = &openapi["components"]["responses"]["UnsupportedMediaType"];
        let formats = media::list(vision::decode::Format::ALL.map(|format| format.name()));
        let expected = format!(
            "The body, or what its URL leads to, is neither a photo in {formats} nor a form, or it has a \
             Content-Encoding; or it is JSON where photos are not fetched by their URL"
        );
        assert_eq!(refusal["description"], expected);
    }

    #[test]
    fn openapi_names_every_limit_of_a_photo() {
        let openapi: Value = serde_json::from_str(OPENAPI).expect("JSON");
        let refusal = &openapi["components"]["responses"]["UnprocessableContent"]["description"];
        let refusal = refusal.as_str().expect("a description");
        let limits = crate::settings::NAMES.into_iter().filter(|name| name.starts_with("max_"));
        for limit in limits.filter(|name| *name != "max_body_bytes") {
            assert!(refusal.contains(limit), "{limit}: {refusal}");
        }
    }

    /// Returns the headers of an answer with these settings, to a request of this origin.
    fn cors(settings: &[(&str, &str)], method: Method, origin: Option<&str>) -> HeaderMap {
        let lookup = |name: &str| {
            settings.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let (settings, warnings) = Settings::read(lookup);
        assert_eq!(warnings, Vec::<String>::new());
        let mut request = HeaderMap::new();
        if let Some(origin) = origin {
            request.insert(header::ORIGIN, origin.parse().expect("a value"));
        }
        let response = finish(&method, &request, &settings, Response::new(Bytes::new()));
        response.headers().clone()
    }

    #[test]
    fn preflight_allows_every_header_that_is_read() {
        let origins = ("cors_allowed_origins", "https://page.example");
        let allowed = |user: &str| {
            let settings = [origins, ("user_id_header", user)];
            let headers = cors(&settings, Method::OPTIONS, Some("https://page.example"));
            headers["access-control-allow-headers"].to_str().expect("text").to_owned()
        };
        assert_eq!(allowed(""), ALLOWED_HEADERS);
        assert_eq!(allowed("X-User-Id"), format!("{ALLOWED_HEADERS}, x-user-id"));
        assert_eq!(allowed("Baggage"), ALLOWED_HEADERS);
    }

    #[test]
    fn pages_of_other_origins_get_no_leave() {
        let these =
            [("cors_allowed_origins", "https://page.example"), ("user_id_header", "x-user")];
        for origin in
            [Some("https://evil.example"), Some("http://page.example"), Some("null"), None]
        {
            for method in [Method::OPTIONS, Method::POST] {
                let headers = cors(&these, method, origin);
                // Caches must not give this answer to an allowed page.
                assert_eq!(headers["vary"], "Origin");
                let mut names = headers.keys().map(HeaderName::as_str);
                assert!(!names.any(|name| name.starts_with("access-control")), "{headers:?}");
            }
        }
        assert!(cors(&[], Method::OPTIONS, Some("https://page.example")).get("vary").is_none());
    }

    #[test]
    fn all_origins_get_one_answer() {
        let any = [("cors_allowed_origins", "*")];
        for origin in [Some("https://page.example"), Some("null"), None] {
            let headers = cors(&any, Method::POST, origin);
            assert_eq!(headers["access-control-allow-origin"], "*");
            assert_eq!(headers["access-control-expose-headers"], EXPOSED_HEADERS);
            assert!(
                headers.get("vary").is_none() && headers.get("access-control-max-age").is_none()
            );
            // With `*`, credentials would be refused by browsers anyway.
            assert!(headers.get("access-control-allow-credentials").is_none());
        }
    }
}

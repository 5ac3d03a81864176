//! Routes of the manifest, and the headers by which Spin tells a component about the request.

use http::{HeaderMap, HeaderName, HeaderValue};
use std::fmt;
use std::net::SocketAddr;

/// One route: an exact path, or a prefix with everything below it (`/prefix/...`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    raw: String,
    /// The path without a slash at the end; empty for `/`.
    path: String,
    wildcard: bool,
}

/// Why a route was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the route {route:?} is refused: {reason}")]
pub struct RouteError {
    /// The route as it was given.
    pub route: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Route {
    /// Reads a route as the manifest has it, such as `/...`, `/api/...` or `/health`.
    ///
    /// # Errors
    ///
    /// [`RouteError`] for a route that does not begin with `/`, and for named segments
    /// (`/:name`) and stars, which Spin knows and this host does not.
    pub fn parse(route: &str) -> Result<Self, RouteError> {
        let refused =
            |reason: &str| RouteError { route: route.to_owned(), reason: reason.to_owned() };
        if !route.starts_with('/') {
            return Err(refused("it must begin with `/`"));
        }
        let (path, wildcard) = match route.strip_suffix("/...") {
            Some(prefix) => (prefix, true),
            None => (route, false),
        };
        if path.split('/').any(|part| part.starts_with([':', '*'])) {
            return Err(refused("only exact paths and prefixes that end with `/...`"));
        }
        Ok(Self { raw: route.to_owned(), path: path.trim_end_matches('/').to_owned(), wildcard })
    }

    /// What the wildcard stands for in `path`, with its slash (empty for exact routes); `None`
    /// if the route does not match.
    fn match_path<'a>(&self, path: &'a str) -> Option<&'a str> {
        if self.wildcard {
            path.strip_prefix(&*self.path).filter(|rest| rest.is_empty() || rest.starts_with('/'))
        } else {
            (path.trim_end_matches('/') == self.path).then_some("")
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.raw)
    }
}

/// Which route a request took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteMatch<'a> {
    /// The route.
    pub route: &'a Route,
    /// What its wildcard stands for, with its slash; empty for an exact route.
    pub path_info: &'a str,
}

/// The route for a path: exact routes come first, then the longest prefix.
pub fn find<'a>(routes: &'a [Route], path: &'a str) -> Option<RouteMatch<'a>> {
    routes
        .iter()
        .filter_map(|route| {
            let path_info = route.match_path(path)?;
            Some(RouteMatch { route, path_info })
        })
        .max_by_key(|found| (!found.route.wildcard, found.route.path.len()))
}

/// Replaces the headers that Spin sets on incoming requests, whatever the client sent under
/// these names, and removes `connection`, which concerns only this hop.
///
/// `full_url` is the absolute URI of the request.
pub fn set_spin_headers(
    headers: &mut HeaderMap,
    full_url: &str,
    found: RouteMatch<'_>,
    client: SocketAddr,
) {
    let route = found.route;
    let raw = route.raw.as_str();
    headers.remove(http::header::CONNECTION);
    for (name, value) in [
        ("spin-path-info", found.path_info),
        ("spin-full-url", full_url),
        ("spin-matched-route", raw),
        ("spin-base-path", "/"),
        ("spin-raw-component-route", raw),
        ("spin-component-route", raw.strip_suffix("/...").unwrap_or(raw)),
        ("spin-client-addr", &client.to_string()),
    ] {
        // Every value is a route of the manifest or part of a URI that has been parsed.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(routes: &[&str]) -> Vec<Route> {
        routes.iter().map(|r| Route::parse(r).unwrap()).collect()
    }

    fn found<'a>(routes: &'a [Route], path: &'a str) -> Option<(&'a str, &'a str)> {
        find(routes, path).map(|found| (found.route.raw.as_str(), found.path_info))
    }

    #[test]
    fn the_catch_all_matches_everything() {
        let routes = routes(&["/..."]);
        assert_eq!(found(&routes, "/"), Some(("/...", "/")));
        assert_eq!(found(&routes, "/a/b/"), Some(("/...", "/a/b/")));
    }

    #[test]
    fn exact_routes_beat_prefixes_and_longer_ones_shorter_ones() {
        let routes = routes(&["/...", "/api/...", "/api/v1/...", "/api/health"]);
        assert_eq!(found(&routes, "/api/health"), Some(("/api/health", "")));
        assert_eq!(found(&routes, "/api/health/"), Some(("/api/health", "")));
        assert_eq!(found(&routes, "/api"), Some(("/api/...", "")));
        assert_eq!(found(&routes, "/api/v1/x"), Some(("/api/v1/...", "/x")));
        assert_eq!(found(&routes, "/apiary"), Some(("/...", "/apiary")));
    }

    #[test]
    fn no_route_no_match() {
        let routes = routes(&["/api/...", "/"]);
        assert_eq!(found(&routes, "/other"), None);
        assert_eq!(found(&routes, "/"), Some(("/", "")));
    }

    #[test]
    fn other_patterns_are_refused() {
        for route in ["", "api", "/:id", "/a/:id/...", "/*"] {
            assert!(Route::parse(route).is_err(), "{route}");
        }
    }

    #[test]
    fn the_headers_are_spins() {
        let routes = routes(&["/api/..."]);
        let mut headers = HeaderMap::new();
        headers.insert("connection", HeaderValue::from_static("keep-alive"));
        headers.insert("spin-client-addr", HeaderValue::from_static("forged"));
        set_spin_headers(
            &mut headers,
            "http://localhost:3000/api/x?y=z",
            find(&routes, "/api/x").unwrap(),
            ([127, 0, 0, 1], 5000).into(),
        );
        for (name, value) in [
            ("spin-path-info", "/x"),
            ("spin-full-url", "http://localhost:3000/api/x?y=z"),
            ("spin-matched-route", "/api/..."),
            ("spin-base-path", "/"),
            ("spin-raw-component-route", "/api/..."),
            ("spin-component-route", "/api"),
            ("spin-client-addr", "127.0.0.1:5000"),
        ] {
            assert_eq!(headers[name], value, "{name}");
        }
        assert!(!headers.contains_key("connection"));
    }
}

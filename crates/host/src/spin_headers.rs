//! The headers by which Spin describes a request to a component.

use std::net::SocketAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};

/// The only route that a manifest may have.
const ROUTE: &str = "/...";

/// Sets the headers that Spin sets, whatever the client sent under these names, and removes
/// `connection`, which concerns one hop only. `uri` is absolute.
pub(crate) fn set_spin_headers(headers: &mut HeaderMap, uri: &Uri, client: SocketAddr) {
    headers.remove(http::header::CONNECTION);
    for (name, value) in [
        ("spin-path-info", uri.path()),
        ("spin-full-url", &uri.to_string()),
        ("spin-matched-route", ROUTE),
        ("spin-base-path", "/"),
        ("spin-raw-component-route", ROUTE),
        ("spin-component-route", ""),
        ("spin-client-addr", &client.to_string()),
    ] {
        // Every value is a constant, an address, or a part of a URI that was parsed.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_replace_what_the_client_sent() {
        let mut headers = HeaderMap::new();
        headers.insert("connection", HeaderValue::from_static("keep-alive"));
        headers.insert("spin-client-addr", HeaderValue::from_static("forged"));
        let uri = Uri::from_static("http://localhost:3000/api/x?y=z");
        set_spin_headers(&mut headers, &uri, ([127, 0, 0, 1], 5000).into());
        for (name, value) in [
            ("spin-path-info", "/api/x"),
            ("spin-full-url", "http://localhost:3000/api/x?y=z"),
            ("spin-matched-route", "/..."),
            ("spin-base-path", "/"),
            ("spin-raw-component-route", "/..."),
            ("spin-component-route", ""),
            ("spin-client-addr", "127.0.0.1:5000"),
        ] {
            assert_eq!(headers[name], value, "{name}");
        }
        assert!(!headers.contains_key("connection"));
    }
}

//! A photo by its URL, without the network: the request's JSON, the URL's parts, and the places that photos may
//! be fetched from. [`crate::fetch`] fetches.
//!
//! A URL passes when all of these hold, and each redirection's URL has to pass, too:
//!
//! 1. It is an absolute URL of `https` or `http` without user name and password, whose host is a name in ASCII
//!    or an address. An address is written in the one usual form: `127.1` and `0x7f000001` are refused, which
//!    some resolvers take for 127.0.0.1.
//! 2. A setting names its scheme, host and port: [`AllowedHost`].
//! 3. Its host is not private, unless a setting allows that: [`Host::is_private`].
//!
//! A component does not see to which address a name leads. A public name that leads to a private address is
//! for the host to refuse; docs/photo-url.md says how.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::{StatusCode, Uri};
use serde_json::Value;
use thiserror::Error;

use vision::decode::Format;

use crate::media;

/// Most redirections that are followed.
pub const MAX_REDIRECTS: u32 = 3;
/// Longest URL, in bytes. Signed ones of object stores have some 1500.
const MAX_URL: usize = 4096;
/// Largest body that may be a URL in JSON. A larger one is no photo either.
const MAX_JSON: usize = 4 * MAX_URL;
/// Longest host name, in bytes (RFC 1035).
const MAX_NAME: usize = 253;
/// Domains whose names resolve in a local network alone: RFC 6761, RFC 6762, RFC 8375, ICANN's
/// reservation of `internal`, and Kubernetes' services.
const PRIVATE_NAMES: [&str; 5] = ["localhost", "local", "home.arpa", "internal", "svc"];
/// The domain in which there is no host (RFC 6761).
const NO_DOMAIN: &str = ".invalid";

/// The reason why a photo is not fetched. The text is a sentence, then the remedy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PhotoUrlError {
    /// 415: photos are not fetched here.
    #[error(
        "The request holds JSON instead of a photo in {formats}. {remedy} A URL in JSON is fetched only where \
         the setting photo_url_allowed_host names its host.",
        formats = media::list(Format::ALL.map(Format::name)), remedy = media::RAW
    )]
    Off,
    /// 422: the URL is not text.
    #[error("The url is not text. Send {{\"url\": \"https://…\"}}.")]
    NotText,
    /// 422, and 502 for the URL of a redirection: the URL is not one that can be fetched.
    #[error(
        "The URL cannot be used: {0}. Expected is one such as https://photos.example/hand.jpg."
    )]
    Malformed(&'static str),
    /// 403: no setting names the URL's host.
    #[error(
        "Photos are not fetched from {0}: no setting allows it (photo_url_allowed_host). Send the photo itself."
    )]
    NotAllowed(String),
    /// 403: the URL's host is private.
    #[error(
        "Photos are not fetched from {0}, which is private, local or reserved. Send the photo itself."
    )]
    Private(String),
    /// 403: the host of the component does not let it send the request.
    #[error(
        "Photos are not fetched from {0}: the service's own host does not allow it \
         (allowed_outbound_hosts). Send the photo itself."
    )]
    Denied(String),
    /// The status of the reason: the place of a redirection is refused.
    #[error("The photo's server redirects. {0}")]
    Redirected(Box<PhotoUrlError>),
    /// 502: there are too many redirections.
    #[error(
        "The photo's server redirects more than {limit} times. Send the URL to which they lead.",
        limit = MAX_REDIRECTS
    )]
    TooManyRedirects,
    /// 502: the server answers another status than 200.
    #[error("The photo's server answers {0}. Check the URL, or send the photo itself.")]
    Status(StatusCode),
    /// 502: there is no answer.
    #[error("The photo's server gives no answer: {0}. Check the URL, or send the photo itself.")]
    Unreachable(String),
    /// 502: the photo ended before it was complete.
    #[error(
        "The photo's server ended after {received} bytes, before the photo was complete. Try again, or send \
         the photo itself."
    )]
    CutOff {
        /// Bytes that arrived.
        received: usize,
    },
    /// 502: there is no photo in the answer.
    #[error("The photo's server answers with nothing. Check the URL, or send the photo itself.")]
    Empty,
    /// 502: the photo is encoded, although that was not asked for.
    #[error(
        "The photo's server sends it with the Content-Encoding {0}, which is not supported. Send the photo \
         itself."
    )]
    ContentEncoding(String),
    /// 504: the photo did not come in time.
    #[error(
        "The photo did not come within {limit_ms} ms (photo_url_timeout). Try again, or send the photo itself."
    )]
    Timeout {
        /// The limit in milliseconds.
        limit_ms: u128,
    },
    /// 413: the photo is larger than the limit of a body.
    #[error("The photo at that URL is larger than {limit} bytes. Send a smaller photo.")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
}

impl PhotoUrlError {
    /// Returns the response's status.
    pub fn status(&self) -> StatusCode {
        use PhotoUrlError as E;
        match self {
            E::Off => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            E::NotText | E::Malformed(_) => StatusCode::UNPROCESSABLE_ENTITY,
            E::NotAllowed(_) | E::Private(_) | E::Denied(_) => StatusCode::FORBIDDEN,
            E::Redirected(reason) => match **reason {
                // It is the server that is wrong, not the caller.
                E::Malformed(_) => StatusCode::BAD_GATEWAY,
                ref reason => reason.status(),
            },
            E::TooManyRedirects
            | E::Status(_)
            | E::Unreachable(_)
            | E::CutOff { .. }
            | E::Empty
            | E::ContentEncoding(_) => StatusCode::BAD_GATEWAY,
            E::Timeout { .. } => StatusCode::GATEWAY_TIMEOUT,
            E::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        }
    }

    /// Returns the kind of error, one of few words: `error.type` in a trace.
    pub fn kind(&self) -> &'static str {
        use PhotoUrlError as E;
        match self {
            E::Off => "url_off",
            E::NotText | E::Malformed(_) => "url",
            E::NotAllowed(_) | E::Denied(_) => "not_allowed",
            E::Private(_) => "private",
            E::Redirected(reason) => reason.kind(),
            E::TooManyRedirects => "redirects",
            E::Status(_) => "status",
            E::Unreachable(_) => "unreachable",
            E::CutOff { .. } => "cut_off",
            E::Empty => "empty",
            E::ContentEncoding(_) => "content_encoding",
            E::Timeout { .. } => "timeout",
            E::TooLarge { .. } => "too_large",
        }
    }
}

/// Returns the URL in a body, if the body is a JSON object that has one.
pub fn in_body(body: &[u8]) -> Option<Result<String, PhotoUrlError>> {
    let text = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body).trim_ascii_start();
    if !text.starts_with(b"{") || text.len() > MAX_JSON {
        return None;
    }
    let mut value: Value = serde_json::from_slice(text).ok()?;
    match value.get_mut("url")?.take() {
        Value::String(url) => Some(Ok(url)),
        _ => Some(Err(PhotoUrlError::NotText)),
    }
}

/// The host of a URL or of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A name, in lower case.
    Name(String),
    /// An address.
    Address(IpAddr),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::Address(IpAddr::V4(address)) => address.fmt(f),
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

impl Host {
    fn parse(text: &str) -> Option<Host> {
        if let Some(inside) = text.strip_prefix('[') {
            let address: Ipv6Addr = inside.strip_suffix(']')?.parse().ok()?;
            return Some(Host::Address(address.into()));
        }
        let name = text.to_ascii_lowercase();
        let is_label = |label: &str| {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
            !label.is_empty() && label.bytes().all(is_plain)
        };
        if name.len() > MAX_NAME || !name.split('.').all(is_label) {
            return None;
        }
        // What ends in a number is an address (WHATWG, URL), and only the form that nobody reads in another
        // way is taken.
        let last = name.rsplit('.').next().unwrap_or_default();
        let is_number = last.starts_with("0x") || last.bytes().all(|byte| byte.is_ascii_digit());
        if is_number {
            let address: Ipv4Addr = name.parse().ok()?;
            return Some(Host::Address(address.into()));
        }
        Some(Host::Name(name))
    }

    /// True for addresses and names that are not on the public internet, as far as they show it themselves:
    /// loopback, private, link-local and reserved addresses, also inside of IPv6, names without a dot, and those
    /// that resolve in a local network alone.
    pub fn is_private(&self) -> bool {
        match self {
            // A name without a dot is one of the local network, whatever it is.
            Host::Name(name) => {
                let is_below = |domain: &str| {
                    name.strip_suffix(domain)
                        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
                };
                !name.contains('.') || PRIVATE_NAMES.into_iter().any(is_below)
            }
            Host::Address(IpAddr::V4(address)) => is_private_v4(*address),
            Host::Address(IpAddr::V6(address)) => is_private_v6(*address),
        }
    }
}

/// The networks of IANA's registry of special purposes that are not reachable from everywhere.
fn is_private_v4(address: Ipv4Addr) -> bool {
    let octets = address.octets();
    address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || address.is_multicast()
        || matches!(octets, [0 | 240..=255, ..] | [192, 0, 0, _])
        // Shared by the customers of a provider (RFC 6598), and measurements (RFC 2544).
        || matches!(octets, [100, 64..=127, ..] | [198, 18..=19, ..])
}

/// Likewise. An address that holds one of IPv4 is as private as that one.
fn is_private_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let v4 =
        |high: u16, low: u16| is_private_v4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match segments {
        // ::, ::1, and the addresses of IPv4 that are mapped and compatible (RFC 4291).
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] => v4(high, low),
        // NAT64 (RFC 6052), 6to4 (RFC 3056). Those that networks use on their own (RFC 8215, RFC 2765) count as
        // private.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0x64, 0xff9b, 1, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => true,
        [0x2002, high, low, ..] => v4(high, low),
        // Discarded, Teredo and benchmarks, documentation, unique local, link-local, site-local, multicast.
        [0x100, 0, 0, 0, ..] | [0x2001, 0 | 2 | 0xdb8, ..] | [0x3fff, ..] => true,
        [first, ..] => {
            first & 0xfe00 == 0xfc00
                || first & 0xffc0 == 0xfe80
                || first & 0xffc0 == 0xfec0
                || first & 0xff00 == 0xff00
        }
    }
}

/// A place that photos may be fetched from: `scheme://host[:port]`, by the rules of Spin's
/// `allowed_outbound_hosts`, so that both are one setting.
///
/// The host is a name, an address, `*.domain` (any host below the domain, not the domain itself) or `*`. The port
/// is a number or `*`; without one, it is the scheme's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedHost {
    is_https: bool,
    host: HostRule,
    /// None for any.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum HostRule {
    Any,
    /// Any name that ends with this; it begins with a dot.
    Below(String),
    Exactly(Host),
}

impl AllowedHost {
    /// Parses a setting. `Ok(None)` for a host that cannot exist, below `.invalid`: photos are not fetched. Older
    /// versions of Spin take no empty value.
    ///
    /// # Errors
    /// The reason why the text is no host.
    pub fn parse(text: &str) -> Result<Option<AllowedHost>, &'static str> {
        let (is_https, rest) = scheme(text).ok_or("expected https://host or http://host")?;
        let (host, port) = split_port(rest.strip_suffix('/').unwrap_or(rest));
        let port = match port {
            None => Some(own_port(is_https)),
            Some("*") => None,
            Some(port) => Some(port.parse().map_err(|_| "expected a number or * as its port")?),
        };
        const NO_HOST: &str = "expected a host's name or address, *.domain, or *";
        let host = match host.strip_prefix("*.") {
            _ if host == "*" => HostRule::Any,
            Some(domain) => match Host::parse(domain).ok_or(NO_HOST)? {
                Host::Name(name) => HostRule::Below(format!(".{name}")),
                Host::Address(_) => return Err(NO_HOST),
            },
            None => HostRule::Exactly(Host::parse(host).ok_or(NO_HOST)?),
        };
        let nowhere = match &host {
            HostRule::Below(name) | HostRule::Exactly(Host::Name(name)) => {
                name.ends_with(NO_DOMAIN)
            }
            _ => false,
        };
        Ok((!nowhere).then_some(AllowedHost { is_https, host, port }))
    }

    fn allows(&self, url: &PhotoUrl) -> bool {
        let host = match (&self.host, &url.host) {
            (HostRule::Any, _) => true,
            (HostRule::Below(suffix), Host::Name(name)) => name.ends_with(suffix),
            (HostRule::Below(_), Host::Address(_)) => false,
            (HostRule::Exactly(allowed), host) => allowed == host,
        };
        host && self.is_https == url.is_https && self.port.is_none_or(|port| port == url.port)
    }
}

/// The URL of a photo, absolute, with nothing in it that hosts read in different ways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhotoUrl {
    is_https: bool,
    host: Host,
    port: u16,
    /// Path and query.
    path: String,
}

impl PhotoUrl {
    /// Parses a URL.
    ///
    /// # Errors
    /// [`PhotoUrlError::Malformed`].
    pub fn parse(text: &str) -> Result<PhotoUrl, PhotoUrlError> {
        let malformed = |reason| Err(PhotoUrlError::Malformed(reason));
        let text = text.trim();
        if text.len() > MAX_URL {
            return malformed("it is longer than 4096 bytes");
        }
        let Some((is_https, rest)) = scheme(text) else {
            return malformed("it begins neither with https:// nor with http://");
        };
        // The server does not learn the fragment.
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return malformed("it holds a user name or a password");
        }
        let (host, port) = split_port(authority);
        let port = match port {
            None | Some("") => own_port(is_https),
            Some(port) => match port.parse() {
                Ok(port) if port > 0 => port,
                _ => return malformed("its port is not one"),
            },
        };
        let Some(host) = Host::parse(host) else { return malformed("its host is not one") };
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(PhotoUrl { is_https, host, port, path: encoded(&format!("{slash}{path}")) })
    }

    /// Returns the URL that a redirection from this one leads to: `Location`, which may be relative (RFC 3986).
    ///
    /// # Errors
    /// [`PhotoUrlError::Malformed`].
    pub fn redirected(&self, location: &str) -> Result<PhotoUrl, PhotoUrlError> {
        let location = location.trim();
        let (path, query) = match self.path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (self.path.as_str(), None),
        };
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let place = location.split('#').next().unwrap_or_default();
        let start = place.split(['/', '?']).next().unwrap_or_default();
        let path = match place {
            _ if start.contains(':') => return PhotoUrl::parse(location),
            _ if place.starts_with("//") => {
                return PhotoUrl::parse(&format!("{}:{location}", self.scheme()));
            }
            "" => format!("{path}{query}"),
            _ if place.starts_with('/') => place.to_owned(),
            _ if place.starts_with('?') => format!("{path}{place}"),
            _ => {
                let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
                format!("{folder}/{place}")
            }
        };
        let path = encoded(&without_dots(&path));
        if path.len() > MAX_URL {
            return Err(PhotoUrlError::Malformed("it is longer than 4096 bytes"));
        }
        Ok(PhotoUrl { path, ..self.clone() })
    }

    /// Checks that photos may be fetched from there.
    ///
    /// # Errors
    /// [`PhotoUrlError::NotAllowed`] and [`PhotoUrlError::Private`].
    pub fn check(&self, allowed: &[AllowedHost], private: bool) -> Result<(), PhotoUrlError> {
        if !allowed.iter().any(|place| place.allows(self)) {
            return Err(PhotoUrlError::NotAllowed(self.origin()));
        }
        if self.host.is_private() && !private {
            return Err(PhotoUrlError::Private(self.host.to_string()));
        }
        Ok(())
    }

    fn scheme(&self) -> &'static str {
        if self.is_https { "https" } else { "http" }
    }

    /// Returns scheme, host, and the port if it is not the scheme's own.
    pub fn origin(&self) -> String {
        let (scheme, host) = (self.scheme(), &self.host);
        match self.port {
            port if port == own_port(self.is_https) => format!("{scheme}://{host}"),
            port => format!("{scheme}://{host}:{port}"),
        }
    }

    /// Returns the URL as a request has it.
    ///
    /// # Errors
    /// [`PhotoUrlError::Malformed`] if it is none for HTTP.
    pub fn uri(&self) -> Result<Uri, PhotoUrlError> {
        let malformed = |_| PhotoUrlError::Malformed("its path is not one");
        Uri::try_from(format!("{}{}", self.origin(), self.path)).map_err(malformed)
    }
}

/// Returns true for https and false for http, and what follows.
fn scheme(text: &str) -> Option<(bool, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    match scheme.to_ascii_lowercase().as_str() {
        "https" => Some((true, rest)),
        "http" => Some((false, rest)),
        _ => None,
    }
}

const fn own_port(is_https: bool) -> u16 {
    if is_https { 443 } else { 80 }
}

/// Splits a host and its port. The colons of an IPv6 address stand in brackets.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

/// Returns a path with its query, with everything encoded that no URL may hold. What is encoded stays.
fn encoded(path: &str) -> String {
    let mut text = String::new();
    for byte in path.bytes() {
        if byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text += &format!("%{byte:02X}");
        }
    }
    text
}

/// Removes `.` and `..` from a path, which may have a query (RFC 3986, 5.2.4).
fn without_dots(path: &str) -> String {
    let (path, query) = path.split_at(path.find('?').unwrap_or(path.len()));
    let mut kept: Vec<&str> = Vec::new();
    let mut parts = path.split('/').skip(1).peekable();
    while let Some(part) = parts.next() {
        let is_last = parts.peek().is_none();
        match part {
            "." => {}
            ".." => _ = kept.pop(),
            part => kept.push(part),
        }
        // A folder keeps its slash.
        if is_last && [".", ".."].contains(&part) {
            kept.push("");
        }
    }
    format!("/{}{query}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> PhotoUrl {
        PhotoUrl::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn uri(url: &PhotoUrl) -> String {
        url.uri().expect("a URL").to_string()
    }

    #[test]
    fn url_is_read_from_json() {
        for body in [
            "{\"url\":\"https://a.example/v.jpg\"}",
            "\u{feff} \n{ \"note\": [1], \"url\" : \"https:\\/\\/a.example/v.jpg\" }\n",
        ] {
            let found = in_body(body.as_bytes());
            assert_eq!(found, Some(Ok("https://a.example/v.jpg".into())), "{body}");
        }
        for body in ["{\"url\": 1}", "{\"url\": null}", "{\"url\": [\"https://a.example\"]}"] {
            assert_eq!(in_body(body.as_bytes()), Some(Err(PhotoUrlError::NotText)), "{body}");
        }
        let long = format!("{{\"url\": \"https://a.example/{}\"}}", "x".repeat(MAX_JSON));
        for body in [
            "",
            "{",
            "{}",
            "{\"URL\": \"x\"}",
            "[{\"url\": \"x\"}]",
            "\"url\"",
            "\u{ff}\u{d8}",
            &long,
        ] {
            assert_eq!(in_body(body.as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn url_is_sent_as_it_is_meant() {
        for (text, sent) in [
            ("https://a.example/v.jpg", "https://a.example/v.jpg"),
            (
                " HTTPS://A.Example:443/V.jpg?w=1&sig=a%2Fb#part\n",
                "https://a.example/V.jpg?w=1&sig=a%2Fb",
            ),
            ("http://a.example", "http://a.example/"),
            ("http://a.example:", "http://a.example/"),
            ("http://a.example:80?x", "http://a.example/?x"),
            ("http://a.example:8080/", "http://a.example:8080/"),
            (
                "https://a_b.example/grün und {x}|y",
                "https://a_b.example/gr%C3%BCn%20und%20%7Bx%7D%7Cy",
            ),
            ("http://192.0.2.7/", "http://192.0.2.7/"),
            ("http://[2001:DB8::0:7]:81/", "http://[2001:db8::7]:81/"),
            ("https://xn--mnchen-3ya.example/", "https://xn--mnchen-3ya.example/"),
            ("https://a.example/@b//c", "https://a.example/@b//c"),
        ] {
            assert_eq!(uri(&url(text)), sent, "{text}");
        }
    }

    #[test]
    fn url_that_hosts_may_read_in_another_way_is_refused() {
        let long = format!("https://a.example/{}", "x".repeat(MAX_URL));
        for text in [
            "",
            "v.jpg",
            "/v.jpg",
            "//a.example/v.jpg",
            "ftp://a.example/",
            "file:///etc/passwd",
            "data:image/png;base64,iVBORw0KGgo",
            "javascript://a.example/",
            "https:a.example",
            "https:///v.jpg",
            "https://",
            "https://?x",
            "https://a.example@evil.example/",
            "https://ada:hunter2@a.example/",
            "https://@a.example/",
            "https://a.example\\@evil.example/",
            "https://a.example\\.evil.example/",
            "https://a.example%2eevil/",
            "https://a.example:port/",
            "https://a.example:0/",
            "https://a.example:65536/",
            "https://a.example:-1/",
            "https://a..example/",
            "https://a.example./",
            "https://.example/",
            "https://a b.example/",
            "https://a\t.example/",
            "https://münchen.example/",
            "https://ａ.example/",
            "https://[::1/",
            "https://::1/",
            "https://[fe80::1%25eth0]/",
            "https://[127.0.0.1]/",
            // Addresses in other forms, which resolvers read as 127.0.0.1.
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0x7f.0.0.1/",
            "http://0177.0.0.1/",
            "http://127.0.0.01/",
            "http://127.0.0.1.1/",
            "http://256.0.0.1/",
            &long,
        ] {
            match PhotoUrl::parse(text) {
                Err(PhotoUrlError::Malformed(_)) => {}
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn redirection_is_followed_as_browsers_do() {
        let from = url("https://a.example:8443/b/c/d.jpg?q=1");
        for (location, to) in [
            ("https://b.example/x", "https://b.example/x"),
            ("HTTP://b.example", "http://b.example/"),
            ("//b.example/x?y#z", "https://b.example/x?y"),
            ("/x/../y/./z.jpg", "https://a.example:8443/y/z.jpg"),
            ("x.jpg", "https://a.example:8443/b/c/x.jpg"),
            ("./x.jpg?u=http://e/../f", "https://a.example:8443/b/c/x.jpg?u=http://e/../f"),
            ("../../../x", "https://a.example:8443/x"),
            ("..", "https://a.example:8443/b/"),
            (".", "https://a.example:8443/b/c/"),
            ("?r=2", "https://a.example:8443/b/c/d.jpg?r=2"),
            ("#top", "https://a.example:8443/b/c/d.jpg?q=1"),
            ("", "https://a.example:8443/b/c/d.jpg?q=1"),
            ("/ü x", "https://a.example:8443/%C3%BC%20x"),
            ("/x:y", "https://a.example:8443/x:y"),
            ("?x:y", "https://a.example:8443/b/c/d.jpg?x:y"),
        ] {
            let found = from.redirected(location).unwrap_or_else(|e| panic!("{location}: {e}"));
            assert_eq!(uri(&found), to, "{location}");
        }
        let long = "x".repeat(MAX_URL);
        for location in ["ftp://b.example/", "data:image/png,x", "//b.example@c/", "///", &long] {
            let refused = from.redirected(location);
            assert!(matches!(refused, Err(PhotoUrlError::Malformed(_))), "{location}: {refused:?}");
        }
    }

    #[test]
    fn private_hosts_are_known_by_their_looks() {
        let is_private = |host: &str| Host::parse(host).expect(host).is_private();
        for host in [
            "localhost",
            "LOCALHOST",
            "a.localhost",
            "printer.local",
            "router.home.arpa",
            "metadata.google.internal",
            "jaeger.tracing.svc",
            "jaeger.tracing.svc.cluster.local",
            "jaeger",
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "[::]",
            "[::1]",
            "[::127.0.0.1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:a9fe:a9fe]",
            "[64:ff9b::10.0.0.1]",
            "[64:ff9b:1::1]",
            "[100::1]",
            "[2001::1]",
            "[2001:db8::1]",
            "[2002:7f00:1::]",
            "[3fff::1]",
            "[fc00::1]",
            "[fd12:3456::1]",
            "[fe80::1]",
            "[fec0::1]",
            "[ff02::1]",
        ] {
            assert!(is_private(host), "{host}");
        }
        for host in [
            "a.example",
            "localhost.example",
            "mylocalhost.com",
            "internal.example",
            "notlocal.example",
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.128.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.20.0.1",
            "[2606:4700::1111]",
            "[::ffff:1.1.1.1]",
            "[64:ff9b::1.1.1.1]",
            "[2002:101:101::]",
        ] {
            assert!(!is_private(host), "{host}");
        }
    }

    #[test]
    fn setting_allows_what_spin_would() {
        let allows = |setting: &str, text: &str| {
            let allowed = AllowedHost::parse(setting).expect(setting).expect("a host");
            allowed.allows(&url(text))
        };
        for (setting, text, allowed) in [
            ("https://a.example", "https://a.example/v.jpg", true),
            ("HTTPS://A.Example/", "https://a.example:443/v.jpg", true),
            ("https://a.example", "http://a.example/", false),
            ("https://a.example", "https://a.example:8443/", false),
            ("https://a.example", "https://b.a.example/", false),
            ("https://a.example", "https://a.example.evil/", false),
            ("https://a.example:8443", "https://a.example:8443/", true),
            ("https://a.example:*", "https://a.example:1/", true),
            ("http://a.example", "http://a.example/", true),
            ("https://*.a.example", "https://b.c.a.example/", true),
            ("https://*.a.example", "https://a.example/", false),
            ("https://*.a.example", "https://eviLa.example/", false),
            ("https://*", "https://anything.example/", true),
            ("https://*", "https://192.0.2.1/", true),
            ("https://*", "https://anything.example:444/", false),
            ("http://*:*", "http://anything.example:444/", true),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/", true),
            ("http://127.0.0.1", "http://127.0.0.2/", false),
            ("http://[::1]:8080", "http://[0:0::1]:8080/", true),
            ("https://*.1.example", "https://192.0.2.1/", false),
        ] {
            assert_eq!(allows(setting, text), allowed, "{setting} {text}");
        }
        for setting in ["https://off.invalid", "https://*.invalid", "http://OFF.invalid:8080"] {
            assert_eq!(AllowedHost::parse(setting), Ok(None), "{setting}");
        }
        for setting in [
            "",
            "a.example",
            "*://a.example",
            "ftp://a.example",
            "https://",
            "https://a.example/photos",
            "https://a.example:port",
            "https://a*.example",
            "https://*.*.example",
            "https://*.10.0.0.1",
            "https://10.0.0.0/8",
            "https://ada:hunter2@a.example",
            "https://a.example,https://b.example",
        ] {
            assert!(AllowedHost::parse(setting).is_err(), "{setting}");
        }
    }

    #[test]
    fn check_names_what_is_refused() {
        let allowed: Vec<_> = ["https://*", "http://127.0.0.1:8080"]
            .into_iter()
            .filter_map(|text| AllowedHost::parse(text).expect("a setting"))
            .collect();
        let check = |text: &str, private| url(text).check(&allowed, private);
        assert_eq!(check("https://a.example/", false), Ok(()));
        let refused = PhotoUrlError::NotAllowed("http://a.example:81".into());
        assert_eq!(check("http://a.example:81/v.jpg?sig=1", false), Err(refused));
        for (text, host) in [
            ("https://10.0.0.1/", "10.0.0.1"),
            ("https://[::1]/", "[::1]"),
            ("https://localhost/", "localhost"),
            // Named, and private all the same.
            ("http://127.0.0.1:8080/", "127.0.0.1"),
        ] {
            assert_eq!(check(text, false), Err(PhotoUrlError::Private(host.into())), "{text}");
            assert_eq!(check(text, true), Ok(()), "{text}");
        }
    }

    #[test]
    fn error_of_a_redirection_is_the_servers() {
        let redirected = |error| PhotoUrlError::Redirected(Box::new(error));
        let error = redirected(PhotoUrlError::Malformed("its host is not one"));
        assert_eq!((error.status().as_u16(), error.kind()), (502, "url"));
        let error = redirected(PhotoUrlError::NotAllowed("https://b.example".into()));
        assert_eq!((error.status().as_u16(), error.kind()), (403, "not_allowed"));
        let text = error.to_string();
        assert!(text.starts_with("The photo's server redirects. Photos are not fetched"), "{text}");
    }
}

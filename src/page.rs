//! The pages for people: `GET /` for a browser and `GET /docs`, with their scripts and their style.
//!
//! They are plain files in `src/page/`, part of the component. Nothing is loaded from elsewhere, and the
//! Content-Security-Policy says so: no script, style or request but this service's own. `GET /` is a page
//! for those whose `Accept` prefers one; all others get the JSON that they always got.
//!
//! To add a file: a row of [`FILES`].

use bytes::Bytes;
use http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
    REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use crate::settings::Settings;

/// Media type of a page.
pub const HTML: &str = "text/html";
/// Media type of what `GET /` answers to others.
const JSON: &str = "application/json";

/// The page to try the service.
const INDEX: &str = include_str!("page/index.html");
/// The description of the routes, readable.
const DOCS: &str = include_str!("page/docs.html");
/// The place of the setting `jaeger_ui_url` in a page.
const JAEGER_UI_URL: &str = "{{jaeger_ui_url}}";
/// The place of the labels that a correction may have; empty where none is stored.
const CORRECTABLE: &str = "{{correctable}}";

/// A file that a page loads.
#[derive(Debug, PartialEq, Eq)]
pub struct File {
    /// The path.
    pub path: &'static str,
    /// The media type.
    pub media_type: &'static str,
    /// The text.
    pub text: &'static str,
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// All files that the pages load.
pub static FILES: [File; 5] = [
    File {
        path: "/page/style.css",
        media_type: "text/css; charset=utf-8",
        text: include_str!("page/style.css"),
    },
    File { path: "/page/main.js", media_type: SCRIPT, text: include_str!("page/main.js") },
    File { path: "/page/hand.js", media_type: SCRIPT, text: include_str!("page/hand.js") },
    File { path: "/page/spelling.js", media_type: SCRIPT, text: include_str!("page/spelling.js") },
    File { path: "/page/docs.js", media_type: SCRIPT, text: include_str!("page/docs.js") },
];

/// Headers of every page and file. A photo is shown from a `blob:` URL, the icon is a `data:` URL.
const SAFETY: [(HeaderName, &str); 5] = [
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("permissions-policy"), "camera=(self), microphone=(), geolocation=()"),
    // A browser keeps the file and asks whether it is still the same: an update counts at once.
    (CACHE_CONTROL, "no-cache"),
];

/// True if a request prefers a page to JSON, by its `Accept` (RFC 9110, 12.5.1). Without one, and where
/// both are as good, JSON is answered.
pub fn is_preferred(request: &HeaderMap) -> bool {
    quality(request, HTML) > quality(request, JSON)
}

/// Returns the quality that `Accept` gives a media type, in thousandths. The most specific range counts.
fn quality(request: &HeaderMap, media_type: &str) -> u16 {
    let (kind, _) = media_type.split_once('/').unwrap_or_default();
    let values = request.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let ranges = values.flat_map(|value| value.split(',')).filter_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let range = parts.next()?.to_ascii_lowercase();
        let specificity = match range.strip_suffix("/*") {
            _ if range == media_type => 3,
            Some(of) if of == kind => 2,
            Some("*") => 1,
            _ => return None,
        };
        let weight = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
        let weight: f32 = weight.map_or(Ok(1.0), str::parse).unwrap_or(0.0);
        Some((specificity, (weight.clamp(0.0, 1.0) * 1000.0) as u16))
    });
    ranges.max().map_or(0, |(_, quality)| quality)
}

/// Returns the answer of `GET /` for a browser. Answers can be corrected to these labels.
pub fn index(request: &HeaderMap, settings: &Settings, correctable: &[&str]) -> Response<Bytes> {
    let mut response = page(request, INDEX, settings, correctable);
    vary(&mut response);
    response
}

/// Returns the answer of `GET /docs`.
pub fn docs(request: &HeaderMap, settings: &Settings) -> Response<Bytes> {
    page(request, DOCS, settings, &[])
}

/// Marks a response as one that depends on `Accept`.
pub fn vary(response: &mut Response<Bytes>) {
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
}

fn page(
    request: &HeaderMap,
    text: &str,
    settings: &Settings,
    correctable: &[&str],
) -> Response<Bytes> {
    let url = escaped(settings.jaeger_ui_url.as_deref().unwrap_or_default());
    let labels = escaped(&correctable.join(" "));
    let text = text.replace(CORRECTABLE, &labels).replace(JAEGER_UI_URL, &url);
    answer(request, "text/html; charset=utf-8", text.into())
}

/// Returns a text as it stands in an attribute.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Returns the answer to a request for a file.
pub fn file(request: &HeaderMap, file: &File) -> Response<Bytes> {
    answer(request, file.media_type, Bytes::from_static(file.text.as_bytes()))
}

/// Returns 200 with a text, or 304 if the request has it already.
fn answer(request: &HeaderMap, media_type: &'static str, text: Bytes) -> Response<Bytes> {
    let tag = format!("\"{:016x}\"", fnv1a(&text));
    let known = is_known(request, &tag);
    let mut response = Response::new(if known { Bytes::new() } else { text });
    let headers = response.headers_mut();
    for (name, value) in SAFETY {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(ETAG, tag);
    }
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    }
    response
}

/// True if a request has the text with this tag (RFC 9110, 13.1.2).
fn is_known(request: &HeaderMap, tag: &str) -> bool {
    let values = request.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = values.flat_map(|value| value.split(',')).map(str::trim);
    tags.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

/// Returns a hash of some bytes, 64-bit FNV-1a: it tells versions of a file apart.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (ACCEPT, HeaderValue::from_str(value).expect("text"))).collect()
    }

    #[test]
    fn page_is_for_those_that_prefer_it() {
        for accepts in [
            &["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"][..],
            &["text/html"],
            &["TEXT/HTML; charset=utf-8"],
            &["text/*, application/json;q=0.5"],
            &["application/json;q=0.5", "text/html;q=0.6"],
            &["*/*, application/json;q=0.9"],
        ] {
            assert!(is_preferred(&accept(accepts)), "{accepts:?}");
        }
        for accepts in [
            &[][..],
            &["*/*"],
            &["application/json"],
            &["text/html, application/json"],
            &["text/html;q=0.5, application/json"],
            &["text/html;q=0.5, */*;q=0.6"],
            &["text/html;q=0"],
            &["text/html;q=nonsense"],
            &["*/*, text/html;q=0.1"],
            &["image/png, text/plain"],
            &["", ",;q=,", "/"],
        ] {
            assert!(!is_preferred(&accept(accepts)), "{accepts:?}");
        }
    }

    #[test]
    fn known_file_is_not_sent_again() {
        let file = &FILES[0];
        let first = super::file(&HeaderMap::new(), file);
        assert_eq!((first.status().as_u16(), first.body()), (200, &Bytes::from(file.text)));
        let tag = first.headers()[ETAG].to_str().expect("text").to_owned();
        for (known, status) in [
            (tag.clone(), 304),
            (format!("W/{tag}"), 304),
            (format!("\"other\", {tag}"), 304),
            ("*".into(), 304),
            ("\"other\"".into(), 200),
            (tag.trim_matches('"').into(), 200),
        ] {
            let mut request = HeaderMap::new();
            request.insert(IF_NONE_MATCH, known.parse().expect("a value"));
            let response = super::file(&request, file);
            assert_eq!(response.status().as_u16(), status, "{known}");
            assert_eq!(response.body().is_empty(), status == 304);
            assert_eq!(response.headers()[ETAG], tag, "{known}");
        }
        assert_ne!(fnv1a(b"a"), fnv1a(b"b"));
    }

    #[test]
    fn setting_is_escaped_in_the_page() {
        let url = "https://jaeger.example/ui?a=1&b=\"><script>alert(1)</script>";
        let settings = Settings { jaeger_ui_url: Some(url.into()), ..Settings::default() };
        let response = index(&HeaderMap::new(), &settings, &[]);
        let text = String::from_utf8_lossy(response.body()).into_owned();
        let escaped = "content=\"https://jaeger.example/ui?a=1&amp;b=&quot;&gt;&lt;script&gt;alert";
        assert!(text.contains(escaped), "{text}");
        assert!(!text.contains(JAEGER_UI_URL) && !text.contains("<script>alert"));
        let none = index(&HeaderMap::new(), &Settings::default(), &[]);
        assert!(String::from_utf8_lossy(none.body()).contains("name=\"jaeger-ui\" content=\"\""));
        assert_ne!(none.headers()[ETAG], response.headers()[ETAG], "another page, another tag");
    }

    /// The pages hold nothing that their Content-Security-Policy refuses.
    #[test]
    fn pages_hold_no_inline_script_or_style() {
        for text in [INDEX, DOCS] {
            for tag in text.split('<').filter(|tag| tag.starts_with("script")) {
                assert!(tag.contains("src=\"page/") && tag.trim_end().ends_with('>'), "{tag}");
            }
            let lower = text.to_ascii_lowercase();
            for inline in ["<style", " style=", " onclick=", " onload=", "javascript:", "http://"] {
                assert!(!lower.contains(inline), "{inline}");
            }
        }
        // Each file that a page names is one that is served.
        for (name, text) in [("index", INDEX), ("docs", DOCS)] {
            let loaded = text.split(['"', '\'']).filter(|part| part.starts_with("page/"));
            for path in loaded {
                let served = FILES.iter().any(|file| file.path[1..] == *path);
                assert!(served, "{name}: {path}");
            }
        }
    }
}

//! Fetches the photo at a URL: within the settings' hosts, a limit of size and one of time, and with a span for
//! each request. What is asked for again by a redirection is checked again.

use std::pin::pin;
use std::time::Instant;

use bytes::Bytes;
use futures_util::TryStreamExt;
use futures_util::future::{Either, select};
use http::header::{ACCEPT, ACCEPT_ENCODING, LOCATION, USER_AGENT};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;

use telemetry::host::{Body, Host, SendError};
use telemetry::{Span, Telemetry};
use vision::decode::Format;

use crate::api::{NAME, VERSION};
use crate::body::{BodyKind, Incoming};
use crate::photo_url::{MAX_REDIRECTS, PhotoUrl, PhotoUrlError};
use crate::problem::Problem;
use crate::settings::Settings;

/// Everything that a fetch needs beside the URL.
#[derive(Clone, Copy, Debug)]
pub struct Fetch<'a> {
    /// The settings: hosts, limits.
    pub settings: &'a Settings,
    /// The tracing of the instance, if it is on.
    pub telemetry: Option<&'a Telemetry>,
    /// The network and the clock.
    pub host: &'a dyn Host,
    /// The request's root span.
    pub span: &'a Span,
}

/// The outcome of one request.
enum Fetched {
    /// The body, and how it holds the photo.
    Body(BodyKind, Bytes),
    Redirected(PhotoUrl),
}

impl Fetch<'_> {
    /// Fetches the photo at a URL.
    ///
    /// # Errors
    /// [`Problem::PhotoUrl`]; and as for a photo that is sent, by what the server says of it.
    pub async fn photo(&self, url: &str) -> Result<Bytes, Problem> {
        let start = self.host.now();
        let mut url = PhotoUrl::parse(url)?;
        self.check(&url)?;
        for redirects in 0..=MAX_REDIRECTS {
            match self.get(&url, redirects, start).await? {
                Fetched::Body(kind, body) => return kind.photo(body),
                Fetched::Redirected(next) => {
                    self.check(&next).map_err(redirected)?;
                    url = next;
                }
            }
        }
        Err(PhotoUrlError::TooManyRedirects.into())
    }

    fn check(&self, url: &PhotoUrl) -> Result<(), PhotoUrlError> {
        let Settings { photo_url_allowed_hosts, photo_url_allow_private, .. } = self.settings;
        url.check(photo_url_allowed_hosts, *photo_url_allow_private)
    }

    /// Sends one request, with its span.
    async fn get(
        &self,
        url: &PhotoUrl,
        redirects: u32,
        start: Instant,
    ) -> Result<Fetched, Problem> {
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() = url.uri()?;
        *request.headers_mut() = headers();
        let span = match self.telemetry {
            Some(telemetry) => telemetry.client_span(self.span, &mut request, redirects),
            None => Span::none(),
        };
        let limit = self.settings.photo_url_timeout;
        let left = limit.saturating_sub(self.host.now().saturating_duration_since(start));
        let fetched = match select(pin!(self.send(url, request, &span)), self.host.sleep(left))
            .await
        {
            Either::Left((fetched, _)) => fetched,
            Either::Right(_) => Err(PhotoUrlError::Timeout { limit_ms: limit.as_millis() }.into()),
        };
        if let Err(problem) = &fetched
            // The status says it all.
            && !matches!(problem, Problem::PhotoUrl(PhotoUrlError::Status(_)))
        {
            span.fail(problem.kind(), &problem.reason());
        }
        fetched
    }

    async fn send(
        &self,
        url: &PhotoUrl,
        request: Request<Bytes>,
        span: &Span,
    ) -> Result<Fetched, Problem> {
        let response = self.host.send(request).await.map_err(|error| match error {
            SendError::Denied => PhotoUrlError::Denied(url.origin()),
            SendError::Failed(reason) => PhotoUrlError::Unreachable(reason),
        })?;
        let (head, body) = response.into_parts();
        span.answered(head.status);
        match head.status {
            StatusCode::OK => self.read(&head.headers, body, span).await,
            StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT => {
                let place = head.headers.get(LOCATION).map(|place| place.as_bytes());
                let place = String::from_utf8_lossy(place.unwrap_or_default());
                let missing = PhotoUrlError::Malformed("there is no Location");
                let next = if place.is_empty() { Err(missing) } else { url.redirected(&place) };
                Ok(Fetched::Redirected(next.map_err(redirected)?))
            }
            status => Err(PhotoUrlError::Status(status).into()),
        }
    }

    /// Reads a photo as that of a request is read, within the same limit.
    async fn read(&self, headers: &HeaderMap, body: Body, span: &Span) -> Result<Fetched, Problem> {
        let limit = self.settings.max_body_bytes;
        let kind = BodyKind::of(headers, limit).map_err(of_the_server)?;
        let body = StreamBody::new(body.map_ok(Frame::data));
        let body = Incoming::new(&Method::GET, headers, body).read(limit).await;
        let body = body.map_err(of_the_server)?;
        span.set("http.response.body.size", body.len() as i64);
        if body.is_empty() {
            return Err(PhotoUrlError::Empty.into());
        }
        Ok(Fetched::Body(kind, body))
    }
}

fn redirected(error: PhotoUrlError) -> PhotoUrlError {
    PhotoUrlError::Redirected(Box::new(error))
}

/// Returns the problem of a server's body, by that of a caller's.
fn of_the_server(problem: Problem) -> Problem {
    match problem {
        Problem::TooLarge { limit } => PhotoUrlError::TooLarge { limit }.into(),
        Problem::CutOff { received } => PhotoUrlError::CutOff { received }.into(),
        Problem::ContentEncoding(coding) => PhotoUrlError::ContentEncoding(coding).into(),
        other => other,
    }
}

/// Returns the headers of a request for a photo.
fn headers() -> HeaderMap {
    let accept = Format::ALL.map(Format::media_type).join(", ");
    let agent = format!("{NAME}/{VERSION}");
    let pairs = [
        (ACCEPT, accept.as_str()),
        // A photo is compressed already.
        (ACCEPT_ENCODING, "identity"),
        (USER_AGENT, &agent),
    ];
    pairs.into_iter().filter_map(|(name, value)| Some((name, value.parse().ok()?))).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use futures_util::{FutureExt, StreamExt, stream};
    use http::{Response, Uri};
    use telemetry::Incoming as Request;
    use telemetry::settings::Tracing;

    use super::*;
    use crate::fake::{Answer, Fake};

    /// The beginning of a JPEG.
    const JPEG: &[u8] = b"\xff\xd8\xff\xe0\0\x10JFIF\0 photo";

    /// A response with a body of these pieces; the last one may be the end of the connection.
    fn response(
        status: u16,
        headers: &[(&str, &str)],
        pieces: impl IntoIterator<Item = Result<&'static [u8], SendError>>,
    ) -> Answer {
        let pieces: Vec<_> =
            pieces.into_iter().map(|piece| piece.map(Bytes::from_static)).collect();
        let response = headers
            .iter()
            .fold(Response::builder().status(status), |r, (name, value)| r.header(*name, *value));
        Some(Ok(response.body(Box::pin(stream::iter(pieces)) as Body).expect("a response")))
    }

    fn redirect(place: &str) -> Answer {
        response(302, &[("location", place)], [])
    }

    fn photo() -> Answer {
        response(200, &[("content-type", "image/jpeg")], [Ok(&JPEG[..4]), Ok(&JPEG[4..])])
    }

    /// Fetches a URL from `https://*.example` and `http://127.0.0.1:*`, with more settings.
    fn fetch(host: &Fake, more: &[(&str, &str)], url: &str) -> Result<Bytes, Problem> {
        let own = [
            ("photo_url_allowed_host", "https://*.example"),
            ("photo_url_second_allowed_host", "http://127.0.0.1:*"),
        ];
        let (settings, warnings) = Settings::read(|name| {
            let mut values = more.iter().chain(&own);
            values.find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        });
        assert_eq!(warnings, Vec::<String>::new());
        let fetch = Fetch { settings: &settings, telemetry: None, host, span: &Span::none() };
        fetch.photo(url).now_or_never().expect("nothing to wait for")
    }

    /// Fetches a URL from a network with these answers.
    fn outcome(answers: impl IntoIterator<Item = Answer>) -> Result<Bytes, Problem> {
        fetch(&Fake::answering(answers), &[], "https://a.example/v.jpg")
    }

    #[track_caller]
    fn assert_refused(found: Result<Bytes, Problem>, expected: PhotoUrlError) {
        match found {
            Err(Problem::PhotoUrl(found)) => assert_eq!(found, expected),
            other => panic!("{other:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn photo_is_asked_for_by_one_request() {
        let host = Fake::answering([photo()]);
        let fetched = fetch(&host, &[], "https://a.example/b/v.jpg?size=2");
        assert_eq!(fetched.expect("a photo"), JPEG);
        let [request] = host.take_requests().try_into().expect("one request");
        assert_eq!(request.method(), Method::GET);
        assert_eq!(request.uri(), "https://a.example/b/v.jpg?size=2");
        assert_eq!(request.headers()["accept"], "image/jpeg, image/png, image/webp");
        assert_eq!(request.headers()["accept-encoding"], "identity");
        let agent = request.headers()["user-agent"].to_str().expect("text");
        assert!(agent.starts_with("hand-gesture-api/"), "{agent}");
        // Nothing of the caller's, and nothing of a trace where there is none.
        assert_eq!(request.headers().len(), 3);
    }

    #[test]
    fn nothing_is_sent_without_leave() {
        for (url, refused) in [
            ("https://a.test/", PhotoUrlError::NotAllowed("https://a.test".into())),
            ("http://127.0.0.1:80/", PhotoUrlError::Private("127.0.0.1".into())),
        ] {
            let host = Fake::answering([photo()]);
            assert_refused(fetch(&host, &[], url), refused);
            assert_eq!(host.take_requests().len(), 0, "{url}");
        }
        let host = Fake::answering([photo()]);
        let private = [("photo_url_allow_private", "true")];
        assert_eq!(fetch(&host, &private, "http://127.0.0.1:80/").expect("a photo"), JPEG);
    }

    #[test]
    fn redirection_is_followed_where_it_is_allowed() {
        let host = Fake::answering([
            redirect("/c/v.jpg"),
            redirect("https://b.example/w.jpg"),
            redirect("x.jpg"),
            photo(),
        ]);
        assert_eq!(fetch(&host, &[], "https://a.example/v.jpg").expect("a photo"), JPEG);
        let sent: Vec<_> = host.take_requests().iter().map(|r| r.uri().to_string()).collect();
        assert_eq!(
            sent,
            [
                "https://a.example/v.jpg",
                "https://a.example/c/v.jpg",
                "https://b.example/w.jpg",
                "https://b.example/x.jpg"
            ]
        );
    }

    #[test]
    fn redirection_elsewhere_is_refused_unsent() {
        let redirected = |error| PhotoUrlError::Redirected(Box::new(error));
        for (place, refused) in [
            ("https://a.test/", PhotoUrlError::NotAllowed("https://a.test".into())),
            ("http://a.example/", PhotoUrlError::NotAllowed("http://a.example".into())),
            ("http://127.0.0.1:8080/", PhotoUrlError::Private("127.0.0.1".into())),
            ("", PhotoUrlError::Malformed("there is no Location")),
            (
                "file:///etc/passwd",
                PhotoUrlError::Malformed("it begins neither with https:// nor with http://"),
            ),
        ] {
            let host = Fake::answering([redirect(place), photo()]);
            assert_refused(fetch(&host, &[], "https://a.example/"), redirected(refused));
            assert_eq!(host.take_requests().len(), 1, "{place}");
        }
        let host = Fake::answering((0..9).map(|_| redirect("/")));
        assert_refused(fetch(&host, &[], "https://a.example/"), PhotoUrlError::TooManyRedirects);
        assert_eq!(host.take_requests().len(), 4);
    }

    #[test]
    fn failures_of_the_server_are_told_apart() {
        let cut = SendError::Failed("the connection was cut".into());
        assert_refused(
            outcome([response(404, &[], [])]),
            PhotoUrlError::Status(StatusCode::NOT_FOUND),
        );
        assert_refused(
            outcome([response(204, &[], [])]),
            PhotoUrlError::Status(StatusCode::NO_CONTENT),
        );
        assert_refused(outcome([response(200, &[], [])]), PhotoUrlError::Empty);
        assert_refused(outcome([response(200, &[], [Ok(JPEG), Err(cut.clone())])]), {
            PhotoUrlError::CutOff { received: JPEG.len() }
        });
        let reason = "the connection was cut".into();
        assert_refused(outcome([Some(Err(cut))]), PhotoUrlError::Unreachable(reason));
        let denied = PhotoUrlError::Denied("https://a.example".into());
        assert_refused(outcome([Some(Err(SendError::Denied))]), denied);
        let encoded = response(200, &[("content-encoding", "gzip")], [Ok(JPEG)]);
        assert_refused(outcome([encoded]), PhotoUrlError::ContentEncoding("gzip".into()));
    }

    #[test]
    fn photo_over_the_limit_is_refused_while_it_is_read() {
        let limit = [("max_body_bytes", "10")];
        let announced = response(200, &[("content-length", "11")], []);
        let grows = response(200, &[], [Ok(JPEG)]);
        for answer in [announced, grows] {
            let found = fetch(&Fake::answering([answer]), &limit, "https://a.example/");
            assert_refused(found, PhotoUrlError::TooLarge { limit: 10 });
        }
    }

    #[test]
    fn what_is_no_photo_is_refused_as_if_it_had_been_sent() {
        let page = response(200, &[("content-type", "text/x-page")], [Ok(&b"?"[..])]);
        let found = outcome([page]);
        assert!(
            matches!(&found, Err(Problem::MediaType(name)) if name == "text/x-page"),
            "{found:?}"
        );
        // The decoder names what it is.
        let page = response(200, &[("content-type", "text/html")], [Ok(&b"<!doctype html>"[..])]);
        assert_eq!(outcome([page]).expect("left to the decoder"), &b"<!doctype html>"[..]);
    }

    #[test]
    fn time_is_limited_over_all_requests() {
        let host = Fake::answering([None]);
        let limit = [("photo_url_timeout", "700")];
        let late = || PhotoUrlError::Timeout { limit_ms: 700 };
        assert_refused(fetch(&host, &limit, "https://a.example/"), late());
        assert_eq!(host.take_slept(), Duration::from_millis(700));
        // The head comes, and the body does not.
        let stalls = stream::iter([Ok(Bytes::from_static(JPEG))]).chain(stream::pending());
        let response = Response::new(Box::pin(stalls) as Body);
        let host = Fake::answering([redirect("/"), Some(Ok(response))]);
        assert_refused(fetch(&host, &limit, "https://a.example/"), late());
        assert_eq!(host.take_slept(), Duration::from_millis(700));
    }

    #[test]
    fn request_is_traced_and_names_its_span() {
        let host = Arc::new(Fake::answering([photo()]));
        let lookup = |name: &str| (name == "enable_tracing").then(|| "true".to_owned());
        let (Tracing::On(tracing), _) = Tracing::read("test", lookup) else { panic!("off") };
        let telemetry = Telemetry::start(&tracing, "test", "1", host.clone()).expect("settings");
        let root = telemetry.server_span(Request {
            method: &Method::POST,
            uri: &Uri::from_static("/predict"),
            headers: &HeaderMap::new(),
            route: Some("/predict"),
            started: SystemTime::now(),
            cold_start: false,
        });
        let value = |name: &str| (name == "photo_url_allowed_host").then(|| "https://*".to_owned());
        let (settings, _) = Settings::read(value);
        let telemetry = Some(&telemetry);
        let fetch = Fetch { settings: &settings, telemetry, host: &*host, span: &root };
        let fetched = fetch.photo("https://a.example/").now_or_never();
        assert_eq!(fetched.expect("nothing to wait for").expect("a photo"), JPEG);
        let [request] = host.take_requests().try_into().expect("one request");
        let parent = request.headers()["traceparent"].to_str().expect("text");
        assert!(parent.contains(&root.trace_id().expect("a trace")), "{parent}");
    }
}

//! The service without its host: a request in, a response out, and then the request's spans.
//!
//! An entry makes one [`Service`] with the instance's first request and gives it every request. What
//! differs between hosts is the [`Host`], the request's body, and the way in which the entry runs
//! [`Service::export`] after the response.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use http_body_util::BodyExt;

use telemetry::settings::{self as tracing, Tracing};
use telemetry::{Host, Span, Telemetry};
use vision::pipeline::Pipeline;

use crate::api::{self, Route};
use crate::body::{BodyKind, Incoming, Rest};
use crate::database::{Database, Session};
use crate::feedback::{self, FeedbackError};
use crate::fetch::Fetch;
use crate::page;
use crate::photo_url::PhotoUrlError;
use crate::predict::predict;
use crate::problem::Problem;
use crate::region::RegionInPhoto;
use crate::server_timing::ServerTiming;
use crate::settings::{self, Settings};
use crate::spell::{self, FramesError, spell};

/// The settings and the tracing of one instance. Neither changes while it lives.
#[derive(Debug)]
pub struct Service {
    settings: Settings,
    /// None where tracing is off.
    telemetry: Option<Telemetry>,
    host: Arc<dyn Host>,
    /// None where the component's world has none.
    database: Option<Arc<dyn Database>>,
    /// True once the database has its table.
    prepared: AtomicBool,
}

/// The circumstances in which a request came in.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// The time.
    pub started: SystemTime,
    /// True for the instance's first request.
    pub cold_start: bool,
}

/// The answer to a request.
#[derive(Debug)]
pub struct Answer<B> {
    /// The response.
    pub response: Response<Bytes>,
    /// The unread rest of the request's body, to be [discarded](Service::discard) once the response is on
    /// its way.
    pub rest: Option<Rest<B>>,
}

/// Returns the names of all settings.
pub fn setting_names() -> impl Iterator<Item = &'static str> {
    settings::NAMES.into_iter().chain(tracing::NAMES)
}

/// Returns the values of settings by their [names](setting_names): that of the host's variable, else that of
/// the environment's variable, whose name is in capitals. A blank one counts as unset.
pub fn setting_values(
    variables: impl IntoIterator<Item = (&'static str, Option<String>)>,
    environment: &[(String, String)],
) -> BTreeMap<&'static str, String> {
    let is_set = |value: &String| !value.trim().is_empty();
    let value = |(name, variable): (&'static str, Option<String>)| {
        let in_environment = || {
            let name = name.to_ascii_uppercase();
            let found = environment.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.clone()).filter(is_set)
        };
        Some((name, variable.filter(is_set).or_else(in_environment)?))
    };
    variables.into_iter().filter_map(value).collect()
}

/// True if a request is a prediction, which keeps its instance busy.
pub fn is_prediction<B>(request: &Request<B>) -> bool {
    matches!(api::route(request.method(), request.uri().path()), Ok(Route::Predict))
}

impl Service {
    /// Returns a service with the settings that `lookup` finds by their [names](setting_names). Logs
    /// each invalid one, and one line about tracing.
    pub fn start(
        lookup: impl Fn(&str) -> Option<String>,
        host: Arc<dyn Host>,
        database: Option<Arc<dyn Database>>,
    ) -> Service {
        let (settings, mut warnings) = Settings::read(&lookup);
        if settings.feedback && database.is_none() {
            warnings.push(
                "setting feedback: this component has no database; corrections are refused. Use a component for \
                 Spin"
                    .into(),
            );
        }
        let (tracing, more_warnings) = Tracing::read_on(&*host, api::NAME, &lookup);
        for warning in warnings.iter().chain(&more_warnings) {
            host.log(format_args!("warning: {warning}"));
        }
        let telemetry = start_telemetry(&tracing, &host);
        Service { settings, telemetry, host, database, prepared: AtomicBool::new(false) }
    }

    /// Answers a request. Without a pipeline, a prediction is a [`Problem::Internal`].
    pub async fn answer<B>(
        &self,
        pipeline: Option<&Pipeline>,
        request: Request<B>,
        arrival: Arrival,
    ) -> Answer<B>
    where
        B: BodyExt<Data = Bytes> + Unpin,
    {
        let (head, body) = request.into_parts();
        let mut body = Incoming::new(&head.method, &head.headers, body);
        let span = self.root_span(&head, arrival);
        let answer = self.route(pipeline, &head, &mut body, arrival.started, &span).await;
        let response = answer.unwrap_or_else(|problem| {
            if problem.is_ours() {
                self.host.log(format_args!("error: {}", problem.reason()));
            }
            problem.response(span.trace_id())
        });
        let mut response = api::finish(&head.method, &head.headers, &self.settings, response);
        span.respond(&mut response);
        Answer { response, rest: body.rest() }
    }

    /// Discards what is left of a body that has been answered, so that its client reads the answer.
    pub async fn discard<B>(&self, rest: Rest<B>)
    where
        B: BodyExt<Data = Bytes> + Unpin,
    {
        rest.discard(&*self.host).await;
    }

    /// True if ended spans wait and no export runs.
    pub fn export_is_due(&self) -> bool {
        self.telemetry.as_ref().is_some_and(Telemetry::export_is_due)
    }

    /// Exports all spans that have ended.
    pub async fn export(&self) {
        if let Some(telemetry) = &self.telemetry {
            telemetry.export().await;
        }
    }

    fn root_span(&self, head: &Parts, arrival: Arrival) -> Span {
        let Some(telemetry) = &self.telemetry else { return Span::none() };
        let Parts { method, uri, headers, .. } = head;
        let Arrival { started, cold_start } = arrival;
        let route = api::known_path(uri.path());
        let request = telemetry::Incoming { method, uri, headers, route, started, cold_start };
        telemetry.server_span(request)
    }

    async fn route<B>(
        &self,
        pipeline: Option<&Pipeline>,
        head: &Parts,
        body: &mut Incoming<B>,
        now: SystemTime,
        span: &Span,
    ) -> Result<Response<Bytes>, Problem>
    where
        B: BodyExt<Data = Bytes> + Unpin,
    {
        let page = self.settings.page;
        match api::route(&head.method, head.uri.path())? {
            route if route.is_of_the_page() && !page => Err(Problem::NotFound),
            Route::Index if page && page::is_preferred(&head.headers) => {
                Ok(page::index(&head.headers, &self.settings, &self.correctable(pipeline)))
            }
            Route::Index => {
                let mut response = api::index(page);
                if page {
                    page::vary(&mut response);
                }
                Ok(response)
            }
            Route::Docs => Ok(page::docs(&head.headers, &self.settings)),
            Route::File(file) => Ok(page::file(&head.headers, file)),
            Route::Health => {
                let span = span.child("health_check");
                span.set("health.status", "ok");
                span.set("operation.success", true);
                Ok(api::health(self.telemetry.is_some()))
            }
            Route::OpenApi => Ok(api::openapi()),
            Route::Options { allow } => Ok(api::options(allow)),
            Route::Spell => {
                let limit = spell::MAX_BYTES.min(self.settings.max_body_bytes);
                let frames = body.read(limit).await.map_err(|problem| match problem {
                    Problem::TooLarge { limit } => FramesError::TooLarge { limit }.into(),
                    other => other,
                })?;
                let span = span.child("spelling");
                recorded(spell(&frames, &span), &span)
            }
            Route::Feedback => {
                let database = self.feedback_database()?;
                let limit = feedback::MAX_BYTES.min(self.settings.max_body_bytes);
                let body = body.read(limit).await.map_err(|problem| match problem {
                    Problem::TooLarge { limit } => FeedbackError::TooLarge { limit }.into(),
                    other => other,
                })?;
                let labels = models(pipeline)?.labels();
                let user = self.settings.user_id(&head.headers);
                let span = span.child("feedback_store");
                let mut session = Session::new(database, &span);
                let stored = async {
                    let correction = feedback::read(&body, labels, &span)?;
                    self.prepare(&mut session).await?;
                    let settings = &self.settings;
                    feedback::store(&mut session, &correction, settings, user, now, &span).await
                };
                recorded(stored.await, &span)
            }
            Route::FeedbackOfTrace => {
                let database = self.feedback_database()?;
                let trace_id = api::trace_in(head.uri.path()).unwrap_or_default();
                let user = self.settings.user_id(&head.headers);
                let span = span.child("feedback_delete");
                let mut session = Session::new(database, &span);
                let deleted = async {
                    feedback::check_trace_id(trace_id, &span)?;
                    self.prepare(&mut session).await?;
                    feedback::delete(&mut session, trace_id, user, &span).await
                };
                recorded(deleted.await, &span)
            }
            Route::FeedbackExport => {
                let database = self.feedback_database()?;
                feedback::authorize(&head.headers, self.settings.feedback_token.as_ref())?;
                let span = span.child("feedback_export");
                let mut session = Session::new(database, &span);
                let exported = async {
                    self.prepare(&mut session).await?;
                    feedback::export(&mut session, &self.settings, now, &span).await
                };
                recorded(exported.await, &span)
            }
            Route::Predict => {
                let known = RegionInPhoto::read(head.uri.query())?;
                let limit = self.settings.max_body_bytes;
                let kind = BodyKind::of(&head.headers, limit)?;
                let body = body.read(limit).await?;
                let mut timing = ServerTiming::default();
                let photo = match kind.photo_url(&body) {
                    None => kind.photo(body)?,
                    Some(url) => {
                        let start = self.host.now();
                        let photo = self.fetch(url, span).await?;
                        let took = self.host.now().saturating_duration_since(start);
                        timing.add("photo_fetch", took);
                        photo
                    }
                };
                let span = span.child("asl_prediction");
                if span.is_recording()
                    && let Some(user) = self.settings.user_id(&head.headers)
                {
                    span.set("prediction.user_id", user);
                }
                let prediction = models(pipeline).and_then(|pipeline| {
                    predict(pipeline, &photo, known, &self.settings, timing, &span)
                });
                recorded(prediction, &span)
            }
        }
    }

    /// Returns the database of corrections, if they are stored.
    fn feedback_database(&self) -> Result<&dyn Database, FeedbackError> {
        match &self.database {
            _ if !self.settings.feedback => Err(FeedbackError::Off),
            Some(database) => Ok(&**database),
            None => Err(FeedbackError::NoDatabase),
        }
    }

    /// Returns the labels that a correction may have; none where none is stored.
    fn correctable<'a>(&self, pipeline: Option<&'a Pipeline>) -> Vec<&'a str> {
        match (self.feedback_database(), pipeline) {
            (Ok(_), Some(pipeline)) => feedback::labels(pipeline.labels()).collect(),
            _ => Vec::new(),
        }
    }

    /// Makes the database's table with the instance's first use of it.
    async fn prepare(&self, session: &mut Session<'_>) -> Result<(), FeedbackError> {
        if !self.prepared.load(Ordering::Relaxed) {
            feedback::prepare(session).await?;
            self.prepared.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Fetches the photo at a URL, below a request's root span.
    async fn fetch(
        &self,
        url: Result<String, PhotoUrlError>,
        span: &Span,
    ) -> Result<Bytes, Problem> {
        if self.settings.photo_url_allowed_hosts.is_empty() {
            return Err(PhotoUrlError::Off.into());
        }
        let fetch = Fetch {
            settings: &self.settings,
            telemetry: self.telemetry.as_ref(),
            host: &*self.host,
            span,
        };
        fetch.photo(&url?).await
    }
}

/// Records an operation's outcome in its span.
fn recorded(
    outcome: Result<Response<Bytes>, Problem>,
    span: &Span,
) -> Result<Response<Bytes>, Problem> {
    span.set("operation.success", outcome.is_ok());
    outcome.inspect_err(|problem| span.fail(problem.kind(), &problem.reason()))
}

fn models(pipeline: Option<&Pipeline>) -> Result<&Pipeline, Problem> {
    pipeline.ok_or_else(|| {
        Problem::Internal(
            "this component has no models: build it with `spin build` or `cargo xtask build`"
                .into(),
        )
    })
}

fn start_telemetry(tracing: &Tracing, host: &Arc<dyn Host>) -> Option<Telemetry> {
    let settings = match tracing {
        Tracing::On(settings) => settings,
        Tracing::Off { reason } => {
            let (name, version) = (api::NAME, api::VERSION);
            host.log(format_args!("info: traces: off, since {reason}; service {name} {version}"));
            return None;
        }
    };
    Telemetry::start(settings, api::NAME, api::VERSION, host.clone())
        .inspect_err(|error| host.log(format_args!("warning: traces: off: {error}")))
        .ok()
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, stream};
    use http_body::Frame;
    use http_body_util::{Full, StreamBody};
    use serde_json::{Value, json};

    use super::*;
    use crate::fake::Fake;

    fn service(values: &[(&str, &str)]) -> (Service, Arc<Fake>) {
        let host = Arc::new(Fake::default());
        let lookup = |name: &str| {
            values.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        (Service::start(lookup, host.clone(), None), host)
    }

    fn answer<B>(service: &Service, method: &str, path: &str, body: B) -> Response<Bytes>
    where
        B: BodyExt<Data = Bytes> + Unpin,
    {
        let request = Request::builder().method(method).uri(path).body(body).expect("a request");
        let arrival = Arrival { started: SystemTime::now(), cold_start: true };
        let answer = service.answer(None, request, arrival).now_or_never();
        answer.expect("nothing to wait for").response
    }

    fn body(response: &Response<Bytes>) -> Value {
        serde_json::from_slice(response.body()).expect("JSON")
    }

    #[test]
    fn settings_are_variables_and_else_environment() {
        let variables = [
            ("max_pixels", Some("1".to_owned())),
            ("max_side", Some(" ".to_owned())),
            ("max_ratio", None),
            ("user_id_header", None),
            ("cors_allowed_origins", Some(String::new())),
        ];
        let environment =
            [("MAX_PIXELS", "2"), ("MAX_SIDE", "3"), ("max_ratio", "4"), ("MAX_RATIO", "5")]
                .into_iter()
                .chain([("USER_ID_HEADER", " "), ("PATH", "/")])
                .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let values = setting_values(variables, &environment.collect::<Vec<_>>());
        let expected = [("max_pixels", "1"), ("max_ratio", "5"), ("max_side", "3")];
        assert_eq!(
            values.into_iter().collect::<Vec<_>>(),
            expected.map(|(n, v)| (n, v.to_owned()))
        );
    }

    #[test]
    fn invalid_settings_are_logged_and_tracing_is_off_without_endpoint() {
        let (service, host) =
            service(&[("max_pixels", "many"), ("otel_traces_exporter", "zipkin")]);
        let log = host.take_log();
        assert_eq!(log.len(), 3, "{log:?}");
        assert!(log[0].starts_with("warning: setting max_pixels: "), "{log:?}");
        assert!(log[1].starts_with("warning: setting otel_traces_exporter: "), "{log:?}");
        assert!(log[2].starts_with("info: traces: off, since "), "{log:?}");
        assert!(!service.export_is_due());
        let health = answer(&service, "GET", "/health", Full::<Bytes>::default());
        assert_eq!(body(&health), json!({"status": "ok", "tracing": "disabled"}));
        assert!(!service.export_is_due());
    }

    #[test]
    fn traced_request_makes_an_export_due() {
        let (service, host) = service(&[("jaeger_collector_host", "jaeger")]);
        let health = answer(&service, "GET", "/health", Full::<Bytes>::default());
        assert_eq!(body(&health), json!({"status": "ok", "tracing": "enabled"}));
        assert!(health.headers().contains_key("traceparent"));
        assert!(service.export_is_due());
        service.export().now_or_never().expect("nothing to wait for");
        assert!(!service.export_is_due());
        let log = host.take_log();
        let denied = "warning: traces: dropped 2 spans: the host does not allow requests to ";
        assert!(log[1].starts_with(denied), "{log:?}");
    }

    #[test]
    fn missing_models_are_logged_and_not_told_to_the_client() {
        let (service, host) = service(&[]);
        host.take_log();
        let response = answer(&service, "POST", "/predict", Full::from("photo"));
        assert_eq!(response.status(), 500);
        assert!(!String::from_utf8_lossy(response.body()).contains("models"));
        let [line] = host.take_log().try_into().expect("one line");
        assert!(line.starts_with("error: this component has no models: "), "{line}");
    }

    #[test]
    fn corrections_are_refused_where_they_are_off_or_have_no_database() {
        let (off, off_host) = service(&[]);
        let (on, on_host) =
            service(&[("feedback", "true"), ("feedback_token", "0123456789abcdef")]);
        let warned =
            |host: &Fake| host.take_log().iter().any(|line| line.contains("setting feedback"));
        assert!(!warned(&off_host) && warned(&on_host));
        for (method, path) in [
            ("POST", "/feedback"),
            ("DELETE", "/feedback/0af7651916cd43dd8448eb211c80319c"),
            ("GET", "/feedback/export"),
        ] {
            for (service, status, words) in
                [(&off, 404, "setting feedback is true"), (&on, 501, "no database")]
            {
                let response = answer(service, method, path, Full::from("{}"));
                assert_eq!(response.status(), status, "{path}");
                let text = String::from_utf8_lossy(response.body()).into_owned();
                assert!(text.contains(words), "{text}");
            }
        }
        assert_eq!(on_host.take_log(), Vec::<String>::new(), "a caller's mistakes are not logged");
    }

    #[test]
    fn url_in_json_is_told_which_setting_it_needs() {
        let (off, _) = service(&[]);
        let (on, _) = service(&[("photo_url_allowed_host", "https://photos.example")]);
        for (body, status_on) in [
            ("{\"url\": \"https://elsewhere.example\"}", 403),
            ("{\"url\": \"v.jpg\"}", 422),
            ("{\"url\": null}", 422),
        ] {
            let answers = |service| answer(service, "POST", "/predict", Full::from(body));
            let response = answers(&off);
            assert_eq!(response.status(), 415, "{body}");
            let text = String::from_utf8_lossy(response.body()).into_owned();
            assert!(text.contains("photo_url_allowed_host"), "{text}");
            assert_eq!(answers(&on).status(), status_on, "{body}");
        }
    }

    #[test]
    fn body_that_fails_is_answered_as_cut_off() {
        let (service, host) = service(&[]);
        host.take_log();
        let chunk = Ok(Frame::data(Bytes::from_static(b"abc")));
        let chunks = stream::iter([chunk, Err(std::io::Error::other("reset"))]);
        let response = answer(&service, "POST", "/predict", StreamBody::new(chunks));
        assert_eq!(response.status(), 400);
        let detail = "The body ended after 3 bytes, before it was complete. Send it again.";
        assert_eq!(body(&response)["detail"], detail);
        assert_eq!(host.take_log(), Vec::<String>::new());
    }

    #[test]
    fn body_that_was_not_read_is_left_to_be_discarded() {
        let (service, host) = service(&[("max_body_bytes", "3")]);
        let rest = |method: &str, path: &str, body: &'static str| {
            let length = body.len();
            let request = Request::builder().method(method).uri(path);
            let request = request.header("content-length", length).body(Full::from(body));
            let arrival = Arrival { started: SystemTime::now(), cold_start: true };
            let answer = service.answer(None, request.expect("a request"), arrival).now_or_never();
            answer.expect("nothing to wait for").rest
        };
        assert!(rest("POST", "/predict", "ab").is_none());
        assert!(rest("GET", "/health", "").is_none());
        for (method, path) in [("POST", "/predict"), ("POST", "/health"), ("PUT", "/nothing")] {
            let rest = rest(method, path, "abcd").expect("a rest");
            service.discard(rest).now_or_never().expect("nothing to wait for");
            assert_eq!(host.take_slept(), std::time::Duration::ZERO);
        }
    }

    #[test]
    fn only_predictions_keep_an_instance_busy() {
        let is_prediction = |method: &str, path: &str| {
            let request = Request::builder().method(method).uri(path).body(()).expect("a request");
            is_prediction(&request)
        };
        assert!(is_prediction("POST", "/predict"));
        assert!(!is_prediction("OPTIONS", "/predict"));
        assert!(!is_prediction("GET", "/health"));
        assert!(!is_prediction("POST", "/nothing"));
    }
}

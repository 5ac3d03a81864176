//! The export: batches of spans to a collector, with retries, and a count of what is dropped.
//!
//! [`Export`] takes batches from the queue and hands them to the OTLP exporter, whose HTTP client is
//! a [`Delivery`]: it retries below the exporter, whose own retries would block the instance.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::{Either, select};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use opentelemetry::KeyValue;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{
    Compression, ExporterBuildError, Protocol, RetryPolicy, SpanExporter, WithExportConfig,
    WithHttpConfig,
};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use prost::Message;

use crate::host::{Host, SendError};
use crate::queue::Queue;
use crate::settings::Settings;

/// Backoff: the first wait before a retry, its growth, and the longest wait. They are the defaults of
/// OpenTelemetry's SDK for Java, whose exporters document them.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const BACKOFF_FACTOR: f64 = 1.5;
const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// A wait varies by this fraction in both directions (the same SDK's), so that instances that failed
/// together do not retry together.
const JITTER: f64 = 0.2;
/// Longest message of a collector that is logged, in characters.
const MAX_MESSAGE: usize = 1000;

/// The attribute of a span that counts the spans that its instance dropped before it.
pub const DROPPED_SPANS: &str = "telemetry.dropped_spans";

/// Exports the spans of a [`Queue`].
#[derive(Debug)]
pub(crate) struct Export {
    queue: Queue,
    batch_size: usize,
    retry_budget: Duration,
    exporter: SpanExporter,
    delivery: Arc<Delivery>,
    running: AtomicBool,
    /// Dropped spans that no export has reported yet.
    unreported: AtomicUsize,
}

impl Export {
    /// Returns an export of `queue`'s spans.
    ///
    /// # Errors
    /// [`ExporterBuildError`] if the exporter rejects the settings.
    pub(crate) fn new(
        settings: &Settings,
        resource: &Resource,
        queue: Queue,
        host: Arc<dyn Host>,
    ) -> Result<Export, ExporterBuildError> {
        let delivery = Arc::new(Delivery {
            deadline: Mutex::new(host.now()),
            state: Mutex::new(State { failures: 0, not_before: host.now(), reason: String::new() }),
            rejected: AtomicUsize::new(0),
            settings: settings.clone(),
            host,
        });
        let mut builder = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_shared_http_client(delivery.clone())
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(settings.endpoint.to_string())
            // The delivery retries.
            .with_retry_policy(RetryPolicy::disabled())
            .with_headers(HashMap::new());
        if settings.gzip {
            builder = builder.with_compression(Compression::Gzip);
        }
        let mut exporter = builder.build()?;
        exporter.set_resource(resource);
        Ok(Export {
            queue,
            batch_size: settings.batch_size,
            retry_budget: settings.retry_budget,
            exporter,
            delivery,
            running: AtomicBool::new(false),
            unreported: AtomicUsize::new(0),
        })
    }

    /// True if spans wait and no export runs.
    pub(crate) fn is_due(&self) -> bool {
        !self.queue.is_empty() && !self.running.load(Ordering::Relaxed)
    }

    /// Exports until the queue is empty.
    ///
    /// One export runs at a time. While it does, another call has no effect: spans that end
    /// meanwhile leave with the next batch.
    pub(crate) async fn run(&self) {
        if self.running.swap(true, Ordering::Relaxed) {
            return;
        }
        loop {
            let batch = self.queue.take(self.batch_size);
            if batch.is_empty() {
                break;
            }
            self.batch(batch).await;
        }
        self.running.store(false, Ordering::Relaxed);
    }

    async fn batch(&self, mut batch: Vec<SpanData>) {
        let overflowed = self.queue.take_overflowed();
        if overflowed > 0 {
            self.dropped(overflowed, "too many wait already (otel_bsp_max_queue_size)");
        }
        let reported = self.unreported.load(Ordering::Relaxed);
        if reported > 0
            && let Some(span) = batch.first_mut()
        {
            span.attributes.push(KeyValue::new(DROPPED_SPANS, reported as i64));
        }
        let count = batch.len();
        let newest = batch.iter().map(|span| span.end_time).max();
        *lock(&self.delivery.deadline) = self.deadline(newest);
        match self.exporter.export(batch).await {
            Ok(()) => {
                self.unreported.fetch_sub(reported, Ordering::Relaxed);
                let rejected = self.delivery.rejected.swap(0, Ordering::Relaxed);
                self.unreported.fetch_add(rejected, Ordering::Relaxed);
            }
            Err(error) => {
                let reason = std::mem::take(&mut lock(&self.delivery.state).reason);
                let error = error.to_string();
                self.dropped(count, if reason.is_empty() { &error } else { &reason });
            }
        }
    }

    /// Returns the time until which a batch is sent again.
    ///
    /// It is the retry budget after the batch's newest span: every span has its budget, and no
    /// instance lives longer than that after its last request.
    fn deadline(&self, newest: Option<SystemTime>) -> Instant {
        let age = newest.and_then(|end| end.elapsed().ok()).unwrap_or_default();
        self.delivery.host.now() + self.retry_budget.saturating_sub(age)
    }

    fn dropped(&self, count: usize, reason: &str) {
        self.unreported.fetch_add(count, Ordering::Relaxed);
        self.delivery.host.log(format_args!("warning: traces: dropped {count} spans: {reason}"));
    }
}

/// Delivers one body after the other to the collector: the OTLP exporter's HTTP client.
#[derive(Debug)]
struct Delivery {
    host: Arc<dyn Host>,
    settings: Settings,
    /// The time to give up on the current body.
    deadline: Mutex<Instant>,
    state: Mutex<State>,
    /// Spans that the collector has rejected.
    rejected: AtomicUsize,
}

#[derive(Debug)]
struct State {
    /// Attempts that failed since the last success.
    failures: u32,
    /// The time of the next attempt: not before.
    not_before: Instant,
    /// The reason why the last delivery was given up.
    reason: String,
}

/// The failure of an attempt, with its reason.
#[derive(Debug, PartialEq)]
enum Failure {
    /// Worth another attempt; after this time, if the collector names one.
    Temporary(String, Option<Duration>),
    /// Not worth another attempt.
    Permanent(String),
}

#[async_trait]
impl HttpClient for Delivery {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (mut head, body) = request.into_parts();
        // Without it the body leaves in chunks, which some servers reject.
        head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        head.headers.extend(self.settings.headers.clone());
        match self.deliver(Request::from_parts(head, body)).await {
            // The delivery has read the body.
            Ok(()) => Ok(Response::new(Bytes::new())),
            Err(reason) => {
                lock(&self.state).reason.clone_from(&reason);
                Err(reason.into())
            }
        }
    }
}

impl Delivery {
    /// Sends a request until it succeeds, fails permanently, or the deadline has come.
    async fn deliver(&self, request: Request<Bytes>) -> Result<(), String> {
        let deadline = *lock(&self.deadline);
        let mut last = None;
        loop {
            let now = self.host.now();
            let wait = lock(&self.state).not_before.saturating_duration_since(now);
            let left = deadline.saturating_duration_since(now);
            if wait >= left {
                let budget = self.settings.retry_budget.as_secs_f64();
                let last = last.unwrap_or("the collector is left alone after failures".to_owned());
                return Err(format!("{last}; given up after {budget} s (trace_retry_budget)"));
            }
            if !wait.is_zero() {
                self.host.sleep(wait).await;
            }
            let timeout = self.settings.attempt_timeout.min(left - wait);
            match self.attempt(request.clone(), timeout).await {
                Ok(()) => {
                    let failures = std::mem::take(&mut lock(&self.state).failures);
                    if failures > 0 {
                        self.host
                            .log(format_args!("info: traces: the collector takes spans again"));
                    }
                    return Ok(());
                }
                Err(Failure::Permanent(reason)) => return Err(reason),
                Err(Failure::Temporary(reason, after)) => {
                    if lock(&self.state).failures == 0 {
                        self.host.log(format_args!(
                            "warning: traces: {}: {reason}; trying again",
                            self.settings.endpoint
                        ));
                    }
                    let wait = self.backoff(after);
                    let mut state = lock(&self.state);
                    state.failures += 1;
                    state.not_before = self.host.now() + wait;
                    last = Some(reason);
                }
            }
        }
    }

    /// Returns the wait before the next attempt: as long as the collector says, else longer with each
    /// failure.
    fn backoff(&self, after: Option<Duration>) -> Duration {
        after.unwrap_or_else(|| {
            let failures = lock(&self.state).failures;
            let wait = FIRST_BACKOFF.as_secs_f64() * BACKOFF_FACTOR.powi(failures.min(16) as i32);
            let random = self.host.random() as f64 / u64::MAX as f64;
            let jitter = 1.0 - JITTER + 2.0 * JITTER * random;
            Duration::from_secs_f64(wait.min(MAX_BACKOFF.as_secs_f64()) * jitter)
        })
    }

    async fn attempt(&self, request: Request<Bytes>, timeout: Duration) -> Result<(), Failure> {
        let (sent, over) = (self.host.send(request), self.host.sleep(timeout));
        let response = match select(sent, over).await {
            Either::Left((Ok(response), _)) => response,
            Either::Left((Err(SendError::Denied), _)) => {
                return Err(Failure::Permanent(self.denied()));
            }
            Either::Left((Err(SendError::Failed(reason)), _)) => {
                return Err(Failure::Temporary(reason, None));
            }
            Either::Right(_) => {
                let reason = format!("no answer within {} ms", timeout.as_millis());
                return Err(Failure::Temporary(reason, None));
            }
        };
        let status = response.status();
        if status.is_success() {
            self.read_success(response.body());
            return Ok(());
        }
        let reason = format!("the collector answers {status}");
        // OTLP specification, "Retryable Response Codes". All others are permanent.
        Err(match status {
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => {
                Failure::Temporary(reason, retry_after(response.headers()))
            }
            _ => Failure::Permanent(reason),
        })
    }

    /// Logs the message of a collector that took the request, and counts the spans that it rejected:
    /// they are not sent again either.
    fn read_success(&self, body: &Bytes) {
        let endpoint = &self.settings.endpoint;
        let Ok(response) = ExportTraceServiceResponse::decode(body.clone()) else {
            // Some answer with JSON whatever they are sent.
            if !body.trim_ascii_start().starts_with(b"{") {
                self.host.log(format_args!(
                    "warning: traces: {endpoint} answers 200 with something that is not OTLP; \
                     is a collector there?"
                ));
            }
            return;
        };
        let Some(partial) = response.partial_success else { return };
        let rejected = usize::try_from(partial.rejected_spans).unwrap_or(0);
        if rejected > 0 || !partial.error_message.is_empty() {
            self.rejected.fetch_add(rejected, Ordering::Relaxed);
            let message: String = partial.error_message.chars().take(MAX_MESSAGE).collect();
            self.host.log(format_args!(
                "warning: traces: the collector rejected {rejected} spans: {message:?}"
            ));
        }
    }

    fn denied(&self) -> String {
        let uri = &self.settings.endpoint;
        let scheme = uri.scheme_str().unwrap_or_default();
        let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
        let allowed = match self.settings.allowed_host.as_str() {
            "" => String::new(),
            allowed => format!(" (it is {allowed} now)"),
        };
        format!(
            "the host does not allow requests to {uri}: set the variable \
             collector_allowed_host={scheme}://{host}:{port}{allowed}",
            host = uri.host().unwrap_or_default()
        )
    }
}

/// Reads `Retry-After` in both of its forms (RFC 9110): seconds, or a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under a lock here can leave it half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use opentelemetry::trace::{Tracer, TracerProvider};
    use opentelemetry_sdk::trace::SdkTracerProvider;

    use super::*;
    use crate::fake::{Answer, Fake};
    use crate::settings::Tracing;

    struct Bench {
        host: Arc<Fake>,
        export: Export,
        provider: SdkTracerProvider,
    }

    impl Bench {
        fn new(answers: impl IntoIterator<Item = Answer>, values: &[(&str, &str)]) -> Bench {
            let host = Arc::new(Fake::new(answers));
            let lookup = |name: &str| match name {
                "jaeger_collector_host" => Some("jaeger".to_owned()),
                name => values.iter().find(|(known, _)| *known == name).map(|(_, v)| (*v).into()),
            };
            let (Tracing::On(settings), _) = Tracing::read("test", lookup) else { panic!("off") };
            let queue = Queue::new(settings.queue_size);
            let resource = Resource::builder_empty().build();
            let export =
                Export::new(&settings, &resource, queue.clone(), host.clone()).expect("settings");
            let provider = SdkTracerProvider::builder().with_span_processor(queue).build();
            Bench { host, export, provider }
        }

        /// Ends spans and exports them, at once: no wait is real.
        fn export(&self, spans: usize) {
            for _ in 0..spans {
                drop(self.provider.tracer("test").start("span"));
            }
            self.export.run().now_or_never().expect("nothing to wait for");
        }

        fn times(&self) -> Vec<u128> {
            self.host.times()
        }

        fn log(&self) -> String {
            self.host.log().join("\n")
        }
    }

    #[test]
    fn batch_has_the_size_of_the_setting() {
        let bench = Bench::new([], &[("otel_bsp_max_export_batch_size", "10")]);
        bench.export(25);
        assert_eq!(bench.times().len(), 3);
        bench.export(0);
        assert_eq!(bench.times().len(), 3, "an empty queue sends nothing");
        assert_eq!(bench.log(), "");
    }

    #[test]
    fn backoff_grows_with_each_failure() {
        let refused = (0..6).map(|_| Answer::Refused);
        let bench = Bench::new(refused, &[]);
        bench.export(1);
        assert_eq!(bench.times(), [0, 1000, 2500, 4750, 8125, 13125, 18125]);
        assert_eq!(
            bench.log(),
            "warning: traces: http://jaeger:4318/v1/traces: the connection is refused; trying \
             again\ninfo: traces: the collector takes spans again"
        );
    }

    #[test]
    fn retry_after_sets_the_wait() {
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(61));
        let answers = [Answer::Status(503, "7".into()), Answer::Status(429, date)];
        let bench = Bench::new(answers, &[]);
        bench.export(1);
        let times = bench.times();
        assert_eq!(times[..2], [0, 7000]);
        // The date is in whole seconds, and some real time has passed.
        assert!((66_000..=68_000).contains(&times[2]), "{times:?}");
    }

    #[test]
    fn permanent_failure_is_not_retried() {
        for status in [400, 401, 404, 413, 500, 501, 301] {
            let bench = Bench::new([Answer::Status(status, "1".into())], &[]);
            bench.export(3);
            assert_eq!(bench.times(), [0], "{status}");
            assert!(bench.log().contains("dropped 3 spans"), "{}", bench.log());
        }
    }

    #[test]
    fn retry_budget_bounds_every_batch() {
        let silence = (0..9).map(|_| Answer::Silence);
        let settings = [("trace_retry_budget", "10000"), ("otel_bsp_export_timeout", "4000")];
        let bench = Bench::new(silence, &settings);
        bench.export(2);
        // 4 s, a wait of 1 s, 4 s more, and no time for the next wait.
        assert_eq!(bench.times(), [0, 5000]);
        assert!(
            bench.log().ends_with(
                "warning: traces: dropped 2 spans: no answer within 4000 ms; given up after 10 s \
                 (trace_retry_budget)"
            ),
            "{}",
            bench.log()
        );
        // The next batch has a budget of its own, and keeps the wait that the last one left.
        bench.export(1);
        assert_eq!(bench.times()[2], 10_500);
    }

    #[test]
    fn full_queue_drops_and_counts() {
        let bench = Bench::new([], &[("otel_bsp_max_queue_size", "4")]);
        bench.export(10);
        assert!(bench.log().contains("dropped 6 spans: too many wait"), "{}", bench.log());
        assert_eq!(
            bench.export.unreported.load(Ordering::Relaxed),
            0,
            "the same export reported it"
        );
    }

    #[test]
    fn one_export_runs_at_a_time() {
        let bench = Bench::new([], &[]);
        bench.export.running.store(true, Ordering::Relaxed);
        bench.export(1);
        assert_eq!(bench.times(), [0; 0]);
        assert!(!bench.export.is_due());
        bench.export.running.store(false, Ordering::Relaxed);
        assert!(bench.export.is_due());
        bench.export(0);
        assert_eq!(bench.times(), [0]);
    }
}

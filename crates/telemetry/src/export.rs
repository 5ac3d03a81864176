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
use futures_util::stream::StreamExt;
use http::{HeaderValue, Request, Response, header};
use opentelemetry::KeyValue;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{
    Compression, ExporterBuildError, Protocol, RetryPolicy, SpanExporter, WithExportConfig,
    WithHttpConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};

use crate::answer::{self, Verdict};
use crate::host::{Body, Host, SendError};
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
/// Time that is left for an attempt if the collector asks for a longer wait than the retry budget.
const LAST_ATTEMPT: Duration = Duration::from_secs(1);
/// Bytes of a collector's answer that are read. Its message about rejected spans is a sentence; anything
/// longer than this comes from no collector.
const MAX_ANSWER: usize = 64 * 1024;
/// Time for the body of an answer. Its head has said already that the spans were taken: waiting longer
/// could only keep the next ones waiting, too.
const ANSWER_TIME: Duration = Duration::from_secs(5);

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
            batch: Mutex::new(Batch { deadline: host.now(), spans: 0 }),
            state: Mutex::new(State {
                failures: 0,
                not_before: host.now(),
                told: false,
                unwell: None,
                reason: String::new(),
            }),
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
            let number = i64::try_from(reported).unwrap_or(i64::MAX);
            span.attributes.push(KeyValue::new(DROPPED_SPANS, number));
        }
        let count = batch.len();
        let newest = batch.iter().map(|span| span.end_time).max();
        *lock(&self.delivery.batch) = Batch { deadline: self.deadline(newest), spans: count };
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
        later(self.delivery.host.now(), self.retry_budget.saturating_sub(age))
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
    batch: Mutex<Batch>,
    state: Mutex<State>,
    /// Spans that the collector has rejected.
    rejected: AtomicUsize,
}

/// The batch that is on its way.
#[derive(Clone, Copy, Debug)]
struct Batch {
    /// The time to give up on it.
    deadline: Instant,
    /// Its number of spans.
    spans: usize,
}

#[derive(Debug)]
struct State {
    /// Attempts that failed since the last success.
    failures: u32,
    /// The time of the next attempt: not before.
    not_before: Instant,
    /// True if the collector itself asked for that wait.
    told: bool,
    /// The log's last line about the failing collector; `None` while it is well.
    unwell: Option<String>,
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
        let deadline = lock(&self.batch).deadline;
        let budget = self.settings.retry_budget;
        let mut last = None;
        loop {
            let now = self.host.now();
            let (mut wait, told) = {
                let state = lock(&self.state);
                (state.not_before.saturating_duration_since(now), state.told)
            };
            let mut left = deadline.saturating_duration_since(now);
            // A wait that the collector asks for is honoured up to the budget: an attempt is left for
            // its end. Afterwards, too little is left for another one.
            let attempt = LAST_ATTEMPT.min(budget / 4);
            let last_chance = left.saturating_sub(attempt);
            if told && last_chance >= attempt {
                wait = wait.min(last_chance);
            }
            if left.is_zero() && wait.is_zero() && last.is_none() {
                // Its budget was over before its turn came: the host slept, or its clock was set.
                left = budget;
            }
            if wait >= left {
                let last = last.unwrap_or("the collector is left alone after failures".to_owned());
                let budget = budget.as_secs_f64();
                return Err(match told {
                    true => format!(
                        "{last}; its Retry-After does not fit into {budget} s (trace_retry_budget)"
                    ),
                    false => format!("{last}; given up after {budget} s (trace_retry_budget)"),
                });
            }
            if !wait.is_zero() {
                self.host.sleep(wait).await;
            }
            let timeout = self.settings.attempt_timeout.min(left - wait);
            match self.attempt(request.clone(), timeout).await {
                Ok(()) => return Ok(()),
                Err(Failure::Permanent(reason)) => {
                    lock(&self.state).unwell.get_or_insert_default();
                    return Err(reason);
                }
                Err(Failure::Temporary(reason, after)) => {
                    if lock(&self.state).failures == 0 {
                        self.complain(|endpoint| format!("{endpoint}: {reason}; trying again"));
                    }
                    let wait = self.backoff(after);
                    let mut state = lock(&self.state);
                    state.failures = state.failures.saturating_add(1);
                    state.not_before = later(self.host.now(), wait);
                    state.told = after.is_some();
                    last = Some(reason);
                }
            }
        }
    }

    /// Returns the wait before the next attempt: as long as the collector says, but no longer than the
    /// retry budget, since all spans that wait are given up then; else longer with each failure.
    fn backoff(&self, after: Option<Duration>) -> Duration {
        if let Some(after) = after {
            return after.max(FIRST_BACKOFF).min(self.settings.retry_budget);
        }
        let failures = lock(&self.state).failures;
        let wait = FIRST_BACKOFF.as_secs_f64() * BACKOFF_FACTOR.powi(failures.min(16) as i32);
        let random = self.host.random() as f64 / u64::MAX as f64;
        let jitter = 1.0 - JITTER + 2.0 * JITTER * random;
        Duration::from_secs_f64(wait.min(MAX_BACKOFF.as_secs_f64()) * jitter)
    }

    async fn attempt(&self, request: Request<Bytes>, timeout: Duration) -> Result<(), Failure> {
        let (sent, over) = (self.host.send(request), self.host.sleep(timeout));
        let response = match select(sent, over).await {
            Either::Left((Ok(response), _)) => response,
            Either::Left((Err(SendError::Denied), _)) => {
                return Err(Failure::Permanent(self.denied()));
            }
            Either::Left((Err(SendError::Failed(reason)), _)) => {
                return Err(Failure::Temporary(answer::told(&reason, &self.settings), None));
            }
            Either::Right(_) => {
                let reason = format!("no answer within {} ms", timeout.as_millis());
                return Err(Failure::Temporary(reason, None));
            }
        };
        let (status, headers) = (response.status(), response.headers());
        match answer::verdict(status) {
            Verdict::Taken => self.taken(response).await,
            Verdict::Retried => {
                let reason = format!("the collector answers {status}");
                Err(Failure::Temporary(reason, answer::retry_after(headers)))
            }
            Verdict::Dropped => {
                let remedy = answer::remedy(status, headers, &self.settings);
                let reason = format!("the collector answers {status}: {remedy}");
                Err(Failure::Permanent(reason))
            }
        }
    }

    /// Handles an answer whose status says that the spans were taken.
    ///
    /// # Errors
    /// [`Failure::Permanent`] if it is a page for people, such as a login's.
    async fn taken(&self, response: Response<Body>) -> Result<(), Failure> {
        let (head, body) = response.into_parts();
        let (body, is_whole) = self.read(body).await;
        lock(&self.state).failures = 0;
        let partial = answer::partial(&head.headers, &body);
        if partial.is_none() && answer::is_page(&head.headers, &body) {
            let (status, setting) = (head.status, self.settings.endpoint_setting);
            return Err(Failure::Permanent(format!(
                "{} answers {status} with something that is not OTLP, but a page: check that a \
                 collector is there, and no login before it ({setting})",
                self.settings.endpoint_shown()
            )));
        }
        match partial {
            Some(partial) if is_whole => {
                self.rejected(&partial);
                if lock(&self.state).unwell.take().is_some() {
                    self.host.log(format_args!("info: traces: the collector takes spans again"));
                }
            }
            _ => {
                let (status, setting) = (head.status, self.settings.endpoint_setting);
                self.complain(|endpoint| match is_whole {
                    true => format!(
                        "{endpoint} answers {status} with something that is not OTLP; is a collector \
                         there? ({setting})"
                    ),
                    false => format!(
                        "{endpoint} answers {status}, but its answer stalls, breaks off or is too \
                         long; is a collector there? ({setting})"
                    ),
                });
            }
        }
        Ok(())
    }

    /// Reads an answer's body, no more of it than [`MAX_ANSWER`] and no longer than [`ANSWER_TIME`].
    /// Returns what came, and true if that is all.
    async fn read(&self, mut body: Body) -> (Vec<u8>, bool) {
        let mut bytes = Vec::new();
        let mut over = self.host.sleep(ANSWER_TIME);
        loop {
            match select(body.next(), over).await {
                Either::Left((None, _)) => return (bytes, true),
                Either::Left((Some(Ok(piece)), rest)) => {
                    let room = MAX_ANSWER - bytes.len();
                    bytes.extend_from_slice(&piece[..piece.len().min(room)]);
                    if piece.len() > room {
                        return (bytes, false);
                    }
                    over = rest;
                }
                Either::Left((Some(Err(_)), _)) | Either::Right(_) => return (bytes, false),
            }
        }
    }

    /// Counts and logs spans that a collector rejected although it took the request: they are not sent
    /// again either.
    fn rejected(&self, partial: &answer::Partial) {
        let answer::Partial { rejected, message } = partial;
        let sent = lock(&self.batch).spans;
        // No collector can reject more spans than it got, nor fewer than none.
        let count = usize::try_from(*rejected).map_or(sent, |count| count.min(sent));
        if count > 0 || !message.is_empty() {
            self.rejected.fetch_add(count, Ordering::Relaxed);
            let odd = match i64::try_from(count) {
                Ok(count) if count == *rejected => String::new(),
                _ => format!(" (it says {rejected})"),
            };
            let message = answer::told(message, &self.settings);
            self.host.log(format_args!(
                "warning: traces: the collector rejected {count} spans{odd}: {message:?}"
            ));
        }
    }

    /// Logs a warning about the collector, unless it is the last one again and the collector has not
    /// been well since.
    fn complain(&self, warning: impl Fn(&str) -> String) {
        let warning = warning(&self.settings.endpoint_shown());
        let mut state = lock(&self.state);
        if state.unwell.as_ref() != Some(&warning) {
            self.host.log(format_args!("warning: traces: {warning}"));
            state.unwell = Some(warning);
        }
    }

    fn denied(&self) -> String {
        let uri = &self.settings.endpoint;
        let scheme = uri.scheme_str().unwrap_or_default();
        let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
        let allowed = match self.settings.allowed_host.as_str() {
            // A login has no place there, but may have got there.
            allowed if allowed.is_empty() || allowed.contains('@') => String::new(),
            allowed => format!(" (it is {allowed} now)"),
        };
        format!(
            "the host does not allow requests to {shown}: set the variable \
             collector_allowed_host={scheme}://{host}:{port}{allowed}",
            shown = self.settings.endpoint_shown(),
            host = uri.host().unwrap_or_default()
        )
    }
}

/// Returns a time after another one, or that one if no clock gets there.
fn later(time: Instant, wait: Duration) -> Instant {
    time.checked_add(wait).unwrap_or(time)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under a lock here can leave it half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use opentelemetry::trace::{Span as _, Tracer, TracerProvider};
    use opentelemetry_proto::tonic::collector::trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceResponse,
    };
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use prost::Message;

    use super::*;
    use crate::fake::{Answer, End, Fake, attribute};
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

        /// The number of spans that the log tells of after a word, such as `dropped`.
        fn told(&self, word: &str) -> usize {
            let count = |line: &String| {
                let (_, rest) = line.split_once(&format!("{word} "))?;
                rest.split_once(" spans")?.0.parse::<usize>().ok()
            };
            self.host.log().iter().filter_map(count).sum()
        }
    }

    /// An answer 200 with protobuf that tells of rejected spans.
    fn rejected(rejected_spans: i64, message: &str) -> Answer {
        let error_message = message.to_owned();
        let partial_success = Some(ExportTracePartialSuccess { rejected_spans, error_message });
        let body = ExportTraceServiceResponse { partial_success }.encode_to_vec();
        Answer::Whole(200, vec![("content-type", "application/x-protobuf".into())], body)
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
    fn retry_after_is_honoured_up_to_the_budget() {
        let far = ["86400", "18446744073709551615", "99999999999999999999999"];
        for value in far.into_iter().chain(["Fri, 31 Dec 9999 23:59:59 GMT", "91", "90"]) {
            let answers = (0..2).map(|_| Answer::Status(503, value.into()));
            let bench = Bench::new(answers, &[]);
            // The last attempt is a second before the budget is over, less what has really passed.
            let near = |place: usize, expected: u128| {
                let time = bench.times()[place];
                assert!((expected - 500..=expected).contains(&time), "{value}: {time}");
            };
            bench.export(2);
            assert_eq!(bench.times().len(), 2, "{value}");
            near(1, 89_000);
            assert_eq!(bench.told("dropped"), 2, "{value}: {}", bench.log());
            let reason = "the collector answers 503 Service Unavailable; its Retry-After does not \
                          fit into 90 s (trace_retry_budget)";
            assert!(bench.log().ends_with(reason), "{}", bench.log());
            // Later spans have a budget of their own, and are delivered once the collector is well.
            bench.export(1);
            assert_eq!(bench.times().len(), 3, "{value}");
            near(2, 178_000);
            assert_eq!(bench.told("dropped"), 2, "{value}: {}", bench.log());
            assert!(bench.log().ends_with("the collector takes spans again"), "{}", bench.log());
        }
    }

    #[test]
    fn small_budget_has_a_last_attempt_too() {
        let answers = [Answer::Status(503, "86400".into())];
        let bench = Bench::new(answers, &[("trace_retry_budget", "2000")]);
        bench.export(2);
        let times = bench.times();
        assert!(times.len() == 2 && (1300..=1500).contains(&times[1]), "{times:?}");
        assert_eq!(bench.told("dropped"), 0, "{}", bench.log());
    }

    #[test]
    fn retry_after_that_names_no_wait_leaves_the_usual_one() {
        for (value, wait) in [
            ("0", 1000),
            ("-1", 1000),
            ("", 1000),
            ("soon", 1000),
            ("0.001", 1000),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 1000),
            ("Sunday, 06-Nov-94 08:49:37 GMT", 1000),
            ("Sun Nov  6 08:49:37 1994", 1000),
            ("1.5", 1500),
        ] {
            let answers = (0..2).map(|_| Answer::Status(429, value.into()));
            let bench = Bench::new(answers, &[]);
            bench.export(1);
            // Without a wait of the collector's own, that of the second failure is longer.
            let second = if wait == 1000 && value != "0.001" { 2500 } else { 2 * wait };
            assert_eq!(bench.times(), [0, wait, second], "{value}");
            assert_eq!(bench.told("dropped"), 0, "{value}");
        }
    }

    /// Every answer that a collector, a proxy or a load balancer can give: what the log says, and every
    /// span is delivered, rejected or dropped, once.
    #[test]
    fn every_answer_counts_spans_once_and_ends_with_the_next_healthy_one() {
        let html = || vec![("content-type", "text/html".to_owned())];
        let json = || vec![("content-type", "application/json".to_owned())];
        let to = |place: &str| vec![("location", place.to_owned())];
        let status = |code| Answer::Status(code, String::new());
        let said = r#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"no"}}"#;
        // With the spans that arrive, of four, and the number of attempts.
        let cases = [
            (status(200), "", 4, 1),
            (status(202), "", 4, 1),
            (status(204), "", 4, 1),
            (Answer::Whole(200, json(), b"{}".to_vec()), "", 4, 1),
            (
                Answer::Whole(200, json(), said.into()),
                "the collector rejected 3 spans: \"no\"",
                1,
                1,
            ),
            (rejected(1, "too \"long\"\n"), "rejected 1 spans: \"too \\\"long\\\"\\n\"", 3, 1),
            (rejected(0, "slow down"), "rejected 0 spans: \"slow down\"", 4, 1),
            (rejected(4, ""), "rejected 4 spans: \"\"", 0, 1),
            (rejected(5, ""), "rejected 4 spans (it says 5): \"\"", 0, 1),
            (
                rejected(i64::MAX, "x"),
                "rejected 4 spans (it says 9223372036854775807): \"x\"",
                0,
                1,
            ),
            (rejected(-1, "x"), "rejected 4 spans (it says -1): \"x\"", 0, 1),
            (rejected(i64::MIN, "x"), "rejected 4 spans (it says -9223372036854775808)", 0, 1),
            (
                Answer::Whole(200, vec![], b"ok".to_vec()),
                "is not OTLP; is a collector there?",
                4,
                1,
            ),
            (Answer::Whole(200, html(), b"<html>".to_vec()), "is not OTLP, but a page", 0, 1),
            (Answer::Start(vec![], End::Break), "its answer stalls, breaks off", 4, 1),
            (Answer::Start(vec![], End::Stall), "its answer stalls, breaks off", 4, 1),
            (Answer::Start(vec![], End::Never), "or is too long", 4, 1),
            (Answer::Start(b"<html>".to_vec(), End::Never), "is not OTLP, but a page", 0, 1),
            (
                Answer::Whole(301, to("https://c/v1/traces"), vec![]),
                "to \"https://c/v1/traces\"",
                0,
                1,
            ),
            (Answer::Whole(307, to("/login"), vec![]), "to \"http://jaeger:4318/login\"", 0, 1),
            (
                Answer::Whole(308, to("https://c/"), vec![]),
                "otel_exporter_otlp_traces_endpoint",
                0,
                1,
            ),
            (status(304), "check jaeger_collector_host", 0, 1),
            (status(400), "(jaeger_collector_host)", 0, 1),
            (status(401), "set otel_exporter_otlp_headers", 0, 1),
            (status(403), "(otel_exporter_otlp_headers)", 0, 1),
            (status(404), "/v1/traces is appended to jaeger_collector_host", 0, 1),
            (status(405), "/v1/traces is appended to jaeger_collector_host", 0, 1),
            (status(408), "lower otel_bsp_max_export_batch_size (512 now)", 0, 1),
            (status(411), "check jaeger_collector_host", 0, 1),
            (status(413), "lower otel_bsp_max_export_batch_size (512 now)", 0, 1),
            (status(415), "(jaeger_collector_host)", 0, 1),
            (status(429), "429 Too Many Requests; trying again", 4, 2),
            (status(500), "see the collector's log", 0, 1),
            (status(501), "(jaeger_collector_host)", 0, 1),
            (status(502), "502 Bad Gateway; trying again", 4, 2),
            (status(503), "503 Service Unavailable; trying again", 4, 2),
            (status(504), "504 Gateway Timeout; trying again", 4, 2),
            (status(599), "see the collector's log", 0, 1),
            (status(999), "see the collector's log", 0, 1),
            (Answer::Refused, "the connection is refused; trying again", 4, 2),
            (Answer::Silence, "no answer within 30000 ms; trying again", 4, 2),
        ];
        for (answer, line, arrive, attempts) in cases {
            let case = format!("{answer:?}");
            let bench = Bench::new([answer], &[]);
            bench.export(4);
            let log = bench.log();
            assert!(log.contains(line) && (line.is_empty() == log.is_empty()), "{case}: {log}");
            assert_eq!(bench.times().len(), attempts, "{case}: {log}");
            let lost = bench.told("dropped") + bench.told("rejected");
            assert_eq!(4 - lost, arrive, "{case}: {log}");
            assert!(bench.host.taken() <= MAX_ANSWER + 4096, "{case}: {}", bench.host.taken());
            // The next one is delivered, tells of the loss, and ends the matter.
            bench.host.take_spans();
            bench.export(1);
            let [span] = bench.host.take_spans().try_into().expect("one span");
            let told = attribute(&span, DROPPED_SPANS).map(|count| count.parse::<usize>());
            assert_eq!(told, (lost > 0).then_some(Ok(lost)), "{case}");
            let again =
                bench.log().matches("info: traces: the collector takes spans again").count();
            assert_eq!(again, usize::from(!log.is_empty() && !log.contains("rejected")), "{case}");
            let log = bench.log();
            bench.export(1);
            assert_eq!(bench.log(), log, "{case}: nothing is left to say");
            let [span] = bench.host.take_spans().try_into().expect("one span");
            assert_eq!(attribute(&span, DROPPED_SPANS), None, "{case}: told once");
        }
    }

    #[test]
    fn body_of_an_answer_keeps_the_next_batch_waiting_for_seconds_only() {
        let bench = Bench::new(
            [Answer::Start(vec![], End::Stall), Answer::Start(vec![], End::Break)],
            &[("otel_bsp_max_export_batch_size", "1")],
        );
        bench.export(3);
        assert_eq!(bench.times(), [0, 5000, 5000]);
    }

    #[test]
    fn same_complaint_is_logged_once_until_the_collector_is_well() {
        let odd = || Answer::Whole(200, vec![], b"ok".to_vec());
        let well = || Answer::Status(200, String::new());
        let bench = Bench::new(
            [odd(), odd(), well(), odd(), well()],
            &[("otel_bsp_max_export_batch_size", "1")],
        );
        bench.export(6);
        let starts = |line: &String| line.split(' ').next().unwrap_or_default().to_owned();
        let kinds: Vec<String> = bench.host.log().iter().map(starts).collect();
        assert_eq!(kinds, ["warning:", "info:", "warning:", "info:"], "{}", bench.log());
    }

    #[test]
    fn messages_of_the_collector_repeat_no_credential() {
        let message = "the token hunter2 has expired";
        let refused = Answer::Whole(302, vec![("location", "/hunter2".into())], vec![]);
        let settings = [
            ("otel_exporter_otlp_headers", "authorization=Bearer%20hunter2"),
            ("otel_exporter_otlp_traces_endpoint", "http://c:4318/v1/traces?key=hunter3"),
        ];
        let bench = Bench::new([rejected(1, message), refused, Answer::Refused], &settings);
        for _ in 0..3 {
            bench.export(1);
        }
        let log = bench.log();
        assert!(log.contains("the token … has expired"), "{log}");
        assert!(log.contains("\"http://c:4318/…\""), "{log}");
        assert!(log.contains("http://c:4318/v1/traces?…: the connection is refused"), "{log}");
        assert!(!log.contains("hunter"), "{log}");
    }

    /// A host that slept for an hour, or whose clock was set: the spans have one attempt all the same.
    #[test]
    fn late_batch_is_sent_once() {
        for (answer, sent) in [(Answer::Status(200, String::new()), true), (Answer::Refused, false)]
        {
            let bench = Bench::new([answer], &[]);
            let mut span = bench.provider.tracer("test").start("span");
            span.end_with_timestamp(SystemTime::now() - Duration::from_secs(3600));
            bench.export(0);
            assert_eq!(bench.times(), [0]);
            assert_eq!(bench.told("dropped"), usize::from(!sent), "{}", bench.log());
        }
        let bench = Bench::new([], &[]);
        let mut span = bench.provider.tracer("test").start("span");
        span.end_with_timestamp(SystemTime::now() + Duration::from_secs(1 << 40));
        bench.export(0);
        assert_eq!(bench.host.spans_sent(), [1]);
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

//! Hostile requests: photos, forms and headers, mutated, and the answers to them counted.
//!
//! Request *n* of a seed is the same in every run and on every machine, so a number is enough to send
//! it again. A server is well if every request gets an answer that it meant to give: a bare 500 is that
//! of an instance that trapped.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use fuzz::mutations::mutate;
use fuzz::seeds::{self, Seed};

use crate::raw::{Connection, Response, in_chunks};

/// One request of so many has a body over the default limit of 10 MiB.
const OVERSIZED: u64 = 997;

/// Types that are sent with photos, rightly or not.
const PHOTO_TYPES: [&str; 14] = [
    "image/jpeg",
    "image/png",
    "image/webp",
    "image/jpg",
    "image/heic",
    "image/*",
    "application/octet-stream",
    "application/x-www-form-urlencoded",
    "text/plain; charset=utf-8",
    "application/json",
    "multipart/form-data",
    "IMAGE/JPEG;q=\"",
    ";;;",
    "\u{e9}/\u{e9}",
];

/// Boundaries, with the way in which the `Content-Type` writes them.
const BOUNDARIES: [(&str, &str); 7] = [
    ("edge", "edge"),
    ("edge", "\"edge\""),
    ("edge", "edge; charset=utf-8"),
    ("----=_Part_1_2.3", "----=_Part_1_2.3"),
    ("b/Qe:f", "\"b/Qe:f\""),
    ("-", "-"),
    ("edge", "\"edge"),
];

/// Beginnings of a part's `Content-Disposition`.
const DISPOSITIONS: [&str; 8] = [
    "form-data; name=\"file\"; filename=\"v.jpg\"",
    "form-data; name=\"file\"; filename*=UTF-8''h%C3%A4nd.jpg",
    "form-data; name=\"photo\"",
    "form-data; name=\"note\"",
    "form-data; name=\"file\"; filename=\"\"",
    "form-data; name=\"\\\"; filename=\"a\\\"b;c.jpg\"",
    "attachment",
    "",
];

/// Headers that a service might read, with values that are right or nearly so.
const HEADERS: [(&str, &str); 12] = [
    ("content-encoding", "gzip"),
    ("content-encoding", "identity"),
    ("content-encoding", ",,"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("traceparent", "ff-00000000000000000000000000000000-0000000000000000-ff"),
    ("tracestate", "a=1,b=2,,=,c"),
    ("baggage", "a=1;b=2,%ff=%,user=\"x\""),
    ("origin", "https://page.example"),
    ("expect", "100-continue"),
    ("user-agent", "\u{fffd}\u{1f44b}"),
    ("x-forwarded-for", "::1, 999.999.999.999"),
    ("accept", "*/*;q=0"),
];

/// Requests that a report lists for their time.
const SLOWEST: usize = 3;

/// A request to `/predict`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its number.
    pub number: u64,
    /// Its origin: the file that it was made from, and how it is sent.
    pub about: String,
    /// Its headers, without those of the body's length.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
    /// The size of chunks, if it is sent in chunks.
    pub chunks: Option<usize>,
}

impl Request {
    /// Returns it as it is sent.
    pub fn to_bytes(&self, host: SocketAddr) -> Vec<u8> {
        let mut head = format!("POST /predict HTTP/1.1\r\nhost: {host}\r\n");
        for (name, value) in &self.headers {
            _ = write!(head, "{name}: {value}\r\n");
        }
        match self.chunks {
            Some(size) => {
                head += "transfer-encoding: chunked\r\n\r\n";
                [head.into_bytes(), in_chunks(&self.body, size)].concat()
            }
            None => {
                _ = write!(head, "content-length: {}\r\n\r\n", self.body.len());
                [head.as_bytes(), &self.body].concat()
            }
        }
    }
}

/// Makes the requests of a seed.
#[derive(Clone, Debug)]
pub struct Requests {
    seed: u64,
    files: Vec<Seed>,
}

impl Requests {
    /// Returns the requests of a seed.
    ///
    /// # Panics
    /// If the repository has no photos.
    pub fn new(seed: u64) -> Requests {
        Requests { seed, files: seeds::all() }
    }

    /// Makes the request with a number.
    pub fn request(&self, number: u64) -> Request {
        // Numbers side by side are not to begin alike.
        let seed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.seed;
        let random = &mut Rng::with_seed(seed);
        let mut headers = Vec::new();
        let (about, body) = match random.u8(..10) {
            _ if number % OVERSIZED == OVERSIZED - 1 => {
                ("oversized".to_owned(), vec![random.u8(..); 12 << 20])
            }
            0 => self.no_photo(random),
            1 | 2 => {
                let (about, body, content_type) = self.form(random);
                headers.push(("content-type".to_owned(), content_type));
                (about, body)
            }
            _ => self.photo(random),
        };
        if headers.is_empty() && random.u8(..8) > 0 {
            let content_type = PHOTO_TYPES[random.usize(..PHOTO_TYPES.len())];
            headers.push(("content-type".to_owned(), content_type.to_owned()));
        }
        for _ in 0..random.u8(..10).saturating_sub(6) {
            let (name, value) = HEADERS[random.usize(..HEADERS.len())];
            headers.push((name.to_owned(), damaged(random, value)));
        }
        let chunks = (random.u8(..6) == 0).then(|| random.usize(1..=64 << 10));
        Request { number, about, headers, body, chunks }
    }

    fn file(&self, random: &mut Rng) -> &Seed {
        // Small pictures as often as photos, of which there are more.
        let photos = self.files.iter().filter(|file| file.name.ends_with(".jpg")).count();
        let range = if random.u8(..3) == 0 { 0..photos } else { photos..self.files.len() };
        &self.files[random.usize(range)]
    }

    /// A file, most often mutated.
    fn photo(&self, random: &mut Rng) -> (String, Vec<u8>) {
        let (file, other) = (self.file(random), self.file(random));
        let mut bytes = file.bytes.clone();
        if random.u8(..16) > 0 {
            mutate(random, &mut bytes, &other.bytes);
        }
        (file.name.clone(), bytes)
    }

    /// A form, its photo or all of it mutated, with its `Content-Type`.
    fn form(&self, random: &mut Rng) -> (String, Vec<u8>, String) {
        let (boundary, written) = BOUNDARIES[random.usize(..BOUNDARIES.len())];
        let line_break = if random.u8(..6) == 0 { "\n" } else { "\r\n" };
        let mut body = Vec::new();
        let mut about = "form".to_owned();
        // Now and then more parts than a service should look at.
        let parts = if random.u8(..40) == 0 { 150 } else { random.usize(0..=3) };
        for _ in 0..parts {
            let (name, mut bytes) = match parts {
                0..=3 => self.photo(random),
                _ => ("field".to_owned(), b"x".to_vec()),
            };
            if random.u8(..4) == 0 {
                bytes.truncate(random.usize(..=8));
            }
            let disposition = DISPOSITIONS[random.usize(..DISPOSITIONS.len())];
            let disposition = damaged(random, disposition);
            let media_type = PHOTO_TYPES[random.usize(..PHOTO_TYPES.len())];
            body.extend(format!("--{boundary}{line_break}").bytes());
            body.extend(format!("Content-Disposition: {disposition}{line_break}").bytes());
            body.extend(format!("Content-Type: {media_type}{line_break}{line_break}").bytes());
            body.extend(bytes);
            body.extend(line_break.bytes());
            about = format!("{about} {name}");
        }
        if random.u8(..10) > 0 {
            body.extend(format!("--{boundary}--{line_break}").bytes());
        }
        if random.u8(..3) == 0 {
            let other = self.file(random);
            mutate(random, &mut body, &other.bytes);
        }
        (about, body, format!("multipart/form-data; boundary={}", damaged(random, written)))
    }

    /// Bodies that are sent by mistake, and noise.
    fn no_photo(&self, random: &mut Rng) -> (String, Vec<u8>) {
        let length = random.usize(..4000);
        let noise: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(length).collect();
        let text = |text: &str| text.as_bytes().to_vec();
        let (about, mut body) = match random.u8(..10) {
            0 => ("nothing", Vec::new()),
            1 => ("noise", noise),
            2 => ("gzip", [&b"\x1f\x8b\x08\0"[..], &noise].concat()),
            3 => ("json", text("{\"image\": \"/9j/4AAQSkZJRgABAQ==\"}")),
            4 => ("data URL", text("data:image/jpeg;base64,/9j/4AAQSkZJRgABAQ==")),
            5 => ("html", text("<!DOCTYPE html><title>Log in</title>")),
            6 => ("heic", [&b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"[..], &noise].concat()),
            7 => ("gif", [&b"GIF89a\x10\0\x10\0"[..], &noise].concat()),
            // Lossy: what a client makes that takes a photo for text.
            8 => ("text", String::from_utf8_lossy(&self.file(random).bytes).into_owned().into()),
            _ => ("one byte", vec![random.u8(..); length]),
        };
        if random.bool() {
            let other = self.file(random);
            mutate(random, &mut body, &other.bytes);
        }
        (about.to_owned(), body)
    }
}

/// Returns a header's value, at times with something changed. It stays one line.
fn damaged(random: &mut Rng, value: &str) -> String {
    if random.u8(..3) > 0 {
        return value.to_owned();
    }
    let mut characters: Vec<char> = value.chars().collect();
    for _ in 0..random.u8(1..=3) {
        let place = random.usize(..=characters.len());
        let strange = ['"', '\\', ';', '=', ',', ' ', '\t', '%', '-', '\u{e9}', '\u{1f44b}'];
        match random.u8(..3) {
            0 => _ = characters.drain(place..),
            1 => characters.insert(place, strange[random.usize(..strange.len())]),
            _ => {
                let repeated = characters[..place].repeat(random.usize(1..=20));
                characters.extend(repeated);
                characters.truncate(8000);
            }
        }
    }
    characters.into_iter().collect()
}

/// The answers to requests.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The number of answers by status.
    pub statuses: BTreeMap<u16, usize>,
    /// The requests that were answered by a bare 500.
    pub trapped: Vec<u64>,
    /// The requests that got no answer, each with the reason.
    pub lost: Vec<(u64, String)>,
    /// The duration of each request, with its number.
    pub times: Vec<(Duration, u64)>,
}

impl Report {
    fn add(&mut self, number: u64, response: Result<Response, String>, time: Duration) {
        match response {
            Ok(response) => {
                *self.statuses.entry(response.status).or_default() += 1;
                let is_meant = response.header("content-type") == "application/problem+json";
                if response.status >= 500 && !is_meant {
                    self.trapped.push(number);
                }
            }
            Err(error) => self.lost.push((number, error)),
        }
        self.times.push((time, number));
    }

    fn merge(&mut self, other: Report) {
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        self.trapped.extend(other.trapped);
        self.lost.extend(other.lost);
        self.times.extend(other.times);
    }

    /// Returns the time within which a part of the requests was answered.
    pub fn quantile(&self, part: f64) -> Duration {
        let times = self.sorted();
        let place = (times.len().saturating_sub(1) as f64 * part).round() as usize;
        times.get(place).map_or(Duration::ZERO, |(time, _)| *time)
    }

    /// Returns the durations with their numbers, the shortest first.
    fn sorted(&self) -> Vec<(Duration, u64)> {
        let mut times = self.times.clone();
        times.sort_unstable();
        times
    }

    /// True if every request had an answer that the service meant to give.
    pub fn is_well(&self) -> bool {
        self.trapped.is_empty()
            && self.lost.is_empty()
            && self.statuses.keys().all(|status| ALLOWED.contains(status))
    }
}

/// The statuses of answers to `/predict` that are not the service's own failures.
pub const ALLOWED: [u16; 5] = [200, 400, 413, 415, 422];

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>8} requests", self.times.len())?;
        for (status, count) in &self.statuses {
            writeln!(f, "{count:>8} × {status}")?;
        }
        writeln!(f, "{:>8} traps (500 without a problem)", self.trapped.len())?;
        writeln!(f, "{:>8} without an answer", self.lost.len())?;
        let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
        for part in [0.5, 0.99] {
            writeln!(f, "{:>8.1} ms p{}", milliseconds(self.quantile(part)), part * 100.0)?;
        }
        for (time, number) in self.sorted().iter().rev().take(SLOWEST) {
            writeln!(f, "{:>8.1} ms for request {number}", milliseconds(*time))?;
        }
        for number in &self.trapped {
            writeln!(f, "trapped: request {number}")?;
        }
        for (number, error) in &self.lost {
            writeln!(f, "no answer: request {number}: {error}")?;
        }
        Ok(())
    }
}

/// Sends requests on several connections and counts the answers. A request that is not answered well is
/// kept in the folder `keep`, if there is one.
///
/// # Panics
/// If a request cannot be kept.
pub fn send(
    address: SocketAddr,
    requests: &Requests,
    numbers: Range<u64>,
    connections: usize,
    keep: Option<&Path>,
) -> Report {
    let next = AtomicU64::new(numbers.start);
    let client = || {
        let mut report = Report::default();
        let mut connection = None;
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= numbers.end {
                return report;
            }
            let request = requests.request(number);
            let start = Instant::now();
            let response = exchange(address, &mut connection, &request);
            let (traps, lost) = (report.trapped.len(), report.lost.len());
            report.add(number, response, start.elapsed());
            if let (Some(folder), true) =
                (keep, report.trapped.len() + report.lost.len() > traps + lost)
            {
                let file = folder.join(format!("request-{number}"));
                std::fs::write(&file, request.to_bytes(address))
                    .unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));
            }
        }
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..connections.max(1)).map(|_| scope.spawn(client)).collect();
        let mut all = Report::default();
        for client in clients {
            all.merge(client.join().expect("no panic"));
        }
        all
    })
}

/// Sends a request on a connection that may be there already. Like most clients, it reads once all is
/// sent.
fn exchange(
    address: SocketAddr,
    connection: &mut Option<Connection>,
    request: &Request,
) -> Result<Response, String> {
    let mut used = match connection.take() {
        Some(connection) => connection,
        None => Connection::open(address).map_err(|error| format!("cannot connect: {error}"))?,
    };
    used.send(&request.to_bytes(address)).map_err(|error| format!("cannot send: {error}"))?;
    let response = used.receive().map_err(|error| format!("cannot receive: {error}"))?;
    if !response.closes() {
        *connection = Some(used);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_with_a_number_is_always_the_same() {
        let (one, two) = (Requests::new(1), Requests::new(1));
        let differ = |a: &Request, b: &Request| (&a.body, &a.headers) != (&b.body, &b.headers);
        let mut changed = 0;
        for number in 0..50 {
            let request = one.request(number);
            assert_eq!(request, two.request(number));
            changed += usize::from(differ(&request, &Requests::new(2).request(number)));
            let address = ([127, 0, 0, 1], 3000).into();
            let head = request.to_bytes(address);
            assert!(head.starts_with(b"POST /predict HTTP/1.1\r\nhost: 127.0.0.1:3000\r\n"));
        }
        assert!(changed > 45, "another seed, other requests: {changed}");
    }

    #[test]
    fn headers_are_of_one_line_each() {
        let requests = Requests::new(3);
        for number in 0..500 {
            let request = requests.request(number);
            for (name, value) in &request.headers {
                assert!(!value.contains(['\r', '\n', '\0']), "{number}: {name}: {value:?}");
            }
        }
    }

    #[test]
    fn report_counts_and_judges() {
        let response = |status, kind: &str| Response {
            status,
            headers: vec![("content-type".into(), kind.into())],
            body: Vec::new(),
            interim: Vec::new(),
        };
        let mut report = Report::default();
        let time = Duration::from_millis;
        report.add(1, Ok(response(200, "application/json")), time(3));
        report.add(2, Ok(response(422, "application/problem+json")), time(1));
        assert!(report.is_well());
        let mut other = Report::default();
        other.add(3, Ok(response(500, "")), time(2));
        assert!(!other.is_well());
        report.merge(other);
        assert!(!report.is_well());
        assert_eq!((report.trapped.clone(), report.quantile(0.5)), (vec![3], time(2)));
        let mut meant = Report::default();
        meant.add(4, Ok(response(500, "application/problem+json")), time(1));
        assert!(meant.trapped.is_empty() && !meant.is_well());
        let mut lost = Report::default();
        lost.add(5, Err("reset".into()), time(1));
        assert!(!lost.is_well());
        assert!(report.to_string().contains("1 × 422") && lost.to_string().contains("reset"));
    }
}

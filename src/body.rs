//! The body of `POST /predict`: read within a limit, the photo in it, and what is left of a body that
//! was answered before it was read.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use http::{HeaderMap, Method};
use http_body_util::BodyExt;

use telemetry::Host;
use vision::decode::{DecodeError, Format, HEIC_MEDIA_TYPES};

use crate::form::{self, FormError};
use crate::media;
use crate::photo_url::{self, PhotoUrlError};
use crate::problem::Problem;

/// Longest part of a header that a problem repeats, in characters.
const MAX_REPEATED: usize = 100;

/// Most bytes that are read and discarded after an answer: photos of phones and scanners that are over
/// the limit of a body are smaller, and a client that sends more has been told why.
const DISCARDED_BYTES: usize = 64 * 1024 * 1024;
/// Longest time for it: these bytes at some 20 Mbit/s.
const DISCARDED_TIME: Duration = Duration::from_secs(30);
/// Longest pause in it. A client that pauses has most likely read the answer.
const DISCARDED_PAUSE: Duration = Duration::from_secs(5);

/// The way in which a body holds the photo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// The body is the photo, of a claimed type in lower case; empty if none is claimed.
    Photo {
        /// The claimed type.
        claimed: String,
    },
    /// The body is a form.
    Form {
        /// The boundary between its parts.
        boundary: String,
    },
}

impl BodyKind {
    /// Returns the kind by the request's headers, before the body is read. What the body is beyond that
    /// is read from its content: [`media`] has the rules.
    ///
    /// # Errors
    /// [`Problem::TooLarge`] if the announced length is over the limit, [`Problem::ContentEncoding`],
    /// [`Problem::Form`] without a boundary.
    pub fn of(headers: &HeaderMap, max_body_bytes: u64) -> Result<BodyKind, Problem> {
        if announced_length(headers).is_some_and(|length| length > max_body_bytes) {
            return Err(Problem::TooLarge { limit: max_body_bytes });
        }
        for value in headers.get_all(CONTENT_ENCODING) {
            let value = String::from_utf8_lossy(value.as_bytes());
            let mut codings = value.split(',').map(str::trim);
            // RFC 9110: no coding at all. Clients should not send it, and some do.
            let is_none =
                |coding: &str| coding.is_empty() || coding.eq_ignore_ascii_case("identity");
            if let Some(coding) = codings.find(|coding| !is_none(coding)) {
                return Err(Problem::ContentEncoding(repeated(coding)));
            }
        }
        let content_type = headers.get(CONTENT_TYPE);
        let content_type =
            content_type.map(|value| String::from_utf8_lossy(value.as_bytes())).unwrap_or_default();
        let claimed = form::essence(&content_type);
        if claimed.starts_with("multipart/") {
            let boundary = form::boundary(&content_type).ok_or(FormError::NoBoundary)?;
            return Ok(BodyKind::Form { boundary });
        }
        Ok(BodyKind::Photo { claimed })
    }

    /// Returns the URL of the photo in a body that is a JSON object with one, whatever its type claims.
    pub fn photo_url(&self, body: &[u8]) -> Option<Result<String, PhotoUrlError>> {
        match self {
            BodyKind::Photo { .. } => photo_url::in_body(body),
            BodyKind::Form { .. } => None,
        }
    }

    /// Returns the photo in a body. Whether it is one is left to the decoder, unless its type says that
    /// it is none and its content does not say more.
    ///
    /// # Errors
    /// [`Problem::Form`] if the body is a form without exactly one photo, [`Problem::MediaType`], and
    /// [`Problem::Decode`] for the type of HEIC.
    pub fn photo(self, body: Bytes) -> Result<Bytes, Problem> {
        let claimed = match self {
            BodyKind::Form { boundary } => return Ok(form::photo(&body, &boundary)?),
            BodyKind::Photo { claimed } => claimed,
        };
        let is_unknown = !body.is_empty()
            && matches!(Format::of(&body), Err(DecodeError::UnknownFormat))
            && media::recognize(&body).is_none();
        if is_unknown && HEIC_MEDIA_TYPES.contains(&claimed.as_str()) {
            // Its remedy is another one than that of an unknown type.
            return Err(Problem::Decode(DecodeError::Heic));
        }
        if is_unknown && media::claims_something_else(&claimed) {
            return Err(Problem::MediaType(repeated(&claimed)));
        }
        Ok(body)
    }
}

/// Returns a client's text for a problem: cut if it is long.
fn repeated(text: &str) -> String {
    text.chars().take(MAX_REPEATED).collect()
}

fn announced_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A request's body, and how much of it was read.
#[derive(Debug)]
pub struct Incoming<B> {
    body: B,
    announced: Option<u64>,
    /// True if the client may be waiting for leave to send it.
    waits: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Untouched,
    Begun,
    /// Read to its end, or failed, or there is none.
    Ended,
}

impl<B> Incoming<B>
where
    B: BodyExt<Data = Bytes> + Unpin,
{
    /// Returns the body of a request with this head.
    pub fn new(method: &Method, headers: &HeaderMap, body: B) -> Incoming<B> {
        let announced = announced_length(headers);
        // A host hides that a body comes in chunks: without a length there may be one.
        let rarely = [Method::GET, Method::HEAD, Method::OPTIONS].contains(method);
        let none = announced.map_or(rarely, |length| length == 0);
        let waits = headers
            .get(EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        let state = if none { State::Ended } else { State::Untouched };
        Incoming { body, announced, waits, state }
    }

    /// Reads the body, and stops as soon as it is larger than the limit.
    ///
    /// # Errors
    /// [`Problem::TooLarge`], [`Problem::NoMemory`], and [`Problem::CutOff`] if the body fails before its
    /// end.
    pub async fn read(&mut self, limit: u64) -> Result<Bytes, Problem> {
        let no_memory = |_| Problem::NoMemory;
        // As much as is announced: a buffer that grows needs twice the body's size for a moment. A host
        // may limit an instance's memory, and one that cannot allocate ends.
        let announced = self.announced.unwrap_or(0).min(limit);
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(usize::try_from(announced).unwrap_or(0)).map_err(no_memory)?;
        while let Some(frame) = self.frame().await {
            let Ok(frame) = frame else { return Err(Problem::CutOff { received: bytes.len() }) };
            let Ok(data) = frame.into_data() else { continue };
            if (bytes.len() + data.len()) as u64 > limit {
                return Err(Problem::TooLarge { limit });
            }
            bytes.try_reserve(data.len()).map_err(no_memory)?;
            bytes.extend_from_slice(&data);
        }
        Ok(bytes.into())
    }

    async fn frame(&mut self) -> Option<Result<http_body::Frame<Bytes>, B::Error>> {
        self.state = State::Begun;
        let frame = self.body.frame().await;
        if !matches!(frame, Some(Ok(_))) {
            self.state = State::Ended;
        }
        frame
    }

    /// Returns what is left of the body, if it should be read: [`Rest`].
    pub fn rest(self) -> Option<Rest<B>> {
        let wanted = match self.state {
            State::Ended => false,
            State::Begun => true,
            // It was not asked to send, and an answer instead of that leave means that it need not.
            State::Untouched => !self.waits,
        };
        wanted.then_some(Rest(self))
    }
}

/// The rest of a body that has been answered already.
///
/// Many clients send all of a body before they read the answer (Python's http.client, most browsers).
/// A host that is told that nobody wants the rest closes the connection; what arrives then makes the
/// system reset it, and the client loses an answer that it has not read yet. So the rest is read and
/// discarded, within bounds of size and time.
#[derive(Debug)]
pub struct Rest<B>(Incoming<B>);

impl<B> Rest<B>
where
    B: BodyExt<Data = Bytes> + Unpin,
{
    /// Reads and discards the rest: at most 64 MiB in 30 seconds, and no longer than a pause of 5.
    pub async fn discard(self, host: &dyn Host) {
        let Rest(mut body) = self;
        let start = host.now();
        let mut discarded = 0;
        while discarded < DISCARDED_BYTES {
            let left = DISCARDED_TIME.saturating_sub(host.now().saturating_duration_since(start));
            if left.is_zero() {
                return;
            }
            let frame = std::pin::pin!(body.frame());
            match select(frame, host.sleep(left.min(DISCARDED_PAUSE))).await {
                Either::Left((Some(Ok(frame)), _)) => {
                    discarded += frame.data_ref().map_or(0, Bytes::len);
                }
                Either::Left(_) | Either::Right(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::{FutureExt, stream};
    use http::HeaderValue;
    use http_body::Frame;
    use http_body_util::StreamBody;

    use super::*;
    use crate::fake::Fake;

    /// The beginning of a JPEG.
    const JPEG: &[u8] = b"\xff\xd8\xff\xe0\0\x10JFIF\0 photo";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (http::HeaderName::from_static(name), HeaderValue::try_from(*value).expect("a value"))
        };
        pairs.iter().map(pair).collect()
    }

    fn kind(content_type: &str) -> Result<BodyKind, Problem> {
        BodyKind::of(&headers(&[("content-type", content_type)]), 100)
    }

    fn claimed(claimed: &str) -> BodyKind {
        BodyKind::Photo { claimed: claimed.into() }
    }

    #[test]
    fn photo_is_taken_whatever_its_type_claims() {
        let types = Format::ALL.into_iter().flat_map(Format::media_types).copied();
        for media_type in types.chain([
            "",
            "application/octet-stream",
            "application/x-www-form-urlencoded",
            "binary/octet-stream",
            "image/*",
            "image/pjpeg",
            "image/heic",
            "IMAGE/JPEG; quality=1",
            "text/plain; charset=utf-8",
            "application/json",
            "nonsense",
        ]) {
            let kind = kind(media_type).expect("a kind");
            let photo = kind.photo(Bytes::from_static(JPEG));
            assert_eq!(photo.expect("a photo"), JPEG, "{media_type}");
        }
        assert_eq!(BodyKind::of(&HeaderMap::new(), 100).ok(), Some(claimed("")));
    }

    #[test]
    fn form_needs_a_boundary() {
        for content_type in
            ["multipart/form-data; boundary=\"a b\"", "Multipart/Related; type=x; boundary=a b"]
        {
            let form = BodyKind::Form { boundary: "a b".into() };
            assert_eq!(kind(content_type).ok(), Some(form), "{content_type}");
        }
        for content_type in ["multipart/form-data", "multipart/mixed; boundary="] {
            let refused = kind(content_type);
            assert!(matches!(refused, Err(Problem::Form(FormError::NoBoundary))), "{refused:?}");
        }
        let form = kind("multipart/form-data; boundary=a").expect("a form");
        let refused = form.photo(Bytes::from_static(b"--a--"));
        assert!(matches!(refused, Err(Problem::Form(FormError::NoFile))), "{refused:?}");
    }

    #[test]
    fn claimed_type_counts_for_unknown_bytes_only() {
        let photo = |kind: &str, body: &'static [u8]| claimed(kind).photo(Bytes::from_static(body));
        let long = format!("text/{}", "x".repeat(MAX_REPEATED));
        for (media_type, repeated) in
            [("application/x-thing", "application/x-thing"), (&long, &long[..MAX_REPEATED])]
        {
            match photo(media_type, b"?") {
                Err(Problem::MediaType(found)) => assert_eq!(found, repeated),
                other => panic!("{other:?}"),
            }
        }
        for media_type in HEIC_MEDIA_TYPES {
            let refused = photo(media_type, b"?");
            assert!(matches!(refused, Err(Problem::Decode(DecodeError::Heic))), "{refused:?}");
        }
        // The decoder names what these are.
        for (media_type, body) in [
            ("image/jpeg", &b"?"[..]),
            ("", b"?"),
            ("text/plain", b""),
            ("image/heic", b""),
            ("text/plain", b"GIF89a"),
            ("application/json", b"{}"),
            ("text/plain", b"\0\0\0\x18ftypheic"),
        ] {
            assert_eq!(photo(media_type, body).expect("left to the decoder"), body);
        }
    }

    #[test]
    fn content_encoding_is_refused() {
        let encoded = |value| BodyKind::of(&headers(&[("content-encoding", value)]), 100);
        for (value, coding) in
            [("gzip", "gzip"), ("identity, BR", "BR"), ("deflate, gzip", "deflate"), ("x y", "x y")]
        {
            match encoded(value) {
                Err(Problem::ContentEncoding(found)) => assert_eq!(found, coding),
                other => panic!("{other:?}"),
            }
        }
        for value in ["", "identity", "Identity , "] {
            assert_eq!(encoded(value).ok(), Some(claimed("")), "{value:?}");
        }
    }

    #[test]
    fn announced_length_over_the_limit_is_refused_before_reading() {
        let headers = headers(&[("content-length", "101")]);
        assert!(matches!(BodyKind::of(&headers, 100), Err(Problem::TooLarge { limit: 100 })));
        assert!(BodyKind::of(&headers, 101).is_ok());
    }

    /// A body of these chunks, which then ends or fails. Counts the chunks that were read.
    fn body<'a>(
        chunks: &'a [&'static [u8]],
        fails: bool,
        taken: &'a Cell<usize>,
    ) -> impl BodyExt<Data = Bytes> + Unpin + 'a {
        let chunks = chunks.iter().map(|chunk| Ok(Frame::data(Bytes::from_static(chunk))));
        let failure = fails.then(|| Err(std::io::Error::other("the connection is gone")));
        StreamBody::new(stream::iter(chunks.chain(failure).inspect(|_| taken.set(taken.get() + 1))))
    }

    fn read_all(
        chunks: &[&'static [u8]],
        fails: bool,
        limit: u64,
    ) -> (Result<Bytes, Problem>, usize) {
        let taken = Cell::new(0);
        let body = body(chunks, fails, &taken);
        let mut body = Incoming::new(&Method::POST, &HeaderMap::new(), body);
        let read = body.read(limit).now_or_never().expect("nothing to wait for");
        (read, taken.get())
    }

    #[test]
    fn body_within_the_limit_is_read() {
        let (bytes, _) = read_all(&[b"ab", b"", b"cd"], false, 4);
        assert_eq!(bytes.expect("a body"), &b"abcd"[..]);
        let (bytes, _) = read_all(&[], false, 4);
        assert_eq!(bytes.expect("a body"), &b""[..]);
    }

    #[test]
    fn body_over_the_limit_is_not_read_to_its_end() {
        let (refused, taken) = read_all(&[b"ab", b"cd", b"ef"], false, 3);
        assert!(matches!(refused, Err(Problem::TooLarge { limit: 3 })), "{refused:?}");
        assert_eq!(taken, 2);
    }

    #[test]
    fn body_that_fails_is_cut_off() {
        let (refused, _) = read_all(&[b"ab", b"c"], true, 100);
        assert!(matches!(refused, Err(Problem::CutOff { received: 3 })), "{refused:?}");
        let (refused, _) = read_all(&[], true, 100);
        assert!(matches!(refused, Err(Problem::CutOff { received: 0 })), "{refused:?}");
    }

    #[test]
    fn buffer_has_the_announced_size() {
        let length = headers(&[("content-length", "3")]);
        let taken = Cell::new(0);
        let chunks: [&[u8]; 2] = [b"ab", b"c"];
        let mut incoming = Incoming::new(&Method::POST, &length, body(&chunks, false, &taken));
        let read = incoming.read(10).now_or_never().expect("nothing to wait for");
        assert_eq!(read.expect("a body"), &b"abc"[..]);
        // The announcement of a liar allocates no more than the limit.
        let length = headers(&[("content-length", &u64::MAX.to_string())]);
        let mut incoming = Incoming::new(&Method::POST, &length, body(&chunks, false, &taken));
        let read = incoming.read(10).now_or_never().expect("nothing to wait for");
        assert_eq!(read.expect("a body"), &b"abc"[..]);
    }

    #[test]
    fn rest_of_a_body_is_wanted_if_a_client_may_be_sending_it() {
        let rest = |method, pairs: &[(&'static str, &str)], limit: Option<u64>| {
            let taken = Cell::new(0);
            let chunks: [&[u8]; 2] = [b"ab", b"cd"];
            let body = body(&chunks, false, &taken);
            let mut incoming = Incoming::new(&method, &headers(pairs), body);
            if let Some(limit) = limit {
                _ = incoming.read(limit).now_or_never().expect("nothing to wait for");
            }
            incoming.rest().is_some()
        };
        let four = ("content-length", "4");
        assert!(rest(Method::POST, &[four], None));
        assert!(rest(Method::POST, &[], None), "in chunks");
        assert!(rest(Method::GET, &[four], None));
        assert!(rest(Method::POST, &[], Some(3)));
        assert!(!rest(Method::POST, &[], Some(4)), "read to its end");
        assert!(!rest(Method::POST, &[("content-length", "0")], None));
        assert!(!rest(Method::GET, &[], None));
        // A client that waits for leave to send gets an answer instead.
        let waits = ("expect", "100-Continue");
        assert!(!rest(Method::POST, &[four, waits], None));
        assert!(rest(Method::POST, &[waits], Some(3)), "it was given");
    }

    /// Discards a body of chunks, each of which takes some time. Returns how many were read.
    fn discard(chunk: usize, chunks: usize, takes: Duration) -> usize {
        let host = Fake::default();
        let taken = Cell::new(0);
        let chunk = Bytes::from(vec![0; chunk]);
        let frames = (0..chunks).map(|_| {
            taken.set(taken.get() + 1);
            host.pass(takes);
            Ok::<_, std::io::Error>(Frame::data(chunk.clone()))
        });
        let body = StreamBody::new(stream::iter(frames));
        let body = Incoming::new(&Method::POST, &HeaderMap::new(), body);
        let rest = body.rest().expect("a rest");
        rest.discard(&host).now_or_never().expect("nothing to wait for");
        taken.get()
    }

    #[test]
    fn rest_is_discarded_within_bounds() {
        const MIB: usize = 1 << 20;
        assert_eq!(discard(MIB, 30, Duration::ZERO), 30);
        assert_eq!(discard(MIB, 1000, Duration::ZERO), DISCARDED_BYTES / MIB);
        let seconds = DISCARDED_TIME.as_secs() as usize;
        assert_eq!(discard(1, 1000, Duration::from_secs(1)), seconds);
        assert_eq!(discard(0, 1000, Duration::from_secs(1)), seconds, "chunks of nothing");
    }

    #[test]
    fn rest_that_pauses_is_left() {
        let host = Fake::default();
        let frames = stream::pending::<Result<Frame<Bytes>, std::io::Error>>();
        let body = Incoming::new(&Method::POST, &HeaderMap::new(), StreamBody::new(frames));
        let rest = body.rest().expect("a rest");
        rest.discard(&host).now_or_never().expect("not for ever");
        assert_eq!(host.take_slept(), DISCARDED_PAUSE);
    }
}

//! The body of `POST /predict`: read within a limit, and the photo in it.

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::BodyExt;

use vision::decode::{DecodeError, Format, HEIC_MEDIA_TYPES};

use crate::media;
use crate::problem::Problem;

/// Longest `Content-Type` that a problem repeats, in characters.
const MAX_MEDIA_TYPE: usize = 100;

/// The way in which a body holds the photo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// The body is the photo.
    Photo,
    /// The body is a form with this boundary.
    Multipart(String),
}

impl BodyKind {
    /// Returns the kind by the request's headers, before the body is read.
    ///
    /// A photo's format is read from its content later. A request without a `Content-Type` is taken
    /// for a photo.
    ///
    /// # Errors
    /// [`Problem::TooLarge`] if the announced length is over the limit, [`Problem::MediaType`],
    /// [`Problem::Multipart`] without a boundary, [`Problem::Decode`] for HEIC.
    pub fn of(headers: &HeaderMap, max_body_bytes: u64) -> Result<BodyKind, Problem> {
        let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
        let length = text(CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
        if length.is_some_and(|length| length > max_body_bytes) {
            return Err(Problem::TooLarge { limit: max_body_bytes });
        }
        let Some(content_type) = text(CONTENT_TYPE) else {
            return Ok(BodyKind::Photo);
        };
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        let lower_case = essence.to_ascii_lowercase();
        let is = |media_types: &[&str]| media_types.contains(&lower_case.as_str());
        if Format::ALL.iter().any(|format| is(format.media_types())) {
            Ok(BodyKind::Photo)
        } else if is(&HEIC_MEDIA_TYPES) {
            // Its remedy is another one than that of an unknown type.
            Err(Problem::Decode(DecodeError::Heic))
        } else if is(&[media::FORM]) {
            multer::parse_boundary(&*content_type)
                .map(BodyKind::Multipart)
                .map_err(|error| Problem::Multipart(error.to_string()))
        } else {
            Err(Problem::MediaType(essence.chars().take(MAX_MEDIA_TYPE).collect()))
        }
    }

    /// Returns the photo in a body.
    ///
    /// # Errors
    /// [`Problem::Multipart`] if the body is a form without exactly one file.
    pub async fn photo(self, body: Bytes) -> Result<Bytes, Problem> {
        match self {
            BodyKind::Photo => Ok(body),
            BodyKind::Multipart(boundary) => only_file(body, boundary).await,
        }
    }
}

/// Returns the one field of a form that has a file name. Other fields are ignored.
async fn only_file(body: Bytes, boundary: String) -> Result<Bytes, Problem> {
    let malformed = |error: multer::Error| Problem::Multipart(error.to_string());
    let body = stream::iter([Ok::<_, std::convert::Infallible>(body)]);
    let mut parts = multer::Multipart::new(body, boundary);
    let mut file = None;
    while let Some(field) = parts.next_field().await.map_err(malformed)? {
        if field.file_name().is_none() {
            continue;
        }
        let bytes = field.bytes().await.map_err(malformed)?;
        if file.replace(bytes).is_some() {
            return Err(Problem::Multipart("it has more than one file".into()));
        }
    }
    file.ok_or_else(|| Problem::Multipart("it has no file".into()))
}

/// Reads a body, and stops as soon as it is larger than the limit.
///
/// # Errors
/// [`Problem::TooLarge`], and [`Problem::CutOff`] if the body fails before its end.
pub async fn read<B>(mut body: B, limit: u64) -> Result<Bytes, Problem>
where
    B: BodyExt<Data = Bytes> + Unpin,
{
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Err(Problem::CutOff { received: bytes.len() }) };
        let Ok(data) = frame.into_data() else { continue };
        if (bytes.len() + data.len()) as u64 > limit {
            return Err(Problem::TooLarge { limit });
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::FutureExt;
    use http::HeaderValue;
    use http_body::Frame;
    use http_body_util::StreamBody;

    use super::*;

    fn kind(content_type: &str) -> Result<BodyKind, Problem> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::try_from(content_type).expect("a value"));
        BodyKind::of(&headers, 100)
    }

    #[test]
    fn every_media_type_of_a_format_is_a_photo() {
        for media_type in Format::ALL.into_iter().flat_map(Format::media_types) {
            assert_eq!(kind(media_type).ok(), Some(BodyKind::Photo), "{media_type}");
        }
        assert_eq!(kind("IMAGE/JPEG; quality=1").ok(), Some(BodyKind::Photo));
        assert_eq!(BodyKind::of(&HeaderMap::new(), 100).ok(), Some(BodyKind::Photo));
    }

    #[test]
    fn form_needs_a_boundary() {
        let form = kind("multipart/form-data; boundary=\"a b\"");
        assert_eq!(form.ok(), Some(BodyKind::Multipart("a b".into())));
        assert!(matches!(kind("multipart/form-data"), Err(Problem::Multipart(_))));
    }

    #[test]
    fn other_media_types_are_refused() {
        let long = format!("text/{}", "x".repeat(MAX_MEDIA_TYPE));
        for (media_type, repeated) in
            [("application/json", "application/json"), (&long, &long[..MAX_MEDIA_TYPE])]
        {
            match kind(media_type) {
                Err(Problem::MediaType(found)) => assert_eq!(found, repeated),
                other => panic!("{other:?}"),
            }
        }
        for media_type in HEIC_MEDIA_TYPES {
            let refused = kind(media_type);
            assert!(matches!(refused, Err(Problem::Decode(DecodeError::Heic))), "{refused:?}");
        }
    }

    #[test]
    fn announced_length_over_the_limit_is_refused_before_reading() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("101"));
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
        let read = read(body(chunks, fails, &taken), limit);
        (read.now_or_never().expect("nothing to wait for"), taken.get())
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
    fn form_has_exactly_one_file() {
        let field = |file: &str, content: &str| {
            let file =
                if file.is_empty() { String::new() } else { format!("; filename=\"{file}\"") };
            format!(
                "--edge\r\nContent-Disposition: form-data; name=\"f\"{file}\r\n\r\n{content}\r\n"
            )
        };
        let photo = |fields: &[String]| {
            let body = Bytes::from(format!("{}--edge--\r\n", fields.concat()));
            let photo = BodyKind::Multipart("edge".into()).photo(body);
            photo.now_or_never().expect("nothing to wait for")
        };
        let (note, one, two) = (field("", "hello"), field("a.jpg", "A"), field("b.jpg", "B"));
        assert_eq!(photo(&[note.clone(), one.clone()]).expect("a photo"), &b"A"[..]);
        for (fields, expected) in
            [(vec![note], "it has no file"), (vec![one, two], "it has more than one file")]
        {
            match photo(&fields) {
                Err(Problem::Multipart(reason)) => assert_eq!(reason, expected),
                other => panic!("{other:?}"),
            }
        }
        let malformed = BodyKind::Multipart("edge".into()).photo(Bytes::from_static(b"no form"));
        let malformed = malformed.now_or_never().expect("nothing to wait for");
        assert!(matches!(malformed, Err(Problem::Multipart(_))), "{malformed:?}");
    }
}

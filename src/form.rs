//! Forms: `multipart/form-data` (RFC 7578, RFC 2046) in memory, and the photo in one.
//!
//! The body is complete when it is parsed, so a part is a slice of it: nothing is copied. A library
//! that parses a stream holds a photo twice more for a moment, and refuses what devices and older
//! clients send: line ends without CR, a boundary that needs quotes and has none.
//!
//! Which part is the photo is not up to its headers alone. Browsers name the file, devices and small
//! libraries often do not. The one part whose content is a photo is taken: [`choose`].

use bytes::Bytes;
use memchr::{memchr, memmem};
use thiserror::Error;

use vision::decode::Format;

/// Most parts of a form. One is the photo, some may be fields; each costs a search for its end.
const MAX_PARTS: usize = 100;
/// Most bytes of a part's headers. Browsers send some 200; a file's name may have 255 bytes, each
/// percent-encoded in three.
const MAX_PART_HEADERS: usize = 8 * 1024;
/// Longest boundary that a problem repeats, in characters: the longest allowed one (RFC 2046).
const MAX_REPEATED: usize = 70;
/// Names of fields that hold the photo where no file name says so.
const NAMES: [&str; 7] = ["file", "image", "img", "photo", "picture", "snapshot", "upload"];

/// The reason why there is no photo in a form. The text is a sentence, then the remedy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FormError {
    /// The `Content-Type` has no boundary: it was set by hand.
    #[error(
        "The form cannot be read: its Content-Type has no boundary. Leave Content-Type out: the \
         library that builds the form sets it, with the boundary."
    )]
    NoBoundary,
    /// The boundary of the `Content-Type` begins no line of the body.
    #[error(
        "The form cannot be read: the boundary of its Content-Type, {0:?}, is nowhere in the body. \
         Leave Content-Type out: the library that builds the form sets it, with the boundary."
    )]
    OtherBoundary(String),
    /// The body is a photo and not a form.
    #[error(
        "The form cannot be read: the body is the {0} photo itself. Send it as {media_type}.",
        media_type = .0.media_type()
    )]
    BarePhoto(Format),
    /// The boundary that ends a form is missing.
    #[error(
        "The form cannot be read: it ends before its last boundary, --{0}--. Send it again, complete."
    )]
    CutOff(String),
    /// A part's headers do not end, or are too long.
    #[error(
        "The form cannot be read: a part's headers have no empty line behind them within {limit} \
         bytes. Send a form that a library has built.",
        limit = MAX_PART_HEADERS
    )]
    Headers,
    /// There are too many parts.
    #[error(
        "The form has more than {limit} parts. Send a form with one file, the photo.",
        limit = MAX_PARTS
    )]
    TooManyParts,
    /// No part can be the photo.
    #[error("The form has no file. Send a form with exactly one file, the photo.")]
    NoFile,
    /// The file input was left empty.
    #[error("The form's file is empty: no photo was chosen. Choose one, and send the form again.")]
    NoneChosen,
    /// More than one part can be the photo.
    #[error("The form has more than one file. Send a form with exactly one file, the photo.")]
    SeveralFiles,
}

/// Returns the boundary of a `Content-Type`, if it has one that is not empty.
///
/// Quotes are optional whatever it is made of: Java's mail library sends `----=_Part_1_2.3` without.
pub fn boundary(content_type: &str) -> Option<String> {
    parameters(content_type)
        .find_map(|(name, value)| (name == "boundary").then_some(value))
        .filter(|boundary| !boundary.is_empty())
}

/// Returns the photo in a form.
///
/// # Errors
/// Every [`FormError`] but [`FormError::NoBoundary`].
pub fn photo(body: &Bytes, boundary: &str) -> Result<Bytes, FormError> {
    choose(parts(body, boundary)?)
}

/// A part of a form.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    /// The field's name, in lower case.
    name: String,
    /// True if it has a file's name. An empty one is that of a file input without a file.
    has_file_name: bool,
    /// The media type, in lower case; empty if there is none.
    media_type: String,
    content: Bytes,
}

impl Part {
    /// True if the headers say that it is a file.
    fn is_file(&self) -> bool {
        self.has_file_name
            || self.media_type.starts_with("image/")
            || self.media_type == "application/octet-stream"
            || NAMES.contains(&self.name.as_str())
    }
}

/// Returns the part that is the photo.
///
/// That is the only one whose content is a photo. If there is none, the only file that has content is
/// returned, so that the decoder says what is wrong with it.
fn choose(parts: Vec<Part>) -> Result<Bytes, FormError> {
    let only = |mut parts: Vec<&Part>| match (parts.pop(), parts.pop()) {
        (Some(part), None) => Some(Ok(part.content.clone())),
        (Some(_), Some(_)) => Some(Err(FormError::SeveralFiles)),
        (None, _) => None,
    };
    let photos = parts.iter().filter(|part| Format::of(&part.content).is_ok()).collect();
    if let Some(photo) = only(photos) {
        return photo;
    }
    let (full, empty): (Vec<&Part>, Vec<&Part>) =
        parts.iter().filter(|part| part.is_file()).partition(|part| !part.content.is_empty());
    only(full).unwrap_or(Err(if empty.is_empty() {
        FormError::NoFile
    } else {
        FormError::NoneChosen
    }))
}

/// A line that begins with the boundary.
struct Delimiter {
    /// The end of what stands before it: its line's start, without the line break before.
    before: usize,
    /// The line's start.
    start: usize,
    /// The end of the line, with its line break.
    end: usize,
    /// True for the one that ends the form.
    last: bool,
}

/// Finds the lines that begin with the boundary, in order. A line may end with CR LF, as the standards
/// ask for, or with LF, as forms do that were written by hand.
fn delimiters<'a>(body: &'a [u8], dashes: &'a [u8]) -> impl Iterator<Item = Delimiter> + 'a {
    memmem::find_iter(body, dashes).filter_map(move |start| {
        let before = match &body[..start] {
            [] => 0,
            [.., b'\r', b'\n'] => start - 2,
            [.., b'\n'] => start - 1,
            _ => return None,
        };
        let after = start + dashes.len();
        let rest = &body[after..];
        if rest.starts_with(b"--") {
            return Some(Delimiter { before, start, end: after + 2, last: true });
        }
        let padding = rest.iter().take_while(|byte| b" \t".contains(byte)).count();
        let line_break = match &rest[padding..] {
            [b'\r', b'\n', ..] => 2,
            [b'\n', ..] => 1,
            // Another boundary, which this one is the beginning of.
            _ => return None,
        };
        Some(Delimiter { before, start, end: after + padding + line_break, last: false })
    })
}

/// Returns the parts of a form. What stands before the first boundary and after the last is ignored.
fn parts(body: &Bytes, boundary: &str) -> Result<Vec<Part>, FormError> {
    let repeated = || boundary.chars().take(MAX_REPEATED).collect::<String>();
    let dashes = format!("--{boundary}");
    let mut delimiters = delimiters(body, dashes.as_bytes());
    let Some(mut delimiter) = delimiters.next() else {
        return Err(match Format::of(body) {
            Ok(format) => FormError::BarePhoto(format),
            Err(_) => FormError::OtherBoundary(repeated()),
        });
    };
    let mut parts = Vec::new();
    while !delimiter.last {
        let Some(next) = delimiters.next() else {
            return Err(FormError::CutOff(repeated()));
        };
        if parts.len() == MAX_PARTS {
            return Err(FormError::TooManyParts);
        }
        parts.push(part(body, &delimiter, &next)?);
        delimiter = next;
    }
    Ok(parts)
}

/// Returns the part between two delimiters.
fn part(body: &Bytes, delimiter: &Delimiter, next: &Delimiter) -> Result<Part, FormError> {
    // The next line's start, not the line break before it: a part without content may have no line
    // break of its own.
    let region = &body[delimiter.end..next.start];
    let (headers, length) = headers(region).ok_or(FormError::Headers)?;
    let header = |wanted: &str| {
        let found = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map_or("", |(_, value)| value.as_str())
    };
    let disposition = header("content-disposition");
    let parameter =
        |wanted: &str| parameters(disposition).find(|(name, _)| name == wanted).map(|(_, v)| v);
    let start = delimiter.end + length;
    Ok(Part {
        name: parameter("name").unwrap_or_default().to_ascii_lowercase(),
        // RFC 5987, which RFC 7578 forbids in forms and older clients send.
        has_file_name: parameter("filename").or_else(|| parameter("filename*")).is_some(),
        media_type: essence(header("content-type")),
        content: body.slice(start.min(next.before)..next.before),
    })
}

/// Returns the headers at the start of a part, and their length with the empty line behind them.
/// `None` if that is missing or too far away. A line that is no header is ignored.
fn headers(region: &[u8]) -> Option<(Vec<(String, String)>, usize)> {
    let region = &region[..region.len().min(MAX_PART_HEADERS)];
    let mut headers: Vec<(String, String)> = Vec::new();
    let mut start = 0;
    loop {
        let length = memchr(b'\n', &region[start..])?;
        let line = &region[start..start + length];
        start += length + 1;
        let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line));
        if line.is_empty() {
            return Some((headers, start));
        }
        if let (true, Some((_, value))) = (line.starts_with([' ', '\t']), headers.last_mut()) {
            // A long header continues on the next line (RFC 5322).
            value.push(' ');
            value.push_str(line.trim());
        } else if let Some((name, value)) = line.split_once(':') {
            headers.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
}

/// Returns the type and subtype of a media type, in lower case, without its parameters.
pub fn essence(media_type: &str) -> String {
    media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Returns the parameters of a header's value, `; name=value; name="value"`: names in lower case, values
/// without quotes. Whatever stands before the first semicolon is skipped.
fn parameters(value: &str) -> impl Iterator<Item = (String, String)> + '_ {
    let mut rest = value.split_once(';').map_or("", |(_, rest)| rest);
    std::iter::from_fn(move || {
        loop {
            rest = rest.trim_start_matches([' ', '\t', ';']);
            if rest.is_empty() {
                return None;
            }
            let end = rest.find([';', '=']).unwrap_or(rest.len());
            let name = rest[..end].trim().to_ascii_lowercase();
            let Some(after) = rest[end..].strip_prefix('=') else {
                // No value.
                rest = &rest[end..];
                continue;
            };
            let after = after.trim_start();
            let (value, length) = match after.strip_prefix('"') {
                Some(quoted) => {
                    let (value, length) = unquoted(quoted);
                    (value, 1 + length)
                }
                None => {
                    let end = after.find(';').unwrap_or(after.len());
                    (after[..end].trim_end().to_owned(), end)
                }
            };
            rest = &after[length..];
            return Some((name, value));
        }
    })
}

/// Returns the text up to a closing quote, and the length of what was read. A missing quote is where
/// the text ends.
fn unquoted(text: &str) -> (String, usize) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, at + 1),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The beginning of a JPEG.
    const JPEG: &[u8] = b"\xff\xd8\xff\xe0\0\x10JFIF\0 photo";

    /// Returns a form of these parts, each of headers and content.
    fn form(parts: &[(&str, &[u8])]) -> Bytes {
        form_with("\r\n", parts)
    }

    fn form_with(line_break: &str, parts: &[(&str, &[u8])]) -> Bytes {
        let mut body = Vec::new();
        for (headers, content) in parts {
            let headers = headers.replace('\n', line_break);
            body.extend(format!("--edge{line_break}{headers}{line_break}{line_break}").bytes());
            body.extend_from_slice(content);
            body.extend(line_break.bytes());
        }
        body.extend(format!("--edge--{line_break}").bytes());
        body.into()
    }

    const FIELD: (&str, &[u8]) = ("Content-Disposition: form-data; name=\"user\"", b"ada");
    const FILE: &str = "Content-Disposition: form-data; name=\"a\"; filename=\"v.jpg\"";
    const UNFILLED: (&str, &[u8]) = (
        "Content-Disposition: form-data; name=\"b\"; filename=\"\"\n\
         Content-Type: application/octet-stream",
        b"",
    );

    /// Returns a file of some content.
    fn file(content: &[u8]) -> (&str, &[u8]) {
        (FILE, content)
    }

    #[test]
    fn boundary_is_read_with_and_without_quotes() {
        for (content_type, boundary) in [
            ("multipart/form-data; boundary=edge", "edge"),
            ("multipart/form-data;boundary=edge;charset=utf-8", "edge"),
            ("multipart/form-data; charset=utf-8; Boundary = edge ", "edge"),
            ("multipart/form-data; boundary=\"b/Qe:f\"", "b/Qe:f"),
            ("multipart/form-data; boundary=\"a b;c\"; x=y", "a b;c"),
            ("multipart/form-data; boundary=\"a\\\"b\"", "a\"b"),
            ("multipart/form-data; boundary=----=_Part_1_2.3", "----=_Part_1_2.3"),
            ("multipart/form-data; boundary=b/Qe:f?(1)", "b/Qe:f?(1)"),
            ("multipart/form-data; boundary=\"open", "open"),
            ("multipart/form-data; x=\"boundary=no\"; boundary=yes", "yes"),
            ("multipart/form-data; flag; boundary=yes", "yes"),
        ] {
            assert_eq!(super::boundary(content_type).as_deref(), Some(boundary), "{content_type}");
        }
        for content_type in [
            "multipart/form-data",
            "multipart/form-data;",
            "multipart/form-data; boundary",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=\"\"",
            "multipart/form-data; boundary=;",
            "boundary=edge",
        ] {
            assert_eq!(super::boundary(content_type), None, "{content_type}");
        }
    }

    #[test]
    fn photo_is_found_however_it_is_named() {
        for headers in [
            FILE,
            "Content-Disposition: form-data; name=\"a\"; filename*=UTF-8''h%C3%A4nd.jpg",
            "Content-Disposition: form-data; name=\"a\"; filename=\"\"; filename*=UTF-8''v.jpg",
            "Content-Disposition: form-data; name=\"a\"\nContent-Type: image/jpeg",
            "Content-Disposition: form-data; name=\"a\"\nContent-Type: Application/Octet-Stream",
            "Content-Disposition: form-data; name=\"Photo\"",
            "Content-Disposition: form-data; name=\"anything\"",
            "Content-Disposition: form-data; name=file; filename=v.jpg",
            "CONTENT-DISPOSITION:form-data;NAME=\"a\";FILENAME=\"v.jpg\"",
            "Content-Disposition: form-data;\n name=\"a\";\n\tfilename=\"v.jpg\"",
            "Content-Type: text/plain",
            "X-Nothing: 1",
            "no header at all",
        ] {
            for fields in [&[][..], &[FIELD], &[FIELD, UNFILLED]] {
                let parts = [fields, &[(headers, JPEG)]].concat();
                assert_eq!(photo(&form(&parts), "edge").as_deref(), Ok(JPEG), "{headers}");
            }
            let parts = [(headers, JPEG), UNFILLED];
            assert_eq!(photo(&form(&parts), "edge").as_deref(), Ok(JPEG), "{headers}");
        }
    }

    #[test]
    fn part_without_headers_is_taken() {
        let body = [&b"--edge\r\n\r\n"[..], JPEG, b"\r\n--edge--"].concat();
        assert_eq!(photo(&body.into(), "edge").as_deref(), Ok(JPEG));
    }

    #[test]
    fn line_ends_without_cr_are_taken() {
        let body = form_with("\n", &[FIELD, file(JPEG)]);
        assert_eq!(photo(&body, "edge").as_deref(), Ok(JPEG));
        // And mixed: the first line of a template, say.
        let body = [&b"--edge\n\r\n"[..], JPEG, b"\n--edge--"].concat();
        assert_eq!(photo(&body.into(), "edge").as_deref(), Ok(JPEG));
    }

    #[test]
    fn text_around_the_form_is_ignored() {
        let inner = form(&[file(JPEG)]);
        let body = [&b"This is a form.\r\n\r\n"[..], &inner[..], b"Good bye --edge\r\n"].concat();
        assert_eq!(photo(&body.into(), "edge").as_deref(), Ok(JPEG));
        // Transport padding (RFC 2046).
        let body = [&b"--edge \t \r\n\r\n"[..], JPEG, b"\r\n--edge-- "].concat();
        assert_eq!(photo(&body.into(), "edge").as_deref(), Ok(JPEG));
    }

    #[test]
    fn boundary_inside_a_photo_is_a_part_of_it() {
        for inside in [&b"--edge\r\n"[..], b"\r\n--edges\r\n", b"\r\n-edge--", b"\r--edge--"] {
            let photo = [JPEG, inside, b"more"].concat();
            let body = form(&[file(&photo)]);
            assert_eq!(super::photo(&body, "edge").as_deref(), Ok(&photo[..]), "{inside:?}");
        }
    }

    #[test]
    fn line_breaks_at_a_photos_end_are_a_part_of_it() {
        for end in [&b"\r\n"[..], b"\n", b"\r"] {
            let photo = [JPEG, end].concat();
            let body = form(&[file(&photo)]);
            assert_eq!(super::photo(&body, "edge").as_deref(), Ok(&photo[..]), "{end:?}");
        }
    }

    #[test]
    fn file_that_is_no_photo_is_left_to_the_decoder() {
        let named = ("Content-Disposition: form-data; name=\"image\"", &b"data:image/png"[..]);
        for other in [file(b"GIF89a"), named] {
            assert_eq!(photo(&form(&[FIELD, other]), "edge").as_deref(), Ok(other.1));
            assert_eq!(photo(&form(&[other, UNFILLED]), "edge").as_deref(), Ok(other.1));
            // A photo takes precedence.
            assert_eq!(photo(&form(&[other, file(JPEG)]), "edge").as_deref(), Ok(JPEG));
        }
    }

    #[test]
    fn form_without_one_photo_is_refused() {
        let other = ("Content-Disposition: form-data; name=\"note\"", &b"hello"[..]);
        for (parts, error) in [
            (&[][..], FormError::NoFile),
            (&[FIELD], FormError::NoFile),
            (&[FIELD, other], FormError::NoFile),
            (&[UNFILLED], FormError::NoneChosen),
            (&[FIELD, UNFILLED], FormError::NoneChosen),
            (&[file(b"")], FormError::NoneChosen),
            (&[file(JPEG), file(JPEG)], FormError::SeveralFiles),
            (&[file(b"GIF89a"), file(b"GIF89a")], FormError::SeveralFiles),
        ] {
            assert_eq!(photo(&form(parts), "edge"), Err(error), "{parts:?}");
        }
    }

    #[test]
    fn empty_part_may_lack_its_line_break() {
        let headers = UNFILLED.0.replace('\n', "\r\n");
        let body = format!("--edge\r\n{headers}\r\n\r\n--edge--");
        assert_eq!(photo(&body.into(), "edge"), Err(FormError::NoneChosen));
    }

    #[test]
    fn malformed_form_is_refused_with_the_reason() {
        let whole = form(&[file(JPEG)]);
        let cut_off = FormError::CutOff("edge".into());
        // From the end of the first line to just before the last dashes.
        let first = b"--edge\r\n".len();
        for length in first..whole.len() - b"--\r\n".len() + 1 {
            assert_eq!(photo(&whole.slice(..length), "edge"), Err(cut_off.clone()), "{length}");
        }
        let other = |boundary: &str| FormError::OtherBoundary(boundary.into());
        assert_eq!(photo(&whole, "egde"), Err(other("egde")));
        assert_eq!(photo(&Bytes::new(), "edge"), Err(other("edge")));
        assert_eq!(photo(&whole, &"é".repeat(100)), Err(other(&"é".repeat(MAX_REPEATED))));
        let bare = photo(&Bytes::from_static(JPEG), "edge");
        assert_eq!(bare, Err(FormError::BarePhoto(Format::Jpeg)));
        let open = Bytes::from_static(b"--edge\r\nContent-Type: a\r\n--edge--");
        assert_eq!(photo(&open, "edge"), Err(FormError::Headers));
    }

    #[test]
    fn parts_and_headers_are_bounded() {
        let parts = vec![file(b""); MAX_PARTS];
        assert_eq!(photo(&form(&parts), "edge"), Err(FormError::NoneChosen));
        let parts = vec![file(b""); MAX_PARTS + 1];
        assert_eq!(photo(&form(&parts), "edge"), Err(FormError::TooManyParts));
        // With the empty line behind them.
        let header = |length: usize| format!("X: {}", "x".repeat(length - "X: \r\n\r\n".len()));
        let body = form(&[(&header(MAX_PART_HEADERS), JPEG)]);
        assert_eq!(photo(&body, "edge").as_deref(), Ok(JPEG));
        let body = form(&[(&header(MAX_PART_HEADERS + 1), JPEG)]);
        assert_eq!(photo(&body, "edge"), Err(FormError::Headers));
    }
}

//! Media types, and what a body is. **The content decides**, by these rules in this order:
//!
//! 1. A body of type `multipart/…` is a form; the photo is the part that [`crate::form`] finds. A JSON object
//!    with a `url` asks to fetch the photo: [`crate::photo_url`].
//! 2. Bytes that begin as a [`Format`] does are a photo, whatever type is claimed for them. Clients
//!    claim nothing, or their library's default, or the type of the file that the photo was before it
//!    was converted.
//! 3. Other bytes are named if they are known: [`recognize`]. That is a 415 with the remedy.
//! 4. Bytes that nothing is known of leave it to the claimed type. One of something else than a photo
//!    is a 415 too ([`claims_something_else`]); else the photo cannot be decoded, a 422.

use vision::decode::{DecodeError, Format};

/// The media type of a form.
pub const FORM: &str = "multipart/form-data";

/// Types that clients send with a photo and that say nothing about it: the general ones, and the default
/// of `curl --data-binary`.
const UNSPECIFIC: [&str; 5] = [
    "application/binary",
    "application/octet-stream",
    "application/x-www-form-urlencoded",
    "binary/octet-stream",
    "*/*",
];

/// Bytes of text that are looked at. What a text is shows at its beginning.
const MAX_TEXT: usize = 1024;
/// Characters from which on text of base64's alphabet alone is base64. No word is as long.
const LONG_BASE64: usize = 64;

/// Returns the media types of `POST /predict`'s body: one for each format, then that of a form.
pub fn accepted() -> [&'static str; Format::ALL.len() + 1] {
    let mut types = [FORM; Format::ALL.len() + 1];
    types
        .iter_mut()
        .zip(Format::ALL)
        .for_each(|(media_type, format)| *media_type = format.media_type());
    types
}

/// True if a media type, in lower case and without parameters, is one of something else than a photo.
pub fn claims_something_else(media_type: &str) -> bool {
    !(media_type.is_empty() || media_type.starts_with("image/") || UNSPECIFIC.contains(&media_type))
}

/// Returns words as people list them: `a, b or c`.
pub fn list<const N: usize>(words: [&str; N]) -> String {
    match words.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}

/// Something that is sent where a photo is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    /// Its name, with an article where it needs one: `a GIF picture`.
    pub name: &'static str,
    /// A sentence that says what to send.
    pub remedy: &'static str,
}

const fn content(name: &'static str, remedy: &'static str) -> Content {
    Content { name, remedy }
}

const CONVERT: &str = "Save it as JPEG, and send that.";
const FRAME: &str = "Save one picture of it as JPEG, and send that.";
const UNPACK: &str = "Unpack it, and send the photo itself, which is compressed already.";
pub(crate) const RAW: &str = "Send the photo's own bytes as the body, or a form with one file.";
const UNDO: &str = "Decode it, and send the bytes that it stands for.";
const NOT_A_STRING: &str =
    "Send the bytes as they are (in JavaScript a Blob, ArrayBuffer or Buffer), not a string.";
const FETCH: &str = "Fetch the photo, and send its bytes.";

const BINARY: &str = "Send the file byte by byte: with curl --data-binary instead of --data.";
/// A photo after `curl --data`, or a transfer of text.
const WITHOUT_LINE_BREAKS: Content =
    content("a photo that lost its line breaks on its way", BINARY);

/// Shortest photo in which a missing byte is no accident.
const MIN_COMPLETE: usize = 512;

/// Contents with fixed bytes at an offset. The names are those of the formats' own specifications.
const BY_MAGIC: &[(usize, &[u8], Content)] = &[
    (0, b"GIF87a", content("a GIF picture", CONVERT)),
    (0, b"GIF89a", content("a GIF picture", CONVERT)),
    (0, b"II*\0", content("a TIFF picture or a camera's raw file", CONVERT)),
    (0, b"MM\0*", content("a TIFF picture or a camera's raw file", CONVERT)),
    (0, b"II+\0", content("a BigTIFF picture", CONVERT)),
    (0, b"MM\0+", content("a BigTIFF picture", CONVERT)),
    (0, b"\0\0\0\x0cjP  \r\n", content("a JPEG 2000 picture", CONVERT)),
    (0, b"\xff\x4f\xff\x51", content("a JPEG 2000 picture", CONVERT)),
    (0, b"\0\0\0\x0cJXL \r\n", content("a JPEG XL picture", CONVERT)),
    (0, b"\xff\x0a", content("a JPEG XL picture", CONVERT)),
    (0, b"\0\0\x01\0", content("an ICO picture", CONVERT)),
    (0, b"8BPS", content("a Photoshop file", CONVERT)),
    (0, b"qoif", content("a QOI picture", CONVERT)),
    (0, b"FUJIFILMCCD-RAW", content("a camera's raw file", CONVERT)),
    (128, b"DICM", content("a DICOM file", CONVERT)),
    (0, b"%PDF-", content("a PDF document", FRAME)),
    (0, b"%!PS", content("a PostScript document", FRAME)),
    (0, b"\x1a\x45\xdf\xa3", content("a WebM or Matroska video", FRAME)),
    (0, b"\0\0\x01\xba", content("an MPEG video", FRAME)),
    (0, b"\0\0\x01\xb3", content("an MPEG video", FRAME)),
    (0, b"FLV\x01", content("a Flash video", FRAME)),
    (0, b"OggS", content("an Ogg file", FRAME)),
    (0, b"\x1f\x8b", content("data compressed by gzip", UNPACK)),
    (0, b"\x28\xb5\x2f\xfd", content("data compressed by Zstandard", UNPACK)),
    (0, b"\x78\x01", content("data compressed by zlib (deflate)", UNPACK)),
    (0, b"\x78\x9c", content("data compressed by zlib (deflate)", UNPACK)),
    (0, b"\x78\xda", content("data compressed by zlib (deflate)", UNPACK)),
    (0, b"BZh", content("data compressed by bzip2", UNPACK)),
    (0, b"\xfd7zXZ\0", content("data compressed by xz", UNPACK)),
    (0, b"PK\x03\x04", content("a ZIP archive", UNPACK)),
    (0, b"7z\xbc\xaf\x27\x1c", content("a 7z archive", UNPACK)),
    (257, b"ustar", content("a tar archive", UNPACK)),
    // What a PNG's first bytes become: made to show this.
    (0, b"\x89PNG\x1a", WITHOUT_LINE_BREAKS),
    (0, b"\x89PNG\n\x1a", WITHOUT_LINE_BREAKS),
    (0, b"\x89PNG\r\r\n", WITHOUT_LINE_BREAKS),
    // A JPEG or PNG, read as UTF-8: each byte that is no character was replaced by U+FFFD.
    (0, "\u{fffd}\u{fffd}\u{fffd}".as_bytes(), TEXT),
    (0, "\u{fffd}PNG".as_bytes(), TEXT),
    // The same, read as Latin-1 and written as UTF-8.
    (0, "\u{ff}\u{d8}\u{ff}".as_bytes(), TEXT),
    (0, "\u{89}PNG".as_bytes(), TEXT),
];

/// Brands of ISO base media files (ISO/IEC 14496-12) that are pictures. HEIC is the decoder's. All others
/// are videos.
const BY_BRAND: &[(&[u8; 4], Content)] = &[
    (b"avif", content("an AVIF photo", CONVERT)),
    (b"avis", content("an AVIF photo", CONVERT)),
    (b"crx ", content("a camera's raw file", CONVERT)),
];

/// Kinds of RIFF files. WebP is the decoder's.
const BY_RIFF: &[(&[u8; 4], Content)] =
    &[(b"AVI ", content("an AVI video", FRAME)), (b"WAVE", content("a sound", RAW))];

/// Contents whose text begins with these words, in lower case.
const BY_TEXT: &[(&str, Content)] = &[
    ("data:", content("a data: URL", "Decode what follows its comma, and send those bytes.")),
    ("blob:", content("a blob: URL, which only its own page can read", FETCH)),
    ("http://", content("a web address", FETCH)),
    ("https://", content("a web address", FETCH)),
    ("file://", content("a file's address", FETCH)),
    ("[object ", content("JavaScript's name of an object", NOT_A_STRING)),
    ("b'\\x", content("Python's text for bytes", "Send the bytes themselves, not str() of them.")),
    ("b\"\\x", content("Python's text for bytes", "Send the bytes themselves, not str() of them.")),
    ("version https://git-lfs", content("a Git LFS pointer", "Fetch the file by `git lfs pull`.")),
    ("{", content("JSON", RAW)),
    ("[", content("JSON", RAW)),
    ("\"", content("a JSON string", RAW)),
    ("<svg", content("an SVG drawing", CONVERT)),
    ("<!doctype html", HTML),
    ("<html", HTML),
    ("<head", HTML),
    ("<body", HTML),
    ("<?xml", content("XML", RAW)),
    ("p5\n", content("a Netpbm picture", CONVERT)),
    ("p6\n", content("a Netpbm picture", CONVERT)),
];

const TEXT: Content = content("a photo that became text on its way", NOT_A_STRING);
const HTML: Content = content(
    "an HTML page",
    "Look at the page: it is most likely an error or a login, sent in place of the photo.",
);
const SVG: Content = content("an SVG drawing", CONVERT);
const BMP: Content = content("a BMP picture", CONVERT);
const VIDEO: Content = content("an MP4 or QuickTime video", FRAME);
const SHIFTED: Content =
    content("a photo behind other text", "Send the file as it is, nothing before its first byte.");
const BARE_FORM: Content = content(
    "a form without its type",
    "Leave Content-Type out: the library that builds the form sets it, with the boundary.",
);
const BASE64: Content = content("base64", UNDO);
const HEXADECIMAL: Content = content("hexadecimal digits", UNDO);
const URL_ENCODED: Content = content("a URL-encoded form", RAW);
const FILE_NAME: Content = content(
    "a file's name",
    "Send the file's content: curl needs an @ before the name, and --data-binary.",
);

/// Recognises what is often sent in place of a photo, by its first bytes: pictures in other formats,
/// videos, documents, archives, and photos that were encoded as text. Returns `None` for a photo, and
/// for anything else.
pub fn recognize(bytes: &[u8]) -> Option<Content> {
    if Format::of(bytes).is_ok() {
        return None;
    }
    by_bytes(bytes).or_else(|| by_text(bytes))
}

/// Recognises a photo that cannot be decoded because its line breaks and zeros are gone, which every
/// compressed photo has.
pub fn recognize_broken(bytes: &[u8]) -> Option<Content> {
    let is_complete =
        bytes.len() < MIN_COMPLETE || bytes.iter().any(|byte| b"\0\r\n".contains(byte));
    (!is_complete).then_some(WITHOUT_LINE_BREAKS)
}

fn by_bytes(bytes: &[u8]) -> Option<Content> {
    let at = |offset: usize, expected: &[u8]| {
        bytes.get(offset..).is_some_and(|bytes| bytes.starts_with(expected))
    };
    if let Some((_, _, content)) = BY_MAGIC.iter().find(|(offset, magic, _)| at(*offset, magic)) {
        return Some(*content);
    }
    if at(4, b"ftyp") {
        // The decoder has a remedy of its own for HEIC.
        let brand = BY_BRAND.iter().find(|(brand, _)| at(8, *brand));
        let is_heic = matches!(Format::of(bytes), Err(DecodeError::Heic));
        return brand.map(|(_, content)| *content).or((!is_heic).then_some(VIDEO));
    }
    if at(0, b"RIFF") {
        return BY_RIFF.iter().find(|(kind, _)| at(8, *kind)).map(|(_, content)| *content);
    }
    // Two letters alone could be those of a text: the header's reserved field is 0.
    if at(0, b"BM") && at(6, &[0; 4]) {
        return Some(BMP);
    }
    None
}

fn by_text(bytes: &[u8]) -> Option<Content> {
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes).trim_ascii_start();
    if Format::of(bytes).is_ok() {
        return Some(SHIFTED);
    }
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_TEXT)]).to_ascii_lowercase();
    if let Some((_, content)) = BY_TEXT.iter().find(|(start, _)| text.starts_with(start)) {
        // An SVG drawing may begin as any XML, and as HTML.
        return Some(if text.contains("<svg") && content.name == "XML" { SVG } else { *content });
    }
    if text.starts_with("--") && text.contains("content-disposition:") {
        return Some(BARE_FORM);
    }
    if is_file_name(&text) {
        return Some(FILE_NAME);
    }
    // The digits of the one are letters of the other, and either may end with =.
    if is_hexadecimal(&text) {
        return Some(HEXADECIMAL);
    }
    if is_base64(bytes) {
        return Some(BASE64);
    }
    is_url_encoded(&text).then_some(URL_ENCODED)
}

/// True for one line that ends as a photo's file does.
fn is_file_name(text: &str) -> bool {
    let text = text.trim_end();
    text.len() < 256
        && !text.contains(['\n', '\u{fffd}', '\0'])
        && [".jpg", ".jpeg", ".png", ".webp", ".heic"].iter().any(|end| text.ends_with(end))
}

fn is_hexadecimal(text: &str) -> bool {
    let digits = text.strip_prefix("0x").or(text.strip_prefix("\\x")).unwrap_or(text).trim_end();
    digits.len() >= 16
        && digits.bytes().all(|byte| byte.is_ascii_hexdigit() || b" \\x".contains(&byte))
}

/// True for base64 in either alphabet (RFC 4648), with line breaks and padding or without.
fn is_base64(bytes: &[u8]) -> bool {
    let start = &bytes[..bytes.len().min(MAX_TEXT)];
    let letters = start.iter().filter(|byte| !b"\r\n=".contains(byte));
    let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/-_".contains(byte);
    if !letters.clone().all(is_letter) {
        return false;
    }
    // A photo's first bytes in base64, and those of HEIC: a box of less than 64 KiB.
    let magic: [&[u8]; 5] = [b"/9j/", b"_9j_", b"iVBORw0KGgo", b"UklGR", b"AAAA"];
    magic.iter().any(|magic| start.starts_with(magic)) || letters.count() >= LONG_BASE64
}

/// True for `name=value&…`. The value may lack the percent-encoding that it should have.
fn is_url_encoded(text: &str) -> bool {
    let Some((name, _)) = text.split_once('=') else { return false };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]%+".contains(&byte);
    !name.is_empty()
        && name.bytes().all(is_name)
        && text.trim_end().bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asserts that bytes are recognised under a name.
    fn assert_name(bytes: &[u8], name: &str) {
        let found = recognize(bytes).map(|content| content.name);
        assert_eq!(found, Some(name), "{}", String::from_utf8_lossy(bytes));
    }

    #[test]
    fn photo_is_nothing_else() {
        for photo in [&b"\xff\xd8\xff\xe0"[..], b"\x89PNG\r\n\x1a\n", b"RIFF\x04\0\0\0WEBP"] {
            assert_eq!(recognize(photo), None);
        }
        // The decoder passes over a byte order mark.
        assert_eq!(recognize(b"\xef\xbb\xbf\x89PNG\r\n\x1a\n"), None);
        // The decoder says what to do about it.
        assert_eq!(recognize(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"), None);
    }

    #[test]
    fn unknown_bytes_have_no_name() {
        for bytes in [
            &b""[..],
            b" \n",
            b"x",
            b"hello",
            b"BM, the letters",
            b"\0\0\0\0",
            b"<3",
            b"=",
            b"\xff",
        ] {
            assert_eq!(recognize(bytes), None, "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn other_pictures_videos_and_archives_are_named() {
        for (bytes, name) in [
            (&b"GIF89a\x01\0\x01\0"[..], "a GIF picture"),
            (b"II*\0\x08\0\0\0", "a TIFF picture or a camera's raw file"),
            (b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0", "a BMP picture"),
            (b"\0\0\0\x20ftypavif\0\0\0\0avifmif1", "an AVIF photo"),
            (b"\0\0\0\x20ftypmp42\0\0\0\0isommp42", "an MP4 or QuickTime video"),
            (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "an MP4 or QuickTime video"),
            (b"\x1a\x45\xdf\xa3\x9f\x42", "a WebM or Matroska video"),
            (b"RIFF\0\0\0\0AVI LIST", "an AVI video"),
            (b"%PDF-1.7\n", "a PDF document"),
            (b"\x1f\x8b\x08\0", "data compressed by gzip"),
            (b"PK\x03\x04\x14\0", "a ZIP archive"),
        ] {
            assert_name(bytes, name);
        }
        let mut dicom = vec![0; 128];
        dicom.extend(b"DICM");
        assert_name(&dicom, "a DICOM file");
    }

    #[test]
    fn photo_that_was_encoded_as_text_is_named() {
        let long = "Z".repeat(LONG_BASE64);
        for (text, name) in [
            ("/9j/4AAQSkZJRgABAQ==", "base64"),
            ("_9j_4AAQSkZJRgABAQ", "base64"),
            ("iVBORw0KGgoAAAANSUhEUgAA\r\nAAEAAAABCAYAAAAfFcSJ", "base64"),
            ("\n  UklGRiQAAABXRUJQ", "base64"),
            (&long, "base64"),
            ("data:image/jpeg;base64,/9j/4AAQ", "a data: URL"),
            ("Data:image/png;base64,iVBORw0KGgo", "a data: URL"),
            ("{\"image\": \"/9j/4AAQSkZJRg==\"}", "JSON"),
            ("[255, 216, 255]", "JSON"),
            ("\"/9j/4AAQSkZJRg==\"", "a JSON string"),
            ("\u{feff}{\"image\": 1}", "JSON"),
            ("ffd8ffe000104a46494600010101", "hexadecimal digits"),
            ("0xFFD8FFE000104A464946000101", "hexadecimal digits"),
            ("\\xff\\xd8\\xff\\xe0\\x00\\x10", "hexadecimal digits"),
            ("b'\\xff\\xd8\\xff\\xe0\\x00\\x10JFIF'", "Python's text for bytes"),
            ("[object Blob]", "JavaScript's name of an object"),
            ("\u{fffd}\u{fffd}\u{fffd}\u{fffd}\0\u{10}JFIF", "a photo that became text on its way"),
            ("\u{ff}\u{d8}\u{ff}\u{e0}\0\u{10}JFIF", "a photo that became text on its way"),
            ("\u{fffd}PNG\r\n", "a photo that became text on its way"),
            ("file=%FF%D8%FF%E0&name=v", "a URL-encoded form"),
            ("image=data:image/png;base64,iVBORw0KGgo", "a URL-encoded form"),
        ] {
            assert_name(text.as_bytes(), name);
        }
    }

    #[test]
    fn what_replaces_a_photo_by_mistake_is_named() {
        for (text, name) in [
            ("<!DOCTYPE html><html><body>Log in</body></html>", "an HTML page"),
            ("\n<html lang=\"en\">", "an HTML page"),
            ("<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>", "XML"),
            ("<?xml version=\"1.0\"?>\n<svg xmlns=\"x\"/>", "an SVG drawing"),
            ("<svg viewBox=\"0 0 1 1\"/>", "an SVG drawing"),
            ("https://example.org/hand.jpg", "a web address"),
            ("@hand.jpg", "a file's name"),
            ("C:\\photos\\Hand 1.JPG\n", "a file's name"),
            ("version https://git-lfs.github.com/spec/v1\noid sha256:0", "a Git LFS pointer"),
            (
                "--edge\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n",
                "a form without its type",
            ),
        ] {
            assert_name(text.as_bytes(), name);
        }
    }

    #[test]
    fn photo_that_lost_its_line_breaks_is_named() {
        let lost = "a photo that lost its line breaks on its way";
        for bytes in [&b"\x89PNG\x1a\0"[..], b"\x89PNG\n\x1a\n\0", b"\x89PNG\r\r\n\x1a\r\n\0"] {
            assert_name(bytes, lost);
        }
        let photo: Vec<u8> = (0..MIN_COMPLETE).map(|at| (at % 255 + 1) as u8).collect();
        assert_eq!(recognize_broken(&photo), None, "nothing is missing");
        let stripped: Vec<u8> = photo.iter().copied().filter(|b| !b"\r\n".contains(b)).collect();
        assert_eq!(recognize_broken(&stripped), None, "too short to tell");
        let stripped = stripped.repeat(2);
        assert_eq!(recognize_broken(&stripped), Some(WITHOUT_LINE_BREAKS));
    }

    #[test]
    fn remedy_is_a_sentence() {
        let tables = [
            BY_MAGIC.iter().map(|(_, _, content)| *content).collect::<Vec<_>>(),
            BY_BRAND.iter().map(|(_, content)| *content).collect(),
            BY_RIFF.iter().map(|(_, content)| *content).collect(),
            BY_TEXT.iter().map(|(_, content)| *content).collect(),
            vec![SHIFTED, BARE_FORM, FILE_NAME, BASE64, HEXADECIMAL, URL_ENCODED, VIDEO, BMP],
        ];
        for Content { name, remedy } in tables.concat() {
            assert!(remedy.ends_with('.') && !name.ends_with('.'), "{name}: {remedy}");
        }
        // Compared with a text in lower case.
        for (start, _) in BY_TEXT {
            assert_eq!(*start, start.to_ascii_lowercase());
        }
    }

    #[test]
    fn types_of_photos_and_unspecific_ones_claim_no_other_content() {
        for photo in
            ["", "image/jpeg", "image/pjpeg", "image/*", "image/gif", "application/octet-stream"]
        {
            assert!(!claims_something_else(photo), "{photo}");
        }
        for other in ["text/plain", "application/json", "video/mp4", "application/x-photo", "photo"]
        {
            assert!(claims_something_else(other), "{other}");
        }
    }
}

//! Decoding: the bytes of a photo become upright RGB pixels.
//!
//! - The content decides the format ([`Format::of`]), never what the sender claims.
//! - A large photo is scaled down while it is decoded, since the models see only a few hundred pixels a
//!   side.
//! - The EXIF orientation that phones write is applied, so that everything after this module sees the
//!   photo as a person would.
//! - Whatever the bytes are, decoding neither panics nor takes more than a fixed amount of memory: each
//!   format's module reads the file's structure first, gives its decoder only what the picture needs,
//!   and refuses what would be too much. `docs/library-faults.md` has the reasons.
//!
//! # What the worst photos cost
//!
//! `examples/worst.rs` makes the photos below, decodes them, and prints time and memory.
//!
//! | photo | limit | memory, from the arithmetic beside the limit |
//! |---|---|---|
//! | JPEG | [`Limits::max_pixels`] and the scans' work | 8 bytes a scaled pixel, the file |
//! | progressive JPEG | all coefficients are kept | 2 bytes a sample, and that |
//! | PNG | bytes before compression | 9 bytes a scaled pixel |
//! | WebP, lossy | pixels | 1.6 bytes a pixel, twice the file |
//! | WebP, lossless or transparent | pixels, code tables | 5 bytes a pixel, the file, the tables |
//!
//! # How to add a format
//!
//! 1. Add a variant to [`Format`] and to [`Format::ALL`], and its name, media types and magic bytes to
//!    `Format::facts`. Every list of formats follows from these.
//! 2. Add a module like `png` and a branch to [`decode`]. Take the limits from `MEMORY`.
//! 3. Encode a photo in the test `pixels_survive_lossless_formats`, or in one like it, and the largest
//!    one in `tests/memory.rs`.

mod canvas;
mod exif;
mod huffman;
mod jpeg;
mod pieces;
mod png;
mod webp;

use std::fmt;

use thiserror::Error;

/// Shortest allowed side of a scaled photo, in pixels.
///
/// A photo is scaled to 1/2, 1/4 or 1/8 as long as its shorter side keeps this length. The landmark
/// model sees 224 pixels of a region, so a hand that fills a third of the shorter side keeps every
/// pixel that the model can use. Larger photos are slow, and worse: models' inputs are sampled
/// without smoothing, as in MediaPipe, and hands in very large photos were missed at full size.
const MIN_SIDE: u32 = 720;

/// Largest number of pixels after scaling.
///
/// More than [`MIN_SIDE`] leaves of photos with ordinary sides: 1439 × 3198 pixels are 20 : 9. Only
/// long strips are scaled further by it.
const MAX_SCALED: u64 = 6_000_000;

/// Memory that is there for a body and for decoding its photo, in bytes.
///
/// Edge platforms give an instance 128 MiB (Akamai Functions). The frozen component takes 34 MiB of
/// them, passes of the models and spans a few.
const MEMORY_WITH_BODY: u64 = 88 << 20;

/// Largest amount of memory that decoding a photo of any length takes, in bytes: what is left beside a
/// body of 10 MiB, the default of the largest one. While a body grows, it takes two and a half times its
/// length.
const MEMORY: u64 = 64 << 20;

/// Returns the largest amount of memory that decoding a file of this length takes, in bytes.
fn memory(length: usize) -> u64 {
    MEMORY_WITH_BODY.saturating_sub((length as u64).saturating_mul(5) / 2).max(MEMORY)
}

/// Media types of HEIC photos, which are recognised but not decoded ([`DecodeError::Heic`]).
pub const HEIC_MEDIA_TYPES: [&str; 2] = ["image/heic", "image/heif"];

/// Brands of HEIC files (ISO/IEC 23008-12) in the `ftyp` box of an ISO base media file.
const HEIC_BRANDS: [&[u8; 4]; 7] = [b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"];

/// An upright photo: RGB, 8 bits a value, rows from the top, no padding.
#[derive(Clone, PartialEq, Eq)]
pub struct Photo {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl fmt::Debug for Photo {
    // The pixels are personal data and long: they stay out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Photo({}×{})", self.width, self.height)
    }
}

impl Photo {
    /// Returns a photo of `width * height` RGB triples, or `None` if the length does not fit or a
    /// side is 0.
    pub fn from_rgb(width: usize, height: usize, pixels: Vec<u8>) -> Option<Photo> {
        let fits = width.checked_mul(height)?.checked_mul(3)? == pixels.len();
        (fits && width > 0 && height > 0).then_some(Photo { width, height, pixels })
    }

    /// Returns the width in pixels, at least 1.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Returns the height in pixels, at least 1.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Returns the RGB triples, row by row from the top: `3 * width * height` values.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }
}

/// A format that can be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JPEG: sequential and progressive, Huffman-coded, 8 bits a sample; grey, YCbCr, RGB, CMYK.
    Jpeg,
    /// PNG; the first picture of an animation.
    Png,
    /// WebP, lossy and lossless; the first picture of an animation.
    WebP,
}

/// Facts of a format that need no decoder.
struct Facts {
    name: &'static str,
    /// The registered one first, then aliases in use.
    media_types: &'static [&'static str],
    /// Offsets in the file, each with the bytes that stand there.
    magic: &'static [(usize, &'static [u8])],
}

impl Format {
    /// All formats, in the order in which messages list them.
    pub const ALL: [Format; 3] = [Format::Jpeg, Format::Png, Format::WebP];

    const fn facts(self) -> Facts {
        match self {
            Format::Jpeg => Facts {
                name: "JPEG",
                media_types: &["image/jpeg", "image/jpg"],
                magic: &[(0, b"\xff\xd8\xff")],
            },
            Format::Png => Facts {
                name: "PNG",
                media_types: &["image/png"],
                magic: &[(0, b"\x89PNG\r\n\x1a\n")],
            },
            Format::WebP => Facts {
                name: "WebP",
                media_types: &["image/webp"],
                magic: &[(0, b"RIFF"), (8, b"WEBP")],
            },
        }
    }

    /// Returns the name that people know, such as `JPEG`.
    pub const fn name(self) -> &'static str {
        self.facts().name
    }

    /// Returns the registered media type, such as `image/jpeg`.
    pub const fn media_type(self) -> &'static str {
        self.facts().media_types[0]
    }

    /// Returns all media types in use for the format: the registered one first, then aliases.
    pub const fn media_types(self) -> &'static [&'static str] {
        self.facts().media_types
    }

    /// Returns the magic bytes: offsets in the file, each with the bytes that stand there.
    pub const fn magic(self) -> &'static [(usize, &'static [u8])] {
        self.facts().magic
    }

    /// Recognises the format of a file by its magic bytes.
    ///
    /// Line breaks, spaces and a byte order mark before them are passed over: templates put them there.
    ///
    /// # Errors
    /// [`DecodeError::Heic`] and [`DecodeError::UnknownFormat`].
    pub fn of(bytes: &[u8]) -> Result<Format, DecodeError> {
        let bytes = without_leading_text(bytes);
        let at = |offset: usize, expected: &[u8]| {
            bytes.get(offset..).is_some_and(|bytes| bytes.starts_with(expected))
        };
        for format in Format::ALL {
            if format.magic().iter().all(|(offset, expected)| at(*offset, expected)) {
                return Ok(format);
            }
        }
        if at(4, b"ftyp") && HEIC_BRANDS.iter().any(|brand| at(8, *brand)) {
            return Err(DecodeError::Heic);
        }
        Err(DecodeError::UnknownFormat)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Limits of a photo, checked by its header. No memory is allocated for pixels before.
///
/// A number of pixels becomes limits with the other defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest number of pixels.
    pub max_pixels: u64,
    /// The longest side in pixels.
    pub max_side: u32,
    /// The largest ratio of the longer side to the shorter one, of photos whose longer side has more
    /// than [`Limits::ANY_RATIO`] pixels.
    pub max_ratio: u32,
}

impl Limits {
    /// The defaults. Panoramas pass: those of phones have some 16,000 pixels at most, and sides of up
    /// to 10 : 1.
    pub const DEFAULT: Limits = Limits { max_pixels: 50_000_000, max_side: 32_768, max_ratio: 20 };

    /// Longest side, in pixels, of photos whose sides may have any ratio: they cost nothing.
    pub const ANY_RATIO: u32 = 4096;

    /// Checks a photo's size. A side of 0 is left to the format.
    fn check(&self, (width, height): (u32, u32)) -> Result<(), DecodeError> {
        let (longer, shorter) = (width.max(height), width.min(height));
        if u64::from(width) * u64::from(height) > self.max_pixels {
            return Err(DecodeError::TooManyPixels { width, height, limit: self.max_pixels });
        }
        if longer > self.max_side {
            return Err(DecodeError::TooLong { width, height, limit: self.max_side });
        }
        let widest = u64::from(shorter) * u64::from(self.max_ratio);
        if longer > Limits::ANY_RATIO && u64::from(longer) > widest {
            return Err(DecodeError::TooNarrow { width, height, limit: self.max_ratio });
        }
        Ok(())
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits::DEFAULT
    }
}

impl From<u64> for Limits {
    fn from(max_pixels: u64) -> Limits {
        Limits { max_pixels, ..Limits::DEFAULT }
    }
}

/// The reason why a photo cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// There are no bytes.
    #[error("cannot decode the photo: it has no bytes")]
    Empty,
    /// The magic bytes are those of no format in [`Format::ALL`], nor of HEIC.
    #[error(
        "cannot decode the photo: its format is none of {}",
        Format::ALL.map(Format::name).join(", ")
    )]
    UnknownFormat,
    /// The photo is in HEIC, the default format of iPhones, which is recognised but not decoded.
    #[error("cannot decode the photo: HEIC is not supported")]
    Heic,
    /// The header announces more pixels than [`Limits::max_pixels`]. No pixel was decoded.
    #[error("cannot decode the photo: {width}×{height} pixels are more than {limit}")]
    TooManyPixels {
        /// Width in the header, in pixels.
        width: u32,
        /// Height in the header, in pixels.
        height: u32,
        /// The largest number of pixels allowed.
        limit: u64,
    },
    /// The header announces more pixels than this kind of file may have: decoding it takes more memory
    /// or time a pixel than an ordinary JPEG. No pixel was decoded.
    #[error("cannot decode the photo: {width}×{height} pixels are more than {limit} of a {kind}")]
    TooManyPixelsOf {
        /// The kind of file, such as `progressive JPEG`.
        kind: String,
        /// Width in the header, in pixels.
        width: u32,
        /// Height in the header, in pixels.
        height: u32,
        /// The largest number of pixels allowed.
        limit: u64,
    },
    /// The header announces a side longer than [`Limits::max_side`]. No pixel was decoded.
    #[error("cannot decode the photo: a side of {width}×{height} pixels is longer than {limit}")]
    TooLong {
        /// Width in the header, in pixels.
        width: u32,
        /// Height in the header, in pixels.
        height: u32,
        /// The longest side allowed, in pixels.
        limit: u32,
    },
    /// The header announces sides of a ratio above [`Limits::max_ratio`]. No pixel was decoded.
    #[error(
        "cannot decode the photo: the sides of {width}×{height} pixels differ by more than {limit} times"
    )]
    TooNarrow {
        /// Width in the header, in pixels.
        width: u32,
        /// Height in the header, in pixels.
        height: u32,
        /// The largest ratio allowed.
        limit: u32,
    },
    /// The file ends before its picture does, and more than an eighth of the rows is missing.
    #[error("cannot decode the {format} photo: it ends before the picture is complete")]
    Incomplete {
        /// The format that the magic bytes announce.
        format: Format,
    },
    /// The file is of a variant that is recognised but not decoded.
    #[error("cannot decode the {format} photo: {feature} is not supported")]
    Unsupported {
        /// The format that the magic bytes announce.
        format: Format,
        /// The property that is not supported, such as `arithmetic coding`.
        feature: String,
    },
    /// The data is damaged, or of a variant that the decoder does not know.
    #[error("cannot decode the {format} photo: {reason}")]
    Broken {
        /// The format that the magic bytes announce.
        format: Format,
        /// The decoder's message.
        reason: String,
    },
}

impl DecodeError {
    /// Returns the kind of error as one of few words, such as `too_many_pixels`.
    pub fn kind(&self) -> &'static str {
        match self {
            DecodeError::Empty => "empty",
            DecodeError::UnknownFormat => "unknown_format",
            DecodeError::Heic => "heic",
            DecodeError::TooManyPixels { .. } | DecodeError::TooManyPixelsOf { .. } => {
                "too_many_pixels"
            }
            DecodeError::TooLong { .. } | DecodeError::TooNarrow { .. } => "shape",
            DecodeError::Unsupported { .. } => "unsupported",
            DecodeError::Incomplete { .. } | DecodeError::Broken { .. } => "broken",
        }
    }
}

/// A decoded photo, with facts about its source.
#[derive(Debug)]
pub struct Decoded {
    /// The upright photo, possibly scaled down.
    pub photo: Photo,
    /// The source's format.
    pub format: Format,
    /// The source's width and height in pixels, as stored: before orientation and scaling.
    pub source_size: (u32, u32),
    /// The EXIF orientation, 1 to 8; 1 if the source has none.
    pub orientation: u8,
}

/// Decodes a photo, scales it down if it is large, and turns it upright.
///
/// The header is checked against `limits` before memory is allocated for pixels. A transparent
/// picture is shown on black, the colour of palm detection's border. Of an animation, the first picture
/// counts. A JPEG or PNG whose last rows are missing, no more than an eighth, becomes a photo
/// without them.
///
/// # Errors
/// Every [`DecodeError`]. No input panics.
pub fn decode(bytes: &[u8], limits: impl Into<Limits>) -> Result<Decoded, DecodeError> {
    decode_within(bytes, limits.into())
}

fn decode_within(bytes: &[u8], limits: Limits) -> Result<Decoded, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::Empty);
    }
    let format = Format::of(bytes)?;
    let bytes = without_leading_text(bytes);
    let Stored { photo, source_size, orientation } = match format {
        Format::Jpeg => jpeg::decode(bytes, limits)?,
        Format::Png => png::decode(bytes, limits)?,
        Format::WebP => webp::decode(bytes, limits)?,
    };
    Ok(Decoded { photo: upright(photo, orientation), format, source_size, orientation })
}

/// A format's result: the picture as stored, possibly scaled down, and how to turn it.
struct Stored {
    photo: Photo,
    source_size: (u32, u32),
    /// EXIF, 1 to 8.
    orientation: u8,
}

fn broken(format: Format, reason: impl ToString) -> DecodeError {
    DecodeError::Broken { format, reason: reason.to_string() }
}

fn unsupported(format: Format, feature: impl Into<String>) -> DecodeError {
    DecodeError::Unsupported { format, feature: feature.into() }
}

/// Checks the number of pixels against the limit of a kind of file.
fn check_pixels_of(
    kind: impl Into<String>,
    (width, height): (u32, u32),
    limit: u64,
) -> Result<(), DecodeError> {
    if u64::from(width) * u64::from(height) > limit {
        return Err(DecodeError::TooManyPixelsOf { kind: kind.into(), width, height, limit });
    }
    Ok(())
}

/// True if so few rows are missing that the picture counts without them: an eighth.
///
/// Cameras and streams lose the end of a file. Hands are rarely at the lower edge, and a picture that
/// lacks more than a strip has lost something else than its end.
fn nearly_all(rows: u32, of: u32) -> bool {
    rows > 0 && 8 * u64::from(rows) >= 7 * u64::from(of)
}

/// Returns the file after line breaks, spaces and byte order marks, which templates of web servers put
/// before it.
fn without_leading_text(mut bytes: &[u8]) -> &[u8] {
    loop {
        let rest = bytes.trim_ascii_start();
        let rest = rest.strip_prefix(b"\xef\xbb\xbf").unwrap_or(rest);
        if rest.len() == bytes.len() {
            return bytes;
        }
        bytes = rest;
    }
}

/// Returns the factor by which a photo is scaled down: 1, 2, 4 or 8, which a JPEG decoder can do
/// while decoding.
fn divisor((width, height): (u32, u32)) -> u32 {
    let shorter = width.min(height);
    let by_side = [8, 4, 2].into_iter().find(|divisor| shorter / divisor >= MIN_SIDE).unwrap_or(1);
    let scaled = |side: u32, divisor| u64::from(side.div_ceil(divisor));
    let fits = |divisor| scaled(width, divisor) * scaled(height, divisor) <= MAX_SCALED;
    [1, 2, 4].into_iter().find(|divisor| *divisor >= by_side && fits(*divisor)).unwrap_or(8)
}

/// Returns a colour with transparency as it looks on black.
fn on_black(color: [u8; 3], alpha: u8) -> [u8; 3] {
    color.map(|value| (u16::from(value) * u16::from(alpha) / 255) as u8)
}

/// Turns a picture as an EXIF orientation, 1 to 8, says.
fn upright(stored: Photo, orientation: u8) -> Photo {
    let (width, height) = (stored.width as isize, stored.height as isize);
    let (last_x, last_y) = (width - 1, (height - 1) * width);
    // In pixels of the stored picture: that of the upper left corner, and the steps to the next column
    // and row.
    let (first, across, down) = match orientation {
        2 => (last_x, -1, width),
        3 => (last_y + last_x, -1, -width),
        4 => (last_y, 1, -width),
        5 => (0, width, 1),
        6 => (last_y, -width, 1),
        7 => (last_y + last_x, -width, -1),
        8 => (last_x, width, -1),
        _ => return stored,
    };
    let (turned_width, turned_height) =
        if orientation >= 5 { (height, width) } else { (width, height) };
    let (from, _) = stored.pixels.as_chunks::<3>();
    let mut pixels = Vec::with_capacity(stored.pixels.len());
    for y in 0..turned_height {
        let row = first + y * down;
        pixels.extend((0..turned_width).flat_map(|x| from[(row + x * across) as usize]));
    }
    Photo { width: turned_width as usize, height: turned_height as usize, pixels }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    const NO_LIMIT: u64 = u64::MAX;

    fn encoded(picture: impl Into<image::DynamicImage>, format: image::ImageFormat) -> Vec<u8> {
        let mut bytes = Vec::new();
        picture.into().write_to(&mut Cursor::new(&mut bytes), format).expect("an encoder");
        bytes
    }

    fn jpeg(width: u16, height: u16, progressive: bool) -> Vec<u8> {
        let pixels: Vec<u8> = (0..usize::from(height))
            .flat_map(|y| {
                let (width, height) = (usize::from(width), usize::from(height));
                (0..width)
                    .flat_map(move |x| [(x * 255 / width) as u8, (y * 255 / height) as u8, 90])
            })
            .collect();
        let mut bytes = Vec::new();
        let mut encoder = jpeg_encoder::Encoder::new(&mut bytes, 90);
        encoder.set_progressive(progressive);
        encoder.encode(&pixels, width, height, jpeg_encoder::ColorType::Rgb).expect("an encoder");
        bytes
    }

    #[test]
    fn formats_are_recognised_by_their_magic_bytes() {
        for format in Format::ALL {
            let end = |(offset, bytes): &(usize, &[u8])| offset + bytes.len();
            let mut bytes = vec![b'?'; format.magic().iter().map(end).max().expect("magic bytes")];
            for (offset, magic) in format.magic() {
                bytes[*offset..][..magic.len()].copy_from_slice(magic);
            }
            assert_eq!(Format::of(&bytes), Ok(format));
            // Every one of them counts, and the last one too.
            for (offset, _) in format.magic() {
                let mut other = bytes.clone();
                other[*offset] ^= 1;
                assert_eq!(Format::of(&other), Err(DecodeError::UnknownFormat));
            }
            let cut = &bytes[..bytes.len() - 1];
            assert_eq!(Format::of(cut), Err(DecodeError::UnknownFormat));
        }
    }

    #[test]
    fn names_and_media_types_are_unique() {
        let mut words: Vec<&str> = Format::ALL.iter().map(|format| format.name()).collect();
        words.extend(Format::ALL.iter().flat_map(|format| format.media_types()));
        words.extend(HEIC_MEDIA_TYPES);
        let count = words.len();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), count, "{words:?}");
        assert!(Format::ALL.iter().all(|f| f.media_type() == f.media_types()[0]));
    }

    #[test]
    fn every_orientation_moves_pixels_as_exif_says() {
        // 3 × 2 pixels: 0 1 2 above 3 4 5.
        let stored = Photo::from_rgb(3, 2, (0..6).flat_map(|grey| [grey; 3]).collect());
        let stored = stored.expect("pixels");
        let expected: [(u8, usize, [u8; 6]); 10] = [
            (0, 3, [0, 1, 2, 3, 4, 5]),
            (1, 3, [0, 1, 2, 3, 4, 5]),
            (2, 3, [2, 1, 0, 5, 4, 3]),
            (3, 3, [5, 4, 3, 2, 1, 0]),
            (4, 3, [3, 4, 5, 0, 1, 2]),
            (5, 2, [0, 3, 1, 4, 2, 5]),
            (6, 2, [3, 0, 4, 1, 5, 2]),
            (7, 2, [5, 2, 4, 1, 3, 0]),
            (8, 2, [2, 5, 1, 4, 0, 3]),
            (9, 3, [0, 1, 2, 3, 4, 5]),
        ];
        for (orientation, width, pixels) in expected {
            let turned = upright(stored.clone(), orientation);
            let grey: Vec<u8> = turned.pixels().chunks(3).map(|pixel| pixel[0]).collect();
            assert_eq!((turned.width(), grey.as_slice()), (width, &pixels[..]), "{orientation}");
        }
    }

    #[test]
    fn pixels_survive_lossless_formats() {
        let picture = image::RgbImage::from_fn(7, 5, |x, y| image::Rgb([x as u8, y as u8, 200]));
        for (format, expected) in
            [(image::ImageFormat::Png, Format::Png), (image::ImageFormat::WebP, Format::WebP)]
        {
            let decoded = decode(&encoded(picture.clone(), format), NO_LIMIT).expect("a photo");
            assert_eq!(decoded.format, expected);
            assert_eq!(decoded.source_size, (7, 5));
            assert_eq!(decoded.photo.pixels(), picture.as_raw().as_slice());
        }
    }

    #[test]
    fn grey_and_transparent_pictures_become_rgb() {
        let grey = image::GrayImage::from_pixel(4, 4, image::Luma([77]));
        let decoded = decode(&encoded(grey, image::ImageFormat::Png), NO_LIMIT).expect("a photo");
        assert_eq!(&decoded.photo.pixels()[..3], &[77, 77, 77]);
        let glass = image::RgbaImage::from_pixel(4, 4, image::Rgba([200, 100, 50, 0]));
        let decoded = decode(&encoded(glass, image::ImageFormat::Png), NO_LIMIT).expect("a photo");
        assert_eq!(&decoded.photo.pixels()[..3], &[0, 0, 0]);
    }

    #[test]
    fn large_png_is_scaled_while_decoding() {
        let picture = image::RgbImage::from_fn(1600, 1504, |x, _| image::Rgb([(x / 7) as u8; 3]));
        let decoded =
            decode(&encoded(picture, image::ImageFormat::Png), NO_LIMIT).expect("a photo");
        assert_eq!(decoded.source_size, (1600, 1504));
        assert_eq!((decoded.photo.width(), decoded.photo.height()), (800, 752));
        assert!(decoded.photo.pixels()[(376 * 800 + 400) * 3].abs_diff(114) < 3);
    }

    #[test]
    fn large_jpeg_is_scaled_while_decoding() {
        for progressive in [false, true] {
            let decoded = decode(&jpeg(1600, 1504, progressive), NO_LIMIT).expect("a photo");
            assert_eq!(decoded.source_size, (1600, 1504));
            assert_eq!((decoded.photo.width(), decoded.photo.height()), (800, 752));
            // The middle stays the middle.
            let at = (376 * 800 + 400) * 3;
            assert!(decoded.photo.pixels()[at].abs_diff(127) < 6);
            let small = decode(&jpeg(100, 1504, progressive), NO_LIMIT).expect("a photo");
            assert_eq!(small.photo.width(), 100);
        }
    }

    #[test]
    fn cmyk_and_grey_jpegs_become_rgb() {
        let mut bytes = Vec::new();
        let ink = [0u8, 255, 255, 0].repeat(64);
        jpeg_encoder::Encoder::new(&mut bytes, 95)
            .encode(&ink, 8, 8, jpeg_encoder::ColorType::Cmyk)
            .expect("an encoder");
        let decoded = decode(&bytes, NO_LIMIT).expect("a photo");
        let [r, g, b] = decoded.photo.pixels()[..3] else { panic!("three values") };
        assert!(r > 240 && g < 15 && b < 15, "magenta and yellow ink is red: {r} {g} {b}");

        let mut bytes = Vec::new();
        jpeg_encoder::Encoder::new(&mut bytes, 95)
            .encode(&[77; 64], 8, 8, jpeg_encoder::ColorType::Luma)
            .expect("an encoder");
        let decoded = decode(&bytes, NO_LIMIT).expect("a photo");
        assert!(decoded.photo.pixels().iter().all(|value| value.abs_diff(77) < 3));
    }

    #[test]
    fn photo_over_the_pixel_limit_is_refused_by_its_header() {
        let error = decode(&jpeg(100, 50, false), 4999).expect_err("a limit");
        assert_eq!(error, DecodeError::TooManyPixels { width: 100, height: 50, limit: 4999 });
        assert!(decode(&jpeg(100, 50, false), 5000).is_ok());
        let picture = image::RgbImage::new(100, 50);
        for format in [image::ImageFormat::Png, image::ImageFormat::WebP] {
            let error = decode(&encoded(picture.clone(), format), 4999).expect_err("a limit");
            assert!(matches!(error, DecodeError::TooManyPixels { .. }), "{error}");
        }
    }

    #[test]
    fn shape_is_limited_by_side_and_ratio() {
        let limits = Limits { max_pixels: u64::MAX, max_side: 5000, max_ratio: 20 };
        for (width, height) in [(1, 4096), (3000, 1), (205, 4097), (5000, 250), (0, 7)] {
            assert_eq!(limits.check((width, height)), Ok(()), "{width} × {height}");
        }
        for (width, height) in [(5001, 5001), (1, u32::MAX)] {
            let error = DecodeError::TooLong { width, height, limit: 5000 };
            assert_eq!(limits.check((width, height)), Err(error));
        }
        for (width, height) in [(1, 4097), (5000, 249)] {
            let error = DecodeError::TooNarrow { width, height, limit: 20 };
            assert_eq!(limits.check((width, height)), Err(error));
        }
    }

    #[test]
    fn long_strips_are_scaled_by_their_pixels() {
        for (size, expected) in [
            ((402, 402), 1),
            // The shorter side decides.
            ((1439, 3198), 1),
            ((1440, 2560), 2),
            ((4032, 3024), 4),
            ((8064, 6048), 8),
            // Strips.
            ((1439, 5000), 2),
            ((28_000, 1439), 4),
            ((32_768, 1500), 4),
        ] {
            assert_eq!(divisor(size), expected, "{size:?}");
            assert_eq!(divisor((size.1, size.0)), expected, "{size:?}");
        }
    }

    #[test]
    fn small_file_leaves_memory_for_its_picture() {
        assert_eq!(memory(0), 88 << 20);
        assert_eq!(memory(4 << 20), 78 << 20);
        for length in [10 << 20, 512 << 20, usize::MAX] {
            assert_eq!(memory(length), MEMORY, "{length}");
        }
    }

    #[test]
    fn text_before_the_file_is_passed_over() {
        let picture = image::RgbImage::from_pixel(8, 8, image::Rgb([200, 10, 10]));
        for format in [image::ImageFormat::Png, image::ImageFormat::WebP] {
            let bytes = encoded(picture.clone(), format);
            let expected = decode(&bytes, NO_LIMIT).expect("a photo").photo;
            for text in [&b"\r\n"[..], b"\n\n  \t", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n"] {
                let bytes = [text, &bytes].concat();
                assert_eq!(decode(&bytes, NO_LIMIT).expect("a photo").photo, expected);
            }
        }
        let error = decode(b" \r\n", NO_LIMIT).expect_err("no photo");
        assert_eq!(error, DecodeError::UnknownFormat);
    }

    #[test]
    fn rejects_bytes_that_are_no_photo() {
        assert_eq!(decode(b"", NO_LIMIT).expect_err("empty"), DecodeError::Empty);
        assert_eq!(decode(b"hello", NO_LIMIT).expect_err("text"), DecodeError::UnknownFormat);
        let heic = b"\0\0\0\x18ftypmif1\0\0\0\0";
        assert_eq!(decode(heic, NO_LIMIT).expect_err("HEIC"), DecodeError::Heic);
        for whole in [
            jpeg(64, 64, false),
            jpeg(64, 64, true),
            encoded(image::RgbImage::new(64, 64), image::ImageFormat::Png),
            encoded(image::RgbImage::new(64, 64), image::ImageFormat::WebP),
        ] {
            let cut = &whole[..whole.len() / 3];
            let format = Format::of(&whole).expect("a format");
            let error = decode(cut, NO_LIMIT).expect_err("cut off");
            assert_eq!(error, DecodeError::Incomplete { format });
            let message = format!("cannot decode the {format} photo: ");
            assert!(error.to_string().starts_with(&message), "{error}");
        }
    }

    #[test]
    fn unknown_format_message_lists_all_formats() {
        let message = DecodeError::UnknownFormat.to_string();
        assert_eq!(message, "cannot decode the photo: its format is none of JPEG, PNG, WebP");
    }
}

//! Decoding: the bytes of a photo become upright RGB pixels.
//!
//! - The content decides the format ([`Format::of`]), never what the sender claims.
//! - A large photo is scaled down, since the models see only a few hundred pixels a side.
//! - The EXIF orientation that phones write is applied, so that everything after this module sees the
//!   photo as a person would.
//!
//! # How to add a format
//!
//! 1. Add a variant to [`Format`] and to [`Format::ALL`], and its name, media types and magic bytes to
//!    `Format::facts`. Every list of formats follows from these.
//! 2. Add a branch to [`decode`]. A decoder of the crate `image` needs one line with `decode_with`.
//! 3. Encode a photo in the test `pixels_survive_lossless_formats`, or in one like it.

use std::fmt;
use std::io::Cursor;

use image::imageops;
use image::metadata::Orientation;
use image::{ImageDecoder, ImageError, RgbImage};
use thiserror::Error;

/// Shortest allowed side of a scaled photo, in pixels.
///
/// A photo is scaled to 1/2, 1/4 or 1/8 as long as its shorter side keeps this length. The landmark
/// model sees 224 pixels of a region, so a hand that fills a third of the shorter side keeps every
/// pixel that the model can use. Larger photos are slow, and worse: models' inputs are sampled
/// without smoothing, as in MediaPipe, and hands in very large photos were missed at full size.
const MIN_SIDE: u32 = 720;

/// Largest number of scans in a JPEG.
///
/// Progressive photos have about ten. Each scan may pass over the whole picture for a few bytes of
/// data, so a small file of many scans would decode for hours.
const MAX_SCANS: usize = 100;

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
    /// JPEG: baseline, progressive and lossless; grey, YCbCr, RGB, CMYK.
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
    /// # Errors
    /// [`DecodeError::Heic`] and [`DecodeError::UnknownFormat`].
    pub fn of(bytes: &[u8]) -> Result<Format, DecodeError> {
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
    /// The header announces more pixels than the limit. No pixel was decoded.
    #[error("cannot decode the photo: {width}×{height} pixels are more than {limit}")]
    TooManyPixels {
        /// Width in the header, in pixels.
        width: u32,
        /// Height in the header, in pixels.
        height: u32,
        /// The largest number of pixels allowed.
        limit: u64,
    },
    /// The data is cut off, damaged, or of a variant that the decoder does not know.
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
            DecodeError::TooManyPixels { .. } => "too_many_pixels",
            DecodeError::Broken { .. } => "broken",
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
/// The header is checked against `max_pixels` before memory is allocated for pixels. A transparent
/// picture is shown on black, the colour of palm detection's border.
///
/// # Errors
/// Every [`DecodeError`]. No input panics.
pub fn decode(bytes: &[u8], max_pixels: u64) -> Result<Decoded, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::Empty);
    }
    let format = Format::of(bytes)?;
    let stored = match format {
        Format::Jpeg => decode_jpeg(bytes, max_pixels)?,
        Format::Png => {
            check_png_header(bytes, max_pixels)?;
            let decoder = image::codecs::png::PngDecoder::new(Cursor::new(bytes));
            decode_with(format, decoder, max_pixels)?
        }
        Format::WebP => {
            let decoder = image::codecs::webp::WebPDecoder::new(Cursor::new(bytes));
            decode_with(format, decoder, max_pixels)?
        }
    };
    let upright = upright(stored.picture, stored.orientation);
    let (width, height) = (upright.width() as usize, upright.height() as usize);
    let photo = Photo::from_rgb(width, height, upright.into_raw())
        .ok_or_else(|| broken(format, "it has no pixels"))?;
    Ok(Decoded {
        photo,
        format,
        source_size: stored.source_size,
        orientation: stored.orientation.to_exif(),
    })
}

/// A decoder's result: the picture as stored, possibly scaled down, and how to turn it.
struct Stored {
    picture: RgbImage,
    source_size: (u32, u32),
    orientation: Orientation,
}

fn broken(format: Format, reason: impl ToString) -> DecodeError {
    DecodeError::Broken { format, reason: reason.to_string() }
}

fn check_pixels((width, height): (u32, u32), limit: u64) -> Result<(), DecodeError> {
    if u64::from(width) * u64::from(height) > limit {
        return Err(DecodeError::TooManyPixels { width, height, limit });
    }
    Ok(())
}

/// Returns the factor by which a photo is scaled down: 1, 2, 4 or 8, which a JPEG decoder can do
/// while decoding.
fn divisor((width, height): (u32, u32)) -> u32 {
    let shorter = width.min(height);
    [8, 4, 2].into_iter().find(|divisor| shorter / divisor >= MIN_SIDE).unwrap_or(1)
}

/// Checks the size in a PNG's header, which has a fixed position (PNG specification, 5.6): the
/// decoder allocates a row before it reports the size.
fn check_png_header(bytes: &[u8], limit: u64) -> Result<(), DecodeError> {
    match bytes.get(12..24) {
        Some(&[b'I', b'H', b'D', b'R', a, b, c, d, e, f, g, h]) => check_pixels(
            (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])),
            limit,
        ),
        _ => Err(broken(Format::Png, "no header")),
    }
}

/// Decodes a JPEG with `jpeg-decoder`, which scales while it decodes: a photo of 12 megapixels never
/// exists at full size.
fn decode_jpeg(bytes: &[u8], max_pixels: u64) -> Result<Stored, DecodeError> {
    use jpeg_decoder::PixelFormat;
    let failed = |error: jpeg_decoder::Error| broken(Format::Jpeg, error);
    let no_header = || broken(Format::Jpeg, "no frame header");

    // The marker "start of scan". In entropy-coded data, 0xff is never followed by 0xda.
    if bytes.windows(2).filter(|pair| *pair == [0xff, 0xda]).count() > MAX_SCANS {
        return Err(broken(Format::Jpeg, format!("more than {MAX_SCANS} scans")));
    }
    let mut decoder = jpeg_decoder::Decoder::new(bytes);
    decoder.read_info().map_err(failed)?;
    let header = decoder.info().ok_or_else(no_header)?;
    let source_size = (u32::from(header.width), u32::from(header.height));
    check_pixels(source_size, max_pixels)?;

    let divisor = divisor(source_size);
    let scaled = |side: u16| side.div_ceil(divisor as u16);
    decoder.scale(scaled(header.width), scaled(header.height)).map_err(failed)?;
    let pixels = decoder.decode().map_err(failed)?;
    let info = decoder.info().ok_or_else(no_header)?;
    let rgb = match info.pixel_format {
        PixelFormat::RGB24 => pixels,
        PixelFormat::L8 => pixels.into_iter().flat_map(|grey| [grey; 3]).collect(),
        // In native byte order. The upper 8 of the 16 bits are enough.
        PixelFormat::L16 => pixels
            .chunks_exact(2)
            .flat_map(|pair| [(u16::from_ne_bytes([pair[0], pair[1]]) >> 8) as u8; 3])
            .collect(),
        // The decoder has undone Adobe's inversion: 0 is no ink.
        PixelFormat::CMYK32 => pixels
            .chunks_exact(4)
            .flat_map(|ink| {
                let paper = |ink: u8| u16::from(255 - ink);
                [0, 1, 2].map(|i| (paper(ink[i]) * paper(ink[3]) / 255) as u8)
            })
            .collect(),
    };
    let orientation = decoder
        .exif_data()
        .and_then(Orientation::from_exif_chunk)
        .unwrap_or(Orientation::NoTransforms);
    let picture = RgbImage::from_raw(info.width.into(), info.height.into(), rgb)
        .ok_or_else(|| broken(Format::Jpeg, "too few pixels"))?;
    Ok(Stored { picture, source_size, orientation })
}

/// Decodes with one of the decoders of the crate `image`, then scales down.
fn decode_with<D: ImageDecoder>(
    format: Format,
    decoder: Result<D, ImageError>,
    max_pixels: u64,
) -> Result<Stored, DecodeError> {
    let failed = |error: ImageError| broken(format, error);
    let mut decoder = decoder.map_err(failed)?;
    let source_size = decoder.dimensions();
    check_pixels(source_size, max_pixels)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut picture = image::DynamicImage::from_decoder(decoder).map_err(failed)?;
    let divisor = divisor(source_size);
    if divisor > 1 {
        let (width, height) = (source_size.0.div_ceil(divisor), source_size.1.div_ceil(divisor));
        picture = picture.thumbnail_exact(width, height);
    }
    Ok(Stored { picture: on_black(picture), source_size, orientation })
}

/// Returns a picture in RGB; a transparent one is shown on black.
fn on_black(picture: image::DynamicImage) -> RgbImage {
    if !picture.color().has_alpha() {
        return picture.into_rgb8();
    }
    let shade = |value: u8, alpha: u8| (u16::from(value) * u16::from(alpha) / 255) as u8;
    let picture = picture.into_rgba8();
    let mut rgb = RgbImage::new(picture.width(), picture.height());
    for (image::Rgb(to), image::Rgba([r, g, b, a])) in rgb.pixels_mut().zip(picture.pixels()) {
        *to = [shade(*r, *a), shade(*g, *a), shade(*b, *a)];
    }
    rgb
}

/// Applies an EXIF orientation to a picture.
///
/// `DynamicImage::apply_orientation` does the same, but brings every one of these functions into the
/// component for each of its ten pixel types.
fn upright(mut picture: RgbImage, orientation: Orientation) -> RgbImage {
    match orientation {
        Orientation::NoTransforms => {}
        Orientation::Rotate90 => picture = imageops::rotate90(&picture),
        Orientation::Rotate180 => imageops::rotate180_in_place(&mut picture),
        Orientation::Rotate270 => picture = imageops::rotate270(&picture),
        Orientation::FlipHorizontal => imageops::flip_horizontal_in_place(&mut picture),
        Orientation::FlipVertical => imageops::flip_vertical_in_place(&mut picture),
        Orientation::Rotate90FlipH => {
            picture = imageops::rotate90(&picture);
            imageops::flip_horizontal_in_place(&mut picture);
        }
        Orientation::Rotate270FlipH => {
            picture = imageops::rotate270(&picture);
            imageops::flip_horizontal_in_place(&mut picture);
        }
    }
    picture
}

#[cfg(test)]
mod tests {
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
        let stored = RgbImage::from_fn(3, 2, |x, y| image::Rgb([(3 * y + x) as u8; 3]));
        let expected: [(u8, u32, [u8; 6]); 8] = [
            (1, 3, [0, 1, 2, 3, 4, 5]),
            (2, 3, [2, 1, 0, 5, 4, 3]),
            (3, 3, [5, 4, 3, 2, 1, 0]),
            (4, 3, [3, 4, 5, 0, 1, 2]),
            (5, 2, [0, 3, 1, 4, 2, 5]),
            (6, 2, [3, 0, 4, 1, 5, 2]),
            (7, 2, [5, 2, 4, 1, 3, 0]),
            (8, 2, [2, 5, 1, 4, 0, 3]),
        ];
        for (exif, width, pixels) in expected {
            let orientation = Orientation::from_exif(exif).expect("an orientation");
            let turned = upright(stored.clone(), orientation);
            let grey: Vec<u8> = turned.pixels().map(|pixel| pixel[0]).collect();
            assert_eq!((turned.width(), grey.as_slice()), (width, &pixels[..]), "{orientation:?}");
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
    fn large_png_is_scaled_after_decoding() {
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
    fn jpeg_with_too_many_scans_is_refused() {
        let mut bytes = jpeg(16, 16, true);
        bytes.extend([0xff, 0xda].repeat(MAX_SCANS));
        let error = decode(&bytes, NO_LIMIT).expect_err("too many scans");
        assert!(error.to_string().contains("scans"), "{error}");
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
            assert!(matches!(error, DecodeError::Broken { .. }), "{format}: {error:?}");
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

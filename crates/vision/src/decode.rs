//! Decoding: the bytes of a photo become upright RGB pixels.
//!
//! The format is read from the content, never from what the client says of it. A large photo is
//! scaled down, a JPEG while it is decoded, since the models look at 192×192 and 224×224 pixels
//! only. The orientation that phones write into the EXIF data is applied, so that everything after
//! this module sees the photo as a person would.

use std::fmt;
use std::io::Cursor;

use image::metadata::Orientation;
use image::{ImageDecoder, ImageError};

/// A photo with a shorter side of at least twice this many pixels is scaled down to 1/2, 1/4 or 1/8
/// of its size, such that the shorter side keeps at least this many: a JPEG while it is decoded,
/// other formats after it.
///
/// The landmark model sees 224 pixels of the region of interest, so that a hand that fills a third
/// of the photo's shorter side still gets every pixel that the model can use. Larger photos are
/// not only slow but worse: models' inputs are sampled from them without smoothing, as MediaPipe
/// does it. Measured in the sandbox: a 12-megapixel JPEG takes 32 ms to decode at 1/4; a
/// 48-megapixel PNG was not recognised at full size.
const ENOUGH_PIXELS: u32 = 720;

/// A JPEG with more scans than this is refused. Progressive photos have about ten; each scan may
/// pass over the whole picture for a few bytes of data, so that 10 MiB of scans would decode for
/// hours.
const MOST_SCANS: usize = 100;

/// An upright photo: RGB, 8 bits, rows from the top, no padding.
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
    /// A photo from `width * height` RGB triples. `None` if the length does not fit or a side is 0.
    pub fn from_rgb(width: usize, height: usize, pixels: Vec<u8>) -> Option<Photo> {
        let fits = width.checked_mul(height)?.checked_mul(3)? == pixels.len();
        (fits && width > 0 && height > 0).then_some(Photo { width, height, pixels })
    }

    /// Width in pixels, at least 1.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels, at least 1.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The RGB triples, row by row from the top.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }
}

/// A format that is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JPEG: baseline, progressive and lossless; grey, YCbCr, RGB, CMYK.
    Jpeg,
    /// PNG; of an animation the first picture.
    Png,
    /// WebP, lossy and lossless; of an animation the first picture.
    WebP,
}

impl Format {
    /// The media type, as in `Content-Type`.
    pub fn media_type(self) -> &'static str {
        match self {
            Format::Jpeg => "image/jpeg",
            Format::Png => "image/png",
            Format::WebP => "image/webp",
        }
    }

    /// The format that the first bytes announce.
    ///
    /// # Errors
    /// [`DecodeError::Heic`] and [`DecodeError::UnknownFormat`].
    pub fn of(bytes: &[u8]) -> Result<Format, DecodeError> {
        match bytes {
            [0xff, 0xd8, 0xff, ..] => Ok(Format::Jpeg),
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Ok(Format::Png),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Ok(Format::WebP),
            // ISO base media file; the brands of HEIF pictures (ISO/IEC 23008-12).
            [_, _, _, _, b'f', b't', b'y', b'p', brand @ ..]
                if [&b"heic"[..], b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"]
                    .iter()
                    .any(|known| brand.starts_with(known)) =>
            {
                Err(DecodeError::Heic)
            }
            _ => Err(DecodeError::UnknownFormat),
        }
    }
}

/// Why a photo could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// No bytes at all.
    Empty,
    /// The first bytes are those of none of the formats that are decoded.
    UnknownFormat,
    /// A HEIC photo (the default of iPhones), which is not decoded here.
    Heic,
    /// The header announces more pixels than the limit. Nothing was decoded.
    TooManyPixels {
        /// Width that the header announces.
        width: u32,
        /// Height that the header announces.
        height: u32,
        /// The limit that was given.
        limit: u64,
    },
    /// The data is broken: cut off, damaged, or of a variant that the decoder doesn't know.
    Broken {
        /// The format that the first bytes announced.
        format: Format,
        /// What the decoder says.
        reason: String,
    },
}

impl DecodeError {
    /// The kind of error, one of few.
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

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Empty => write!(f, "The body is empty: send the bytes of a photo."),
            DecodeError::UnknownFormat => {
                write!(f, "These bytes are not a JPEG, PNG or WebP photo: send one of these.")
            }
            DecodeError::Heic => write!(
                f,
                "This is a HEIC photo, which is not decoded here: send it as JPEG (on an iPhone: \
                 Settings, Camera, Formats, Most Compatible)."
            ),
            DecodeError::TooManyPixels { width, height, limit } => write!(
                f,
                "The photo has {width} × {height} pixels; the limit is {limit} in all: scale it down."
            ),
            DecodeError::Broken { format, reason } => write!(
                f,
                "The {} data cannot be decoded ({reason}): send the complete file.",
                format.media_type()
            ),
        }
    }
}

impl std::error::Error for DecodeError {}

/// A decoded photo and what is known of its source.
#[derive(Debug)]
pub struct Decoded {
    /// The upright photo, possibly smaller than its source.
    pub photo: Photo,
    /// The format of the source.
    pub format: Format,
    /// Width and height of the source in pixels, as stored (before orientation).
    pub source_size: (u32, u32),
    /// The EXIF orientation, 1 to 8.
    pub orientation: u8,
}

/// Decodes a photo and turns it upright.
///
/// `max_pixels` is checked against the header, before memory is taken for pixels.
///
/// # Errors
/// Every [`DecodeError`]. Never panics, whatever the bytes.
pub fn decode(bytes: &[u8], max_pixels: u64) -> Result<Decoded, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::Empty);
    }
    let format = Format::of(bytes)?;
    let raw = match format {
        Format::Jpeg => decode_jpeg(bytes, max_pixels)?,
        Format::Png => {
            check_png_header(bytes, max_pixels)?;
            decode_with(
                format,
                image::codecs::png::PngDecoder::new(Cursor::new(bytes)),
                max_pixels,
            )?
        }
        Format::WebP => decode_with(
            format,
            image::codecs::webp::WebPDecoder::new(Cursor::new(bytes)),
            max_pixels,
        )?,
    };
    let photo = Photo::from_rgb(raw.width, raw.height, raw.rgb)
        .ok_or(DecodeError::Broken { format, reason: "it has no pixels".into() })?;
    Ok(Decoded {
        photo: upright(photo, raw.orientation),
        format,
        source_size: raw.source_size,
        orientation: raw.orientation.to_exif(),
    })
}

/// What a decoder gives: pixels as stored, and how to turn them.
struct Raw {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
    source_size: (u32, u32),
    orientation: Orientation,
}

fn check_pixels(width: u32, height: u32, limit: u64) -> Result<(), DecodeError> {
    if u64::from(width) * u64::from(height) > limit {
        return Err(DecodeError::TooManyPixels { width, height, limit });
    }
    Ok(())
}

/// By how much a photo is scaled down: 1, 2, 4 or 8, what a JPEG decoder can do by itself.
fn divisor((width, height): (u32, u32)) -> u32 {
    let shorter = width.min(height);
    [8, 4, 2].into_iter().find(|divisor| shorter / divisor >= ENOUGH_PIXELS).unwrap_or(1)
}

/// Checks the sizes in a PNG's header, which has a fixed place (PNG specification, 5.6): the
/// decoder itself takes memory for a line before it tells them.
fn check_png_header(bytes: &[u8], limit: u64) -> Result<(), DecodeError> {
    match bytes.get(12..24) {
        Some(&[b'I', b'H', b'D', b'R', a, b, c, d, e, f, g, h]) => {
            check_pixels(u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]), limit)
        }
        _ => Err(DecodeError::Broken { format: Format::Png, reason: "no header".into() }),
    }
}

fn decode_jpeg(bytes: &[u8], max_pixels: u64) -> Result<Raw, DecodeError> {
    use jpeg_decoder::PixelFormat;
    let broken = |error: jpeg_decoder::Error| DecodeError::Broken {
        format: Format::Jpeg,
        reason: error.to_string(),
    };
    let missing = || DecodeError::Broken { format: Format::Jpeg, reason: "no frame header".into() };

    // Start of scan; in the data between, 0xff is never followed by 0xda.
    if bytes.windows(2).filter(|pair| *pair == [0xff, 0xda]).count() > MOST_SCANS {
        return Err(DecodeError::Broken {
            format: Format::Jpeg,
            reason: format!("more than {MOST_SCANS} scans"),
        });
    }
    let mut decoder = jpeg_decoder::Decoder::new(bytes);
    decoder.read_info().map_err(broken)?;
    let stored = decoder.info().ok_or_else(missing)?;
    let source_size = (u32::from(stored.width), u32::from(stored.height));
    check_pixels(source_size.0, source_size.1, max_pixels)?;

    let divisor = divisor(source_size);
    let part = |side: u16| side.div_ceil(divisor as u16);
    decoder.scale(part(stored.width), part(stored.height)).map_err(broken)?;
    let pixels = decoder.decode().map_err(broken)?;
    let info = decoder.info().ok_or_else(missing)?;
    let rgb = match info.pixel_format {
        PixelFormat::RGB24 => pixels,
        PixelFormat::L8 => pixels.into_iter().flat_map(|grey| [grey; 3]).collect(),
        // Native byte order; the upper 8 of the 16 bits are enough here.
        PixelFormat::L16 => pixels
            .chunks_exact(2)
            .flat_map(|pair| [(u16::from_ne_bytes([pair[0], pair[1]]) >> 8) as u8; 3])
            .collect(),
        // The decoder undoes Adobe's inversion: 0 is no ink.
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
    Ok(Raw {
        width: usize::from(info.width),
        height: usize::from(info.height),
        rgb,
        source_size,
        orientation,
    })
}

fn decode_with<D: ImageDecoder>(
    format: Format,
    decoder: Result<D, ImageError>,
    max_pixels: u64,
) -> Result<Raw, DecodeError> {
    let broken = |error: ImageError| DecodeError::Broken { format, reason: error.to_string() };
    let mut decoder = decoder.map_err(broken)?;
    let source_size = decoder.dimensions();
    check_pixels(source_size.0, source_size.1, max_pixels)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut picture = image::DynamicImage::from_decoder(decoder).map_err(broken)?;
    let divisor = divisor(source_size);
    if divisor > 1 {
        let (width, height) = (source_size.0.div_ceil(divisor), source_size.1.div_ceil(divisor));
        picture = picture.thumbnail_exact(width, height);
    }
    Ok(Raw {
        width: picture.width() as usize,
        height: picture.height() as usize,
        rgb: over_black(picture),
        source_size,
        orientation,
    })
}

/// RGB of a picture; what is transparent becomes black, the colour of the letterbox's border.
fn over_black(picture: image::DynamicImage) -> Vec<u8> {
    if !picture.color().has_alpha() {
        return picture.into_rgb8().into_raw();
    }
    let shade = |value: u8, alpha: u8| (u16::from(value) * u16::from(alpha) / 255) as u8;
    picture
        .into_rgba8()
        .pixels()
        .flat_map(|image::Rgba([r, g, b, a])| [shade(*r, *a), shade(*g, *a), shade(*b, *a)])
        .collect()
}

/// Turns and mirrors a photo as its EXIF orientation says.
fn upright(photo: Photo, orientation: Orientation) -> Photo {
    let (w, h) = (photo.width, photo.height);
    // For each pixel of the upright photo: which of the stored ones it is.
    let source: fn(usize, usize, usize, usize) -> (usize, usize) = match orientation {
        Orientation::NoTransforms => return photo,
        Orientation::FlipHorizontal => |x, y, w, _| (w - 1 - x, y),
        Orientation::Rotate180 => |x, y, w, h| (w - 1 - x, h - 1 - y),
        Orientation::FlipVertical => |x, y, _, h| (x, h - 1 - y),
        Orientation::Rotate90FlipH => |x, y, _, _| (y, x),
        Orientation::Rotate90 => |x, y, _, h| (y, h - 1 - x),
        Orientation::Rotate270FlipH => |x, y, w, h| (w - 1 - y, h - 1 - x),
        Orientation::Rotate270 => |x, y, w, _| (w - 1 - y, x),
    };
    let turned = matches!(
        orientation,
        Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH
    );
    let (width, height) = if turned { (h, w) } else { (w, h) };
    let mut pixels = Vec::with_capacity(photo.pixels.len());
    for y in 0..height {
        for x in 0..width {
            let (sx, sy) = source(x, y, w, h);
            let at = (sy * w + sx) * 3;
            pixels.extend_from_slice(&photo.pixels[at..at + 3]);
        }
    }
    Photo { width, height, pixels }
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

    /// 3 × 2 pixels: 0 1 2 above 3 4 5.
    fn six() -> Photo {
        Photo::from_rgb(3, 2, (0..6).flat_map(|i| [i, i, i]).collect()).expect("a photo")
    }

    #[test]
    fn all_eight_orientations() {
        let expected: [(u8, usize, [u8; 6]); 8] = [
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
            let turned = upright(six(), orientation);
            let grey: Vec<u8> = turned.pixels.chunks(3).map(|pixel| pixel[0]).collect();
            assert_eq!((turned.width, grey.as_slice()), (width, &pixels[..]), "orientation {exif}");
        }
    }

    #[test]
    fn png_and_webp_keep_every_pixel() {
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
    fn grey_and_transparent_pictures() {
        let grey = image::GrayImage::from_pixel(4, 4, image::Luma([77]));
        let decoded = decode(&encoded(grey, image::ImageFormat::Png), NO_LIMIT).expect("a photo");
        assert_eq!(&decoded.photo.pixels()[..3], &[77, 77, 77]);
        let glass = image::RgbaImage::from_pixel(4, 4, image::Rgba([200, 100, 50, 0]));
        let decoded = decode(&encoded(glass, image::ImageFormat::Png), NO_LIMIT).expect("a photo");
        assert_eq!(&decoded.photo.pixels()[..3], &[0, 0, 0]);
    }

    #[test]
    fn a_large_png_is_scaled_after_it() {
        let picture = image::RgbImage::from_fn(1600, 1504, |x, _| image::Rgb([(x / 7) as u8; 3]));
        let decoded =
            decode(&encoded(picture, image::ImageFormat::Png), NO_LIMIT).expect("a photo");
        assert_eq!(decoded.source_size, (1600, 1504));
        assert_eq!((decoded.photo.width(), decoded.photo.height()), (800, 752));
        assert!(decoded.photo.pixels()[(376 * 800 + 400) * 3].abs_diff(114) < 3);
    }

    #[test]
    fn a_large_jpeg_is_scaled_while_it_is_decoded() {
        for progressive in [false, true] {
            let decoded = decode(&jpeg(1600, 1504, progressive), NO_LIMIT).expect("a photo");
            assert_eq!(decoded.source_size, (1600, 1504));
            assert_eq!((decoded.photo.width(), decoded.photo.height()), (800, 752));
            // The middle is the middle still.
            let at = (376 * 800 + 400) * 3;
            assert!(decoded.photo.pixels()[at].abs_diff(127) < 6);
            let small = decode(&jpeg(100, 1504, progressive), NO_LIMIT).expect("a photo");
            assert_eq!(small.photo.width(), 100);
        }
    }

    #[test]
    fn cmyk_and_grey_jpegs() {
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
    fn too_many_pixels_are_refused_by_the_header() {
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
    fn a_jpeg_with_a_scan_after_the_other_is_refused() {
        let mut bytes = jpeg(16, 16, true);
        bytes.extend([0xff, 0xda].repeat(MOST_SCANS));
        let error = decode(&bytes, NO_LIMIT).expect_err("too many scans");
        assert!(error.to_string().contains("scans"), "{error}");
    }

    #[test]
    fn what_is_no_photo() {
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
            assert!(matches!(decode(cut, NO_LIMIT), Err(DecodeError::Broken { .. })), "{whole:?}");
        }
    }
}

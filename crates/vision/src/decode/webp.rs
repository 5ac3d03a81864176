//! WebP: the container is read here, and `image-webp` decodes the coded pictures in it.
//!
//! Of an animation, only the first frame is decoded. Its sizes are compared before a decoder runs:
//! `image-webp` 0.2.4 panics where they differ. It also panics at some codes of lossless pictures,
//! which `lossless` therefore reads first.
//!
//! A WebP has no rows that could be scaled as they come. A lossy picture is decoded to its planes, which
//! are half of its RGB, and these are scaled.

mod lossless;

use std::iter;

use image_webp::vp8::{Frame, Vp8Decoder};

use super::canvas::Canvas;
use super::{
    DecodeError, Format, Limits, Stored, broken, check_pixels_of, divisor, exif, on_black,
};

/// Largest number of pixels of a lossy WebP without transparency.
///
/// A pixel takes 1.6 bytes while the data, at most 10 MiB, is there twice, and the decoder asks for up to
/// 16 MiB where a length is wrong: 57 MB. Then 1.5 bytes beside the canvas, 36 MB at most. Time is what the
/// limit is for: phones' 12 megapixels, 4096 × 3072, are within it.
const MAX_LOSSY: u64 = 12_600_000;

/// Largest number of pixels of a lossy and transparent WebP, which is two pictures.
const MAX_TRANSPARENT: u64 = 5_000_000;

/// Largest number of pixels of a lossless WebP.
///
/// A pixel takes 4 bytes in the decoder and up to one for its predictions, beside a copy of the data: 50 MB.
/// The rest of [`super::MEMORY`] is for its code tables.
const MAX_LOSSLESS: u64 = 8_000_000;

/// Bytes before the first chunk: `RIFF`, a size and `WEBP`.
const CONTAINER_HEADER: usize = 12;
/// Bytes of a frame's header before its chunks (`ANMF`).
const FRAME_HEADER: usize = 16;

/// The flag of transparency in the extended header (`VP8X`).
const ALPHA: u8 = 0x10;
/// The flag of an animation in the extended header.
const ANIMATION: u8 = 0x02;

/// A chunk, or as much of it as the file has.
struct Chunk<'a> {
    kind: &'a [u8],
    data: &'a [u8],
    /// False if the file ends before the data does.
    complete: bool,
}

/// Returns the chunks of a container.
fn chunks(mut rest: &[u8]) -> impl Iterator<Item = Chunk<'_>> {
    iter::from_fn(move || {
        let (kind, tail) = rest.split_at_checked(4)?;
        let (length, tail) = tail.split_first_chunk()?;
        let length = u32::from_le_bytes(*length) as usize;
        let complete = length <= tail.len();
        let (data, tail) = tail.split_at(length.min(tail.len()));
        // An odd length is padded by a byte.
        rest = tail.get(length % 2..).unwrap_or_default();
        Some(Chunk { kind, data, complete })
    })
}

/// The coded picture.
#[derive(Clone, Copy)]
enum Coded<'a> {
    /// A VP8 frame, and the chunk of its transparency.
    Lossy { data: &'a [u8], alpha: Option<&'a [u8]> },
    /// The data behind a VP8L header.
    Lossless { data: &'a [u8], transparent: bool },
}

/// The picture to decode: a still one, or the first frame of an animation.
struct Picture<'a> {
    coded: Coded<'a>,
    /// Size of the coded picture.
    size: (u32, u32),
    /// The canvas's size, and where the picture stands on it.
    canvas: (u32, u32),
    offset: (u32, u32),
}

/// Decodes a WebP.
pub(super) fn decode(bytes: &[u8], limits: Limits) -> Result<Stored, DecodeError> {
    let container = bytes.get(CONTAINER_HEADER..).unwrap_or_default();
    let announced = bytes.get(4..).and_then(|size| size.first_chunk().copied());
    let announced = announced.map_or(0, u32::from_le_bytes) as usize;
    let complete = bytes.len() >= announced.saturating_add(8);
    let Picture { coded, size, canvas: canvas_size, offset } = Picture::find(container, complete)?;
    limits.check(canvas_size)?;
    match coded {
        Coded::Lossy { alpha: None, .. } => check_pixels_of("WebP", canvas_size, MAX_LOSSY)?,
        Coded::Lossy { .. } => check_pixels_of("transparent WebP", canvas_size, MAX_TRANSPARENT)?,
        Coded::Lossless { .. } => check_pixels_of("lossless WebP", canvas_size, MAX_LOSSLESS)?,
    }
    let (width, height) = (size.0 as usize, size.1 as usize);
    let (left, top) = (offset.0 as usize, offset.1 as usize);
    let canvas = || Canvas::new(canvas_size, divisor(canvas_size));
    let canvas = match coded {
        Coded::Lossy { data, alpha } => {
            // First, since it takes most memory and leaves a byte a pixel.
            let alpha = alpha.map(|chunk| alpha_plane(chunk, size)).transpose()?;
            let frame = Vp8Decoder::decode_frame(data).map_err(|error| broken(WEBP, error))?;
            let mut canvas = canvas();
            for y in 0..height {
                let colors = colors(&frame, y);
                match &alpha {
                    None => canvas.add(top + y, left, 1, colors),
                    Some(alpha) => {
                        let pixels = colors.zip(&alpha[y * width..]);
                        let pixels = pixels.map(|(color, alpha)| on_black(color, *alpha));
                        canvas.add(top + y, left, 1, pixels);
                    }
                }
            }
            canvas
        }
        Coded::Lossless { data, transparent } => {
            let pixels = lossless::decode(data, size)?;
            let mut canvas = canvas();
            for (y, row) in pixels.chunks_exact(4 * width).enumerate() {
                let pixels = row.as_chunks::<4>().0.iter().map(|[r, g, b, alpha]| {
                    on_black([*r, *g, *b], if transparent { *alpha } else { 255 })
                });
                canvas.add(top + y, left, 1, pixels);
            }
            canvas
        }
    };
    let rows = canvas_size.1 as usize;
    let photo = canvas.finish(rows).ok_or_else(|| broken(WEBP, "no pixels"))?;
    let exif = chunks(container).find(|chunk| chunk.kind == b"EXIF");
    let orientation = exif.map_or(1, |chunk| exif::orientation(chunk.data));
    Ok(Stored { photo, source_size: canvas_size, orientation })
}

const WEBP: Format = Format::WebP;

/// Returns a number of three bytes.
fn three_bytes(bytes: &[u8; 3]) -> u32 {
    let [a, b, c] = *bytes;
    u32::from_le_bytes([a, b, c, 0])
}

impl<'a> Picture<'a> {
    /// Finds the picture in a container and compares its sizes. `complete` is false if the file ends
    /// before the container does.
    fn find(container: &'a [u8], complete: bool) -> Result<Picture<'a>, DecodeError> {
        let extended = chunks(container).find(|chunk| chunk.kind == b"VP8X");
        let header = match extended {
            None => None,
            Some(chunk) => match chunk.data {
                [flags, _, _, _, size @ ..] if size.len() >= 6 => {
                    let side = |at: usize| three_bytes(&[size[at], size[at + 1], size[at + 2]]) + 1;
                    Some((*flags, (side(0), side(3))))
                }
                _ if chunk.complete => return Err(broken(WEBP, "a short extended header")),
                _ => return Err(incomplete()),
            },
        };
        let flags = header.map_or(ALPHA, |(flags, _)| flags);
        let frame = chunks(container).find(|chunk| chunk.kind == b"ANMF");
        if let (Some(frame), true) = (frame, flags & ANIMATION != 0 || header.is_none()) {
            let Some((place, inner)) = frame.data.split_at_checked(FRAME_HEADER) else {
                return Err(if frame.complete {
                    broken(WEBP, "a short frame")
                } else {
                    incomplete()
                });
            };
            let (numbers, _) = place.as_chunks::<3>();
            let number = |at: usize| three_bytes(&numbers[at]);
            let offset = (2 * number(0), 2 * number(1));
            let (coded, size) = Picture::coded(inner, flags, frame.complete)?;
            if size != (number(2) + 1, number(3) + 1) {
                return Err(broken(WEBP, "a frame of another size than its header"));
            }
            let canvas = header.map_or(size, |(_, canvas)| canvas);
            if offset.0 + size.0 > canvas.0 || offset.1 + size.1 > canvas.1 {
                return Err(broken(WEBP, "a frame outside of the picture"));
            }
            return Ok(Picture { coded, size, canvas, offset });
        }
        let (coded, size) = Picture::coded(container, flags, complete)?;
        if header.is_some_and(|(_, canvas)| canvas != size) {
            return Err(broken(WEBP, "a picture of another size than its header"));
        }
        Ok(Picture { coded, size, canvas: size, offset: (0, 0) })
    }

    /// Finds the coded picture and its size among chunks.
    fn coded(
        file: &'a [u8],
        flags: u8,
        complete: bool,
    ) -> Result<(Coded<'a>, (u32, u32)), DecodeError> {
        let transparent = flags & ALPHA != 0;
        let mut alpha = None;
        for chunk in chunks(file) {
            let malformed = || broken(WEBP, "a malformed header of the picture");
            match chunk.kind {
                b"ALPH" if transparent => alpha = alpha.or(Some(chunk.data)),
                b"VP8 " | b"VP8L" if !chunk.complete => return Err(incomplete()),
                b"VP8 " => {
                    // RFC 6386, 9.1: a key frame, its start code, 14 bits a side and 2 of scale.
                    let &[tag, _, _, 0x9d, 0x01, 0x2a, a, b, c, d, ..] = chunk.data else {
                        return Err(malformed());
                    };
                    let side = |low, high| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
                    let size = (side(a, b), side(c, d));
                    if tag & 1 != 0 || size.0 == 0 || size.1 == 0 {
                        return Err(malformed());
                    }
                    return Ok((Coded::Lossy { data: chunk.data, alpha }, size));
                }
                b"VP8L" => {
                    let Some((header, data)) = lossless::Header::read(chunk.data) else {
                        return Err(malformed());
                    };
                    let transparent = transparent && header.alpha();
                    return Ok((Coded::Lossless { data, transparent }, header.size()));
                }
                _ => {}
            }
        }
        Err(if complete { broken(WEBP, "no picture") } else { incomplete() })
    }
}

fn incomplete() -> DecodeError {
    DecodeError::Incomplete { format: WEBP }
}

/// Decodes a chunk of transparency: a byte a pixel.
fn alpha_plane(chunk: &[u8], size: (u32, u32)) -> Result<Vec<u8>, DecodeError> {
    let (width, height) = (size.0 as usize, size.1 as usize);
    let Some((info, data)) = chunk.split_first() else {
        return Err(broken(WEBP, "no transparency"));
    };
    let mut plane = match info & 3 {
        0 => data
            .get(..width * height)
            .ok_or_else(|| broken(WEBP, "too little transparency"))?
            .to_vec(),
        1 => {
            // A lossless picture without its header, whose green is the transparency.
            let mut pixels = lossless::decode(data, size)?;
            for at in 0..width * height {
                pixels[at] = pixels[4 * at + 1];
            }
            pixels.truncate(width * height);
            pixels.shrink_to_fit();
            pixels
        }
        _ => return Err(broken(WEBP, "an unknown compression of transparency")),
    };
    undo_filter(&mut plane, width, info >> 2 & 3);
    Ok(plane)
}

/// Adds to each value of a plane what its filter foretells of it: 0 nothing, 1 the value to the left, 2
/// the one above, 3 their sum less the one between them.
fn undo_filter(plane: &mut [u8], width: usize, filter: u8) {
    if filter == 0 {
        return;
    }
    for at in 1..plane.len() {
        let (x, y) = (at % width, at / width);
        let foretold = match (x, y, filter) {
            (0, _, _) => plane[at - width],
            (_, 0, _) | (_, _, 1) => plane[at - 1],
            (_, _, 2) => plane[at - width],
            _ => {
                let value = |at: usize| i16::from(plane[at]);
                let gradient = value(at - 1) + value(at - width) - value(at - width - 1);
                gradient.clamp(0, 255) as u8
            }
        };
        plane[at] = plane[at].wrapping_add(foretold);
    }
}

/// Returns the colours of a row. Those of neighbouring chroma values are mixed 9 : 3 : 3 : 1, as `libwebp`
/// and browsers do.
fn colors(frame: &Frame, y: usize) -> impl Iterator<Item = [u8; 3]> {
    let (width, height) = (usize::from(frame.width), usize::from(frame.height));
    // Planes have whole blocks of 16 × 16.
    let stride = width.next_multiple_of(16);
    let (last_column, last_row) = (width.div_ceil(2) - 1, height.div_ceil(2) - 1);
    // The chroma value of a point, and the next one on the side where the point lies.
    let near_and_far = |at: usize, last: usize| {
        let near = at / 2;
        (near, if at % 2 == 1 { last.min(near + 1) } else { near.saturating_sub(1) })
    };
    let (near, far) = near_and_far(y, last_row);
    let rows =
        [&frame.ubuf, &frame.vbuf].map(|plane| [near, far].map(|row| &plane[row * (stride / 2)..]));
    frame.ybuf[y * stride..][..width].iter().enumerate().map(move |(x, luma)| {
        let (near, far) = near_and_far(x, last_column);
        let [u, v] = rows.map(|[near_row, far_row]| {
            let main = 9 * u16::from(near_row[near]);
            let beside = 3 * (u16::from(near_row[far]) + u16::from(far_row[near]));
            ((main + beside + u16::from(far_row[far]) + 8) / 16) as u8
        });
        rgb(*luma, u, v)
    })
}

/// Returns RGB of a colour in BT.601 of limited range, computed as `libwebp` does: factors in 1/16384, the
/// result in 1/64.
fn rgb(y: u8, u: u8, v: u8) -> [u8; 3] {
    let product = |value: u8, factor: i32| (i32::from(value) * factor) >> 8;
    let luma = product(y, 19_077);
    let red = luma + product(v, 26_149) - 14_234;
    let green = luma - product(u, 6_419) - product(v, 13_320) + 8_708;
    let blue = luma + product(u, 33_050) - 17_685;
    [red, green, blue].map(|value| (value >> 6).clamp(0, 255) as u8)
}

//! PNG: the chunks are read here, and `png` gets those that make the picture. Its rows are scaled as
//! they come.
//!
//! Profiles, texts and animations never reach the decoder, so no compressed one is inflated, and a
//! broken one is no error. A missing end is no error either, as long as the rows are there.

use std::iter;

use super::canvas::Canvas;
use super::pieces::Pieces;
use super::{
    DecodeError, Format, Limits, Stored, broken, check_pixels_of, divisor, exif, nearly_all,
    on_black, unsupported,
};

/// Largest size of a picture's rows before compression, in bytes.
///
/// Each byte is inflated and filtered, which is most of the time that a PNG takes: 48 megapixels of
/// RGB, 8064 × 6048, have 146 million. Rows are decoded one by one, so memory is no matter.
const MAX_RAW: u64 = 147_000_000;

const SIGNATURE: usize = 8;
/// Length, type and checksum of a chunk.
const AROUND_DATA: usize = 12;
/// Data of the header (PNG specification, 11.2.1).
const HEADER: usize = 13;

/// The end chunk.
const END: &[u8] = b"\0\0\0\0IEND\xae\x42\x60\x82";

/// Passes of an interlaced picture (PNG specification, 8.1): first column and step, first row and step.
const ADAM7: [[u32; 4]; 7] = [
    [0, 8, 0, 8],
    [4, 8, 0, 8],
    [0, 4, 4, 8],
    [2, 4, 0, 4],
    [0, 2, 2, 4],
    [1, 2, 0, 2],
    [0, 1, 1, 2],
];
/// The one pass of a picture that is not interlaced.
const ROW_BY_ROW: [[u32; 4]; 1] = [[0, 1, 0, 1]];

/// A chunk, or as much of it as the file has.
struct Chunk<'a> {
    kind: &'a [u8],
    data: &'a [u8],
    /// From its length to its checksum.
    whole: &'a [u8],
    /// False if the file ends before the chunk does.
    complete: bool,
}

/// Returns the chunks of a file, up to its end chunk.
fn chunks(file: &[u8]) -> impl Iterator<Item = Chunk<'_>> {
    let mut rest = file.get(SIGNATURE..).unwrap_or_default();
    iter::from_fn(move || {
        let length = u32::from_be_bytes(*rest.first_chunk()?) as usize;
        let kind = rest.get(4..8)?;
        let data = &rest[8..];
        let data = &data[..length.min(data.len())];
        let whole = &rest[..rest.len().min(data.len() + AROUND_DATA)];
        let complete = whole.len() == length.saturating_add(AROUND_DATA);
        rest = &rest[whole.len()..];
        if kind == b"IEND" {
            rest = &[];
        }
        Some(Chunk { kind, data, whole, complete })
    })
}

/// A header, with what it says about the rows.
struct Header {
    width: u32,
    height: u32,
    bits_of_pixel: u64,
    interlaced: bool,
}

impl Header {
    fn read(data: &[u8; HEADER]) -> Header {
        let &[a, b, c, d, e, f, g, h, depth, color, _, _, interlace] = data;
        let samples = match color {
            2 => 3,
            4 => 2,
            6 => 4,
            _ => 1,
        };
        Header {
            width: u32::from_be_bytes([a, b, c, d]),
            height: u32::from_be_bytes([e, f, g, h]),
            bits_of_pixel: samples * u64::from(depth),
            interlaced: interlace == 1,
        }
    }
}

/// Decodes a PNG, row by row.
pub(super) fn decode(bytes: &[u8], limits: Limits) -> Result<Stored, DecodeError> {
    let incomplete = || DecodeError::Incomplete { format: Format::Png };
    let failed = |error: ::png::DecodingError| broken(Format::Png, error);

    let first = chunks(bytes).next().ok_or_else(incomplete)?;
    let header = match (first.kind, first.data.first_chunk()) {
        (b"IHDR", Some(header)) => Header::read(header),
        (b"IHDR", None) if !first.complete => return Err(incomplete()),
        // What Xcode makes of a PNG for an application: not a PNG.
        (b"CgBI", _) => return Err(unsupported(Format::Png, "Apple's variant for applications")),
        _ => return Err(broken(Format::Png, "no header")),
    };
    let size = (header.width, header.height);
    limits.check(size)?;
    let limit = MAX_RAW * 8 / header.bits_of_pixel.max(1);
    check_pixels_of(format!("PNG of {} bits a pixel", header.bits_of_pixel), size, limit)?;

    let (mut ended, mut data_is_whole) = (false, true);
    let (mut palette, mut transparency, mut orientation) = (None, None, None);
    let mut before_data = true;
    for chunk in chunks(bytes) {
        match chunk.kind {
            b"IEND" => ended = true,
            b"IDAT" => {
                before_data = false;
                data_is_whole = chunk.complete;
            }
            b"PLTE" if before_data => palette = palette.or(Some(chunk.whole)),
            b"tRNS" if before_data => transparency = transparency.or(Some(chunk.whole)),
            b"eXIf" => {
                orientation = orientation.or_else(|| Some(exif::orientation(chunk.data)));
            }
            _ => {}
        }
    }
    if before_data {
        return Err(if ended { broken(Format::Png, "no picture") } else { incomplete() });
    }

    let head = [&bytes[..SIGNATURE], first.whole].into_iter().chain(palette).chain(transparency);
    let data = chunks(bytes).filter(|chunk| chunk.kind == b"IDAT").map(|chunk| chunk.whole);
    // At an end chunk, the decoder gives the pixels that it still owes. Where data is missing, it is the
    // end of the file at which it gives the rows that it has.
    let end = if data_is_whole { END } else { &[] };
    let file = Pieces::new(head.chain(data).chain([end]), &[]);

    let mut decoder = ::png::Decoder::new(file);
    // Grey or RGB, with or without transparency, 8 bits each.
    decoder.set_transformations(::png::Transformations::EXPAND | ::png::Transformations::STRIP_16);
    let mut reader = decoder.read_info().map_err(failed)?;
    let samples = reader.output_color_type().0.samples();
    let too_long = || broken(Format::Png, "rows are too long");
    let mut row = vec![0; reader.output_line_size(header.width).ok_or_else(too_long)?];

    let mut canvas = Canvas::new(size, divisor(size));
    let mut rows = header.height;
    let passes = if header.interlaced { &ADAM7[..] } else { &ROW_BY_ROW };
    for [first_x, step_x, first_y, step_y] in passes.iter().copied() {
        if first_x >= header.width {
            continue;
        }
        for y in (first_y..header.height).step_by(step_y as usize) {
            match reader.read_row(&mut row) {
                Ok(_) => {
                    let (first, step) = (first_x as usize, step_x as usize);
                    add_row(&mut canvas, y as usize, first, step, &row, samples);
                }
                Err(_) if !ended && !header.interlaced && nearly_all(y, header.height) => {
                    rows = y;
                    break;
                }
                Err(_) if !ended => return Err(incomplete()),
                Err(error) => return Err(failed(error)),
            }
        }
    }
    if data_is_whole && rows == header.height {
        // There is no further row. This reads the rest of the data, and its checksum.
        reader.read_row(&mut row).map_err(failed)?;
    }
    let photo = canvas.finish(rows as usize).ok_or_else(|| broken(Format::Png, "no pixels"))?;
    Ok(Stored { photo, source_size: size, orientation: orientation.unwrap_or(1) })
}

/// Adds a row of pixels with 1 to 4 samples: grey or RGB, with or without transparency.
fn add_row(canvas: &mut Canvas, y: usize, first: usize, step: usize, row: &[u8], samples: usize) {
    match samples {
        1 => canvas.add(y, first, step, row.iter().map(|grey| [*grey; 3])),
        2 => {
            let pixels = row.as_chunks::<2>().0.iter();
            canvas.add(y, first, step, pixels.map(|[grey, alpha]| on_black([*grey; 3], *alpha)));
        }
        3 => canvas.add(y, first, step, row.as_chunks::<3>().0.iter().copied()),
        _ => {
            let pixels = row.as_chunks::<4>().0.iter();
            let pixels = pixels.map(|[r, g, b, alpha]| on_black([*r, *g, *b], *alpha));
            canvas.add(y, first, step, pixels);
        }
    }
}

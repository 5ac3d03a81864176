//! PNG: chunks, rows and pixels are read here, and `fdeflate` inflates the data. Rows are scaled as they
//! come.
//!
//! Only chunks that make the picture are read: no profile and no text is inflated, and a broken one is no
//! error. A missing end is no error either, as long as the rows are there.

mod rows;

use std::iter;

use self::rows::Rows;
use super::canvas::Canvas;
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

impl Chunk<'_> {
    /// True if it is complete and its checksum is right.
    fn is_intact(&self) -> bool {
        self.complete
            && self.whole[4..]
                .split_last_chunk()
                .is_some_and(|(checked, sum)| crc32fast::hash(checked).to_be_bytes() == *sum)
    }
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

/// A header (PNG specification, 11.2.1), with what it says about the rows.
#[derive(Clone, Copy)]
struct Header {
    width: u32,
    height: u32,
    /// Bits of a sample.
    depth: u8,
    color: Color,
    interlaced: bool,
}

/// The meaning of a pixel's samples.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Color {
    Grey,
    Rgb,
    Indexed,
    GreyAlpha,
    RgbAlpha,
}

impl Header {
    /// Reads a header. `None` if no PNG has it.
    fn read(data: &[u8; HEADER]) -> Option<Header> {
        let &[a, b, c, d, e, f, g, h, depth, color, 0, 0, interlace @ (0 | 1)] = data else {
            return None;
        };
        let (color, depths): (_, &[u8]) = match color {
            0 => (Color::Grey, &[1, 2, 4, 8, 16]),
            2 => (Color::Rgb, &[8, 16]),
            3 => (Color::Indexed, &[1, 2, 4, 8]),
            4 => (Color::GreyAlpha, &[8, 16]),
            6 => (Color::RgbAlpha, &[8, 16]),
            _ => return None,
        };
        let (width, height) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
        let interlaced = interlace == 1;
        let valid = width > 0 && height > 0 && depths.contains(&depth);
        valid.then_some(Header { width, height, depth, color, interlaced })
    }

    fn bits_of_pixel(&self) -> u64 {
        let samples = match self.color {
            Color::Grey | Color::Indexed => 1,
            Color::GreyAlpha => 2,
            Color::Rgb => 3,
            Color::RgbAlpha => 4,
        };
        samples * u64::from(self.depth)
    }
}

/// Decodes a PNG, row by row.
pub(super) fn decode(bytes: &[u8], limits: Limits) -> Result<Stored, DecodeError> {
    let incomplete = || DecodeError::Incomplete { format: Format::Png };

    let first = chunks(bytes).next().ok_or_else(incomplete)?;
    let header = match first.kind {
        b"IHDR" if !first.complete => return Err(incomplete()),
        b"IHDR" => first.data.try_into().ok().and_then(Header::read),
        // What Xcode makes of a PNG for an application: not a PNG.
        b"CgBI" => return Err(unsupported(Format::Png, "Apple's variant for applications")),
        _ => return Err(broken(Format::Png, "no header")),
    };
    let header = header
        .filter(|_| first.is_intact())
        .ok_or_else(|| broken(Format::Png, "a header that no PNG has"))?;
    let size = (header.width, header.height);
    limits.check(size)?;
    let bits = header.bits_of_pixel();
    check_pixels_of(format!("PNG of {bits} bits a pixel"), size, MAX_RAW * 8 / bits)?;

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
            b"PLTE" if before_data => palette = palette.or(Some(chunk)),
            b"tRNS" if before_data => transparency = transparency.or(Some(chunk)),
            b"eXIf" => {
                orientation = orientation.or_else(|| Some(exif::orientation(chunk.data)));
            }
            _ => {}
        }
    }
    if before_data {
        return Err(if ended { broken(Format::Png, "no picture") } else { incomplete() });
    }
    let transparency = transparency.filter(Chunk::is_intact).map(|chunk| chunk.data);
    let pixels = match (header.color, palette) {
        (Color::Indexed, Some(palette)) if palette.is_intact() => {
            Pixels::of_palette(header, palette.data, transparency.unwrap_or_default())
        }
        (Color::Indexed, _) => return Err(broken(Format::Png, "no palette")),
        _ => Pixels::new(header, transparency),
    };

    let data = chunks(bytes).filter(|chunk| chunk.kind == b"IDAT");
    let mut reader = Rows::new(data, bits.div_ceil(8) as usize);
    let mut canvas = Canvas::new(size, divisor(size));
    let mut rows = header.height;
    let passes = if header.interlaced { &ADAM7[..] } else { &ROW_BY_ROW };
    for [first_x, step_x, first_y, step_y] in passes.iter().copied() {
        let columns = header.width.saturating_sub(first_x).div_ceil(step_x);
        if columns == 0 {
            continue;
        }
        reader.begin((u64::from(columns) * bits).div_ceil(8) as usize);
        for y in (first_y..header.height).step_by(step_y as usize) {
            match reader.next() {
                Ok(row) => {
                    let (first, step) = (first_x as usize, step_x as usize);
                    pixels.add(&mut canvas, y as usize, first, step, row);
                }
                Err(_) if !ended && !header.interlaced && nearly_all(y, header.height) => {
                    rows = y;
                    break;
                }
                Err(_) if !ended => return Err(incomplete()),
                Err(error) => return Err(broken(Format::Png, error)),
            }
        }
    }
    if data_is_whole && rows == header.height {
        reader.finish().map_err(|error| broken(Format::Png, error))?;
    }
    let photo = canvas.finish(rows as usize).ok_or_else(|| broken(Format::Png, "no pixels"))?;
    Ok(Stored { photo, source_size: size, orientation: orientation.unwrap_or(1) })
}

/// The conversion of a row's bytes to colours.
enum Pixels {
    /// Grey or RGB of 8 bits, with or without transparency: so many samples a pixel.
    Bytes(usize),
    /// As above with 16 bits, of which the upper 8 are taken.
    Words(usize),
    /// Grey or RGB of 8 or 16 bits, of which one colour, these bytes, is transparent.
    ButOne(Vec<u8>, u8),
    /// So many bits a pixel, 8 at most: each value's colour.
    Table(u8, Box<[[u8; 3]; 256]>),
}

impl Pixels {
    fn new(header: Header, transparency: Option<&[u8]>) -> Pixels {
        let samples = header.bits_of_pixel() as usize / usize::from(header.depth);
        // A colour has 16 bits a sample, whatever the picture has (PNG specification, 11.3.1.1).
        let transparent = match header.color {
            Color::Grey | Color::Rgb => transparency.and_then(|color| color.get(..2 * samples)),
            _ => None,
        };
        match (header.depth, transparent) {
            (16, Some(color)) => Pixels::ButOne(color.to_vec(), 16),
            (8, Some(color)) => {
                Pixels::ButOne(color.iter().skip(1).step_by(2).copied().collect(), 8)
            }
            (16, None) => Pixels::Words(samples),
            (8, None) => Pixels::Bytes(samples),
            (depth, transparent) => {
                let most = (1u16 << depth) - 1;
                let mut table = Box::new([[0; 3]; 256]);
                for (value, color) in (0..=most).zip(table.iter_mut()) {
                    if transparent.is_none_or(|transparent| u16::from(transparent[1]) != value) {
                        *color = [(value * (255 / most)) as u8; 3];
                    }
                }
                Pixels::Table(depth, table)
            }
        }
    }

    /// Colours by their numbers. Those outside of the palette are black, as in the crate `png`.
    fn of_palette(header: Header, palette: &[u8], transparency: &[u8]) -> Pixels {
        let mut table = Box::new([[0; 3]; 256]);
        let opacity = transparency.iter().copied().chain(iter::repeat(255));
        for ((color, entry), alpha) in table.iter_mut().zip(palette.as_chunks().0).zip(opacity) {
            *color = on_black(*entry, alpha);
        }
        Pixels::Table(header.depth, table)
    }

    /// Adds a row to a canvas: [`Canvas::add`].
    fn add(&self, canvas: &mut Canvas, y: usize, first: usize, step: usize, row: &[u8]) {
        match self {
            Pixels::Bytes(samples) => add_row(canvas, y, first, step, row, *samples),
            Pixels::Words(samples) => {
                let bytes: Vec<u8> = row.iter().step_by(2).copied().collect();
                add_row(canvas, y, first, step, &bytes, *samples);
            }
            Pixels::ButOne(transparent, depth) => {
                let bytes_of_sample = usize::from(depth / 8);
                let colors = row.chunks_exact(transparent.len()).map(|pixel| {
                    let sample = |i: usize| pixel.get(i * bytes_of_sample).unwrap_or(&pixel[0]);
                    match pixel == transparent {
                        true => [0; 3],
                        false => [0, 1, 2].map(|i| *sample(i)),
                    }
                });
                canvas.add(y, first, step, colors);
            }
            Pixels::Table(8, table) => {
                canvas.add(y, first, step, row.iter().map(|value| table[usize::from(*value)]));
            }
            Pixels::Table(depth, table) => {
                let in_a_byte = 8 / usize::from(*depth);
                let colors = (0..in_a_byte * row.len()).map(|x| {
                    let shift = 8 - usize::from(*depth) * (x % in_a_byte + 1);
                    let value = usize::from(row[x / in_a_byte] >> shift) & ((1 << depth) - 1);
                    table[value]
                });
                canvas.add(y, first, step, colors);
            }
        }
    }
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

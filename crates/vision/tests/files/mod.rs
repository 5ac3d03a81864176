//! Photos as phones, libraries and attackers make them, put together byte by byte.

#![allow(dead_code, reason = "each test needs a part of it")]

pub mod counting;
pub mod worst;

use jpeg_encoder::{ColorType, Encoder};

/// Returns RGB pixels: a gradient with a bright square, unlike itself when turned or mirrored. A grey
/// texture makes all of its parts take about the same space in a JPEG.
pub fn picture(width: usize, height: usize) -> Vec<u8> {
    let pixel = |x: usize, y: usize| {
        let bright = (width / 8..width / 3).contains(&x) && (height / 8..height / 4).contains(&y);
        let blue = if bright { 220 } else { 60 };
        let texture = ((x * 31 + y * 17) ^ (x * y)) % 24;
        [x * 230 / width, y * 230 / height, blue].map(|value| (value + texture) as u8)
    };
    (0..height).flat_map(|y| (0..width).flat_map(move |x| pixel(x, y))).collect()
}

/// Returns the position of some bytes in a file.
pub fn position(file: &[u8], bytes: &[u8]) -> usize {
    file.windows(bytes.len()).position(|window| window == bytes).expect("they are there")
}

/// Bits of a stream, each byte from its lowest bit on.
#[derive(Default)]
pub struct Bits {
    pub bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    /// Adds the lowest bits of a number, the lowest first.
    pub fn number(&mut self, number: u32, count: u32) {
        for place in 0..count {
            if self.used == 0 {
                self.bytes.push(0);
            }
            *self.bytes.last_mut().expect("a byte") |= ((number >> place & 1) as u8) << self.used;
            self.used = (self.used + 1) % 8;
        }
    }

    /// Adds a Huffman code: the highest bit first.
    pub fn code(&mut self, code: u32, length: u32) {
        for place in (0..length).rev() {
            self.number(code >> place, 1);
        }
    }
}

// JPEG

/// Returns [`picture`] as a JPEG.
pub fn jpeg(width: u16, height: u16) -> Vec<u8> {
    jpeg_with(width, height, |_| {})
}

/// Returns [`picture`] as a JPEG, from an encoder with other settings.
pub fn jpeg_with(
    width: u16,
    height: u16,
    change: impl FnOnce(&mut Encoder<&mut Vec<u8>>),
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, 90);
    change(&mut encoder);
    let picture = picture(width.into(), height.into());
    encoder.encode(&picture, width, height, ColorType::Rgb).expect("an encoder");
    bytes
}

/// Returns [`picture`]'s red as a grey JPEG.
pub fn grey_jpeg(width: u16, height: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    let grey: Vec<u8> =
        picture(width.into(), height.into()).chunks(3).map(|pixel| pixel[0]).collect();
    let encoder = Encoder::new(&mut bytes, 90);
    encoder.encode(&grey, width, height, ColorType::Luma).expect("an encoder");
    bytes
}

/// Returns a marker segment.
pub fn segment(marker: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() + 2) as u16;
    [&[0xff, marker], &length.to_be_bytes()[..], payload].concat()
}

/// Returns a segment of EXIF data.
pub fn exif_segment(exif: &[u8]) -> Vec<u8> {
    segment(0xe1, &[b"Exif\0\0", exif].concat())
}

/// Returns EXIF data that has only the orientation, in 2 or 4 bytes.
pub fn exif(orientation: u8, long: bool, big_endian: bool) -> Vec<u8> {
    let mut data = if big_endian { b"MM\0*".to_vec() } else { b"II*\0".to_vec() };
    let kind = if long { 4 } else { 3 };
    // Each number with its length.
    let numbers: [(u32, usize); 6] = [
        (8, 4),
        (1, 2),
        (0x112, 2),
        (kind, 2),
        (1, 4),
        (orientation.into(), if long { 4 } else { 2 }),
    ];
    for (number, length) in numbers {
        match big_endian {
            true => data.extend(&number.to_be_bytes()[4 - length..]),
            false => data.extend(&number.to_le_bytes()[..length]),
        }
    }
    data.resize(26, 0);
    data
}

/// Returns a JPEG with segments behind its start marker.
pub fn with_segments(jpeg: &[u8], segments: &[Vec<u8>]) -> Vec<u8> {
    [&jpeg[..2], &segments.concat(), &jpeg[2..]].concat()
}

// PNG

/// Returns a chunk.
pub fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut checksum = u32::MAX;
    for byte in kind.iter().chain(data) {
        checksum ^= u32::from(*byte);
        for _ in 0..8 {
            checksum = checksum >> 1 ^ (0xedb8_8320 * (checksum & 1));
        }
    }
    let length = (data.len() as u32).to_be_bytes();
    [&length[..], kind, data, &(!checksum).to_be_bytes()].concat()
}

/// Returns a header chunk.
pub fn png_header(width: u32, height: u32, depth: u8, color: u8, interlaced: bool) -> Vec<u8> {
    let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
    chunk(b"IHDR", &[&size[..], &[depth, color, 0, 0, interlaced.into()]].concat())
}

/// Returns a PNG of these chunks and an end chunk.
pub fn png(chunks: &[Vec<u8>]) -> Vec<u8> {
    [b"\x89PNG\r\n\x1a\n", &chunks.concat()[..], &chunk(b"IEND", b"")].concat()
}

/// Returns zlib data that is not compressed.
pub fn zlib(data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x78, 0x01];
    let mut blocks = data.chunks(0xffff).peekable();
    while let Some(block) = blocks.next() {
        let length = block.len() as u16;
        bytes.push(blocks.peek().is_none().into());
        bytes.extend(length.to_le_bytes());
        bytes.extend((!length).to_le_bytes());
        bytes.extend(block);
    }
    bytes.extend([0; 4]);
    bytes
}

/// Returns zlib data of rows that have a filter and zeros, compressed as far as it goes. A row's length
/// has the filter's byte.
pub fn zlib_of_zeros(rows: usize, row_length: usize, filter: u8) -> Vec<u8> {
    let mut bits = Bits { bytes: vec![0x78, 0x01], used: 0 };
    // The last block, with fixed codes (RFC 1951, 3.2.6).
    bits.number(0b011, 3);
    for _ in 0..rows {
        bits.code(0x30 + u32::from(filter), 8);
        bits.code(0x30, 8);
        let zeros = row_length - 2;
        for _ in 0..zeros / 258 {
            // Length 258, distance 1.
            bits.code(0b1100_0101, 8);
            bits.code(0, 5);
        }
        for _ in 0..zeros % 258 {
            bits.code(0x30, 8);
        }
    }
    bits.code(0, 7);
    bits.bytes.extend([0; 4]);
    bits.bytes
}

/// Returns the bytes of a PNG's rows of 8 bits a sample, without filters.
pub fn rows(pixels: &[u8], row_length: usize) -> Vec<u8> {
    pixels.chunks(row_length).flat_map(|row| [&[0], row].concat()).collect()
}

/// Returns the rows of an interlaced PNG (PNG specification, 8).
pub fn interlaced_rows(pixels: &[u8], width: usize, height: usize, bytes: usize) -> Vec<u8> {
    let passes = [(0, 8, 0, 8), (4, 8, 0, 8), (0, 4, 4, 8), (2, 4, 0, 4), (0, 2, 2, 4)];
    let passes = passes.into_iter().chain([(1, 2, 0, 2), (0, 1, 1, 2)]);
    let mut rows = Vec::new();
    for (first_x, step_x, first_y, step_y) in passes {
        for y in (first_y..height).step_by(step_y) {
            if first_x < width {
                rows.push(0);
            }
            for x in (first_x..width).step_by(step_x) {
                rows.extend(&pixels[(y * width + x) * bytes..][..bytes]);
            }
        }
    }
    rows
}

// WebP

/// Returns a RIFF chunk.
pub fn riff_chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let padding = &[0][..data.len() % 2];
    [kind, &(data.len() as u32).to_le_bytes()[..], data, padding].concat()
}

/// Returns a WebP of these chunks.
pub fn webp(chunks: &[Vec<u8>]) -> Vec<u8> {
    let chunks = chunks.concat();
    riff_chunk(b"RIFF", &[b"WEBP", &chunks[..]].concat())
}

fn three_bytes(number: u32) -> [u8; 3] {
    let [a, b, c, _] = number.to_le_bytes();
    [a, b, c]
}

/// Flag of an extended header: transparency.
pub const ALPHA: u8 = 0x10;
/// Flag of an extended header: animation.
pub const ANIMATION: u8 = 0x02;

/// Returns an extended header.
pub fn vp8x(flags: u8, width: u32, height: u32) -> Vec<u8> {
    let sides = [three_bytes(width - 1), three_bytes(height - 1)].concat();
    riff_chunk(b"VP8X", &[&[flags, 0, 0, 0], &sides[..]].concat())
}

/// Returns an animation's header and a frame of these chunks at (0, 0) or further right and down.
pub fn animation(left: u32, top: u32, width: u32, height: u32, chunks: &[Vec<u8>]) -> Vec<u8> {
    let numbers = [left / 2, top / 2, width - 1, height - 1, 100].map(three_bytes).concat();
    let frame = [&numbers[..], &[0], &chunks.concat()].concat();
    [riff_chunk(b"ANIM", &[0; 6]), riff_chunk(b"ANMF", &frame)].concat()
}

/// Returns a lossy picture. Its modes are all zeros, which is a valid picture, and so is any data of
/// coefficients that is long enough.
pub fn vp8(width: u16, height: u16, coefficients: &[u8]) -> Vec<u8> {
    let groups = usize::from(width.div_ceil(16)) * usize::from(height.div_ceil(16));
    let modes = vec![0; 256 + groups];
    let tag = ((modes.len() as u32) << 5) | 1 << 4;
    let sides = [width.to_le_bytes(), height.to_le_bytes()].concat();
    [&three_bytes(tag)[..], b"\x9d\x01\x2a", &sides, &modes, coefficients].concat()
}

/// Returns the coefficients of an even grey.
pub fn vp8_grey(width: u16, height: u16) -> Vec<u8> {
    let groups = usize::from(width.div_ceil(16)) * usize::from(height.div_ceil(16));
    vp8(width, height, &vec![0; 64 + 2 * groups])
}

/// Returns coefficients of noise.
pub fn vp8_noise(width: u16, height: u16, bytes: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    let noise: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(bytes).collect();
    vp8(width, height, &noise)
}

/// Returns a lossless picture's header and this data.
pub fn vp8l(width: u32, height: u32, data: &[u8]) -> Vec<u8> {
    let header = (width - 1) | (height - 1) << 14 | 1 << 28;
    [&[0x2f], &header.to_le_bytes()[..], data].concat()
}

/// Adds a code of one symbol.
pub fn single(bits: &mut Bits, symbol: u32) {
    // Simple, one symbol, of eight bits.
    bits.number(0b101, 3);
    bits.number(symbol, 8);
}

/// Adds a code by the lengths of its symbols' codes, 0 to 15.
pub fn lengths(bits: &mut Bits, lengths: &[u32]) {
    // Not simple; the lengths 0 to 15 themselves have codes of four bits, in this order of symbols:
    // 17, 18, 0, 1, 2, 3, 4, 5, 16, 6 and so on.
    bits.number(0, 1);
    bits.number(15, 4);
    for symbol in 0..19 {
        bits.number(if [0, 1, 8].contains(&symbol) { 0 } else { 4 }, 3);
    }
    // So many lengths are there, a number of 10 bits.
    bits.number(1, 1);
    bits.number(4, 3);
    bits.number(lengths.len() as u32 - 2, 10);
    for length in lengths {
        bits.code(*length, 4);
    }
}

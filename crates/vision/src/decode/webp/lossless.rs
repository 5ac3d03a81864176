//! Lossless WebP (VP8L): its codes are read before `image-webp` decodes the picture.
//!
//! All Huffman codes of a picture stand before its pixels. A code that gives some bits two meanings
//! makes `image-webp` 0.2.4 panic, and a file of few megabytes can ask for more than a gigabyte of
//! tables. `check` reads the codes, and skips the small pictures between them, without decoding.
//!
//! "WebP Lossless Bitstream Specification" describes the format; section numbers below are its.

use image_webp::WebPDecoder;

use super::super::huffman::Code;
use super::super::{DecodeError, MEMORY, broken, unsupported};
use super::WEBP;

/// The first byte (section 3).
const SIGNATURE: u8 = 0x2f;

/// Memory that a pixel takes in the decoder beside codes: four bytes, and the pictures of two transforms
/// and of the codes' places, each with a value for 16 pixels at most: 0.9 bytes.
const BYTES_OF_PIXEL: u64 = 5;

/// Order in which the lengths of the codes of code lengths are stored (section 6.2.1.1).
const LENGTHS_ORDER: [usize; 19] =
    [17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

/// Symbols of the five codes of a group: green, lengths; red; blue; alpha; distances. The colour cache
/// adds to the first (section 6.2).
const ALPHABETS: [usize; 5] = [256 + 24, 256, 256, 256, 40];

/// Longest code in bits that the decoder looks up in one table. Longer ones make a tree.
const TABLE_BITS: usize = 10;

/// The header after the signature: 14 bits a side, a flag of transparency, 3 bits of version.
#[derive(Clone, Copy)]
pub(super) struct Header(u32);

impl Header {
    const ALPHA: u32 = 1 << 28;

    /// Splits a picture into its header and its data. `None` if it has another signature or version.
    pub(super) fn read(picture: &[u8]) -> Option<(Header, &[u8])> {
        let (signature, rest) = picture.split_first()?;
        let (header, data) = rest.split_first_chunk()?;
        let header = u32::from_le_bytes(*header);
        (*signature == SIGNATURE && header >> 29 == 0).then_some((Header(header), data))
    }

    /// Returns the header of a picture with transparency. Sides have 14 bits.
    fn of((width, height): (u32, u32)) -> Header {
        Header((width - 1) & 0x3fff | ((height - 1) & 0x3fff) << 14 | Header::ALPHA)
    }

    /// Returns width and height.
    pub(super) fn size(self) -> (u32, u32) {
        ((self.0 & 0x3fff) + 1, (self.0 >> 14 & 0x3fff) + 1)
    }

    /// True if the picture may have transparency.
    pub(super) fn alpha(self) -> bool {
        self.0 & Header::ALPHA != 0
    }
}

/// Decodes a picture's data, behind its header: RGBA.
pub(super) fn decode(data: &[u8], size: (u32, u32)) -> Result<Vec<u8>, DecodeError> {
    let pixels = u64::from(size.0) * u64::from(size.1);
    let used = data.len() as u64 + pixels * BYTES_OF_PIXEL;
    check(data, size, MEMORY.saturating_sub(used))?;

    // With the flag of transparency, the decoder writes RGBA into the result. Without, it would copy it.
    let header = Header::of(size).0.to_le_bytes();
    let length = (1 + header.len() + data.len()) as u32;
    let (container, length) = ((length + 12).to_le_bytes(), length.to_le_bytes());
    let file =
        [&b"RIFF"[..], &container, b"WEBPVP8L", &length, &[SIGNATURE], &header, data].concat();
    let failed = |error: image_webp::DecodingError| broken(WEBP, error);
    let mut decoder = WebPDecoder::new(std::io::Cursor::new(file)).map_err(failed)?;
    let length = decoder.output_buffer_size().filter(|length| *length as u64 == 4 * pixels);
    let mut pixels = vec![0; length.ok_or_else(|| broken(WEBP, "a size that is not its own"))?];
    decoder.read_image(&mut pixels).map_err(failed)?;
    Ok(pixels)
}

/// Reads the codes of a picture's data, behind its header. `room` is the memory that the decoder may take
/// for their tables, in bytes.
fn check(data: &[u8], (width, height): (u32, u32), room: u64) -> Result<(), DecodeError> {
    let mut reader = Reader { data, at: 0, room, full: false };
    match reader.picture(width, height) {
        Some(()) => Ok(()),
        None if reader.full => Err(unsupported(WEBP, "so many code tables")),
        None => Err(broken(WEBP, "its codes are damaged")),
    }
}

/// Reads bits and what they mean. Every method returns `None` where the data ends or means nothing.
struct Reader<'a> {
    data: &'a [u8],
    /// In bits.
    at: usize,
    /// Bytes left for tables.
    room: u64,
    /// True if the tables did not fit.
    full: bool,
}

/// The codes of a group, in the order of [`ALPHABETS`].
type Group = [Code; 5];

impl Reader<'_> {
    fn bit(&mut self) -> Option<bool> {
        let byte = self.data.get(self.at / 8)?;
        let bit = byte >> (self.at % 8) & 1 == 1;
        self.at += 1;
        Some(bit)
    }

    /// Reads a number of so many bits, the lowest first.
    fn number(&mut self, bits: u32) -> Option<u32> {
        let mut number = 0;
        for place in 0..bits {
            number |= u32::from(self.bit()?) << place;
        }
        Some(number)
    }

    fn symbol(&mut self, code: &Code) -> Option<u32> {
        code.symbol(|| self.bit()).map(u32::from)
    }

    /// Reads transforms and codes of a picture, up to its pixels (sections 4 and 7.2).
    fn picture(&mut self, mut width: u32, height: u32) -> Option<()> {
        let mut seen = [false; 4];
        while self.bit()? {
            let transform = self.number(2)?;
            if std::mem::replace(&mut seen[transform as usize], true) {
                return None;
            }
            match transform {
                // Predictor and colour: a value for each square.
                0 | 1 => _ = self.squares(width, height)?,
                // Subtract green has no data.
                2 => {}
                // Colour indexing: few colours put several pixels into one.
                _ => {
                    let colors = self.number(8)? + 1;
                    self.small_picture(colors, 1)?;
                    let bits = match colors {
                        1..=2 => 3,
                        3..=4 => 2,
                        5..=16 => 1,
                        _ => 0,
                    };
                    width = width.div_ceil(1 << bits);
                }
            }
        }
        let cache = self.color_cache()?;
        // A picture of the groups' numbers: the highest one tells how many there are.
        let groups = if self.bit()? { self.squares(width, height)? + 1 } else { 1 };
        for _ in 0..groups {
            self.group(cache)?;
        }
        Some(())
    }

    /// Skips a small picture that has a value for each square of this one. Returns its highest value.
    fn squares(&mut self, width: u32, height: u32) -> Option<u32> {
        let side = 1 << (self.number(3)? + 2);
        self.small_picture(width.div_ceil(side), height.div_ceil(side))
    }

    /// Skips a small picture. Returns its highest value in red and green, as one number.
    fn small_picture(&mut self, width: u32, height: u32) -> Option<u32> {
        let cache = self.color_cache()?;
        let [green, red, blue, alpha, distance] = self.group(cache)?;
        let pixels = width * height;
        let (mut at, mut highest) = (0, 0);
        while at < pixels {
            match self.symbol(&green)? {
                value @ 0..=255 => {
                    highest = highest.max(self.symbol(&red)? << 8 | value);
                    self.symbol(&blue)?;
                    self.symbol(&alpha)?;
                    at += 1;
                }
                length @ 256..=279 => {
                    // Pixels that were there before.
                    at += self.length(length - 256)?;
                    let distance = self.symbol(&distance)?;
                    self.length(distance)?;
                }
                // One from the cache.
                _ => at += 1,
            }
        }
        Some(highest)
    }

    /// Reads the rest of a length or distance (section 5.2.2).
    fn length(&mut self, symbol: u32) -> Option<u32> {
        if symbol < 4 {
            return Some(symbol + 1);
        }
        let bits = (symbol - 2) / 2;
        Some(((2 + symbol % 2) << bits) + self.number(bits)? + 1)
    }

    /// Reads the number of colours in the cache (section 5.2.3).
    fn color_cache(&mut self) -> Option<usize> {
        if !self.bit()? {
            return Some(0);
        }
        match self.number(4)? {
            bits @ 1..=11 => Some(1 << bits),
            _ => None,
        }
    }

    fn group(&mut self, cache: usize) -> Option<Group> {
        // The decoder's list of groups grows by doubling.
        self.take_room(3 * 160)?;
        let [green, others @ ..] = ALPHABETS;
        let green = self.code(green + cache)?;
        let [red, blue, alpha, distance] = others;
        Some([green, self.code(red)?, self.code(blue)?, self.code(alpha)?, self.code(distance)?])
    }

    /// Reads a code (section 6.2.1), and takes the room of its tables.
    fn code(&mut self, alphabet: usize) -> Option<Code> {
        let code =
            if self.bit()? { self.simple_code(alphabet)? } else { self.other_code(alphabet)? };
        let (longest, in_tree) = code.longest(TABLE_BITS);
        // Two blocks of memory, the table, and two nodes of the tree for each code in it.
        self.take_room(64 + (4 << longest.min(TABLE_BITS)) + 32 * in_tree as u64)?;
        Some(code)
    }

    fn simple_code(&mut self, alphabet: usize) -> Option<Code> {
        let two = self.bit()?;
        let bits = if self.bit()? { 8 } else { 1 };
        let first = self.number(bits)?;
        let second = if two { self.number(8)? } else { first };
        if first.max(second) as usize >= alphabet {
            return None;
        }
        Some(if two {
            let mut counts = [0; 16];
            counts[0] = 2;
            Code::Many(counts, vec![first as u16, second as u16])
        } else {
            Code::Single(first as u16)
        })
    }

    fn other_code(&mut self, alphabet: usize) -> Option<Code> {
        let mut lengths = [0; LENGTHS_ORDER.len()];
        let count = 4 + self.number(4)? as usize;
        for symbol in LENGTHS_ORDER.iter().take(count) {
            lengths[*symbol] = self.number(3)? as u8;
        }
        let code = Code::of_lengths(&lengths)?;
        let mut left = if self.bit()? {
            let bits = 2 + 2 * self.number(3)?;
            let count = 2 + self.number(bits)? as usize;
            (count <= alphabet).then_some(count)?
        } else {
            alphabet
        };
        let mut lengths = Vec::with_capacity(alphabet);
        let mut previous = 8;
        while lengths.len() < alphabet && left > 0 {
            left -= 1;
            let (length, count) = match self.symbol(&code)? {
                length @ 0..=15 => (length as u8, 1),
                16 => (previous, 3 + self.number(2)?),
                17 => (0, 3 + self.number(3)?),
                _ => (0, 11 + self.number(7)?),
            };
            if length > 0 {
                previous = length;
            }
            lengths.extend(std::iter::repeat_n(length, count as usize));
        }
        if lengths.len() > alphabet {
            return None;
        }
        lengths.resize(alphabet, 0);
        Code::of_lengths(&lengths)
    }

    fn take_room(&mut self, bytes: u64) -> Option<()> {
        match self.room.checked_sub(bytes) {
            Some(room) => {
                self.room = room;
                Some(())
            }
            None => {
                self.full = true;
                None
            }
        }
    }
}

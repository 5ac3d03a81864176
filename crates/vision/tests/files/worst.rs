//! The photos that cost most of those that are decoded, one of each kind.

use vision::decode::{DecodeError, Limits, decode};

use super::{
    ALPHA, Bits, chunk, lengths, png, png_header, riff_chunk, segment, single, vp8_grey, vp8_noise,
    vp8l, vp8x, webp, zlib_of_zeros,
};

/// The default of the largest body.
const BODY: usize = 10 << 20;

/// A photo that costs much.
pub struct Worst {
    pub name: &'static str,
    pub file: Vec<u8>,
    /// True if it becomes a photo. Otherwise decoding may fail, after its work.
    pub whole: bool,
}

/// A photo by its name, so that only one is in memory at a time.
pub type Make = fn() -> Worst;

/// All of them.
pub const ALL: [Make; 14] = [
    jpeg_without_data,
    jpeg_full_of_data,
    jpeg_of_short_codes,
    jpeg_of_four_inks,
    progressive_jpeg,
    progressive_jpeg_of_short_codes,
    png_of_48_megapixels,
    png_of_short_codes,
    interlaced_png,
    strip_png,
    lossy_webp,
    lossy_webp_full_of_data,
    lossless_webp,
    transparent_webp,
];

/// Returns the largest square of this kind of file that is decoded, 7000 pixels a side at most.
fn largest_square(file: impl Fn(u16) -> Vec<u8>) -> Vec<u8> {
    let mut side = 7000;
    loop {
        let bytes = file(side);
        side = match decode(&bytes, Limits::DEFAULT) {
            // Whole groups of blocks: the limit counts their samples.
            Err(DecodeError::TooManyPixelsOf { limit, .. }) => {
                (side - 16).min(limit.isqrt() as u16) / 16 * 16
            }
            Err(DecodeError::Incomplete { .. }) => (side - 16) / 16 * 16,
            Err(other) => panic!("{other:?}"),
            Ok(_) => return bytes,
        };
    }
}

/// Returns a JPEG whose tables have the code `0` for a value of one bit, and `10` for a block's end. The zeros that
/// a decoder reads where data is missing have a value for every coefficient of a block.
fn jpeg(
    width: u16,
    height: u16,
    marker: u8,
    sampling: &[u8],
    scans: &[(&[u8], [u8; 3], &[u8])],
) -> Vec<u8> {
    let mut file = vec![0xff, 0xd8];
    file.extend(segment(0xdb, &[&[0], &[1; 64][..]].concat()));
    let sides = [height.to_be_bytes(), width.to_be_bytes()].concat();
    let components = (1..).zip(sampling).flat_map(|(id, sampling)| [id, *sampling, 0]);
    let components: Vec<u8> = components.collect();
    let count = sampling.len() as u8;
    file.extend(segment(marker, &[&[8], &sides[..], &[count], &components].concat()));
    file.extend(segment(0xc4, &[&[0x00, 1], &[0; 15][..], &[0]].concat()));
    file.extend(segment(0xc4, &[&[0x10, 1, 1], &[0; 14][..], &[1, 0]].concat()));
    for (components, band, data) in scans {
        let tables: Vec<u8> = components.iter().flat_map(|id| [*id, 0]).collect();
        let count = components.len() as u8;
        file.extend(segment(0xda, &[&[count], &tables[..], band].concat()));
        file.extend(*data);
    }
    file.extend([0xff, 0xd9]);
    file
}

/// A scan of all coefficients.
const SEQUENTIAL: [u8; 3] = [0, 63, 0];

pub fn jpeg_without_data() -> Worst {
    let file = |side: u16| jpeg(side, side, 0xc0, &[0x11; 3], &[(&[1, 2, 3], SEQUENTIAL, &[])]);
    let file = largest_square(file);
    Worst { name: "JPEG without subsampling, largest, no data", file, whole: true }
}

/// The largest one with the usual subsampling, whose data is missing.
pub fn jpeg_of_48_megapixels_without_data() -> Vec<u8> {
    jpeg(7000, 7000, 0xc0, &[0x22, 0x11, 0x11], &[(&[1, 2, 3], SEQUENTIAL, &[])])
}

/// The data has codes of one to eight bits.
pub fn jpeg_full_of_data() -> Worst {
    let mut file = jpeg(7000, 7000, 0xc0, &[0x22, 0x11, 0x11], &[]);
    file.truncate(file.len() - 2);
    // DC: two codes of one bit.
    let counts = [&[2], &[0; 15][..]].concat();
    file.extend(segment(0xc4, &[&[0x00], &counts[..], &[0, 3]].concat()));
    // AC: three codes of two bits, four of four bits; all but one with a value.
    let counts = [&[0, 3, 0, 4], &[0; 12][..]].concat();
    file.extend(segment(0xc4, &[&[0x10], &counts[..], &[1, 2, 0x11, 3, 0x21, 4, 0]].concat()));
    file.extend(segment(0xda, &[3, 1, 0, 2, 0, 3, 0, 0, 63, 0]));
    let mut random = fastrand::Rng::with_seed(1);
    let noise = std::iter::repeat_with(|| random.u8(..0xff));
    let length = BODY - file.len() - 2;
    file.extend(noise.take(length));
    file.extend([0xff, 0xd9]);
    Worst { name: "JPEG, 4:2:0, 49 megapixels, 10 MiB of data", file, whole: true }
}

/// Returns the data of blocks that have so many values of one bit each, with codes of one bit; before them a code for
/// the mean if it is a scan of both. Other bits may follow the block's end.
fn short_codes(blocks: usize, mean: bool, values: usize, behind: usize) -> Vec<u8> {
    let mut bits = Bits::default();
    for _ in 0..blocks {
        let mut zeros = usize::from(mean) + 2 * values;
        if values < 63 {
            for _ in 0..zeros {
                bits.number(0, 1);
            }
            bits.code(0b10, 2);
            zeros = behind;
        }
        for _ in 0..zeros {
            bits.number(0, 1);
        }
    }
    // Here the highest bit of a byte is the first.
    bits.bytes.into_iter().map(u8::reverse_bits).collect()
}

/// As many values as a body has bits for: each block has 34 of two bits.
pub fn jpeg_of_short_codes() -> Worst {
    let data = short_codes(6 * 7000usize.div_ceil(16).pow(2), true, 34, 0);
    let scans: [(&[u8], _, &[u8]); 1] = [(&[1, 2, 3], SEQUENTIAL, &data)];
    let file = jpeg(7000, 7000, 0xc0, &[0x22, 0x11, 0x11], &scans);
    Worst { name: "JPEG, 4:2:0, 49 megapixels, 10 MiB of short codes", file, whole: true }
}

/// Just below the size at which scaling begins. Every coefficient has a value.
pub fn jpeg_of_four_inks() -> Worst {
    let (width, height) = (1439, 4160);
    let blocks = 4 * usize::from(width).div_ceil(8) * usize::from(height).div_ceil(8);
    let data = short_codes(blocks, true, 63, 0);
    let scans: [(&[u8], _, &[u8]); 1] = [(&[1, 2, 3, 4], SEQUENTIAL, &data)];
    let file = jpeg(width, height, 0xc0, &[0x11; 4], &scans);
    Worst { name: "JPEG, four inks, 6 megapixels that are not scaled", file, whole: true }
}

pub fn progressive_jpeg() -> Worst {
    let scans: [(&[u8], [u8; 3], &[u8]); 5] = [
        (&[1, 2, 3], [0, 0, 0], &[]),
        (&[1], [1, 63, 1], &[]),
        (&[2], [1, 63, 1], &[]),
        (&[3], [1, 63, 1], &[]),
        (&[1], [1, 63, 0x10], &[]),
    ];
    let file = largest_square(|side| jpeg(side, side, 0xc2, &[0x22, 0x11, 0x11], &scans));
    Worst { name: "progressive JPEG, 4:2:0, 5 scans, largest, no data", file, whole: true }
}

/// Every coefficient of the brightness has a value in its first scan, and a bit in the second.
pub fn progressive_jpeg_of_short_codes() -> Worst {
    let file = largest_square(|side| {
        let blocks = usize::from(side).div_ceil(8).pow(2);
        let (first, second) =
            (short_codes(blocks, false, 63, 0), short_codes(blocks, false, 0, 63));
        let scans: [(&[u8], [u8; 3], &[u8]); 5] = [
            (&[1, 2, 3], [0, 0, 0], &[]),
            (&[1], [1, 63, 1], &first),
            (&[2], [1, 63, 1], &[]),
            (&[3], [1, 63, 1], &[]),
            (&[1], [1, 63, 0x10], &second),
        ];
        jpeg(side, side, 0xc2, &[0x22, 0x11, 0x11], &scans)
    });
    Worst { name: "progressive JPEG, 4:2:0, 5 scans, largest, short codes", file, whole: true }
}

pub fn png_of_48_megapixels() -> Worst {
    // Each row with the filter that costs most, Paeth's.
    let data = zlib_of_zeros(6048, 1 + 3 * 8064, 4);
    let file = png(&[png_header(8064, 6048, 8, 2, false), chunk(b"IDAT", &data)]);
    Worst { name: "PNG, 48 megapixels", file, whole: true }
}

/// As many values as a body has bits for: more than half of the rows have a code of one bit for each value, and the
/// others are as long as they can be.
pub fn png_of_short_codes() -> Worst {
    let (width, height) = (8064, 6048);
    let mut bits = Bits { bytes: vec![0x78, 0x01], ..Bits::default() };
    // The last block, with codes of its own (RFC 1951, 3.2.7): 286 for values and lengths, 1 for distances.
    bits.number(0b101, 3);
    bits.number(29, 5);
    bits.number(0, 5);
    // The lengths 0, 1 and a run of zeros (18) have codes of two bits, 2 and 3 of three bits.
    bits.number(14, 4);
    for length in [0, 0, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 3, 0, 2] {
        bits.number(length, 3);
    }
    let zeros = |bits: &mut Bits, count: u32| {
        bits.code(0b10, 2);
        bits.number(count - 11, 7);
    };
    // The value 0 has one bit, 4 two, the block's end and the length 258 three, and so has the distance 1 one.
    bits.code(0b01, 2);
    for _ in 0..3 {
        bits.code(0b00, 2);
    }
    bits.code(0b110, 3);
    zeros(&mut bits, 138);
    zeros(&mut bits, 113);
    bits.code(0b111, 3);
    zeros(&mut bits, 28);
    bits.code(0b111, 3);
    bits.code(0b01, 2);
    for y in 0..height {
        // Paeth's filter.
        bits.code(0b10, 2);
        bits.code(0, 1);
        let mut left = 3 * width - 1;
        while y >= 3400 && left >= 258 {
            bits.code(0b111, 3);
            bits.code(0, 1);
            left -= 258;
        }
        for _ in 0..left {
            bits.code(0, 1);
        }
    }
    bits.code(0b110, 3);
    bits.bytes.extend([0; 4]);
    let header = png_header(width, height, 8, 2, false);
    let file = png(&[header, chunk(b"IDAT", &bits.bytes)]);
    Worst { name: "PNG, 48 megapixels, 10 MiB of short codes", file, whole: true }
}

/// As many pixels as are kept after scaling, all at a time.
pub fn interlaced_png() -> Worst {
    let (width, height) = (2879usize, 8330usize);
    // One row of zeros is as good as many: their filters are zeros too.
    let data = zlib_of_zeros(1, width * height * 4 + 4 * height, 0);
    let header = png_header(width as u32, height as u32, 8, 6, true);
    let file = png(&[header, chunk(b"IDAT", &data)]);
    Worst { name: "PNG, interlaced, transparent, 24 megapixels", file, whole: true }
}

/// Many short rows.
pub fn strip_png() -> Worst {
    let (width, height) = (1640usize, 29_870usize);
    let data = zlib_of_zeros(height, 1 + 3 * width, 4);
    let header = png_header(width as u32, height as u32, 8, 2, false);
    let file = png(&[header, chunk(b"IDAT", &data)]);
    Worst { name: "PNG, a strip of 49 megapixels", file, whole: true }
}

pub fn lossy_webp() -> Worst {
    let file = webp(&[riff_chunk(b"VP8 ", &vp8_grey(2879, 4376))]);
    Worst { name: "WebP, lossy, 12.6 megapixels", file, whole: true }
}

/// The data ends before the picture does: all of it is read.
pub fn lossy_webp_full_of_data() -> Worst {
    let noise = vp8_noise(2879, 4376, BODY - 80_000);
    let file = webp(&[riff_chunk(b"VP8 ", &noise)]);
    Worst { name: "WebP, lossy, 12.6 megapixels, 10 MiB of data", file, whole: false }
}

/// With the predictor that costs most, and a bit for each of three colours.
fn lossless(width: u32, height: u32) -> Vec<u8> {
    let mut bits = Bits::default();
    // A transform, the predictor, for squares of 4 × 4; no cache; the eleventh for all.
    bits.number(1, 1);
    bits.number(0, 2 + 3);
    bits.number(0, 1);
    for symbol in [11, 0, 0, 0, 0] {
        single(&mut bits, symbol);
    }
    // No further transform, no cache, one group of codes.
    bits.number(0, 3);
    for _ in 0..3 {
        // Simple, two symbols of eight bits.
        bits.number(0b111, 3);
        bits.number(1, 8);
        bits.number(2, 8);
    }
    single(&mut bits, 255);
    single(&mut bits, 0);
    let mut random = fastrand::Rng::with_seed(2);
    let pixels = width as usize * height as usize;
    bits.bytes.extend(std::iter::repeat_with(|| random.u8(..)).take(pixels * 3 / 8 + 8));
    bits.bytes
}

pub fn lossless_webp() -> Worst {
    let (width, height) = (2828, 2828);
    let mut picture = vp8l(width, height, &lossless(width, height));
    // What follows the pixels is not read.
    picture.resize(BODY - 100, 0);
    let file = webp(&[riff_chunk(b"VP8L", &picture)]);
    Worst { name: "WebP, lossless, 8 megapixels, 10 MiB", file, whole: true }
}

pub fn transparent_webp() -> Worst {
    let (width, height) = (2236u16, 2236u16);
    let (w, h) = (width.into(), height.into());
    // Compressed, with the filter that costs most, the gradient.
    let alpha = [&[0b1101], &lossless(w, h)[..]].concat();
    let mut picture = vp8_grey(width, height);
    picture.resize(BODY - alpha.len() - 200, 0);
    let chunks = [vp8x(ALPHA, w, h), riff_chunk(b"ALPH", &alpha), riff_chunk(b"VP8 ", &picture)];
    Worst {
        name: "WebP, lossy and transparent, 5 megapixels, 10 MiB",
        file: webp(&chunks),
        whole: true,
    }
}

/// A lossless picture that asks for more than a gigabyte of tables.
pub fn lossless_webp_of_many_tables() -> Vec<u8> {
    let mut bits = Bits::default();
    // No transform, no cache; groups by squares of 4 × 4, whose numbers have no cache either.
    bits.number(0b100, 3);
    bits.number(0, 3 + 1);
    // All squares have the group 255 × 256 + 255.
    for symbol in [255, 255, 0, 0, 0] {
        single(&mut bits, symbol);
    }
    // A code of eleven symbols, the longest of ten bits, has a table of 4 KiB.
    let code: Vec<u32> = (1..=10).chain([10]).collect();
    for _ in 0..65_536 {
        for _ in 0..5 {
            lengths(&mut bits, &code);
        }
    }
    webp(&[riff_chunk(b"VP8L", &vp8l(64, 64, &bits.bytes))])
}

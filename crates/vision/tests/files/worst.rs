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
pub const ALL: [Make; 12] = [
    jpeg_without_data,
    jpeg_full_of_data,
    jpeg_of_short_codes,
    jpeg_of_four_inks,
    progressive_jpeg,
    png_of_48_megapixels,
    interlaced_png,
    strip_png,
    lossy_webp,
    lossy_webp_full_of_data,
    lossless_webp,
    transparent_webp,
];

/// Returns the side of the largest square of this kind of file that is decoded. One of 7000 is not.
fn largest_square(file: impl Fn(u16) -> Vec<u8>) -> u16 {
    match decode(&file(7000), Limits::DEFAULT) {
        // Whole groups of blocks: the limit counts their samples.
        Err(DecodeError::TooManyPixelsOf { limit, .. }) => limit.isqrt() as u16 / 16 * 16,
        other => panic!("{other:?}"),
    }
}

/// Returns a JPEG whose tables have one code each, `0`. The data, or the zeros that a decoder reads
/// instead, has a value for every coefficient of a block.
fn jpeg(
    width: u16,
    height: u16,
    marker: u8,
    sampling: &[u8],
    scans: &[(&[u8], [u8; 3])],
    data: &[u8],
) -> Vec<u8> {
    let mut file = vec![0xff, 0xd8];
    file.extend(segment(0xdb, &[&[0], &[1; 64][..]].concat()));
    let sides = [height.to_be_bytes(), width.to_be_bytes()].concat();
    let components = (1..).zip(sampling).flat_map(|(id, sampling)| [id, *sampling, 0]);
    let components: Vec<u8> = components.collect();
    let count = sampling.len() as u8;
    file.extend(segment(marker, &[&[8], &sides[..], &[count], &components].concat()));
    let one_code = [&[1], &[0; 15][..]].concat();
    file.extend(segment(0xc4, &[&[0x00], &one_code[..], &[0]].concat()));
    file.extend(segment(0xc4, &[&[0x10], &one_code[..], &[1]].concat()));
    for (components, band) in scans {
        let tables: Vec<u8> = components.iter().flat_map(|id| [*id, 0]).collect();
        let count = components.len() as u8;
        file.extend(segment(0xda, &[&[count], &tables[..], band].concat()));
        file.extend(data);
    }
    file.extend([0xff, 0xd9]);
    file
}

/// A scan of all coefficients.
const SEQUENTIAL: [u8; 3] = [0, 63, 0];

pub fn jpeg_without_data() -> Worst {
    let file = |side: u16| jpeg(side, side, 0xc0, &[0x11; 3], &[(&[1, 2, 3], SEQUENTIAL)], &[]);
    let file = file(largest_square(file));
    Worst { name: "JPEG without subsampling, largest, no data", file, whole: true }
}

/// The largest one with the usual subsampling, whose data is missing.
pub fn jpeg_of_48_megapixels_without_data() -> Vec<u8> {
    jpeg(7000, 7000, 0xc0, &[0x22, 0x11, 0x11], &[(&[1, 2, 3], SEQUENTIAL)], &[])
}

/// The data has codes of one to eight bits.
pub fn jpeg_full_of_data() -> Worst {
    let mut file = jpeg(7000, 7000, 0xc0, &[0x22, 0x11, 0x11], &[], &[]);
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

/// As many values as a body has bits for: each block has 34 of two bits.
pub fn jpeg_of_short_codes() -> Worst {
    let mut file = jpeg(7000, 7000, 0xc0, &[0x22, 0x11, 0x11], &[], &[]);
    file.truncate(file.len() - 2);
    // AC: the code 0 for a value, which has one bit, and 10 for a block's end.
    let counts = [&[1, 1], &[0; 14][..]].concat();
    file.extend(segment(0xc4, &[&[0x10], &counts[..], &[1, 0]].concat()));
    file.extend(segment(0xda, &[3, 1, 0, 2, 0, 3, 0, 0, 63, 0]));
    let mut bits = Bits::default();
    let blocks = 6 * 7000usize.div_ceil(16).pow(2);
    for _ in 0..blocks {
        for _ in 0..1 + 34 * 2 {
            bits.number(0, 1);
        }
        bits.code(0b10, 2);
    }
    // Here the highest bit of a byte is the first.
    file.extend(bits.bytes.into_iter().map(u8::reverse_bits));
    file.extend([0xff, 0xd9]);
    Worst { name: "JPEG, 4:2:0, 49 megapixels, 10 MiB of short codes", file, whole: true }
}

/// Just below the size at which scaling begins.
pub fn jpeg_of_four_inks() -> Worst {
    let file = jpeg(1439, 4160, 0xc0, &[0x11; 4], &[(&[1, 2, 3, 4], SEQUENTIAL)], &[]);
    Worst { name: "JPEG, four inks, 6 megapixels that are not scaled", file, whole: true }
}

pub fn progressive_jpeg() -> Worst {
    let scans: [(&[u8], [u8; 3]); 5] = [
        (&[1, 2, 3], [0, 0, 0]),
        (&[1], [1, 63, 1]),
        (&[2], [1, 63, 1]),
        (&[3], [1, 63, 1]),
        (&[1], [1, 63, 0x10]),
    ];
    let file = |side: u16| jpeg(side, side, 0xc2, &[0x22, 0x11, 0x11], &scans, &[]);
    let file = file(largest_square(file));
    Worst { name: "progressive JPEG, 4:2:0, 5 scans, largest, no data", file, whole: true }
}

pub fn png_of_48_megapixels() -> Worst {
    // Each row with the filter that costs most, Paeth's.
    let data = zlib_of_zeros(6048, 1 + 3 * 8064, 4);
    let file = png(&[png_header(8064, 6048, 8, 2, false), chunk(b"IDAT", &data)]);
    Worst { name: "PNG, 48 megapixels", file, whole: true }
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

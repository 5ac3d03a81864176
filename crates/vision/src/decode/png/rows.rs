//! The rows of a PNG: its data is inflated by `fdeflate`, and the filters of rows are undone here.
//!
//! Paeth's filter computes each value from the one before it, and is most of the time that a large PNG takes.
//! Here it computes the values of a pixel together, since a pixel is one vector in the sandbox. The crate `png` does
//! so on other machines alone: docs/library-faults.md.

use std::fmt;

use fdeflate::Decompressor;

use super::Chunk;

/// Bytes that data may refer back to (RFC 1951).
const WINDOW: usize = 32 << 10;

/// Bytes that are inflated at a time, at least.
const STEP: usize = 64 << 10;

/// A picture's rows, one after the other, without their filters.
pub(super) struct Rows<'a, I> {
    /// Its chunks of data.
    chunks: I,
    /// The unread rest of the current chunk.
    data: &'a [u8],
    inflater: Decompressor,
    /// Inflated bytes: those of [`WINDOW`], some that were handed out, and rows to come.
    inflated: Vec<u8>,
    /// The next row's first byte, and the end of what is inflated.
    at: usize,
    end: usize,
    /// Bytes of a whole pixel, 1 at least.
    pixel: usize,
    /// The row before, without its filter. Its length is that of a row.
    row: Vec<u8>,
    above: Vec<u8>,
}

/// The reason why there is no further row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRow {
    /// The file ends.
    Ends,
    /// This is wrong with the data.
    Broken(&'static str),
}

impl fmt::Display for NoRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NoRow::Ends => "its data ends before its rows do",
            NoRow::Broken(reason) => reason,
        })
    }
}

impl<'a, I: Iterator<Item = Chunk<'a>>> Rows<'a, I> {
    /// Returns the rows in chunks of data. A pixel has this many bytes, rounded up.
    pub(super) fn new(chunks: I, pixel: usize) -> Rows<'a, I> {
        let mut inflater = Decompressor::new();
        // Chunks have checksums of their own.
        inflater.ignore_adler32();
        Rows {
            chunks,
            data: &[],
            inflater,
            inflated: Vec::new(),
            at: 0,
            end: 0,
            pixel,
            row: Vec::new(),
            above: Vec::new(),
        }
    }

    /// Begins a picture, or a pass of an interlaced one, whose rows have this many bytes.
    pub(super) fn begin(&mut self, length: usize) {
        self.row.clear();
        self.row.resize(length, 0);
        self.above.clear();
        self.above.resize(length, 0);
    }

    /// Returns the next row.
    pub(super) fn next(&mut self) -> Result<&[u8], NoRow> {
        std::mem::swap(&mut self.row, &mut self.above);
        let length = 1 + self.row.len();
        while self.end - self.at < length {
            self.inflate(length)?;
        }
        let (filter, row) = (self.inflated[self.at], &self.inflated[self.at + 1..][..length - 1]);
        self.row.copy_from_slice(row);
        self.at += length;
        undo(filter, &self.above, &mut self.row, self.pixel)?;
        Ok(&self.row)
    }

    /// Inflates some more bytes for a row of this length.
    fn inflate(&mut self, length: usize) -> Result<(), NoRow> {
        if self.inflater.is_done() {
            return Err(NoRow::Broken("its data ends before its rows do"));
        }
        let room = WINDOW + length + STEP;
        if self.inflated.len() < room + STEP {
            self.inflated.resize(room + STEP, 0);
        }
        if self.inflated.len() - self.end < STEP {
            // What follows needs the window and what is not handed out.
            let kept = self.at.min(self.end.saturating_sub(WINDOW));
            self.inflated.copy_within(kept..self.end, 0);
            (self.at, self.end) = (self.at - kept, self.end - kept);
        }
        let (read, written) = self
            .inflater
            .read(self.data, &mut self.inflated, self.end, false)
            .map_err(|_| NoRow::Broken("its data cannot be inflated"))?;
        self.data = &self.data[read..];
        self.end += written;
        if written == 0 && self.data.is_empty() {
            let chunk = self.chunks.next().ok_or(NoRow::Ends)?;
            if chunk.complete && !chunk.is_intact() {
                return Err(NoRow::Broken("a checksum of its data is wrong"));
            }
            self.data = chunk.data;
        }
        Ok(())
    }

    /// Checks the chunks that no row needed.
    pub(super) fn finish(mut self) -> Result<(), NoRow> {
        let is_intact = |chunk: Chunk<'_>| !chunk.complete || chunk.is_intact();
        match self.chunks.all(is_intact) {
            true => Ok(()),
            false => Err(NoRow::Broken("a checksum of its data is wrong")),
        }
    }
}

/// Undoes a row's filter (PNG specification, 9.2).
fn undo(filter: u8, above: &[u8], row: &mut [u8], pixel: usize) -> Result<(), NoRow> {
    match filter {
        0 => {}
        1 => {
            for at in pixel..row.len() {
                row[at] = row[at].wrapping_add(row[at - pixel]);
            }
        }
        2 => {
            for (value, above) in row.iter_mut().zip(above) {
                *value = value.wrapping_add(*above);
            }
        }
        3 => match pixel {
            1 => average::<1>(above, row),
            2 => average::<2>(above, row),
            3 => average::<3>(above, row),
            4 => average::<4>(above, row),
            6 => average::<6>(above, row),
            _ => average::<8>(above, row),
        },
        4 => match pixel {
            1 => paeth::<1>(above, row),
            2 => paeth::<2>(above, row),
            3 => paeth::<3>(above, row),
            4 => paeth::<4>(above, row),
            6 => paeth::<6>(above, row),
            _ => paeth::<8>(above, row),
        },
        _ => return Err(NoRow::Broken("a row has a filter that there is not")),
    }
    Ok(())
}

fn average<const PIXEL: usize>(above: &[u8], row: &mut [u8]) {
    let mut left = [0; PIXEL];
    for (pixel, above) in row.as_chunks_mut::<PIXEL>().0.iter_mut().zip(above.as_chunks().0) {
        let above: &[u8; PIXEL] = above;
        for i in 0..PIXEL {
            let mean = (u16::from(left[i]) + u16::from(above[i])) / 2;
            pixel[i] = pixel[i].wrapping_add(mean as u8);
        }
        left = *pixel;
    }
}

/// Adds to each value of a pixel what is nearest to left + above - corner: left, else above, else corner.
#[cfg(not(target_family = "wasm"))]
fn paeth<const PIXEL: usize>(above: &[u8], row: &mut [u8]) {
    let (mut left, mut corner) = ([0; PIXEL], [0; PIXEL]);
    for (pixel, above) in row.as_chunks_mut::<PIXEL>().0.iter_mut().zip(above.as_chunks().0) {
        let above: &[u8; PIXEL] = above;
        for i in 0..PIXEL {
            let [a, b, c] = [left[i], above[i], corner[i]].map(i16::from);
            let (to_left, to_above) = ((b - c).abs(), (a - c).abs());
            let to_corner = (a + b - 2 * c).abs();
            let of_two = if to_above <= to_corner { b } else { c };
            let nearest = if to_left <= to_above.min(to_corner) { a } else { of_two };
            pixel[i] = pixel[i].wrapping_add(nearest as u8);
        }
        (left, corner) = (*pixel, *above);
    }
}

/// The same, a pixel at a time: eight lanes of 16 bits, of which those beyond the pixel count nothing.
#[cfg(target_family = "wasm")]
fn paeth<const PIXEL: usize>(above: &[u8], row: &mut [u8]) {
    use core::arch::wasm32::*;

    let lanes = |bytes: [u8; 8]| {
        u16x8_extend_low_u8x16(u64x2_replace_lane::<0>(u64x2_splat(0), u64::from_le_bytes(bytes)))
    };
    let (mut left, mut corner) = (u64x2_splat(0), u64x2_splat(0));
    let mut step = |pixel: [u8; 8], above: [u8; 8]| {
        let (value, above) = (lanes(pixel), lanes(above));
        let above_corner = i16x8_sub(above, corner);
        let left_corner = i16x8_sub(left, corner);
        let to_left = i16x8_abs(above_corner);
        let to_above = i16x8_abs(left_corner);
        let to_corner = i16x8_abs(i16x8_add(left_corner, above_corner));
        let of_two = v128_bitselect(corner, above, i16x8_gt(to_above, to_corner));
        let is_not_left = i16x8_gt(to_left, i16x8_min(to_above, to_corner));
        let nearest = v128_bitselect(of_two, left, is_not_left);
        // The upper bytes of all lanes are 0, so bytes can be added, which carries nothing into them.
        left = u8x16_add(value, nearest);
        corner = above;
        u64x2_extract_lane::<0>(u8x16_narrow_i16x8(left, left)).to_le_bytes()
    };
    let mut at = 0;
    // Eight bytes are read at a time, whatever the pixel has.
    while let (Some(pixel), Some(above)) = (
        row.get(at..).and_then(|rest| rest.first_chunk()),
        above.get(at..).and_then(|rest| rest.first_chunk()),
    ) {
        let pixel = step(*pixel, *above);
        row[at..][..PIXEL].copy_from_slice(&pixel[..PIXEL]);
        at += PIXEL;
    }
    while at + PIXEL <= row.len().min(above.len()) {
        let (mut pixel, mut up) = ([0; 8], [0; 8]);
        pixel[..PIXEL].copy_from_slice(&row[at..][..PIXEL]);
        up[..PIXEL].copy_from_slice(&above[at..][..PIXEL]);
        row[at..][..PIXEL].copy_from_slice(&step(pixel, up)[..PIXEL]);
        at += PIXEL;
    }
}

#[cfg(test)]
mod tests {
    use crate::decode::decode;

    /// Returns zlib data that is not compressed.
    fn zlib(data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x78, 0x01];
        let mut blocks = data.chunks(0xffff).peekable();
        while let Some(block) = blocks.next() {
            let length = block.len() as u16;
            bytes.push(blocks.peek().is_none().into());
            bytes.extend([length.to_le_bytes(), (!length).to_le_bytes()].concat());
            bytes.extend(block);
        }
        // Its checksum, which nobody reads.
        bytes.extend([0; 4]);
        bytes
    }

    fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
        let length = (data.len() as u32).to_be_bytes();
        let checked = [kind, data].concat();
        [&length[..], &checked, &crc32fast::hash(&checked).to_be_bytes()].concat()
    }

    /// Rows of noise with all filters, in pixels of all sizes.
    #[test]
    fn rows_are_those_of_the_crate_png() {
        let mut random = fastrand::Rng::with_seed(3);
        for (depth, color, samples) in [
            (1, 0, 1),
            (4, 0, 1),
            (8, 0, 1),
            (16, 0, 1),
            (8, 2, 3),
            (16, 2, 3),
            (8, 4, 2),
            (16, 4, 2),
            (8, 6, 4),
            (16, 6, 4),
        ] {
            for width in [1u32, 2, 3, 5, 17, 300, 4096] {
                let height = if width > 1000 { 11u32 } else { 40 };
                let length = (width as usize * samples * depth).div_ceil(8);
                let mut data = Vec::new();
                for y in 0..height {
                    data.push((y % 5) as u8);
                    data.extend(std::iter::repeat_with(|| random.u8(..)).take(length));
                }
                let sides = [width.to_be_bytes(), height.to_be_bytes()].concat();
                let header = [&sides[..], &[depth as u8, color, 0, 0, 0]].concat();
                let file = [
                    b"\x89PNG\r\n\x1a\n".to_vec(),
                    chunk(b"IHDR", &header),
                    chunk(b"IDAT", &zlib(&data)),
                    chunk(b"IEND", b""),
                ]
                .concat();
                let decoded = decode(&file, u64::MAX).expect("a photo").photo;
                let picture = image::load_from_memory(&file).expect("a picture").to_rgba16();
                // The upper eight bits, on black.
                let expected = picture.pixels().flat_map(|pixel| {
                    let [r, g, b, alpha] = pixel.0.map(|value| value >> 8);
                    [r, g, b].map(|value| (value * alpha / 255) as u8)
                });
                let about = format!("{depth} bits, type {color}, {width} pixels");
                assert_eq!(decoded.pixels(), expected.collect::<Vec<_>>(), "{about}");
            }
        }
    }
}

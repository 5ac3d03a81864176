//! Rows of pixels whose channels lie in groups of eight: a group's numbers of one pixel after the
//! other, then those of the next group (what oneDNN calls `nChw8c`).
//!
//! It is what lies between the layers of a [block](super::block). With channels last, the next pixel
//! is as far away as there are channels: each address has to be reckoned, and kept in memory, since
//! there are more of them than registers. Here the next pixel is 32 bytes further, which is a part
//! of the instruction that loads it.

use super::simd::F32x4;

/// Channels that lie together.
pub(super) const GROUP: usize = 8;

/// Some rows of pixels, group of channels by group: those of all rows, then the next group's.
pub(super) struct Lines {
    rows: usize,
    columns: usize,
    numbers: Vec<[f32; GROUP]>,
}

impl Lines {
    /// Of zeros.
    pub fn new(rows: usize, channels: usize, columns: usize) -> Lines {
        let numbers = vec![[0.0; GROUP]; channels.div_ceil(GROUP) * rows * columns];
        Lines { rows, columns, numbers }
    }

    /// How many pixels a row has.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// A group of channels of a row: eight numbers of each pixel.
    #[inline(always)]
    pub fn group(&self, group: usize, row: usize) -> &[[f32; GROUP]] {
        &self.numbers[(group * self.rows + row) * self.columns..][..self.columns]
    }

    /// All numbers by four: each group has two of a pixel side by side.
    pub fn fours(&self) -> &[[f32; 4]] {
        self.numbers.as_flattened().as_chunks().0
    }

    /// The same, to be written.
    pub fn fours_mut(&mut self) -> &mut [[f32; 4]] {
        self.numbers.as_flattened_mut().as_chunks_mut().0
    }

    /// Pixels of a row from a column on.
    pub fn part(&mut self, row: usize, first: usize, columns: usize) -> Part<'_> {
        assert!(row < self.rows && first + columns <= self.columns);
        let first = row * self.columns + first;
        Part { group: self.rows * self.columns, numbers: &mut self.numbers[first..], columns }
    }
}

/// Some neighbouring pixels of a row, to be written.
pub(super) struct Part<'a> {
    /// From the first pixel's first group on.
    numbers: &'a mut [[f32; GROUP]],
    /// How far it is to the next group.
    group: usize,
    columns: usize,
}

impl Part<'_> {
    /// How many pixels.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// A group of channels.
    #[inline(always)]
    pub fn group(&mut self, group: usize) -> &mut [[f32; GROUP]] {
        &mut self.numbers[group * self.group..][..self.columns]
    }

    /// All zeros.
    pub fn clear(&mut self) {
        for group in 0..self.numbers.len().div_ceil(self.group) {
            self.group(group).fill([0.0; GROUP]);
        }
    }

    /// From pixels with their channels last: a multiple of 4.
    pub fn copy(&mut self, pixels: &[f32], channels: usize) {
        assert_eq!(pixels.len(), self.columns * channels);
        for group in 0..channels / GROUP {
            let pixels = pixels.chunks_exact(channels);
            for (to, pixel) in self.group(group).iter_mut().zip(pixels) {
                let from = pixel[group * GROUP..].first_chunk().expect("a whole group");
                F32x4::store_two(F32x4::load_two(from), to);
            }
        }
        let rest = channels % GROUP;
        if rest > 0 {
            let last = channels / GROUP;
            for (to, pixel) in self.group(last).iter_mut().zip(pixels.chunks_exact(channels)) {
                to[..rest].copy_from_slice(&pixel[last * GROUP..]);
            }
        }
    }
}

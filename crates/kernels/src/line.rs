//! Rows of pixels whose channels lie in groups of eight: a group's numbers of one pixel after the
//! other, then those of the next group (what oneDNN calls `nChw8c`).
//!
//! It is what lies between the layers of a [block](super::block). With channels last, the next pixel
//! is as far away as there are channels: each address has to be reckoned, and kept in memory, since
//! there are more of them than registers. Here the next pixel is 32 bytes further, or 16 in integers,
//! which is a part of the instruction that loads it.

use super::number::Number;
use super::simd::F32x4;
use super::tiles::filled;

/// Channels that lie together.
pub(super) const GROUP: usize = 8;

/// Some rows of pixels, group of channels by group: those of all rows, then the next group's.
pub(super) struct Lines<N> {
    rows: usize,
    columns: usize,
    numbers: Vec<[N; GROUP]>,
}

impl<N: Number> Lines<N> {
    /// Of zeros.
    pub fn new(rows: usize, channels: usize, columns: usize) -> Lines<N> {
        let numbers = vec![[N::default(); GROUP]; channels.div_ceil(GROUP) * rows * columns];
        Lines { rows, columns, numbers }
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How many pixels a row has.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// A group of channels of a row: eight numbers of each pixel.
    #[inline(always)]
    pub fn group(&self, group: usize, row: usize) -> &[[N; GROUP]] {
        &self.numbers[(group * self.rows + row) * self.columns..][..self.columns]
    }

    /// All numbers as vectors: those of a pixel's group are side by side.
    pub fn vectors(&self) -> &[N::Vector] {
        N::vectors(&self.numbers)
    }

    /// The same, to be written.
    pub fn vectors_mut(&mut self) -> &mut [N::Vector] {
        N::vectors_mut(&mut self.numbers)
    }

    /// Pixels of some rows, one after the other, from a column on.
    pub fn strip(
        &mut self,
        rows: impl Iterator<Item = usize>,
        first: usize,
        columns: usize,
    ) -> Strip<'_, N> {
        assert!(first + columns <= self.columns);
        let starts = rows.map(|row| row * self.columns + first).collect();
        let group = self.rows * self.columns;
        Strip { numbers: &mut self.numbers, group, columns, starts }
    }
}

/// Pixels of some rows, to be written.
pub(super) struct Strip<'a, N> {
    numbers: &'a mut [[N; GROUP]],
    /// How far it is to the next group.
    group: usize,
    /// Pixels of each row.
    columns: usize,
    /// Where each row begins in a group.
    starts: Vec<usize>,
}

impl<N: Number> Strip<'_, N> {
    /// How many pixels.
    pub fn pixels(&self) -> usize {
        self.starts.len() * self.columns
    }

    /// One of the rows.
    pub fn row(&mut self, row: usize) -> Strip<'_, N> {
        Strip { numbers: self.numbers, starts: vec![self.starts[row]], ..*self }
    }

    /// A group of a pixel's row, from that pixel on.
    #[inline(always)]
    pub fn from(&mut self, pixel: usize, group: usize) -> &mut [[N; GROUP]] {
        let (row, column) = (pixel / self.columns, pixel % self.columns);
        let start = group * self.group + self.starts[row] + column;
        &mut self.numbers[start..][..self.columns - column]
    }

    /// All zeros.
    pub fn clear(&mut self) {
        for group in 0..self.numbers.len() / self.group {
            for row in 0..self.starts.len() {
                self.from(row * self.columns, group).fill([N::default(); GROUP]);
            }
        }
    }

    /// From pixels with their channels last: a multiple of 4.
    pub fn copy(&mut self, pixels: &[f32], channels: usize) {
        assert_eq!(pixels.len(), self.pixels() * channels);
        for (row, pixels) in pixels.chunks_exact(self.columns * channels).enumerate() {
            for group in 0..channels.div_ceil(GROUP) {
                let channel = group * GROUP;
                let to = self.from(row * self.columns, group);
                for (to, pixel) in to.iter_mut().zip(pixels.chunks_exact(channels)) {
                    match pixel[channel..].first_chunk() {
                        Some(from) => N::put(F32x4::load_two(from), to),
                        None => N::put(F32x4::load_two(&filled(&pixel[channel..])), to),
                    }
                }
            }
        }
    }
}

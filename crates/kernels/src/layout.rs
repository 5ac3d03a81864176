//! The layout between fused layers: nChw8c, rows of pixels with their channels in blocks of eight.
//!
//! A block's values of one pixel after the other, then those of the next block. The next pixel is
//! always [`BLOCK`] values away, which is a part of the instruction that loads it. With channels last it
//! is as far away as there are channels: each address has to be computed and, since there are more of
//! them than registers, kept in memory.
//!
//! The values are of an [`Element`] type: floats, or integers of 16 bits where the activation functions
//! of the layers around them bound them (ReLU6: 0 to 6). Integers need half of the memory, and half of
//! the instructions where they are multiplied, where their range is sought and where they are quantised
//! to 8 bits. Measured: `docs/benchmarks.md#kernels-int16-between-layers`.

use crate::quant::{MR, reduce_min_max};
use crate::simd::{F32x4, I16x8};

/// Channels that lie side by side.
pub const BLOCK: usize = 8;

/// A block of channels of a tile's pixels.
pub type ChannelBlock<E> = [[E; BLOCK]; MR];

/// A value between two layers, and vectors of them.
pub trait Element: Copy + Default + 'static {
    /// As many values as an instruction takes, in memory.
    type Vector: Copy + Default + PartialEq + std::fmt::Debug;
    /// As many values as an instruction takes, in a register.
    type Register: Copy;
    /// The number of values that an instruction takes.
    const LANES: usize;

    /// Returns blocks of channels as vectors.
    fn vectors(blocks: &[[Self; BLOCK]]) -> &[Self::Vector];

    /// Returns blocks of channels as vectors to be written.
    fn vectors_mut(blocks: &mut [[Self; BLOCK]]) -> &mut [Self::Vector];

    /// Loads a vector.
    fn load(from: &Self::Vector) -> Self::Register;

    /// Stores a vector.
    fn store(register: Self::Register, to: &mut Self::Vector);

    /// Multiplies values by weights.
    fn mul(values: Self::Register, weights: Self::Register) -> Self::Register;

    /// Adds products.
    fn add(a: Self::Register, b: Self::Register) -> Self::Register;

    /// Returns `values * weights + sum`.
    fn mul_add(
        values: Self::Register,
        weights: Self::Register,
        sum: Self::Register,
    ) -> Self::Register;

    /// Converts a block to floats.
    fn to_f32(block: &[Self; BLOCK]) -> [F32x4; 2];

    /// Stores floats as a block, whose values they have to fit.
    fn store_f32(floats: [F32x4; 2], block: &mut [Self; BLOCK]);

    /// Stores a vector as floats, of which there may be fewer at the end; the value 1 stands for
    /// `scale`.
    fn store_scaled(register: Self::Register, scale: f32, to: &mut [f32]);
}

impl Element for f32 {
    type Vector = [f32; 4];
    type Register = F32x4;
    const LANES: usize = 4;

    fn vectors(blocks: &[[f32; BLOCK]]) -> &[[f32; 4]] {
        blocks.as_flattened().as_chunks().0
    }

    fn vectors_mut(blocks: &mut [[f32; BLOCK]]) -> &mut [[f32; 4]] {
        blocks.as_flattened_mut().as_chunks_mut().0
    }

    #[inline(always)]
    fn load(from: &[f32; 4]) -> F32x4 {
        F32x4::load(from)
    }

    #[inline(always)]
    fn store(register: F32x4, to: &mut [f32; 4]) {
        register.store(to);
    }

    #[inline(always)]
    fn mul(values: F32x4, weights: F32x4) -> F32x4 {
        values.mul(weights)
    }

    #[inline(always)]
    fn add(a: F32x4, b: F32x4) -> F32x4 {
        a.add(b)
    }

    #[inline(always)]
    fn mul_add(values: F32x4, weights: F32x4, sum: F32x4) -> F32x4 {
        values.mul_add(weights, sum)
    }

    #[inline(always)]
    fn to_f32(block: &[f32; BLOCK]) -> [F32x4; 2] {
        F32x4::load_two(block)
    }

    #[inline(always)]
    fn store_f32(floats: [F32x4; 2], block: &mut [f32; BLOCK]) {
        F32x4::store_two(floats, block);
    }

    #[inline(always)]
    fn store_scaled(register: F32x4, _: f32, to: &mut [f32]) {
        if let Some(to) = to.first_chunk_mut() {
            register.store(to);
        }
    }
}

impl Element for i16 {
    type Vector = [i16; 8];
    type Register = I16x8;
    const LANES: usize = 8;

    fn vectors(blocks: &[[i16; BLOCK]]) -> &[[i16; 8]] {
        blocks
    }

    fn vectors_mut(blocks: &mut [[i16; BLOCK]]) -> &mut [[i16; 8]] {
        blocks
    }

    #[inline(always)]
    fn load(from: &[i16; 8]) -> I16x8 {
        I16x8::load(from)
    }

    #[inline(always)]
    fn store(register: I16x8, to: &mut [i16; 8]) {
        register.store(to);
    }

    #[inline(always)]
    fn mul(values: I16x8, weights: I16x8) -> I16x8 {
        values.mul_q15_round(weights)
    }

    #[inline(always)]
    fn add(a: I16x8, b: I16x8) -> I16x8 {
        a.add(b)
    }

    #[inline(always)]
    fn mul_add(values: I16x8, weights: I16x8, sum: I16x8) -> I16x8 {
        sum.add(values.mul_q15_round(weights))
    }

    #[inline(always)]
    fn to_f32(block: &[i16; BLOCK]) -> [F32x4; 2] {
        I16x8::load(block).to_f32()
    }

    #[inline(always)]
    fn store_f32([low, high]: [F32x4; 2], block: &mut [i16; BLOCK]) {
        I16x8::truncate(low, high).store(block);
    }

    #[inline(always)]
    fn store_scaled(register: I16x8, scale: f32, to: &mut [f32]) {
        for (four, to) in register.to_f32().into_iter().zip(to.as_chunks_mut().0) {
            four.mul(F32x4::splat(scale)).store(to);
        }
    }
}

/// Rows of pixels, block of channels by block: those of all rows, then the next block's.
pub struct BlockedRows<E> {
    rows: usize,
    columns: usize,
    values: Vec<[E; BLOCK]>,
}

impl<E: Element> BlockedRows<E> {
    /// Returns rows of zeros.
    pub fn new(rows: usize, channels: usize, columns: usize) -> BlockedRows<E> {
        let values = vec![[E::default(); BLOCK]; channels.div_ceil(BLOCK) * rows * columns];
        BlockedRows { rows, columns, values }
    }

    /// Returns the number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Returns the number of pixels of a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Returns a block of channels of a row, for each pixel.
    #[inline(always)]
    pub fn block(&self, block: usize, row: usize) -> &[[E; BLOCK]] {
        &self.values[(block * self.rows + row) * self.columns..][..self.columns]
    }

    /// Returns all values as vectors: those of a pixel's block are side by side.
    pub fn vectors(&self) -> &[E::Vector] {
        E::vectors(&self.values)
    }

    /// Returns all values as vectors to be written.
    pub fn vectors_mut(&mut self) -> &mut [E::Vector] {
        E::vectors_mut(&mut self.values)
    }

    /// Returns the columns `first..first + columns` of some rows, to be written one row after the
    /// other.
    ///
    /// # Panics
    /// If the rows have fewer columns.
    pub fn rows_mut(
        &mut self,
        rows: impl Iterator<Item = usize>,
        first: usize,
        columns: usize,
    ) -> BlockedRowsMut<'_, E> {
        assert!(first + columns <= self.columns);
        let starts = rows.map(|row| row * self.columns + first).collect();
        let block_stride = self.rows * self.columns;
        BlockedRowsMut { values: &mut self.values, block_stride, columns, starts }
    }
}

/// Pixels of some blocked rows, to be written. They are counted through all of these rows.
pub struct BlockedRowsMut<'a, E> {
    values: &'a mut [[E; BLOCK]],
    /// Distance from one block of channels to the next.
    block_stride: usize,
    /// Pixels of each row.
    columns: usize,
    /// The first pixel of each row within a block of channels.
    starts: Vec<usize>,
}

impl<E: Element> BlockedRowsMut<'_, E> {
    /// Returns the number of pixels.
    pub fn pixels(&self) -> usize {
        self.starts.len() * self.columns
    }

    /// Returns one of the rows.
    pub fn row(&mut self, row: usize) -> BlockedRowsMut<'_, E> {
        BlockedRowsMut { values: self.values, starts: vec![self.starts[row]], ..*self }
    }

    /// Returns a block of channels of a pixel and of those that follow it in its row.
    #[inline(always)]
    pub fn block_from(&mut self, pixel: usize, block: usize) -> &mut [[E; BLOCK]] {
        let (row, column) = (pixel / self.columns, pixel % self.columns);
        let start = block * self.block_stride + self.starts[row] + column;
        &mut self.values[start..][..self.columns - column]
    }

    /// Fills all pixels with zeros.
    pub fn clear(&mut self) {
        for block in 0..self.values.len() / self.block_stride {
            for row in 0..self.starts.len() {
                self.block_from(row * self.columns, block).fill([E::default(); BLOCK]);
            }
        }
    }

    /// Copies pixels with their channels last: a multiple of 4.
    ///
    /// # Panics
    /// If there are more or fewer pixels.
    pub fn copy_from_nhwc(&mut self, pixels: &[f32], channels: usize) {
        assert_eq!(pixels.len(), self.pixels() * channels);
        for (row, pixels) in pixels.chunks_exact(self.columns * channels).enumerate() {
            for block in 0..channels.div_ceil(BLOCK) {
                let channel = block * BLOCK;
                let to = self.block_from(row * self.columns, block);
                for (to, pixel) in to.iter_mut().zip(pixels.chunks_exact(channels)) {
                    match pixel[channel..].first_chunk() {
                        Some(from) => E::store_f32(F32x4::load_two(from), to),
                        None => E::store_f32(F32x4::load_partial_two(&pixel[channel..]), to),
                    }
                }
            }
        }
    }
}

/// A tile's pixels in the first of some blocked rows.
#[derive(Clone, Copy)]
pub struct BlockedTile<'a, E> {
    rows: &'a BlockedRows<E>,
    first: usize,
    /// The number of blocks of channels.
    pub blocks: usize,
}

impl<'a, E: Element> BlockedTile<'a, E> {
    /// Returns the tile that begins at a pixel.
    #[inline(always)]
    pub fn new(rows: &'a BlockedRows<E>, first: usize, blocks: usize) -> BlockedTile<'a, E> {
        BlockedTile { rows, first, blocks }
    }

    /// Returns a block of channels.
    #[inline(always)]
    pub fn block(self, block: usize) -> &'a ChannelBlock<E> {
        self.rows.block(block, 0)[self.first..].first_chunk().expect("a whole tile")
    }

    /// Returns the minimum and the maximum of each pixel, 0 among its values.
    #[inline(always)]
    pub fn min_max_rows(self) -> [F32x4; 2] {
        let mut min = [F32x4::splat(0.0); MR];
        let mut max = min;
        for block in 0..self.blocks {
            let block = self.block(block);
            for pixel in 0..MR {
                let [low, high] = E::to_f32(&block[pixel]);
                min[pixel] = min[pixel].min(low.min(high));
                max[pixel] = max[pixel].max(low.max(high));
            }
        }
        reduce_min_max(min, max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pixels with their channels last, each value another.
    fn pixels(count: usize, channels: usize) -> Vec<f32> {
        (0..count * channels).map(|index| index as f32).collect()
    }

    #[test]
    fn blocked_rows_put_eight_channels_side_by_side() {
        let (columns, channels) = (3, 20);
        let mut rows = BlockedRows::<f32>::new(2, channels, columns);
        let nhwc = pixels(2 * columns, channels);
        rows.rows_mut(0..2, 0, columns).copy_from_nhwc(&nhwc, channels);
        for (pixel, values) in nhwc.chunks_exact(channels).enumerate() {
            for (channel, value) in values.iter().enumerate() {
                let block = rows.block(channel / BLOCK, pixel / columns);
                assert_eq!(block[pixel % columns][channel % BLOCK], *value);
            }
            // The last block is padded with zeros.
            assert_eq!(rows.block(2, pixel / columns)[pixel % columns][4..], [0.0; 4]);
        }
        let vectors: Vec<f32> = rows.vectors().as_flattened().to_vec();
        assert_eq!(vectors, rows.values.as_flattened());
    }

    #[test]
    fn blocked_rows_mut_write_only_their_columns() {
        let (columns, channels) = (6, 8);
        let mut rows = BlockedRows::<i16>::new(3, channels, columns);
        rows.vectors_mut().fill([7; 8]);
        // The rows in another order, as they follow each other in a ring.
        let mut written = rows.rows_mut([2, 0].into_iter(), 1, 4);
        assert_eq!(written.pixels(), 8);
        written.clear();
        written.row(1).copy_from_nhwc(&pixels(4, channels), channels);
        let first = |row: usize| -> Vec<i16> {
            rows.block(0, row).iter().map(|channels| channels[0]).collect()
        };
        assert_eq!(first(0), [7, 0, 8, 16, 24, 7]);
        assert_eq!(first(1), [7; 6]);
        assert_eq!(first(2), [7, 0, 0, 0, 0, 7]);
    }

    #[test]
    fn blocked_rows_mut_end_with_their_row() {
        let mut rows = BlockedRows::<f32>::new(2, 16, 5);
        let mut written = rows.rows_mut(0..2, 0, 5);
        assert_eq!(written.block_from(0, 0).len(), 5);
        assert_eq!(written.block_from(3, 1).len(), 2);
        assert_eq!(written.block_from(5, 1).len(), 5);
        assert_eq!(written.block_from(9, 0).len(), 1);
    }

    #[test]
    fn blocked_tile_has_the_range_of_each_pixel() {
        let (columns, channels) = (9, 12);
        let mut rows = BlockedRows::<f32>::new(1, channels, columns);
        let mut nhwc = pixels(columns, channels);
        nhwc.iter_mut().step_by(5).for_each(|value| *value = -*value);
        rows.rows_mut(0..1, 0, columns).copy_from_nhwc(&nhwc, channels);
        let first = 4;
        let tile = BlockedTile::new(&rows, first, channels.div_ceil(BLOCK));
        let [min, max] = tile.min_max_rows().map(F32x4::to_array);
        for pixel in 0..MR {
            let values = &nhwc[(first + pixel) * channels..][..channels];
            assert_eq!(min[pixel], values.iter().copied().fold(0.0, f32::min));
            assert_eq!(max[pixel], values.iter().copied().fold(0.0, f32::max));
        }
    }

    #[test]
    fn i16_values_are_scaled_back_to_floats() {
        let mut block = [0; BLOCK];
        let values = [0.0, 1.9, 2.0, 100.5, 32_767.0, 7.0, 8.0, 9.0];
        <i16 as Element>::store_f32(F32x4::load_two(&values), &mut block);
        assert_eq!(block, [0, 1, 2, 100, 32_767, 7, 8, 9]);
        // Four channels are all that is left of the pixel.
        let mut floats = [f32::NAN; 4];
        <i16 as Element>::store_scaled(I16x8::load(&block), 0.5, &mut floats);
        assert_eq!(floats, [0.0, 0.5, 1.0, 50.0]);
    }
}

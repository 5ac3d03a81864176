//! Dynamic quantisation: ranges of rows, and what their integers stand for.
//!
//! Each pixel's channels are a row of the matrix product. A row is scaled to integers by its own
//! smallest and largest value when it is read, so that no calibration is needed. Weights are scaled
//! when they are packed, each output channel by its own.

use crate::simd::F32x4;

/// Pixels of a tile, the rows of the micro-kernel. [`RowQuant`] has one in each lane.
///
/// Measured: `docs/benchmarks.md#kernels-tile-size`.
pub const MR: usize = 4;

/// The integer of 16 bits that the largest activation between two layers becomes. None is negative,
/// and 0 stays 0.
pub const I16_MAX: f32 = i16::MAX as f32;

/// The quantisation of a tile's pixels, a pixel in each lane: the integer `q` stands for
/// `q * scale + zero_offset`.
pub struct RowQuant {
    pub scale: F32x4,
    pub zero_offset: F32x4,
}

/// The quantisation of an output channel's weights.
#[derive(Clone, Copy, Default)]
pub struct ChannelQuant {
    /// Value of an accumulator's 1, before the pixel's own scale.
    pub scale: f32,
    /// The sum of the weights as they were rounded: each counts once for a pixel's zero offset.
    pub weight_sum: f32,
}

/// Returns the largest absolute value.
pub fn max_abs(values: &[f32]) -> f64 {
    values.iter().fold(0.0, |max, value| max.max(f64::from(value.abs())))
}

/// Returns the sum of the absolute values.
pub fn sum_abs(values: &[f32]) -> f64 {
    values.iter().map(|value| f64::from(value.abs())).sum()
}

/// Returns the minimum and the maximum of each row, 0 among its values.
///
/// All rows together, without a branch. Measured: `docs/benchmarks.md#kernels-ranges-of-rows`.
#[inline(always)]
pub fn min_max_rows(rows: [&[f32]; MR]) -> [F32x4; 2] {
    let min_max = rows.map(min_max);
    reduce_min_max(min_max.map(|[min, _]| min), min_max.map(|[_, max]| max))
}

/// Reduces the minima and maxima of rows, four of each, to one of each.
#[inline(always)]
pub fn reduce_min_max(min: [F32x4; MR], max: [F32x4; MR]) -> [F32x4; 2] {
    let negative = F32x4::splat(-1.0);
    let min = F32x4::max_of_each(min.map(|min| min.mul(negative)));
    [min.mul(negative), F32x4::max_of_each(max)]
}

/// Returns the minimum and the maximum of every fourth value, 0 among them.
#[inline(always)]
pub fn min_max(values: &[f32]) -> [F32x4; 2] {
    /// Values of one turn of the loop: what is kept from one to the next goes through memory.
    const UNROLLED: usize = 16;
    let (whole, rest) = values.as_chunks::<UNROLLED>();
    let mut range = [F32x4::splat(0.0); 2];
    let mut widen = |[a, b, c, d]: [F32x4; 4]| {
        let [min, max] = range;
        range = [min.min(a.min(b).min(c.min(d))), max.max(a.max(b).max(c.max(d)))];
    };
    whole.iter().for_each(|values| widen(F32x4::load_four(values)));
    if !rest.is_empty() {
        widen(F32x4::load_partial_four(rest));
    }
    range
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn min_max_rows_are_those_of_plain_loops() {
        let mut random = fastrand::Rng::with_seed(3);
        for length in 0..70 {
            // Shifted, so that some rows have one sign only and 0 is their minimum or maximum.
            let rows: [Vec<f32>; MR] = [-1.0, 0.0, 0.5, 1.0]
                .map(|shift| (0..length).map(|_| 2.0 * random.f32() - 1.0 + shift).collect());
            let [min, max] = min_max_rows(rows.each_ref().map(|row| &row[..]));
            let min_of = |row: &Vec<f32>| row.iter().copied().fold(0.0, f32::min);
            let max_of = |row: &Vec<f32>| row.iter().copied().fold(0.0, f32::max);
            assert_eq!(min.to_array(), rows.each_ref().map(min_of), "{length} values");
            assert_eq!(max.to_array(), rows.each_ref().map(max_of), "{length} values");
        }
    }

    #[test]
    fn absolute_values_ignore_signs() {
        assert_eq!(max_abs(&[1.0, -3.0, 2.0]), 3.0);
        assert_eq!(sum_abs(&[1.0, -3.0, 2.0]), 6.0);
        assert_eq!((max_abs(&[]), sum_abs(&[])), (0.0, 0.0));
    }
}

//! Int8 micro-kernel: 7-bit unsigned activations × 8-bit signed weights.
//!
//! Each pixel is cut into 127 steps between its own smallest and largest value, and each output channel
//! scaled by its own weights, such that no sum can overflow. Eight products are added in 16 bits, for
//! which one instruction multiplies 16 values, and accumulated in 32.
//!
//! Landmarks and the fine-tuned palm detection are accurate enough in int8; the classifier and first layers
//! stay in [int16](super::int16). Measured: `docs/benchmarks.md#kernels-int8-micro-kernel`.

use super::{Accumulators, MicroKernel, NR, QuantiseBlocked, accumulate_panels};
use crate::layout::{BLOCK, BlockedTile, ChannelBlock, Element};
use crate::quant::{ChannelQuant, I16_MAX, MR, RowQuant, max_abs, min_max_rows};
use crate::simd::{F32x4, I8x16, I16x8};

/// Input channels of a panel.
const K_STEP: usize = 16;
/// Input channels of a tile's pixels, each four of them four times.
pub type KPanel = [[[i8; 16]; K_STEP / 4]; MR];
/// Weights of a panel's input channels and [`NR`] output channels: two times four outputs, four times
/// four inputs.
type WeightPanel = [[[i8; 16]; K_STEP / 4]; NR / 4];

/// The integer that a pixel's largest value becomes; the smallest one becomes 0. With one bit more, the
/// relaxed dot product may take it for a sign.
const ACTIVATION_MAX: f32 = 127.0;

/// Weights in 8 bits.
#[derive(Clone, Debug, PartialEq)]
pub struct Int8 {
    k_panels: usize,
    /// By blocks of output channels, then by panels of input channels.
    weights: Vec<WeightPanel>,
}

impl MicroKernel for Int8 {
    type KPanel = KPanel;

    fn pack(weights: &[f32], inputs: usize) -> (Int8, Vec<ChannelQuant>) {
        let outputs = weights.len() / inputs;
        let k_panels = inputs.div_ceil(K_STEP);
        let blocks = outputs.div_ceil(NR);
        let mut packed = vec![WeightPanel::default(); blocks * k_panels];
        let mut quants = vec![ChannelQuant::default(); outputs];
        for (output, row) in weights.chunks_exact(inputs).enumerate() {
            if max_abs(row) == 0.0 {
                continue;
            }
            // No weight exceeds 8 bits, and no sum of eight products exceeds 16. Each of its weights
            // may be rounded up by one.
            let room = f64::from(i16::MAX) / f64::from(ACTIVATION_MAX) - 8.0;
            let factor = (f64::from(i8::MAX) / max_abs(row)).min(room / max_saturating_sum(row));
            let rounded =
                round_together(row.iter().map(|weight| f64::from(*weight) * factor).collect());
            let sum: f64 = rounded.iter().sum();
            for (input, weight) in rounded.into_iter().enumerate() {
                let panel = &mut packed[output / NR * k_panels + input / K_STEP];
                let (quad, of_quad) = (input % K_STEP / 4, input % 4);
                let (four, lane) = (output % NR / 4, output % 4);
                panel[four][quad][4 * lane + of_quad] = weight as i8;
            }
            quants[output] =
                ChannelQuant { scale: (1.0 / factor) as f32, weight_sum: (sum / factor) as f32 };
        }
        (Int8 { k_panels, weights: packed }, quants)
    }

    fn k_panels(&self) -> usize {
        self.k_panels
    }

    #[inline(always)]
    fn quantise(&self, rows: [&[f32]; MR], tile: &mut [KPanel]) -> RowQuant {
        let (quantiser, quant) = Quantiser::new(min_max_rows(rows));
        for pixel in 0..MR {
            let (whole, rest) = rows[pixel].as_chunks::<K_STEP>();
            for (panel, values) in tile.iter_mut().zip(whole) {
                let integers = quantiser.quantise(pixel, F32x4::load_four(values));
                integers.store_splat_quads(&mut panel[pixel]);
            }
            if let Some(panel) = tile.get_mut(whole.len()) {
                let integers = quantiser.quantise(pixel, F32x4::load_partial_four(rest));
                integers.store_splat_quads(&mut panel[pixel]);
            }
        }
        quant
    }

    #[inline(always)]
    fn accumulate(&self, tile: &[KPanel], block: usize) -> Accumulators {
        let weights = &self.weights[block * self.k_panels..][..self.k_panels];
        let load = |[a, b, c, d]: &[_; 4]| [a, b, c, d].map(I8x16::load);
        let product = |[a, b, c, d]: [I8x16; 4], pixel: [I8x16; 4]| {
            let sum = a.dot(pixel[0]).add(b.dot(pixel[1]));
            sum.add(c.dot(pixel[2])).add(d.dot(pixel[3])).pairwise_add()
        };
        accumulate_panels(tile, weights, load, product)
    }

    #[inline(always)]
    fn base(bias: F32x4, weight_sum: F32x4, zero_offset: F32x4) -> F32x4 {
        weight_sum.mul_add(zero_offset, bias)
    }
}

impl QuantiseBlocked<f32> for Int8 {
    #[inline(always)]
    fn quantise_blocked(&self, pixels: BlockedTile<f32>, tile: &mut [KPanel]) -> RowQuant {
        let (quantiser, quant) = Quantiser::new(pixels.min_max_rows());
        fill_panels(pixels, tile, |pixel, first, second| {
            let ([a, b], [c, d]) = (F32x4::load_two(first), F32x4::load_two(second));
            quantiser.quantise(pixel, [a, b, c, d])
        });
        quant
    }
}

/// Integers of 16 bits, none of which is negative, become integers of 7 without floats between.
impl QuantiseBlocked<i16> for Int8 {
    #[inline(always)]
    fn quantise_blocked(&self, pixels: BlockedTile<i16>, tile: &mut [KPanel]) -> RowQuant {
        let mut max = [I16x8::splat(0); MR];
        for block in 0..pixels.blocks {
            let block = pixels.block(block);
            for pixel in 0..MR {
                max[pixel] = max[pixel].max(I16x8::load(&block[pixel]));
            }
        }
        let max = max.map(|max| {
            let [low, high] = max.to_f32();
            low.max(high)
        });
        // Factors are fractions of 2¹⁵, rounded down, so that no integer becomes larger than it may.
        // Values so small that they have no such factor get the largest one.
        const ONE: f32 = 32_768.0;
        let smallest = F32x4::splat(ACTIVATION_MAX * ONE / I16_MAX);
        let max = F32x4::max_of_each(max).max(smallest);
        let factors = F32x4::splat(ACTIVATION_MAX * ONE).div(max);
        let [factors, _] = I16x8::truncate(factors, factors).to_f32();
        let scale = F32x4::splat(ONE).div(factors);
        let factors = factors.splat_lanes().map(|factor| I16x8::truncate(factor, factor));
        fill_panels(pixels, tile, |pixel, first, second| {
            let quantise = |block| I16x8::load(block).mul_q15_round(factors[pixel]);
            I8x16::narrow(quantise(first), quantise(second))
        });
        RowQuant { scale, zero_offset: F32x4::splat(0.0) }
    }
}

/// Fills panels from blocked pixels, two blocks of channels each.
#[inline(always)]
fn fill_panels<E: Element>(
    pixels: BlockedTile<E>,
    tile: &mut [KPanel],
    quantise: impl Fn(usize, &[E; BLOCK], &[E; BLOCK]) -> I8x16,
) {
    let zeros: ChannelBlock<E> = [[E::default(); BLOCK]; MR];
    for (index, panel) in tile.iter_mut().enumerate() {
        let first = pixels.block(2 * index);
        // The last block may have none beside it.
        let beside = 2 * index + 1;
        let second = if beside < pixels.blocks { pixels.block(beside) } else { &zeros };
        for pixel in 0..MR {
            let integers = quantise(pixel, &first[pixel], &second[pixel]);
            integers.store_splat_quads(&mut panel[pixel]);
        }
    }
}

/// The factor and the zero of each of a tile's pixels.
struct Quantiser {
    factors: [F32x4; MR],
    zeros: [F32x4; MR],
}

impl Quantiser {
    /// Returns the quantiser for the minimum and the maximum of each pixel.
    #[inline(always)]
    fn new([min, max]: [F32x4; 2]) -> (Quantiser, RowQuant) {
        let negative = F32x4::splat(-1.0);
        let activation_max = F32x4::splat(ACTIVATION_MAX);
        // A smaller range would have an infinite factor: its values become 0.
        let smallest = F32x4::splat(f32::MIN_POSITIVE * ACTIVATION_MAX);
        let range = min.mul_add(negative, max).max(smallest);
        let (factors, scale) = (activation_max.div(range), range.div(activation_max));
        // Zero is an integer too, so that values are rounded only once.
        let zeros = min.mul(factors).round().mul(negative);
        let quant = RowQuant { scale, zero_offset: zeros.mul(scale).mul(negative) };
        (Quantiser { factors: factors.splat_lanes(), zeros: zeros.splat_lanes() }, quant)
    }

    #[inline(always)]
    fn quantise(&self, pixel: usize, values: [F32x4; 4]) -> I8x16 {
        I8x16::quantise(values, self.factors[pixel], self.zeros[pixel])
    }
}

/// Returns the largest sum of weights of one sign that are added in 16 bits: those of the first, or of the
/// last two of each four inputs of a panel. Activations are not negative, so that each sum lies between
/// those of the negative and of the positive weights.
fn max_saturating_sum(row: &[f32]) -> f64 {
    let mut max = 0.0_f64;
    for panel in row.chunks(K_STEP) {
        let mut sums = [[0.0; 2]; 2];
        for (input, weight) in panel.iter().enumerate() {
            let sign = usize::from(*weight < 0.0);
            sums[input % 4 / 2][sign] += f64::from(weight.abs());
        }
        max = sums.as_flattened().iter().fold(max, |max, sum| max.max(*sum));
    }
    max
}

/// Rounds values to integers whose sum is as near as possible to that of the values: those farthest from
/// their integer are rounded the other way.
///
/// The inputs of most layers are not negative, so that a remainder of the sum would move all pixels the
/// same way. Measured: `docs/benchmarks.md#kernels-int8-micro-kernel`.
fn round_together(values: Vec<f64>) -> Vec<f64> {
    let mut rounded: Vec<f64> = values.iter().map(|value| value.round()).collect();
    let remainder = |i: usize, rounded: &[f64]| values[i] - rounded[i];
    let sum: f64 = (0..values.len()).map(|i| remainder(i, &rounded)).sum();
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| {
        (remainder(b, &rounded) * sum).total_cmp(&(remainder(a, &rounded) * sum))
    });
    for &i in order.iter().take(sum.abs().round() as usize) {
        rounded[i] += sum.signum();
    }
    rounded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(random: &mut fastrand::Rng, length: usize) -> Vec<f32> {
        (0..length).map(|_| 2.0 * random.f32() - 1.0).collect()
    }

    #[test]
    fn rounding_together_keeps_the_sum() {
        let mut rng = fastrand::Rng::with_seed(7);
        for length in 1..200 {
            let values: Vec<f64> =
                random(&mut rng, length).into_iter().map(|value| 50.0 * f64::from(value)).collect();
            let rounded = round_together(values.clone());
            let sum = |values: &[f64]| values.iter().sum::<f64>();
            assert!((sum(&values) - sum(&rounded)).abs() <= 0.5 + 1e-9, "{length} values");
            for (value, rounded) in values.iter().zip(&rounded) {
                assert_eq!(rounded.fract(), 0.0);
                assert!((value - rounded).abs() < 1.0, "{value} becomes {rounded}");
            }
        }
    }

    #[test]
    fn max_saturating_sum_is_of_neighbours_of_one_sign() {
        let mut row = [0.0; 2 * K_STEP];
        // The first two of each four inputs of the first panel are added together.
        for input in [0, 1, 4, 5, 8, 9, 12, 13] {
            row[input] = 1.0;
        }
        assert_eq!(max_saturating_sum(&row), 8.0);
        row[1] = -1.0;
        assert_eq!(max_saturating_sum(&row), 7.0);
        // Neither the last two, nor another panel's, count with them.
        row[2] = 3.0;
        row[K_STEP] = 7.5;
        assert_eq!(max_saturating_sum(&row), 7.5);
    }

    #[test]
    fn packed_weights_cannot_overflow_a_sum_of_eight_products() {
        let mut rng = fastrand::Rng::with_seed(9);
        for turn in 0..20 {
            let inputs = 1 + rng.u32(..100) as usize;
            let mut weights = random(&mut rng, inputs * NR);
            if turn % 2 == 0 {
                weights.iter_mut().for_each(|weight| *weight = weight.abs());
            }
            let (kernel, _) = Int8::pack(&weights, inputs);
            for panel in &kernel.weights {
                for (four, lane, half) in [(0, 0, 0), (0, 3, 2), (1, 1, 0), (1, 2, 2)] {
                    let together = (0..4).flat_map(|quad| {
                        let first = 4 * lane + half;
                        [panel[four][quad][first], panel[four][quad][first + 1]].map(i32::from)
                    });
                    let [positive, negative] =
                        together.fold([0; 2], |[positive, negative], weight| {
                            [positive + weight.max(0), negative + weight.min(0)]
                        });
                    assert!(127 * positive <= i16::MAX.into(), "{positive}");
                    assert!(127 * negative >= i16::MIN.into(), "{negative}");
                }
            }
        }
    }

    #[test]
    fn quantised_values_are_within_half_a_step() {
        let mut rng = fastrand::Rng::with_seed(11);
        let rows = [0.0, 0.5, 1.0, -1.5].map(|shift| -> Vec<f32> {
            random(&mut rng, K_STEP).into_iter().map(|value| value + shift).collect()
        });
        let (kernel, _) = Int8::pack(&[1.0; K_STEP * NR], K_STEP);
        let mut tile = [KPanel::default()];
        let quant = kernel.quantise(rows.each_ref().map(|row| &row[..]), &mut tile);
        let (scale, zero_offset) = (quant.scale.to_array(), quant.zero_offset.to_array());
        for (pixel, row) in rows.iter().enumerate() {
            for (channel, value) in row.iter().enumerate() {
                let quad = tile[0][pixel][channel / 4];
                let integer = quad[channel % 4];
                assert!((0..4).all(|copy| quad[4 * copy + channel % 4] == integer));
                assert!(integer >= 0);
                let found = f32::from(integer) * scale[pixel] + zero_offset[pixel];
                let error = (found - value).abs() / scale[pixel];
                // A half by rounding, and as much where zero was rounded away from the end.
                assert!(error <= 1.0, "{value} becomes {found}");
            }
        }
    }
}

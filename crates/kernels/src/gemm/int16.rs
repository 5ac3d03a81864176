//! Int16 micro-kernel: signed activations × signed weights, accumulated in 32 bits.
//!
//! Each pixel is scaled by its own largest value and each output channel by its own weights, such that
//! no accumulator can overflow and that activations and weights are about equally fine: the more bits,
//! the fewer products there are to add.
//!
//! Measured: `docs/benchmarks.md#kernels-int16-micro-kernel`.

use super::{Accumulators, MicroKernel, NR, QuantiseBlocked, accumulate_panels};
use crate::layout::{BlockedTile, Element};
use crate::quant::{ChannelQuant, MR, RowQuant, max_abs, min_max, min_max_rows, sum_abs};
use crate::simd::{F32x4, I16x8};

/// Input channels of a panel.
pub const K_STEP: usize = 8;
/// Input channels of a tile's pixels, each two of them four times.
pub type KPanel = [[[i16; 8]; K_STEP / 2]; MR];
/// Weights of a panel's input channels and [`NR`] output channels: two times four outputs, four times
/// two inputs.
type WeightPanel = [[[i16; 8]; K_STEP / 2]; NR / 4];

/// Weights in 16 bits.
#[derive(Clone, Debug, PartialEq)]
pub struct Int16 {
    /// The integer that a pixel's largest absolute value becomes.
    activation_max: f32,
    k_panels: usize,
    /// By blocks of output channels, then by panels of input channels.
    weights: Vec<WeightPanel>,
}

impl MicroKernel for Int16 {
    type KPanel = KPanel;

    fn pack(weights: &[f32], inputs: usize) -> (Int16, Vec<ChannelQuant>) {
        // As large as the largest weight may become then.
        Int16::pack_for(weights, inputs, |weights| (f64::from(i32::MAX) / weights).sqrt())
    }

    fn k_panels(&self) -> usize {
        self.k_panels
    }

    #[inline(always)]
    fn quantise(&self, rows: [&[f32]; MR], tile: &mut [KPanel]) -> RowQuant {
        let (factors, scale) = self.factors(min_max_rows(rows));
        for (pixel, factor) in factors.splat_lanes().into_iter().enumerate() {
            let (whole, rest) = rows[pixel].as_chunks::<K_STEP>();
            for (panel, values) in tile.iter_mut().zip(whole) {
                let [low, high] = F32x4::load_two(values);
                I16x8::quantise(low, high, factor).store_splat_pairs(&mut panel[pixel]);
            }
            if let Some(panel) = tile.get_mut(whole.len()) {
                let [low, high] = F32x4::load_partial_two(rest);
                I16x8::quantise(low, high, factor).store_splat_pairs(&mut panel[pixel]);
            }
        }
        RowQuant { scale, zero_offset: F32x4::splat(0.0) }
    }

    #[inline(always)]
    fn accumulate(&self, tile: &[KPanel], block: usize) -> Accumulators {
        let weights = &self.weights[block * self.k_panels..][..self.k_panels];
        let load = |[a, b, c, d]: &[_; 4]| [a, b, c, d].map(I16x8::load);
        let product = |[a, b, c, d]: [I16x8; 4], pixel: [I16x8; 4]| {
            let sum = a.dot(pixel[0]).add(b.dot(pixel[1]));
            sum.add(c.dot(pixel[2])).add(d.dot(pixel[3]))
        };
        accumulate_panels(tile, weights, load, product)
    }

    #[inline(always)]
    fn base(bias: F32x4, _: F32x4, _: F32x4) -> F32x4 {
        bias
    }
}

impl<E: Element> QuantiseBlocked<E> for Int16 {
    #[inline(always)]
    fn quantise_blocked(&self, pixels: BlockedTile<E>, tile: &mut [KPanel]) -> RowQuant {
        let (factors, scale) = self.factors(pixels.min_max_rows());
        let factors = factors.splat_lanes();
        for (index, panel) in tile.iter_mut().enumerate() {
            let block = pixels.block(index);
            for pixel in 0..MR {
                let [low, high] = E::to_f32(&block[pixel]);
                I16x8::quantise(low, high, factors[pixel]).store_splat_pairs(&mut panel[pixel]);
            }
        }
        RowQuant { scale, zero_offset: F32x4::splat(0.0) }
    }
}

impl Int16 {
    /// Packs weights for pictures of 8 bits. Whatever their largest value becomes, none is rounded, so
    /// that the weights get all the bits that they can have.
    pub fn pack_for_u8(weights: &[f32], inputs: usize) -> (Int16, Vec<ChannelQuant>) {
        let finest = f64::from(i16::MAX);
        Int16::pack_for(weights, inputs, |weights| f64::from(i32::MAX) / (weights * finest))
    }

    /// Packs weights. `activation_max` returns what the largest activation becomes where a channel's
    /// weights are together so many times its largest one.
    fn pack_for(
        weights: &[f32],
        inputs: usize,
        activation_max: impl Fn(f64) -> f64,
    ) -> (Int16, Vec<ChannelQuant>) {
        let outputs = weights.len() / inputs;
        let k_panels = inputs.div_ceil(K_STEP);
        let mut packed = vec![WeightPanel::default(); outputs.div_ceil(NR) * k_panels];
        let mut quants = vec![ChannelQuant::default(); outputs];
        let together = weights.chunks_exact(inputs).map(|row| sum_abs(row) / max_abs(row));
        let activation_max = activation_max(together.fold(1.0, f64::max));
        let activation_max = activation_max.min(i16::MAX.into()).floor();
        for (output, row) in weights.chunks_exact(inputs).enumerate() {
            if max_abs(row) == 0.0 {
                continue;
            }
            // No weight exceeds 16 bits, and all of them times the largest activation stay within 32.
            // Each may be rounded up by a half.
            let room = f64::from(i32::MAX) / activation_max - inputs as f64;
            let factor = (f64::from(i16::MAX) / max_abs(row)).min(room / sum_abs(row));
            quants[output].scale = (1.0 / factor) as f32;
            for (input, weight) in row.iter().enumerate() {
                let panel = &mut packed[output / NR * k_panels + input / K_STEP];
                let (pair, of_pair) = (input % K_STEP / 2, input % 2);
                let (four, lane) = (output % NR / 4, output % 4);
                panel[four][pair][2 * lane + of_pair] =
                    (f64::from(*weight) * factor).round() as i16;
            }
        }
        (Int16 { activation_max: activation_max as f32, k_panels, weights: packed }, quants)
    }

    /// Returns the factor that turns values into integers, and the integers' scale.
    pub fn factor_and_scale(&self, values: &[f32]) -> (f32, f32) {
        let [min, max] = min_max(values);
        let max_abs = F32x4::max_of_each([max.max(min.abs()); 4]);
        let (factors, scale) = self.factors([max_abs; 2]);
        (factors.to_array()[0], scale.to_array()[0])
    }

    /// Returns the factor that turns bytes, of which 255 stands for 1, into integers, and the integers'
    /// scale. The factor is whole, so that nothing is rounded.
    pub fn factor_and_scale_of_u8(&self) -> (i16, f32) {
        let max = f32::from(u8::MAX);
        // At least 1. With so many weights that it were less, accumulators could overflow; no kernel of
        // a first layer has thousands.
        let factor = (self.activation_max / max).floor().max(1.0);
        (factor as i16, 1.0 / (factor * max))
    }

    /// Returns the factors and scales of four ranges.
    #[inline(always)]
    fn factors(&self, [min, max]: [F32x4; 2]) -> (F32x4, F32x4) {
        // Smaller values would have an infinite factor: they become 0.
        let smallest = F32x4::splat(f32::MIN_POSITIVE * self.activation_max);
        let max = max.max(min.abs()).max(smallest);
        let activation_max = F32x4::splat(self.activation_max);
        (activation_max.div(max), max.div(activation_max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_weights_cannot_overflow_the_accumulators() {
        let mut random = fastrand::Rng::with_seed(5);
        for inputs in [1, 7, 64, 1152, 40_000] {
            let weights: Vec<f32> = (0..inputs * NR).map(|_| 2.0 * random.f32() - 1.0).collect();
            let (kernel, _) = Int16::pack(&weights, inputs);
            for output in 0..NR {
                let (four, lane) = (output / 4, output % 4);
                let sum: f64 = kernel
                    .weights
                    .iter()
                    .flat_map(|panel| panel[four])
                    .flat_map(|pair| [pair[2 * lane], pair[2 * lane + 1]])
                    .map(|weight| f64::from(weight).abs())
                    .sum();
                let largest = sum * f64::from(kernel.activation_max);
                assert!(largest <= i32::MAX.into(), "{inputs} inputs: {largest}");
                // Nor are bits wasted: half as large would be a bit less.
                assert!(largest > f64::from(i32::MAX) / 4.0 || inputs < 3, "{inputs}: {largest}");
            }
        }
    }

    #[test]
    fn bytes_are_scaled_by_a_whole_factor() {
        let weights = vec![0.5; 27 * NR];
        let (kernel, _) = Int16::pack_for_u8(&weights, 27);
        let (factor, scale) = kernel.factor_and_scale_of_u8();
        assert!(factor >= 1);
        assert!((255.0 * f32::from(factor) * scale - 1.0).abs() < 1e-6);
        assert!(255.0 * f32::from(factor) <= kernel.activation_max);
    }
}

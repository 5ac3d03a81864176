//! The epilogue of a depthwise convolution, in floats and in integers of 16 bits.

use crate::activation::{Activate, PackedActivation};
use crate::layout::Element;
use crate::quant::I16_MAX;
use crate::simd::{F32x4, I16x8};

/// An epilogue with the activation as a type, vector of channels by vector.
pub trait ChannelEpilogue<E: Element> {
    /// Returns the initial value of a vector's sums.
    fn start(&self, vector: usize) -> E::Register;

    /// Returns the function that turns a vector's sums into outputs.
    fn finish(&self, vector: usize) -> impl Fn(E::Register) -> E::Register;
}

/// The epilogue in floats: bias and activation.
#[derive(Clone, Debug, PartialEq)]
pub struct F32Epilogue {
    pub bias: Vec<[f32; 4]>,
    pub activation: PackedActivation,
}

/// The epilogue in floats with its activation as a type.
pub struct F32ChannelEpilogue<'a, A> {
    pub bias: &'a [[f32; 4]],
    pub activation: &'a A,
}

impl<A: Activate> ChannelEpilogue<f32> for F32ChannelEpilogue<'_, A> {
    #[inline(always)]
    fn start(&self, vector: usize) -> F32x4 {
        F32x4::load(&self.bias[vector])
    }

    #[inline(always)]
    fn finish(&self, vector: usize) -> impl Fn(F32x4) -> F32x4 {
        self.activation.for_channels(4 * vector)
    }
}

/// The epilogue in integers of 16 bits.
#[derive(Clone, Debug, PartialEq)]
pub struct I16Epilogue {
    vectors: Vec<Vector>,
    scale: f32,
}

/// Eight channels of the epilogue in integers.
#[derive(Clone, Debug, Default, PartialEq)]
struct Vector {
    min: [i16; 8],
    max: [i16; 8],
    multiplier: [i16; 8],
    bias: [i16; 8],
}

impl I16Epilogue {
    /// Packs the parameters of some channels, for outputs of which 1 stands for `scale`.
    pub fn new(channels: &[I16Channel], scale: f32) -> I16Epilogue {
        let vectors = channels
            .chunks(8)
            .map(|channels| {
                let mut vector = Vector::default();
                for (lane, channel) in channels.iter().enumerate() {
                    vector.min[lane] = channel.min;
                    vector.max[lane] = channel.max;
                    vector.multiplier[lane] = channel.multiplier;
                    vector.bias[lane] = channel.bias;
                }
                vector
            })
            .collect();
        I16Epilogue { vectors, scale }
    }

    /// Returns the value of an output's 1.
    pub fn scale(&self) -> f32 {
        self.scale
    }
}

impl ChannelEpilogue<i16> for I16Epilogue {
    #[inline(always)]
    fn start(&self, _: usize) -> I16x8 {
        I16x8::splat(0)
    }

    #[inline(always)]
    fn finish(&self, vector: usize) -> impl Fn(I16x8) -> I16x8 {
        let Vector { min, max, multiplier, bias } = &self.vectors[vector];
        let [min, max, multiplier, bias] = [min, max, multiplier, bias].map(I16x8::load);
        // A sum at the minimum may still become negative, by less than the multiplier.
        move |sum| sum.max(min).min(max).mul(multiplier).add(bias).max(I16x8::splat(0))
    }
}

/// The parameters that keep a channel's sums within 16 bits.
///
/// Weights are divided by `multiplier`, and sums multiplied by it at the end. Before that they are limited
/// to `min` and `max`, or the product could overflow; this is also the activation. The multiplier is what
/// the weights of one sign come to.
///
/// Measured: `docs/benchmarks.md#kernels-depthwise-multipliers`.
pub struct I16Channel {
    multiplier: i16,
    min: i16,
    max: i16,
    bias: i16,
}

impl I16Channel {
    /// Returns the parameters for weights and a bias in units of output; `None` if they are too large.
    pub fn new(weights: impl Iterator<Item = f64>, bias: f64) -> Option<I16Channel> {
        let (mut sums, mut taps) = ([0.0_f64; 2], 0.0);
        for weight in weights {
            sums[usize::from(weight < 0.0)] += weight.abs();
            taps += 1.0;
        }
        // No value is negative, so that each sum lies between those of the negative and of the positive
        // weights. Each tap's product and weight are rounded by a half.
        let largest = f64::from(I16_MAX);
        let multiplier = (sums[0].max(sums[1]) * largest / (largest - taps)).ceil().max(1.0);
        if !(multiplier < largest && bias.is_finite()) {
            return None;
        }
        let bias = bias.round();
        let (min, max) = ((-bias / multiplier).floor(), ((largest - bias) / multiplier).floor());
        if min > largest || max < -largest {
            // Whatever the values are, all outputs are 0, or all are the largest.
            let bias = if max < 0.0 { i16::MAX } else { 0 };
            return Some(I16Channel { multiplier: 0, min: 0, max: 0, bias });
        }
        Some(I16Channel {
            multiplier: multiplier as i16,
            min: min.max(-largest) as i16,
            max: max.min(largest) as i16,
            // The lowest bits of it, as of the product: the sum of both fits.
            bias: bias as i64 as i16,
        })
    }

    /// Returns a weight as a fraction of 2¹⁵.
    pub fn weight(&self, weight: f64) -> i16 {
        const ONE: f64 = 32_768.0;
        match self.multiplier {
            0 => 0,
            multiplier => {
                (weight / f64::from(multiplier) * ONE).round().clamp(-ONE, ONE - 1.0) as i16
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The output for a sum of products in units of output, as the vectors compute it.
    fn output(channel: &I16Channel, sum: f64) -> i16 {
        let params = I16Channel { ..*channel };
        let epilogue = I16Epilogue::new(&[params], 1.0);
        let sum = match channel.multiplier {
            0 => 0,
            multiplier => (sum / f64::from(multiplier)).round() as i16,
        };
        let mut outputs = [0; 8];
        epilogue.finish(0)(I16x8::splat(sum)).store(&mut outputs);
        outputs[0]
    }

    #[test]
    fn i16_channel_limits_outputs_to_their_range() {
        let weights = [3.0, -5.0, 2.0];
        for bias in [0.0, 20_000.0, -20_000.0, 90_000.0, -90_000.0] {
            let channel = I16Channel::new(weights.into_iter(), bias).expect("small weights");
            for sum in [-100_000.0, -30_000.0, 0.0, 1_000.0, 30_000.0, 100_000.0] {
                let expected = (sum + bias).clamp(0.0, I16_MAX.into());
                let error = (f64::from(output(&channel, sum)) - expected).abs();
                let tolerance = f64::from(channel.multiplier);
                assert!(error <= tolerance, "sum {sum}, bias {bias}: {error} from {expected}");
            }
        }
    }

    #[test]
    fn i16_channel_far_beyond_its_range_is_constant() {
        for (bias, constant) in [(1e9, i16::MAX), (-1e9, 0)] {
            let channel = I16Channel::new([1.0, -1.0].into_iter(), bias).expect("small weights");
            assert_eq!(channel.weight(1.0), 0);
            assert_eq!(output(&channel, 0.0), constant);
        }
    }

    #[test]
    fn i16_channel_refuses_weights_beyond_16_bits() {
        assert!(I16Channel::new([40_000.0].into_iter(), 0.0).is_none());
        assert!(I16Channel::new([1.0].into_iter(), f64::INFINITY).is_none());
        assert!(I16Channel::new([1.0].into_iter(), f64::NAN).is_none());
    }
}

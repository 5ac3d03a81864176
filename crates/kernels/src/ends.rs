//! What is done to the sums of a [depthwise](super::depthwise) convolution at the end, in floats and in
//! integers of 16 bits.

use super::activation::{Activate, Padded, with_activation};
use super::depthwise::{Output, Rows};
use super::number::{LARGEST, Number};
use super::simd::{F32x4, I16x8};

/// The end with the activation as a type, vector of channels by vector.
pub(super) trait End<N: Number> {
    /// What a vector's sums begin with.
    fn start(&self, vector: usize) -> N::Register;

    /// What is done to them.
    fn end(&self, vector: usize) -> impl Fn(N::Register) -> N::Register;
}

/// The end, whatever the activation is.
pub(super) trait Ends<N: Number> {
    /// Writes the next rows of output; `which` says from which row of input on, and how many.
    fn write(&self, rows: &Rows<N>, which: (usize, usize), output: Output<N>);

    /// What the number 1 stands for then.
    fn unit(&self) -> f32;
}

/// The end in floats.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Floats {
    pub bias: Vec<[f32; 4]>,
    pub activation: Padded,
}

impl Ends<f32> for Floats {
    fn write(&self, rows: &Rows<f32>, which: (usize, usize), output: Output<f32>) {
        with_activation!(&self.activation, |activation| {
            rows.write(which, output, &Activated { bias: &self.bias, activation: &activation });
        });
    }

    fn unit(&self) -> f32 {
        1.0
    }
}

/// The end in floats with its activation as a type.
struct Activated<'a, A> {
    bias: &'a [[f32; 4]],
    activation: &'a A,
}

impl<A: Activate> End<f32> for Activated<'_, A> {
    #[inline(always)]
    fn start(&self, vector: usize) -> F32x4 {
        F32x4::load(&self.bias[vector])
    }

    #[inline(always)]
    fn end(&self, vector: usize) -> impl Fn(F32x4) -> F32x4 {
        self.activation.four(4 * vector)
    }
}

/// The end in integers of 16 bits.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Integers {
    vectors: Vec<Vector>,
    unit: f32,
}

/// Eight channels of it.
#[derive(Clone, Debug, Default, PartialEq)]
struct Vector {
    least: [i16; 8],
    most: [i16; 8],
    gain: [i16; 8],
    bias: [i16; 8],
}

impl Integers {
    /// Of some channels, with outputs of which 1 stands for `unit`.
    pub fn new(channels: &[Channel], unit: f32) -> Integers {
        let vectors = channels
            .chunks(8)
            .map(|channels| {
                let mut vector = Vector::default();
                for (lane, channel) in channels.iter().enumerate() {
                    vector.least[lane] = channel.least;
                    vector.most[lane] = channel.most;
                    vector.gain[lane] = channel.gain;
                    vector.bias[lane] = channel.bias;
                }
                vector
            })
            .collect();
        Integers { vectors, unit }
    }
}

impl End<i16> for Integers {
    #[inline(always)]
    fn start(&self, _: usize) -> I16x8 {
        I16x8::splat(0)
    }

    #[inline(always)]
    fn end(&self, vector: usize) -> impl Fn(I16x8) -> I16x8 {
        let Vector { least, most, gain, bias } = &self.vectors[vector];
        let [least, most, gain, bias] = [least, most, gain, bias].map(I16x8::load);
        // What was cut off below may still be negative, by less than the gain.
        move |sum| sum.max(least).min(most).mul(gain).add(bias).max(I16x8::splat(0))
    }
}

impl Ends<i16> for Integers {
    fn write(&self, rows: &Rows<i16>, which: (usize, usize), output: Output<i16>) {
        rows.write(which, output, self);
    }

    fn unit(&self) -> f32 {
        self.unit
    }
}

/// How a channel's sums stay within 16 bits: they are summed up `gain` times smaller. Before they are
/// multiplied by it, what would become negative or too large is cut off: that is the activation.
///
/// The gain is what the weights of one sign come to, 3 to 6 for half of the channels of the landmark
/// models and 20 or more for one of twenty, so that sums have 12 to 14 bits.
pub(super) struct Channel {
    gain: i16,
    least: i16,
    most: i16,
    bias: i16,
}

impl Channel {
    /// For weights and a bias in units of output; `None` if they are too large.
    pub fn new(weights: impl Iterator<Item = f64>, bias: f64) -> Option<Channel> {
        let (mut sums, mut taps) = ([0.0_f64; 2], 0.0);
        for weight in weights {
            sums[usize::from(weight < 0.0)] += weight.abs();
            taps += 1.0;
        }
        // No number is negative, so that each sum lies between what the negative and what the positive
        // weights come to; each tap's product and weight are rounded by a half.
        let largest = f64::from(LARGEST);
        let gain = (sums[0].max(sums[1]) * largest / (largest - taps)).ceil().max(1.0);
        if !(gain < largest && bias.is_finite()) {
            return None;
        }
        let bias = bias.round();
        let (least, most) = ((-bias / gain).floor(), ((largest - bias) / gain).floor());
        if least > largest || most < -largest {
            // Whatever the numbers are, all outputs are 0, or all are the largest.
            let bias = if most < 0.0 { i16::MAX } else { 0 };
            return Some(Channel { gain: 0, least: 0, most: 0, bias });
        }
        Some(Channel {
            gain: gain as i16,
            least: least.max(-largest) as i16,
            most: most.min(largest) as i16,
            // Its lowest bits, as of the product: the sum of both fits.
            bias: bias as i64 as i16,
        })
    }

    /// A weight as a fraction of 2¹⁵.
    pub fn weight(&self, weight: f64) -> i16 {
        const ONE: f64 = 32_768.0;
        match self.gain {
            0 => 0,
            gain => (weight / f64::from(gain) * ONE).round().clamp(-ONE, ONE - 1.0) as i16,
        }
    }
}

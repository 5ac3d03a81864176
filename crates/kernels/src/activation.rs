//! What is done to each number at the end of a layer.

use super::number::LARGEST;
use super::simd::F32x4;

/// A layer's activation.
#[derive(Clone, Debug, PartialEq)]
pub enum Activation {
    /// None.
    Linear,
    /// Cut off below and above: ReLU6 is 0 to 6.
    Clamp {
        /// The least value.
        least: f32,
        /// The largest value.
        most: f32,
    },
    /// What is negative is multiplied by a factor of its channel (PReLU).
    Slopes(Vec<f32>),
}

/// An activation with its parameters for four channels in registers.
pub(super) trait Activate {
    fn four(&self, channel: usize) -> impl Fn(F32x4) -> F32x4;
}

pub(super) struct Linear;

impl Activate for Linear {
    #[inline(always)]
    fn four(&self, _: usize) -> impl Fn(F32x4) -> F32x4 {
        |value| value
    }
}

pub(super) struct Clamp {
    pub least: f32,
    pub most: f32,
}

impl Activate for Clamp {
    #[inline(always)]
    fn four(&self, _: usize) -> impl Fn(F32x4) -> F32x4 {
        let (least, most) = (F32x4::splat(self.least), F32x4::splat(self.most));
        move |value| value.max(least).min(most)
    }
}

/// Slopes of whole groups of four channels.
pub(super) struct Slopes<'a>(pub &'a [[f32; 4]]);

impl Activate for Slopes<'_> {
    #[inline(always)]
    fn four(&self, channel: usize) -> impl Fn(F32x4) -> F32x4 {
        let slopes = F32x4::load(&self.0[channel / 4]);
        let zero = F32x4::splat(0.0);
        move |value| value.min(zero).mul_add(slopes, value.max(zero))
    }
}

/// An activation whose slopes are filled up to a multiple of four channels.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Padded {
    Linear,
    Clamp { least: f32, most: f32 },
    Slopes(Vec<[f32; 4]>),
}

impl Padded {
    pub fn new(activation: &Activation, channels: usize) -> Padded {
        match activation {
            Activation::Linear => Padded::Linear,
            Activation::Clamp { least, most } => Padded::Clamp { least: *least, most: *most },
            Activation::Slopes(slopes) => Padded::Slopes(fours(slopes, channels)),
        }
    }

    /// What the number 1 stands for if the largest one is to be [`LARGEST`]; `None` if there is no
    /// largest one, or if there are negative ones.
    pub fn unit(&self) -> Option<f32> {
        match self {
            Padded::Clamp { least: 0.0, most } if most.is_finite() && *most > 0.0 => {
                Some(most / LARGEST)
            }
            _ => None,
        }
    }
}

/// Runs a function with the activation as a type, so that the compiler makes one of each.
macro_rules! with_activation {
    ($padded:expr, |$activation:ident| $work:expr) => {
        match $padded {
            $crate::activation::Padded::Linear => {
                let $activation = $crate::activation::Linear;
                $work
            }
            $crate::activation::Padded::Clamp { least, most } => {
                let $activation = $crate::activation::Clamp { least: *least, most: *most };
                $work
            }
            $crate::activation::Padded::Slopes(slopes) => {
                let $activation = $crate::activation::Slopes(slopes);
                $work
            }
        }
    };
}
pub(super) use with_activation;

/// Numbers in groups of four, filled up with zeros to `channels` of them at least.
pub(super) fn fours(numbers: &[f32], channels: usize) -> Vec<[f32; 4]> {
    let mut padded = numbers.to_vec();
    padded.resize(channels.max(numbers.len()).next_multiple_of(4), 0.0);
    padded.as_chunks().0.to_vec()
}

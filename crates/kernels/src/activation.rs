//! The function at the end of a layer.

use crate::quant::I16_MAX;
use crate::simd::F32x4;

/// A layer's activation function.
#[derive(Clone, Debug, PartialEq)]
pub enum Activation {
    /// The identity.
    Linear,
    /// Values limited to a range: ReLU6 is 0 to 6.
    Clamp {
        /// The smallest value.
        min: f32,
        /// The largest value.
        max: f32,
    },
    /// Negative values times a slope of their channel (PReLU).
    Prelu(Vec<f32>),
}

/// An activation as a type, so that the compiler makes a kernel for each.
pub(crate) trait Activate {
    /// Returns the function for four channels, with its parameters in registers.
    fn for_channels(&self, first: usize) -> impl Fn(F32x4) -> F32x4;
}

/// [`Activation::Linear`].
pub(crate) struct Linear;

impl Activate for Linear {
    #[inline(always)]
    fn for_channels(&self, _: usize) -> impl Fn(F32x4) -> F32x4 {
        |value| value
    }
}

/// [`Activation::Clamp`].
pub(crate) struct Clamp {
    pub min: f32,
    pub max: f32,
}

impl Activate for Clamp {
    #[inline(always)]
    fn for_channels(&self, _: usize) -> impl Fn(F32x4) -> F32x4 {
        let (min, max) = (F32x4::splat(self.min), F32x4::splat(self.max));
        move |value| value.max(min).min(max)
    }
}

/// [`Activation::Prelu`], with the slopes of whole groups of four channels.
pub(crate) struct Prelu<'a>(pub &'a [[f32; 4]]);

impl Activate for Prelu<'_> {
    #[inline(always)]
    fn for_channels(&self, first: usize) -> impl Fn(F32x4) -> F32x4 {
        let slopes = F32x4::load(&self.0[first / 4]);
        let zero = F32x4::splat(0.0);
        move |value| value.min(zero).mul_add(slopes, value.max(zero))
    }
}

/// An activation whose slopes are padded to whole vectors.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum PackedActivation {
    Linear,
    Clamp { min: f32, max: f32 },
    Prelu(Vec<[f32; 4]>),
}

impl PackedActivation {
    /// Packs an activation for at least `channels` channels.
    pub fn new(activation: &Activation, channels: usize) -> PackedActivation {
        match activation {
            Activation::Linear => PackedActivation::Linear,
            Activation::Clamp { min, max } => PackedActivation::Clamp { min: *min, max: *max },
            Activation::Prelu(slopes) => PackedActivation::Prelu(pack_fours(slopes, channels)),
        }
    }

    /// Returns the scale of 16-bit integers whose largest is [`I16_MAX`]; `None` if there is no largest
    /// value, or if there are negative ones.
    pub fn i16_scale(&self) -> Option<f32> {
        match self {
            PackedActivation::Clamp { min: 0.0, max } if max.is_finite() && *max > 0.0 => {
                Some(max / I16_MAX)
            }
            _ => None,
        }
    }
}

/// Evaluates an expression with the activation as a type.
macro_rules! with_activation {
    ($packed:expr, |$activation:ident| $work:expr) => {
        match $packed {
            $crate::activation::PackedActivation::Linear => {
                let $activation = $crate::activation::Linear;
                $work
            }
            $crate::activation::PackedActivation::Clamp { min, max } => {
                let $activation = $crate::activation::Clamp { min: *min, max: *max };
                $work
            }
            $crate::activation::PackedActivation::Prelu(slopes) => {
                let $activation = $crate::activation::Prelu(slopes);
                $work
            }
        }
    };
}
pub(crate) use with_activation;

/// Packs values in groups of four, padded with zeros to at least `channels`.
pub(crate) fn pack_fours(values: &[f32], channels: usize) -> Vec<[f32; 4]> {
    let mut padded = values.to_vec();
    padded.resize(channels.max(values.len()).next_multiple_of(4), 0.0);
    padded.as_chunks().0.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i16_scale_needs_a_finite_range_from_zero() {
        let scale = |activation| PackedActivation::new(&activation, 8).i16_scale();
        let clamp = |min, max| Activation::Clamp { min, max };
        assert_eq!(scale(clamp(0.0, 6.0)), Some(6.0 / 32_767.0));
        assert_eq!(scale(clamp(-1.0, 6.0)), None);
        assert_eq!(scale(clamp(0.0, f32::INFINITY)), None);
        assert_eq!(scale(clamp(0.0, 0.0)), None);
        assert_eq!(scale(Activation::Linear), None);
        assert_eq!(scale(Activation::Prelu(vec![0.0; 8])), None);
    }

    #[test]
    fn prelu_has_a_slope_for_each_channel() {
        let packed = PackedActivation::new(&Activation::Prelu(vec![0.5, 2.0, 0.0, -1.0, 3.0]), 8);
        let values = F32x4::load(&[-2.0, -2.0, -2.0, -2.0]);
        let activate = |first| {
            with_activation!(&packed, |activation| {
                activation.for_channels(first)(values).to_array()
            })
        };
        assert_eq!(activate(0), [-1.0, -4.0, 0.0, 2.0]);
        assert_eq!(activate(4), [-6.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn clamp_limits_both_ends_and_linear_none() {
        let values = [-1.0, 0.5, 6.5, f32::MAX];
        let activate =
            |activation: &dyn Fn(F32x4) -> F32x4| activation(F32x4::load(&values)).to_array();
        let clamp = Clamp { min: 0.0, max: 6.0 };
        assert_eq!(activate(&clamp.for_channels(0)), [0.0, 0.5, 6.0, 6.0]);
        assert_eq!(activate(&Linear.for_channels(0)), values);
    }
}

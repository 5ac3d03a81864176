//! Bilinear upsampling to twice the height and width.

use crate::activation::{Activate, Activation, PackedActivation, with_activation};
use crate::operator::Operator;
use crate::shape::{Activations, Residual, Shape};
use crate::simd::F32x4;

/// Twice the height and width, bilinear, with pixel centres at halves and repeated edges, then an
/// activation.
///
/// A residual is added after the activation. It has all channels.
#[derive(Clone, Debug, PartialEq)]
pub struct Upsample {
    activation: PackedActivation,
    channels: usize,
}

impl Upsample {
    /// Returns the operator; `None` if the channels are not a multiple of 4.
    pub fn new(channels: usize, activation: &Activation) -> Option<Upsample> {
        let activation = PackedActivation::new(activation, channels);
        channels.is_multiple_of(4).then_some(Upsample { activation, channels })
    }
}

impl Operator for Upsample {
    fn name(&self) -> &'static str {
        "upsample"
    }

    fn output(&self, input: Shape) -> Option<Shape> {
        let fits = input.channels == self.channels;
        fits.then(|| Shape { height: 2 * input.height, width: 2 * input.width, ..input })
    }

    fn macs(&self, input: Shape) -> usize {
        // Two across and one down for each output, of which there are four.
        3 * 4 * input.len()
    }

    fn run(
        &self,
        input: Activations,
        shape: Shape,
        residual: Option<Residual>,
        output: &mut [f32],
    ) {
        let input = input.expect_f32();
        let Shape { height, width, channels } = shape;
        assert_eq!(channels, self.channels);
        assert_eq!((input.len(), output.len()), (shape.len(), 4 * shape.len()));
        assert!(residual.is_none_or(|residual| residual.values.len() == output.len()));
        let fours = channels / 4;
        let input = input.as_chunks::<4>().0;
        let output = output.as_chunks_mut::<4>().0;
        let residual = residual.map(|residual| residual.values.as_chunks::<4>().0);
        // The nearest pixel, and its neighbour on the other side, which counts a quarter.
        let near = |at: usize| at / 2;
        let far = |at: usize, size: usize| match at % 2 {
            0 => (at / 2).saturating_sub(1),
            _ => (at / 2 + 1).min(size - 1),
        };
        let quarters =
            |near: F32x4, far: F32x4| far.mul(F32x4::splat(0.25)).add(near.mul(F32x4::splat(0.75)));
        with_activation!(&self.activation, |activation| {
            for (index, output) in output.chunks_exact_mut(fours).enumerate() {
                let (row, column) = (index / (2 * width), index % (2 * width));
                let pixel =
                    |row: usize, column: usize| &input[(row * width + column) * fours..][..fours];
                let line = |row: usize| (pixel(row, near(column)), pixel(row, far(column, width)));
                let (upper, lower) = (line(near(row)), line(far(row, height)));
                for (four, output) in output.iter_mut().enumerate() {
                    let across = |(near, far): (&[[f32; 4]], &[[f32; 4]])| {
                        quarters(F32x4::load(&near[four]), F32x4::load(&far[four]))
                    };
                    let value = quarters(across(upper), across(lower));
                    let mut value = activation.for_channels(4 * four)(value);
                    if let Some(residual) = residual {
                        value = value.add(F32x4::load(&residual[index * fours + four]));
                    }
                    value.store(output);
                }
            }
        });
    }
}

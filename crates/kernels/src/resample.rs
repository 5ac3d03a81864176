//! Pictures made half or twice as large.

use super::Shape;
use super::activation::{Activate, Activation, Padded, with_activation};
use super::simd::F32x4;

/// The largest of each 2 × 2 pixels, by channel; a last odd row or column is left out.
///
/// # Panics
/// If the lengths don't fit, or the channels are not a multiple of 4.
pub fn max_pool(input: &[f32], shape: Shape, output: &mut [f32]) {
    let Shape { height, width, channels } = shape;
    let place = Shape { height: height / 2, width: width / 2, channels };
    assert!(channels.is_multiple_of(4));
    assert_eq!((input.len(), output.len()), (shape.len(), place.len()));
    let input = input.as_chunks::<4>().0;
    let output = output.as_chunks_mut::<4>().0;
    let fours = channels / 4;
    for row in 0..place.height {
        let upper = &input[2 * row * width * fours..][..width * fours];
        let lower = &input[(2 * row + 1) * width * fours..][..width * fours];
        let output = &mut output[row * place.width * fours..][..place.width * fours];
        let pairs = upper.chunks_exact(2 * fours).zip(lower.chunks_exact(2 * fours));
        for (output, (upper, lower)) in output.chunks_exact_mut(fours).zip(pairs) {
            for (four, output) in output.iter_mut().enumerate() {
                let of = |pair: &[[f32; 4]]| {
                    F32x4::load(&pair[four]).max(F32x4::load(&pair[fours + four]))
                };
                of(upper).max(of(lower)).store(output);
            }
        }
    }
}

/// Twice the height and width, bilinear, pixel centres at halves, the edge going on; then an
/// activation; then something is added.
#[derive(Clone, Debug, PartialEq)]
pub struct Upsample {
    activation: Padded,
    channels: usize,
}

impl Upsample {
    /// With an activation at its end; `None` if the channels are not a multiple of 4.
    pub fn new(channels: usize, activation: &Activation) -> Option<Upsample> {
        let activation = Padded::new(activation, channels);
        channels.is_multiple_of(4).then_some(Upsample { activation, channels })
    }

    /// The whole picture; `residual` has the output's shape.
    ///
    /// # Panics
    /// If the lengths don't fit.
    pub fn run(&self, input: &[f32], shape: Shape, residual: Option<&[f32]>, output: &mut [f32]) {
        let Shape { height, width, channels } = shape;
        assert_eq!(channels, self.channels);
        assert_eq!((input.len(), output.len()), (shape.len(), 4 * shape.len()));
        assert!(residual.is_none_or(|residual| residual.len() == output.len()));
        let fours = channels / 4;
        let input = input.as_chunks::<4>().0;
        let output = output.as_chunks_mut::<4>().0;
        let residual = residual.map(|residual| residual.as_chunks::<4>().0);
        // The nearest pixel, and its neighbour on the other side, which counts a quarter.
        let near = |at: usize| at / 2;
        let far = |at: usize, side: usize| match at % 2 {
            0 => (at / 2).saturating_sub(1),
            _ => (at / 2 + 1).min(side - 1),
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
                    let mut value = activation.four(4 * four)(value);
                    if let Some(residual) = residual {
                        value = value.add(F32x4::load(&residual[index * fours + four]));
                    }
                    value.store(output);
                }
            }
        });
    }
}

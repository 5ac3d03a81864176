//! Maximum pooling of 2 × 2 pixels.

use crate::operator::Operator;
use crate::shape::{Activations, Residual, Shape};
use crate::simd::F32x4;

/// The largest of each 2 × 2 pixels, by channel. A last odd row or column is left out.
///
/// It adds no residual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPool;

impl Operator for MaxPool {
    fn name(&self) -> &'static str {
        "max pool"
    }

    fn output(&self, input: Shape) -> Option<Shape> {
        let fits = input.channels.is_multiple_of(4);
        fits.then_some(Shape { height: input.height / 2, width: input.width / 2, ..input })
    }

    fn macs(&self, _: Shape) -> usize {
        0
    }

    fn run(
        &self,
        input: Activations,
        shape: Shape,
        residual: Option<Residual>,
        output: &mut [f32],
    ) {
        assert!(residual.is_none(), "cannot add a residual to a max pool");
        let input = input.expect_f32();
        let place = self.output(shape).expect("channels that are a multiple of 4");
        assert_eq!((input.len(), output.len()), (shape.len(), place.len()));
        let input = input.as_chunks::<4>().0;
        let output = output.as_chunks_mut::<4>().0;
        let (width, fours) = (shape.width, shape.channels / 4);
        for row in 0..place.height {
            let upper = &input[2 * row * width * fours..][..width * fours];
            let lower = &input[(2 * row + 1) * width * fours..][..width * fours];
            let output = &mut output[row * place.width * fours..][..place.width * fours];
            let pairs = upper.chunks_exact(2 * fours).zip(lower.chunks_exact(2 * fours));
            for (output, (upper, lower)) in output.chunks_exact_mut(fours).zip(pairs) {
                for (four, output) in output.iter_mut().enumerate() {
                    let max = |pair: &[[f32; 4]]| {
                        F32x4::load(&pair[four]).max(F32x4::load(&pair[fours + four]))
                    };
                    max(upper).max(max(lower)).store(output);
                }
            }
        }
    }
}

//! An operator: activations of one shape become those of another.

use crate::shape::{Activations, Residual, Shape};

/// A layer, or several fused ones.
///
/// An engine asks for [`output`](Operator::output) once, when it prepares a model, and calls
/// [`run`](Operator::run) for each input.
pub trait Operator: Send + Sync {
    /// Returns the names of its layers.
    fn name(&self) -> &'static str;

    /// Returns the output's shape; `None` if the operator does not fit the input's.
    fn output(&self, input: Shape) -> Option<Shape>;

    /// Returns the multiply-accumulates for an input that fits.
    fn macs(&self, input: Shape) -> usize;

    /// Returns true if it reads [`Activations::U8`], too.
    fn reads_u8(&self) -> bool {
        false
    }

    /// Computes the output, all of whose values are written. `shape` is the input's, and the residual,
    /// if any, has the output's height and width.
    ///
    /// # Panics
    /// If the lengths do not fit, or if the operator cannot read bytes or add a residual and is given
    /// some.
    fn run(&self, input: Activations, shape: Shape, residual: Option<Residual>, output: &mut [f32]);
}

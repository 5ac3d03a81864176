//! Pointwise convolution (1 × 1), which mixes the channels of each pixel, and the product with a matrix.

use crate::activation::Activation;
use crate::gemm::int8::Int8;
use crate::gemm::int16::Int16;
use crate::gemm::{NhwcOutput, PackedWeights, QuantiseBlocked};
use crate::layout::{BlockedRows, BlockedRowsMut, Element};
use crate::operator::Operator;
use crate::shape::{Activations, Residual, Shape};

/// The integers that activations and weights are quantised to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// 8 bits of weights, 7 of activations: about twice as fast as `Int16`.
    Int8,
    /// As many of 16 bits as fit an accumulator of 32.
    Int16,
}

/// A pointwise convolution.
///
/// A residual is added before the activation.
#[derive(Clone, Debug, PartialEq)]
pub struct Pointwise(Packed);

#[derive(Clone, Debug, PartialEq)]
enum Packed {
    Int8(PackedWeights<Int8>),
    Int16(PackedWeights<Int16>),
}

impl Pointwise {
    /// Packs weights `[outputs][inputs]` with one bias for each output.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub fn new(
        weights: &[f32],
        bias: &[f32],
        activation: &Activation,
        precision: Precision,
    ) -> Pointwise {
        Pointwise(match precision {
            Precision::Int8 => Packed::Int8(PackedWeights::new(weights, bias, activation)),
            Precision::Int16 => Packed::Int16(PackedWeights::new(weights, bias, activation)),
        })
    }

    /// Returns the convolution with outputs in integers of 16 bits, and the scale of these; `None` if the
    /// activation does not bound them.
    pub(crate) fn with_i16_outputs(&self) -> Option<(Pointwise, f32)> {
        Some(match &self.0 {
            Packed::Int8(weights) => {
                let (weights, scale) = weights.with_i16_outputs()?;
                (Pointwise(Packed::Int8(weights)), scale)
            }
            Packed::Int16(weights) => {
                let (weights, scale) = weights.with_i16_outputs()?;
                (Pointwise(Packed::Int16(weights)), scale)
            }
        })
    }

    /// Returns the number of input channels.
    pub fn inputs(&self) -> usize {
        match &self.0 {
            Packed::Int8(weights) => weights.inputs(),
            Packed::Int16(weights) => weights.inputs(),
        }
    }

    /// Returns the number of output channels.
    pub fn outputs(&self) -> usize {
        match &self.0 {
            Packed::Int8(weights) => weights.outputs(),
            Packed::Int16(weights) => weights.outputs(),
        }
    }

    /// Computes `[pixels][outputs]` from `[pixels][inputs]`.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub(crate) fn run_nhwc(&self, input: &[f32], residual: Option<Residual>, output: &mut [f32]) {
        let output = NhwcOutput { values: output, channels: self.outputs() };
        match &self.0 {
            Packed::Int8(weights) => weights.run(input, residual, output),
            Packed::Int16(weights) => weights.run(input, residual, output),
        }
    }

    /// Computes blocked rows.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub(crate) fn run_to_blocked(&self, input: &[f32], output: BlockedRowsMut<impl Element>) {
        match &self.0 {
            Packed::Int8(weights) => weights.run(input, None, output),
            Packed::Int16(weights) => weights.run(input, None, output),
        }
    }

    /// Computes pixels from a blocked row, whose 1 stands for `scale`.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub(crate) fn run_from_blocked<E: Element>(
        &self,
        rows: &BlockedRows<E>,
        scale: f32,
        residual: Option<Residual>,
        output: &mut [f32],
    ) where
        Int8: QuantiseBlocked<E>,
    {
        let output = NhwcOutput { values: output, channels: self.outputs() };
        match &self.0 {
            Packed::Int8(weights) => weights.run_blocked(rows, scale, residual, output),
            Packed::Int16(weights) => weights.run_blocked(rows, scale, residual, output),
        }
    }
}

impl Operator for Pointwise {
    fn name(&self) -> &'static str {
        "pointwise"
    }

    fn output(&self, input: Shape) -> Option<Shape> {
        let fits = input.channels == self.inputs();
        fits.then(|| Shape { channels: self.outputs(), ..input })
    }

    fn macs(&self, input: Shape) -> usize {
        input.len() * self.outputs()
    }

    fn run(&self, input: Activations, _: Shape, residual: Option<Residual>, output: &mut [f32]) {
        self.run_nhwc(input.expect_f32(), residual, output);
    }
}

/// The product of a row of values and a constant matrix: a pointwise convolution of one pixel.
#[derive(Clone, Debug, PartialEq)]
pub struct MatMul(Pointwise);

impl MatMul {
    /// Packs a matrix `[outputs][inputs]`.
    ///
    /// # Panics
    /// If the length is no multiple of the number of outputs.
    pub fn new(weights: &[f32], outputs: usize, precision: Precision) -> MatMul {
        let bias = vec![0.0; outputs];
        MatMul(Pointwise::new(weights, &bias, &Activation::Linear, precision))
    }
}

impl Operator for MatMul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn output(&self, input: Shape) -> Option<Shape> {
        self.0.output(input)
    }

    fn macs(&self, input: Shape) -> usize {
        self.0.macs(input)
    }

    fn run(
        &self,
        input: Activations,
        shape: Shape,
        residual: Option<Residual>,
        output: &mut [f32],
    ) {
        self.0.run(input, shape, residual, output);
    }
}

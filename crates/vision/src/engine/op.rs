//! A [kernel's operator](kernels::operator::Operator) for one input shape, by itself and as an operator of
//! tract.

use std::fmt;
use std::sync::Arc;

use kernels::operator::Operator;
use kernels::shape::{Activations, Residual, Shape};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;

/// An operator prepared for one input shape. Clones share it.
///
/// It reads `f32`, or `u8` if the operator does, and writes `f32`, both `[1, height, width, channels]` or,
/// as a layer of rows, `[1, channels]`. A second input is the residual.
#[derive(Clone)]
pub struct Layer {
    prepared: Arc<Prepared>,
    /// The output's shape as tract has it.
    output_dims: TVec<usize>,
}

/// A kernel's operator for one input shape. It knows nothing of tract, so that a
/// [plan](super::plan) can run it.
pub struct Prepared {
    operator: Arc<dyn Operator>,
    input: Shape,
    output: Shape,
}

impl Prepared {
    /// Returns the names of its layers.
    pub fn name(&self) -> &'static str {
        self.operator.name()
    }

    /// Returns the multiply-accumulates of one run.
    pub fn macs(&self) -> usize {
        self.operator.macs(self.input)
    }

    /// Returns the output for an input that fits, and what is added to it.
    pub fn run(&self, input: Activations, residual: Option<&[f32]>) -> Vec<f32> {
        let mut output = Vec::with_capacity(self.output.len());
        let place = &mut output.spare_capacity_mut()[..self.output.len()];
        // SAFETY: any bits are valid floats, and every operator writes all of its output without
        // reading it.
        let place = unsafe { &mut *(std::ptr::from_mut(place) as *mut [f32]) };
        self.run_into(input, residual, place);
        // SAFETY: all of it has been written.
        unsafe { output.set_len(self.output.len()) };
        output
    }

    fn run_into(&self, input: Activations, residual: Option<&[f32]>, output: &mut [f32]) {
        let channels = |values: &[f32]| values.len() / self.output.pixels();
        let residual = residual.map(|values| Residual { values, channels: channels(values) });
        self.operator.run(input, self.input, residual, output);
    }
}

impl Layer {
    /// Returns a layer for feature maps of a shape; `None` if the operator does not fit it.
    pub fn new(operator: Arc<dyn Operator>, input: Shape) -> Option<Layer> {
        Layer::prepare(operator, input, |output| {
            tvec!(1, output.height, output.width, output.channels)
        })
    }

    /// Returns a layer for rows `[1, inputs]`; `None` if the operator does not fit the length.
    pub fn rows(operator: Arc<dyn Operator>, inputs: usize) -> Option<Layer> {
        let input = Shape { height: 1, width: 1, channels: inputs };
        Layer::prepare(operator, input, |output| tvec!(1, output.channels))
    }

    fn prepare(
        operator: Arc<dyn Operator>,
        input: Shape,
        dims: fn(Shape) -> TVec<usize>,
    ) -> Option<Layer> {
        let output = operator.output(input)?;
        let output_dims = dims(output);
        let prepared = Arc::new(Prepared { operator, input, output });
        (!input.is_empty() && !output.is_empty()).then_some(Layer { prepared, output_dims })
    }

    /// Returns what remains of the layer without tract.
    pub fn prepared(&self) -> Arc<Prepared> {
        Arc::clone(&self.prepared)
    }

    /// Returns true if it reads `u8`, too.
    pub fn reads_u8(&self) -> bool {
        self.prepared.operator.reads_u8()
    }
}

impl fmt::Debug for Layer {
    // Without the weights.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Prepared { operator, input, output } = &*self.prepared;
        write!(f, "{} {input:?} to {output:?}", operator.name())
    }
}

impl PartialEq for Layer {
    fn eq(&self, other: &Layer) -> bool {
        Arc::ptr_eq(&self.prepared, &other.prepared)
    }
}

impl Eq for Layer {}

impl Op for Layer {
    fn name(&self) -> StaticName {
        self.prepared.name().into()
    }

    op_as_typed_op!();
}

impl EvalOp for Layer {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let plain = inputs
            .iter()
            .map(|input| input.try_as_plain_ram())
            .collect::<TractResult<TVec<_>>>()?;
        let activations = match plain[0].datum_type() {
            DatumType::U8 => Activations::U8(plain[0].as_slice()?),
            _ => Activations::F32(plain[0].as_slice()?),
        };
        let readable = matches!(activations, Activations::F32(_)) || self.reads_u8();
        ensure!(
            activations.len() == self.prepared.input.len() && readable,
            "{self:?} cannot read {:?}: another shape or type",
            inputs[0]
        );
        let residual = plain.get(1).map(|residual| residual.as_slice()).transpose()?;
        // SAFETY: any bits are valid floats, and every operator writes all of its output.
        let mut result = unsafe { Tensor::uninitialized::<f32>(&self.output_dims)? };
        let mut plain = result.try_as_plain_ram_mut()?;
        self.prepared.run_into(activations, residual, plain.as_slice_mut()?);
        Ok(tvec!(result.into_tvalue()))
    }
}

impl TypedOp for Layer {
    as_op!();

    fn output_facts(&self, _: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::fact(&self.output_dims)))
    }

    /// Returns the multiply-accumulates.
    fn cost(&self, _: &[&TypedFact]) -> TractResult<TVec<(Cost, TDim)>> {
        Ok(tvec!((Cost::FMA(f32::datum_type()), self.prepared.macs().to_dim())))
    }
}

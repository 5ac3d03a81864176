//! A [kernel's operator](kernels::operator::Operator) as an operator of tract.

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
pub struct Layer(Arc<Prepared>);

struct Prepared {
    operator: Arc<dyn Operator>,
    input: Shape,
    output: Shape,
    /// The output's shape as tract has it.
    output_dims: TVec<usize>,
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
        (!input.is_empty() && !output.is_empty())
            .then(|| Layer(Arc::new(Prepared { operator, input, output, output_dims })))
    }

    /// Returns true if it reads `u8`, too.
    pub fn reads_u8(&self) -> bool {
        self.0.operator.reads_u8()
    }
}

impl fmt::Debug for Layer {
    // Without the weights.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} to {:?}", self.0.operator.name(), self.0.input, self.0.output)
    }
}

impl PartialEq for Layer {
    fn eq(&self, other: &Layer) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Layer {}

impl Op for Layer {
    fn name(&self) -> StaticName {
        self.0.operator.name().into()
    }

    op_as_typed_op!();
}

impl EvalOp for Layer {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let Prepared { operator, input, output, output_dims } = &*self.0;
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
            activations.len() == input.len() && readable,
            "{self:?} cannot read {:?}: another shape or type",
            inputs[0]
        );
        let residual = plain.get(1).map(|residual| residual.as_slice::<f32>()).transpose()?;
        let residual =
            residual.map(|values| Residual { values, channels: values.len() / output.pixels() });
        // SAFETY: any bits are valid floats, and every operator writes all of its output.
        let mut result = unsafe { Tensor::uninitialized::<f32>(output_dims)? };
        let mut plain = result.try_as_plain_ram_mut()?;
        operator.run(activations, *input, residual, plain.as_slice_mut::<f32>()?);
        Ok(tvec!(result.into_tvalue()))
    }
}

impl TypedOp for Layer {
    as_op!();

    fn output_facts(&self, _: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::fact(&self.0.output_dims)))
    }

    /// Returns the multiply-accumulates.
    fn cost(&self, _: &[&TypedFact]) -> TractResult<TVec<(Cost, TDim)>> {
        let macs = self.0.operator.macs(self.0.input);
        Ok(tvec!((Cost::FMA(f32::datum_type()), macs.to_dim())))
    }
}

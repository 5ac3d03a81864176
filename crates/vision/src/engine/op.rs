//! The [kernels](kernels) as an operator of tract.

use std::fmt;
use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;

use kernels::block::Block;
use kernels::pointwise::{Pointwise, Residual};
use kernels::resample::{Upsample, max_pool};
use kernels::window::Windowed;
use kernels::{Numbers, Shape};

/// What a layer does.
#[derive(PartialEq)]
pub enum Kernel {
    /// Mixes the channels of each pixel. A second input is added before the activation.
    Pointwise(Pointwise),
    /// One row of numbers, `[1, inputs]`, times a matrix.
    Matrix(Pointwise),
    /// Mixes a window's pixels and channels.
    Window(Windowed),
    /// A window over each channel by itself, with the layers before and after it. A second input is
    /// added as in the pointwise one.
    Block(Box<Block>),
    /// The largest of each 2 × 2 pixels.
    MaxPool,
    /// Twice the height and width. A second input is added after the activation.
    Upsample(Upsample),
}

/// One layer: a picture, channels last, becomes another. Both have the shape `[1, height, width,
/// channels]` (a matrix's rows have `[1, channels]`) and are `f32`; some can read `u8`, too.
#[derive(Clone)]
pub struct Layer(Arc<Plan>);

struct Plan {
    kernel: Arc<Kernel>,
    input: Shape,
    output: Shape,
}

impl Layer {
    /// A layer for pictures of one shape; `None` if the kernel doesn't fit it.
    pub fn new(kernel: Arc<Kernel>, input: Shape) -> Option<Layer> {
        let fits = |channels: usize| (channels == input.channels).then_some(());
        let output = match &*kernel {
            Kernel::Pointwise(kernel) | Kernel::Matrix(kernel) => {
                fits(kernel.inputs())?;
                Shape { channels: kernel.outputs(), ..input }
            }
            Kernel::Window(kernel) => {
                fits(kernel.channels())?;
                kernel.window().output(input, kernel.outputs())?
            }
            Kernel::Block(kernel) => kernel.output(input)?,
            Kernel::MaxPool => {
                input.channels.is_multiple_of(4).then_some(())?;
                Shape { height: input.height / 2, width: input.width / 2, ..input }
            }
            Kernel::Upsample(_) => {
                Shape { height: 2 * input.height, width: 2 * input.width, ..input }
            }
        };
        (!input.is_empty() && !output.is_empty())
            .then(|| Layer(Arc::new(Plan { kernel, input, output })))
    }

    /// Whether it can read a picture of 8 bits.
    pub fn reads_bytes(&self) -> bool {
        match &*self.0.kernel {
            Kernel::Window(_) => true,
            Kernel::Block(kernel) => kernel.reads_bytes(),
            _ => false,
        }
    }
}

impl Plan {
    /// The shape of the output.
    fn shape(&self) -> TVec<usize> {
        let Shape { height, width, channels } = self.output;
        match &*self.kernel {
            Kernel::Matrix(_) => tvec!(1, channels),
            _ => tvec!(1, height, width, channels),
        }
    }
}

impl fmt::Debug for Layer {
    // Without the weights.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} to {:?}", self.name(), self.0.input, self.0.output)
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
        match &*self.0.kernel {
            Kernel::Pointwise(_) => "pointwise",
            Kernel::Matrix(_) => "matrix",
            Kernel::Window(_) => "window",
            Kernel::Block(kernel) => kernel.name(),
            Kernel::MaxPool => "max pool",
            Kernel::Upsample(_) => "upsample",
        }
        .into()
    }

    op_as_typed_op!();
}

impl EvalOp for Layer {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let Plan { kernel, input, output } = &*self.0;
        let plain = inputs
            .iter()
            .map(|input| input.try_as_plain_ram())
            .collect::<TractResult<TVec<_>>>()?;
        let numbers = match plain[0].datum_type() {
            DatumType::U8 => Numbers::Bytes(plain[0].as_slice()?),
            _ => Numbers::Floats(plain[0].as_slice()?),
        };
        let fits = numbers.len() == input.len();
        let readable = matches!(numbers, Numbers::Floats(_)) || self.reads_bytes();
        ensure!(fits && readable, "{self:?} got {:?}", inputs[0]);
        let second = plain.get(1).map(|second| second.as_slice::<f32>()).transpose()?;
        // SAFETY: any bits are valid floats, and every kernel writes all of its output.
        let mut result = unsafe { Tensor::uninitialized::<f32>(&self.0.shape())? };
        let mut plain = result.try_as_plain_ram_mut()?;
        let out = plain.as_slice_mut::<f32>()?;
        let residual =
            second.map(|numbers| Residual { numbers, channels: numbers.len() / output.pixels() });
        match &**kernel {
            Kernel::Pointwise(kernel) | Kernel::Matrix(kernel) => {
                kernel.run(numbers.floats(), residual, out);
            }
            Kernel::Window(kernel) => kernel.run(numbers, *input, out),
            Kernel::Block(kernel) => kernel.run(numbers, *input, residual, out),
            Kernel::MaxPool => max_pool(numbers.floats(), *input, out),
            Kernel::Upsample(kernel) => kernel.run(numbers.floats(), *input, second, out),
        }
        Ok(tvec!(result.into_tvalue()))
    }
}

impl TypedOp for Layer {
    as_op!();

    fn output_facts(&self, _: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::fact(self.0.shape())))
    }

    /// Multiplications with an addition each.
    fn cost(&self, _: &[&TypedFact]) -> TractResult<TVec<(Cost, TDim)>> {
        let Plan { kernel, input, output } = &*self.0;
        let count = match &**kernel {
            Kernel::Pointwise(kernel) | Kernel::Matrix(kernel) => kernel.inputs() * output.len(),
            Kernel::Window(kernel) => kernel.multiply_adds() * output.len(),
            Kernel::Block(kernel) => kernel.multiply_adds(*input),
            Kernel::MaxPool => 0,
            Kernel::Upsample(_) => 3 * output.len(),
        };
        Ok(tvec!((Cost::FMA(f32::datum_type()), count.to_dim())))
    }
}

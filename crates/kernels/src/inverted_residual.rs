//! MobileNetV2's inverted residual as one operator: expand, depthwise, project.
//!
//! A depthwise convolution is fused with the layer before it, with the pointwise one after it, or with
//! both, and computed row by row: what is between them is never in memory as a whole. For a model's large
//! inputs that would be megabytes, which no cache near the core holds, and which a new instance has to get
//! from its host page by page. For small inputs so many rows are computed together that their pixels are
//! whole tiles.
//!
//! Measured: `docs/benchmarks.md#kernels-inverted-residual`.

use std::ops::Range;

use crate::conv2d::Conv2d;
use crate::depthwise::{
    Depthwise, DepthwiseKernel, Epilogue, F32Epilogue, I16Epilogue, RowOutput, RowStream,
};
use crate::gemm::QuantiseBlocked;
use crate::gemm::int8::Int8;
use crate::layout::{BlockedRowsMut, Element};
use crate::operator::Operator;
use crate::pointwise::Pointwise;
use crate::shape::{Activations, ConvGeometry, Residual, Shape};

/// The layer that computes the depthwise convolution's input.
#[derive(Clone, Debug, PartialEq)]
pub enum Expand {
    /// No layer: the depthwise convolution reads the operator's input.
    None,
    /// A pointwise convolution to more channels.
    Pointwise(Pointwise),
    /// A model's first layer.
    Conv2d(Conv2d),
}

/// Expand, depthwise, project.
///
/// A residual is added to the projection, before its activation.
#[derive(Clone, Debug, PartialEq)]
pub struct InvertedResidual {
    expand: Expand,
    depthwise: DepthwiseStage,
    /// A pointwise convolution to fewer channels.
    project: Option<Pointwise>,
}

/// The depthwise convolution in the element type that it reads and writes.
#[derive(Clone, Debug, PartialEq)]
enum DepthwiseStage {
    F32(DepthwiseKernel<f32, F32Epilogue>),
    I16(DepthwiseKernel<i16, I16Epilogue>),
}

impl DepthwiseStage {
    fn geometry(&self) -> ConvGeometry {
        match self {
            DepthwiseStage::F32(kernel) => kernel.geometry(),
            DepthwiseStage::I16(kernel) => kernel.geometry(),
        }
    }

    fn channels(&self) -> usize {
        match self {
            DepthwiseStage::F32(kernel) => kernel.channels(),
            DepthwiseStage::I16(kernel) => kernel.channels(),
        }
    }
}

impl InvertedResidual {
    /// Fuses layers; `None` if their channels do not fit.
    pub fn new(
        expand: Expand,
        depthwise: Depthwise,
        project: Option<Pointwise>,
    ) -> Option<InvertedResidual> {
        let channels = depthwise.channels();
        let expanded = match &expand {
            Expand::None => channels,
            Expand::Pointwise(layer) => layer.outputs(),
            Expand::Conv2d(layer) => layer.outputs(),
        };
        let projected = project.as_ref().map_or(channels, Pointwise::inputs);
        if expanded != channels || projected != channels {
            return None;
        }
        let (expand, depthwise) = match expand.to_i16(&depthwise) {
            Some((expand, kernel)) => (expand, DepthwiseStage::I16(kernel)),
            None => (expand, DepthwiseStage::F32(depthwise.into_f32())),
        };
        Some(InvertedResidual { expand, depthwise, project })
    }

    /// Returns the shape of the depthwise convolution's input; `None` if the operator does not fit its
    /// own.
    fn expanded(&self, input: Shape) -> Option<Shape> {
        match &self.expand {
            Expand::None => (input.channels == self.depthwise.channels()).then_some(input),
            Expand::Pointwise(layer) => layer.output(input),
            Expand::Conv2d(layer) => layer.output(input),
        }
    }

    fn run_as<E: Element, P: Epilogue<E>>(
        &self,
        depthwise: &DepthwiseKernel<E, P>,
        input: Activations,
        shape: Shape,
        residual: Option<Residual>,
        output: &mut [f32],
    ) where
        Int8: QuantiseBlocked<E>,
    {
        assert_eq!(input.len(), shape.len());
        let expanded = self.expanded(shape).expect("an input that fits");
        let stream = depthwise.stream(expanded);
        let length = shape.width * shape.channels;
        match &self.expand {
            Expand::None => {
                let input = input.expect_f32();
                let copy = |rows: Range<usize>, mut to: BlockedRowsMut<E>| {
                    let pixels = &input[rows.start * length..rows.end * length];
                    to.copy_from_nhwc(pixels, shape.channels);
                };
                self.run_rows(stream, copy, residual, output);
            }
            Expand::Pointwise(layer) => {
                let input = input.expect_f32();
                let expand = |rows: Range<usize>, to: BlockedRowsMut<E>| {
                    layer.run_to_blocked(&input[rows.start * length..rows.end * length], to);
                };
                self.run_rows(stream, expand, residual, output);
            }
            Expand::Conv2d(layer) => {
                let input = layer.quantise(input, shape);
                let convolve = |rows: Range<usize>, mut to: BlockedRowsMut<E>| {
                    for (place, row) in rows.enumerate() {
                        layer.run_row(&input, row, to.row(place));
                    }
                };
                self.run_rows(stream, convolve, residual, output);
            }
        }
    }

    /// Computes the output, with a function that computes rows of the depthwise convolution's input.
    fn run_rows<E: Element, P: Epilogue<E>>(
        &self,
        mut stream: RowStream<E, P>,
        mut expand: impl FnMut(Range<usize>, BlockedRowsMut<E>),
        residual: Option<Residual>,
        output: &mut [f32],
    ) where
        Int8: QuantiseBlocked<E>,
    {
        let pixels = stream.pixels();
        let Some(project) = &self.project else {
            assert!(residual.is_none(), "cannot add a residual without a projection");
            for output in output.chunks_mut(pixels * self.depthwise.channels()) {
                stream.next(&mut expand, RowOutput::Nhwc(output));
            }
            return;
        };
        let (mut blocked, scale) = (stream.blocked_row(), stream.scale());
        for (index, output) in output.chunks_mut(pixels * project.outputs()).enumerate() {
            stream.next(&mut expand, RowOutput::Blocked(&mut blocked));
            let residual = residual.map(|residual| residual.skip(index * pixels));
            project.run_from_blocked(&blocked, scale, residual, output);
        }
    }
}

impl Operator for InvertedResidual {
    fn name(&self) -> &'static str {
        match (&self.expand, &self.project) {
            (Expand::None, None) => "depthwise",
            (Expand::None, Some(_)) => "depthwise, pointwise",
            (Expand::Pointwise(_), None) => "pointwise, depthwise",
            (Expand::Pointwise(_), Some(_)) => "pointwise, depthwise, pointwise",
            (Expand::Conv2d(_), None) => "conv2d, depthwise",
            (Expand::Conv2d(_), Some(_)) => "conv2d, depthwise, pointwise",
        }
    }

    fn output(&self, input: Shape) -> Option<Shape> {
        let channels = self.depthwise.channels();
        let channels = self.project.as_ref().map_or(channels, Pointwise::outputs);
        self.depthwise.geometry().output(self.expanded(input)?, channels)
    }

    fn macs(&self, input: Shape) -> usize {
        let (Some(expanded), Some(output)) = (self.expanded(input), self.output(input)) else {
            return 0;
        };
        let expand = match &self.expand {
            Expand::None => 0,
            Expand::Pointwise(layer) => layer.macs(input),
            Expand::Conv2d(layer) => layer.macs(input),
        };
        let taps = self.depthwise.geometry().kernel_size.pow(2);
        let depthwise = taps * output.pixels() * expanded.channels;
        let project = self.project.as_ref().map_or(0, |layer| layer.inputs() * output.len());
        expand + depthwise + project
    }

    fn reads_u8(&self) -> bool {
        matches!(self.expand, Expand::Conv2d(_))
    }

    fn run(
        &self,
        input: Activations,
        shape: Shape,
        residual: Option<Residual>,
        output: &mut [f32],
    ) {
        match &self.depthwise {
            DepthwiseStage::F32(kernel) => self.run_as(kernel, input, shape, residual, output),
            DepthwiseStage::I16(kernel) => self.run_as(kernel, input, shape, residual, output),
        }
    }
}

impl Expand {
    /// Returns the layer with outputs in integers of 16 bits, and the depthwise convolution of these;
    /// `None` if the activations do not bound the values.
    fn to_i16(&self, depthwise: &Depthwise) -> Option<(Expand, DepthwiseKernel<i16, I16Epilogue>)> {
        let (expand, scale) = match self {
            Expand::None => return None,
            Expand::Pointwise(layer) => {
                let (layer, scale) = layer.with_i16_outputs()?;
                (Expand::Pointwise(layer), scale)
            }
            Expand::Conv2d(layer) => {
                let (layer, scale) = layer.with_i16_outputs()?;
                (Expand::Conv2d(layer), scale)
            }
        };
        Some((expand, depthwise.to_i16(scale)?))
    }
}

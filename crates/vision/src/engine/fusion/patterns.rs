//! The patterns: which nodes of a model become which operator.
//!
//! Each is a function of the matcher at the pattern's first node. It moves the cursor over every node
//! that it takes in, and refuses with a reason. ONNX names of the nodes stand in its description; `?`
//! marks an optional one. *Activation* stands for `Clip`, `Relu` or `PRelu`.

use kernels::activation::Activation;
use kernels::conv2d::Conv2d;
use kernels::depthwise::Depthwise;
use kernels::inverted_residual::{Expand, InvertedResidual};
use kernels::pointwise::{MatMul, Pointwise, Precision};
use kernels::pool;
use kernels::resize::Upsample;
use kernels::shape::{ConvGeometry, Shape};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::array::{Pad, PadMode};
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::cnn::{Conv, KernelFormat, MaxPool, PaddingSpec, PoolSpec};
use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_core::ops::logic::{CompGT, Iff};
use tract_onnx::tract_core::ops::math::{Add, Max, Min, Mul};
use tract_onnx::tract_core::ops::nn::{CoordTransformer, DataFormat, Interpolator, Resize};

use super::matcher::{Fused, FusedLayer, Layout, Matched, Matcher, Refusal};

/// Most input channels of a full convolution: im2col copies each pixel once for every tap that covers
/// it. No model here has one with more.
const MAX_IM2COL_CHANNELS: usize = 16;

/// A part that is not there.
const ABSENT: Refusal = "another operator than expected";

/// Fuses the chain that begins at the cursor; `None` if no pattern begins with that operator.
pub fn fuse(m: &mut Matcher) -> Option<Matched<Fused>> {
    let op = &m.node().op;
    let channels_last = |layers| Fused { layers, layout: Layout::ChannelsLast };
    if op.is::<Conv>() {
        Some(convolution(m).map(|layer| channels_last(vec![layer])))
    } else if op.is::<MaxPool>() {
        Some(max_pool(m).map(|layer| channels_last(vec![layer])))
    } else if op.name() == "Resize" {
        Some(upsampling(m).map(|layers| channels_last(layers.into())))
    } else if op.is::<EinSum>() {
        Some(matrix(m).map(|layer| Fused { layers: vec![layer], layout: Layout::Unchanged }))
    } else {
        None
    }
}

/// `Conv` with what belongs to it: alone, or as an inverted residual around a depthwise one.
fn convolution(m: &mut Matcher) -> Matched<FusedLayer> {
    let Single { input, shape, convolution, residual } = single(m)?;
    let (expand, depthwise) = match convolution {
        Convolution::Depthwise(depthwise) => (Expand::None, depthwise),
        Convolution::Pointwise(operator) => {
            // A residual is added to a projection, never to an expansion.
            let next = if residual.is_none() { m.attempt(next_depthwise) } else { None };
            match next {
                Some(depthwise) => (Expand::Pointwise(operator), depthwise),
                None => return Ok(FusedLayer::new(m.layer(operator, shape)?, input, residual)),
            }
        }
        Convolution::Full(operator) => match m.attempt(next_depthwise) {
            Some(depthwise) => (Expand::Conv2d(operator), depthwise),
            None => return Ok(FusedLayer::new(m.layer(operator, shape)?, input, None)),
        },
    };
    let (project, residual) = m.attempt(next_pointwise).unzip();
    let operator = InvertedResidual::new(expand, depthwise, project)
        .ok_or("an inverted residual whose channels do not fit")?;
    Ok(FusedLayer::new(m.layer(operator, shape)?, input, residual.flatten()))
}

/// A depthwise `Conv` that alone reads the chain's output, activation?
fn next_depthwise(m: &mut Matcher) -> Matched<Depthwise> {
    match next_single(m)?.convolution {
        Convolution::Depthwise(depthwise) => Ok(depthwise),
        _ => Err(ABSENT),
    }
}

/// `Conv` 1 × 1 that alone reads the chain's output, `Add`?, activation? Returns what is added, too.
fn next_pointwise(m: &mut Matcher) -> Matched<(Pointwise, Option<OutletId>)> {
    match next_single(m)? {
        Single { convolution: Convolution::Pointwise(pointwise), residual, .. } => {
            Ok((pointwise, residual))
        }
        _ => Err(ABSENT),
    }
}

/// The convolution that alone reads the chain's output, with what belongs to it.
fn next_single(m: &mut Matcher) -> Matched<Single> {
    m.advance(&[m.only_reader()?]);
    // It reads it as its input: weights and bias are constant.
    single(m)
}

/// A convolution that the kernels compute, with its activation.
struct Single {
    input: OutletId,
    shape: Shape,
    convolution: Convolution,
    /// Added before the activation.
    residual: Option<OutletId>,
}

enum Convolution {
    /// 1 × 1.
    Pointwise(Pointwise),
    /// Every channel by itself.
    Depthwise(Depthwise),
    /// Few input channels, any square kernel.
    Full(Conv2d),
}

/// `Conv` at the cursor, `Add`? (only after a 1 × 1 one), activation?
fn single(m: &mut Matcher) -> Matched<Single> {
    let conv = parameters(m)?;
    let shape = m.shape(conv.input)?;
    let pointwise = conv.is_pointwise();
    let residual = if pointwise { m.attempt(residual) } else { None };
    let activation = activation(m, conv.bias.len());
    let Parameters { input, group, geometry, weights, bias } = conv;
    let convolution = if pointwise {
        Convolution::Pointwise(Pointwise::new(&weights, &bias, &activation, m.precision()))
    } else if group == shape.channels && group == bias.len() {
        let depthwise = Depthwise::new(&weights, &bias, geometry, &activation);
        Convolution::Depthwise(depthwise.ok_or(
            "a depthwise convolution whose kernel is not 3 × 3 or 5 × 5, whose stride is not 1 or 2, \
             or whose channels are no multiple of 4",
        )?)
    } else if group != 1 {
        return Err("groups of several channels");
    } else if shape.channels > MAX_IM2COL_CHANNELS {
        return Err("more than 16 input channels of a full convolution");
    } else {
        let weights = channels_last(&weights, geometry, shape.channels);
        Convolution::Full(Conv2d::new(&weights, &bias, geometry, shape.channels, &activation))
    };
    Ok(Single { input, shape, convolution, residual })
}

/// Attributes and constants of a `Conv`.
struct Parameters {
    input: OutletId,
    group: usize,
    geometry: ConvGeometry,
    /// `[outputs][channels of the group][row][column]`.
    weights: Vec<f32>,
    /// One for each output channel.
    bias: Vec<f32>,
}

impl Parameters {
    fn is_pointwise(&self) -> bool {
        self.group == 1
            && self.geometry
                == ConvGeometry { kernel_size: 1, stride: 1, pad_before: 0, pad_after: 0 }
    }
}

/// Reads the `Conv` at the cursor.
fn parameters(m: &Matcher) -> Matched<Parameters> {
    let node = m.node();
    let conv: &Conv = m.op(node.id).ok_or(ABSENT)?;
    if conv.q_params.is_some() {
        return Err("a quantised convolution");
    }
    if conv.kernel_fmt != KernelFormat::OIHW {
        return Err("weights that are not in ONNX's order");
    }
    Ok(Parameters {
        input: node.inputs[0],
        group: conv.group,
        geometry: geometry(&conv.pool_spec)?,
        weights: m.constant(node.inputs[1])?,
        bias: m.by_channel(node.inputs[2], conv.pool_spec.output_channels)?,
    })
}

/// Geometry of a convolution or a pool over `[1, channels, height, width]`.
fn geometry(spec: &PoolSpec) -> Matched<ConvGeometry> {
    let square = |values: &[usize]| match *values {
        [rows, columns] if rows == columns => Ok(rows),
        _ => Err("a kernel, stride or padding that is not square"),
    };
    if spec.data_format != DataFormat::NCHW {
        return Err("channels that are not in ONNX's order");
    }
    if spec.dilations.as_ref().is_some_and(|dilations| dilations.iter().any(|by| *by != 1)) {
        return Err("a dilation");
    }
    let (pad_before, pad_after) = match &spec.padding {
        PaddingSpec::Explicit(before, after)
        | PaddingSpec::ExplicitOnnxPool(before, after, false) => (square(before)?, square(after)?),
        PaddingSpec::Valid => (0, 0),
        PaddingSpec::ExplicitOnnxPool(..) => return Err("an output size that is rounded up"),
        _ => return Err("padding that depends on the input's size"),
    };
    let stride = spec.strides.as_ref().map_or(Ok(1), |strides| square(strides))?;
    let kernel_size = square(&spec.kernel_shape)?;
    Ok(ConvGeometry { kernel_size, stride, pad_before, pad_after })
}

/// From `[outputs][channels][row][column]` to `[outputs][row][column][channels]`.
fn channels_last(weights: &[f32], geometry: ConvGeometry, channels: usize) -> Vec<f32> {
    let taps = geometry.kernel_size * geometry.kernel_size;
    let source = |i: usize| {
        let (output, tap, channel) = (i / channels / taps, i / channels % taps, i % channels);
        (output * channels + channel) * taps + tap
    };
    (0..weights.len()).map(|i| weights[source(i)]).collect()
}

/// `Add` of another feature map; if `Pad` widened that one by channels of zeros, the one before it.
fn residual(m: &mut Matcher) -> Matched<OutletId> {
    let other = addition(m)?;
    Ok(before_widening(m, other).unwrap_or(other))
}

/// `Add` of another feature map of the same shape.
fn addition(m: &mut Matcher) -> Matched<OutletId> {
    let add = m.only_reader()?;
    let other = m.other_input::<Add>(add)?;
    if m.shape(other)? != m.shape(m.output())? {
        return Err("feature maps of different shapes");
    }
    m.advance(&[add]);
    Ok(other)
}

/// `Pad`: returns its input if it only appends channels of zeros to whole blocks of channels.
fn before_widening(m: &Matcher, outlet: OutletId) -> Option<OutletId> {
    let pad: &Pad = m.op(outlet.node)?;
    let narrow = m.model().node(outlet.node).inputs[0];
    let zeros = matches!(&pad.mode, PadMode::Constant(value)
        if value.cast_to_scalar::<f32>().is_ok_and(|value| value == 0.0));
    let only_channels = matches!(pad.pads[..], [(0, 0), (0, _), (0, 0), (0, 0)]);
    let whole_blocks = m.shape(narrow).ok()?.channels.is_multiple_of(8);
    (zeros && only_channels && whole_blocks).then_some(narrow)
}

/// Activation?
fn activation(m: &mut Matcher, channels: usize) -> Activation {
    m.attempt(clamp).or_else(|| m.attempt(|m| prelu(m, channels))).unwrap_or(Activation::Linear)
}

/// `Clip` with a lower bound, or `Relu`: tract makes `max`, then `min`? of them.
fn clamp(m: &mut Matcher) -> Matched<Activation> {
    let max = m.only_reader()?;
    let lower = m.scalar(m.other_input::<Max>(max)?)?;
    m.advance(&[max]);
    let upper = m.attempt(|m| {
        let min = m.only_reader()?;
        let upper = m.scalar(m.other_input::<Min>(min)?)?;
        m.advance(&[min]);
        Ok(upper)
    });
    Ok(Activation::Clamp { min: lower, max: upper.unwrap_or(f32::INFINITY) })
}

/// `PRelu`: tract makes `if 0 > x then slope * x else x` of it.
fn prelu(m: &mut Matcher, channels: usize) -> Matched<Activation> {
    let readers = m.readers()?;
    let find = |wanted: &dyn Fn(usize) -> bool| readers.iter().copied().find(|n| wanted(*n));
    let multiply = find(&|node| m.other_input::<Mul>(node).is_ok()).ok_or(ABSENT)?;
    let choose = find(&|node| m.op::<Iff>(node).is_some()).ok_or(ABSENT)?;
    let &[condition, negative, _] = &m.model().node(choose).inputs[..] else {
        return Err(ABSENT);
    };
    let compare = condition.node;
    let is_below_zero = m.op::<TypedBinOp>(compare).is_some_and(|op| op.0.is::<CompGT>())
        && m.scalar(m.model().node(compare).inputs[0])? == 0.0;
    let read_once = |node: usize| {
        m.model().node(node).outputs[0].successors.len() == 1
            && !m.model().outputs.contains(&node.into())
    };
    // All three read the chain's output, each beside what is checked here.
    let is_prelu = readers.len() == 3
        && readers.contains(&compare)
        && is_below_zero
        && negative == OutletId::from(multiply)
        && read_once(multiply)
        && read_once(compare);
    if !is_prelu {
        return Err(ABSENT);
    }
    let slopes = m.by_channel(m.other_input::<Mul>(multiply)?, channels)?;
    m.advance(&[multiply, compare, choose]);
    Ok(Activation::Prelu(slopes))
}

/// `MaxPool` 2 × 2, stride 2, no padding.
fn max_pool(m: &mut Matcher) -> Matched<FusedLayer> {
    let node = m.node();
    let pool: &MaxPool = m.op(node.id).ok_or(ABSENT)?;
    if geometry(&pool.pool_spec)?
        != (ConvGeometry { kernel_size: 2, stride: 2, pad_before: 0, pad_after: 0 })
    {
        return Err("a pool other than 2 × 2 with stride 2 and no padding");
    }
    if pool.with_index_outputs.is_some() {
        return Err("a pool with indices");
    }
    let input = node.inputs[0];
    let layer = m.layer(pool::MaxPool, m.shape(input)?)?;
    Ok(FusedLayer::new(layer, input, None))
}

/// `Resize` (linear, half pixel, twice the size), `Conv` 1 × 1, activation?, `Add`?
///
/// The convolution goes first, over a quarter of the pixels: both are linear, and the weights of a
/// bilinear sample add up to 1, so that the bias stays as it is.
fn upsampling(m: &mut Matcher) -> Matched<[FusedLayer; 2]> {
    let node = m.node();
    let input = node.inputs[0];
    let resize = resize(m)?;
    let (from, to) = (m.shape(input)?, m.shape(m.output())?);
    if resize.coord_transformer != CoordTransformer::HalfPixel
        || resize.interpolator != Interpolator::Linear
    {
        return Err("resizing that is not linear with half-pixel centres");
    }
    if to != (Shape { height: 2 * from.height, width: 2 * from.width, ..from }) {
        return Err("resizing to another than twice the size");
    }
    m.advance(&[m.only_reader()?]);
    let conv = parameters(m).map_err(|_| "resizing that no 1 × 1 convolution follows")?;
    if !conv.is_pointwise() {
        return Err("resizing that no 1 × 1 convolution follows");
    }
    let outputs = conv.bias.len();
    let pointwise = Pointwise::new(&conv.weights, &conv.bias, &Activation::Linear, m.precision());
    let activation = activation(m, outputs);
    let residual = m.attempt(addition);
    let pointwise = m.layer(pointwise, from)?;
    let upsample =
        Upsample::new(outputs, &activation).ok_or("channels that are no multiple of 4")?;
    let upsample = m.layer(upsample, Shape { channels: outputs, ..from })?;
    Ok([
        FusedLayer::new(pointwise, input, None),
        FusedLayer { layer: upsample, input: None, residual },
    ])
}

/// `Resize` at the cursor, as tract's own operator: ONNX's becomes that where it has no special
/// options.
fn resize(m: &Matcher) -> Matched<Resize> {
    const OPTIONS: Refusal = "resizing with options that tract's own operator lacks";
    let node = m.node();
    let patch = node.op.declutter(m.model(), node).ok().flatten().ok_or(OPTIONS)?;
    let find = |node: &TypedNode| node.op.downcast_ref::<Resize>().cloned();
    patch.model.nodes().iter().find_map(find).ok_or(OPTIONS)
}

/// `MatMul` or `Gemm` without transposition: one row `[1, inputs]` times a constant matrix.
///
/// Always in int16: it is the end of a model.
fn matrix(m: &mut Matcher) -> Matched<FusedLayer> {
    const SHAPES: Refusal = "a product other than of one f32 row and a matrix";
    let node = m.node();
    let product: &EinSum = m.op(node.id).ok_or(ABSENT)?;
    let &[input, weights] = &node.inputs[..] else { return Err(SHAPES) };
    let fact = |outlet: OutletId| m.model().outlet_fact(outlet).map_err(|_| SHAPES);
    let plain = AxesMapping::for_numpy_matmul(2, false, false, false).map_err(|_| SHAPES)?;
    if product.axes != plain {
        return Err("a product of other axes, or with a transposed matrix");
    }
    if product.q_params.is_some() {
        return Err("a quantised product");
    }
    let (Some(&[1, inputs]), Some(&[_, outputs])) =
        (fact(input)?.shape.as_concrete(), fact(weights)?.shape.as_concrete())
    else {
        return Err(SHAPES);
    };
    if fact(input)?.datum_type != f32::datum_type() {
        return Err(SHAPES);
    }
    let weights = m.constant(weights)?;
    let by_output: Vec<f32> = (0..outputs)
        .flat_map(|output| weights.iter().skip(output).step_by(outputs).copied())
        .collect();
    let operator = MatMul::new(&by_output, outputs, Precision::Int16);
    Ok(FusedLayer::new(m.row_layer(operator, inputs)?, input, None))
}

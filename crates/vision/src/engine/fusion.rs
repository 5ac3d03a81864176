//! The rewrite of a model: what the [kernels](kernels) can do becomes their
//! [layers](super::op), channels last from one to the next; all else stays as it is.
//!
//! It works on the model as tract has read it, before tract's own optimiser: there every layer is
//! still a convolution followed by what belongs to it, channels first as in ONNX.

use std::collections::{HashMap, HashSet};

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::array::{Pad, PadMode};
use tract_onnx::tract_core::ops::binary::{BinMiniOp, TypedBinOp};
use tract_onnx::tract_core::ops::cast::Cast;
use tract_onnx::tract_core::ops::cnn::{Conv, KernelFormat, MaxPool, PaddingSpec, PoolSpec};
use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::ops::logic::{CompGT, Iff};
use tract_onnx::tract_core::ops::math::{Add, Max, Min, Mul};
use tract_onnx::tract_core::ops::nn::{CoordTransformer, DataFormat, Interpolator, Reduce, Resize};
use tract_onnx::tract_core::ops::source::TypedSource;

use kernels::activation::Activation;
use kernels::block::{Before, Block};
use kernels::depthwise::Depthwise;
use kernels::pointwise::{Pointwise, Precision};
use kernels::resample::Upsample;
use kernels::window::Windowed;
use kernels::{Shape, Window};
use super::op::{Kernel, Layer};

/// Windows over more channels than this are left to tract: each pixel is copied for every place of
/// the window that it is in. No model here has one.
const FEW_CHANNELS: usize = 16;

/// Kernels that there are already: what is made for several sizes of pictures has its weights once.
#[derive(Default)]
pub struct Kernels(Vec<Arc<Kernel>>);

impl Kernels {
    /// The one that there is already, if it is equal.
    fn shared(&mut self, kernel: Kernel) -> Arc<Kernel> {
        if let Some(known) = self.0.iter().find(|known| ***known == kernel) {
            return Arc::clone(known);
        }
        let kernel = Arc::new(kernel);
        self.0.push(Arc::clone(&kernel));
        kernel
    }
}

/// A model with layers in the place of what they can do; the pointwise ones are so fine.
///
/// # Errors
/// If the model is broken.
pub fn rewrite(
    model: &TypedModel,
    precision: Precision,
    kernels: &mut Kernels,
) -> TractResult<TypedModel> {
    let mut rewriter = Rewriter {
        source: model,
        target: TypedModel { symbols: model.symbols.clone(), ..TypedModel::default() },
        plain: HashMap::new(),
        last: HashMap::new(),
    };
    let order = model.eval_order()?;
    let mut taken: HashSet<usize> = HashSet::new();
    let mut layers: HashMap<usize, Vec<Step>> = HashMap::new();
    for &node in &order {
        let mut walk = Walk { model, precision, kernels, taken: &taken, nodes: vec![node] };
        if let Some(steps) = walk.layers() {
            let nodes = walk.nodes;
            layers.extend(nodes.last().map(|end| (*end, steps)));
            taken.extend(nodes);
        }
    }
    for node in order {
        match layers.remove(&node) {
            Some(steps) => rewriter.wire_layers(node, steps)?,
            None if taken.contains(&node) => {}
            None => rewriter.wire_node(node)?,
        }
    }
    let outputs = model
        .outputs
        .iter()
        .map(|outlet| rewriter.plain(*outlet))
        .collect::<TractResult<Vec<_>>>()?;
    rewriter.target.select_output_outlets(&outputs)?;
    pictures_as_they_are(&mut rewriter.target);
    Ok(rewriter.target)
}

/// Makes an input one of bytes, if only layers read it that can read these: its pictures need not become
/// floats only to become integers again.
fn pictures_as_they_are(model: &mut TypedModel) {
    for input in model.inputs.clone() {
        let readers = &model.node(input.node).outputs[input.slot].successors;
        let reads_bytes = |reader: &InletId| {
            let layer = model.node(reader.node).op_as::<Layer>();
            reader.slot == 0 && layer.is_some_and(Layer::reads_bytes)
        };
        if readers.is_empty() || !readers.iter().all(reads_bytes) || model.outputs.contains(&input)
        {
            continue;
        }
        let node = &mut model.nodes[input.node];
        let fact = u8::fact(node.outputs[input.slot].fact.shape.clone());
        node.op = Box::new(TypedSource::new(fact.clone()));
        node.outputs[input.slot].fact = fact;
    }
}

/// A layer to be wired: what it reads, apart from the layer before it, and what it does.
struct Step {
    layer: Layer,
    /// The first input; the layer before if there is none.
    input: Option<OutletId>,
    /// What is added.
    residual: Option<OutletId>,
}

/// A walk along nodes that become layers together, one after the other.
struct Walk<'a> {
    model: &'a TypedModel,
    precision: Precision,
    kernels: &'a mut Kernels,
    /// Nodes that are parts of other layers.
    taken: &'a HashSet<usize>,
    /// The last one's output is the layers' output.
    nodes: Vec<usize>,
}

impl Walk<'_> {
    /// The layers that begin with a node, if it is one that the kernels know.
    fn layers(&mut self) -> Option<Vec<Step>> {
        if self.taken.contains(&self.end()) {
            return None;
        }
        match &self.model.node(self.end()).op {
            op if op.is::<Conv>() => Some(vec![self.convolution()?]),
            op if op.is::<MaxPool>() => Some(vec![self.max_pool()?]),
            op if op.name() == "Resize" => self.upsampling(),
            _ => None,
        }
    }

    fn layer(&mut self, kernel: Kernel, input: Shape) -> Option<Layer> {
        Layer::new(self.kernels.shared(kernel), input)
    }

    fn end(&self) -> usize {
        *self.nodes.last().expect("a walk has a start")
    }

    fn op<O: TypedOp>(&self, node: usize) -> Option<&O> {
        self.model.node(node).op.downcast_ref()
    }

    /// The nodes that read the end's output, if nothing else does and none is taken.
    fn readers(&self) -> Vec<usize> {
        let end = self.model.node(self.end());
        if end.outputs.len() != 1 || self.model.outputs.contains(&end.id.into()) {
            return Vec::new();
        }
        let readers: Vec<usize> = end.outputs[0].successors.iter().map(|to| to.node).collect();
        if readers.iter().any(|reader| self.taken.contains(reader)) { Vec::new() } else { readers }
    }

    fn only_reader(&self) -> Option<usize> {
        match self.readers()[..] {
            [reader] => Some(reader),
            _ => None,
        }
    }

    /// The inputs of a binary operator of this kind: the end's output, and the other one.
    fn other_input<O: BinMiniOp>(&self, node: usize) -> Option<OutletId> {
        self.op::<TypedBinOp>(node)?.0.downcast_ref::<O>()?;
        let end = OutletId::from(self.end());
        match self.model.node(node).inputs[..] {
            [a, b] if a == end && b != end => Some(b),
            [a, b] if b == end && a != end => Some(a),
            _ => None,
        }
    }

    /// Height, width and channels of an outlet of the shape `[1, channels, height, width]`.
    fn shape(&self, outlet: OutletId) -> Option<Shape> {
        let fact = self.model.outlet_fact(outlet).ok()?;
        match fact.shape.as_concrete()? {
            &[1, channels, height, width] if fact.datum_type == f32::datum_type() => {
                Some(Shape { height, width, channels })
            }
            _ => None,
        }
    }

    fn scalar(&self, outlet: OutletId) -> Option<f32> {
        match constant(self.model, outlet)?[..] {
            [number] => Some(number),
            _ => None,
        }
    }

    /// A constant for each channel, or the same for all.
    fn by_channel(&self, outlet: OutletId, channels: usize) -> Option<Vec<f32>> {
        let numbers = constant(self.model, outlet)?;
        let shape = &self.model.outlet_fact(outlet).ok()?.shape;
        match shape.as_concrete()? {
            [] | [1] | [1, 1, 1, 1] => Some(vec![numbers[0]; channels]),
            &[count] | &[1, count, 1, 1] | &[count, 1, 1] if count == channels => Some(numbers),
            _ => None,
        }
    }

    /// The convolution at the end of the walk.
    fn parameters(&self) -> Option<Parameters> {
        let node = self.model.node(self.end());
        let conv = self.op::<Conv>(node.id)?;
        if conv.kernel_fmt != KernelFormat::OIHW || conv.q_params.is_some() {
            return None;
        }
        Some(Parameters {
            input: node.inputs[0],
            group: conv.group,
            window: window(&conv.pool_spec)?,
            weights: constant(self.model, node.inputs[1])?,
            bias: self.by_channel(node.inputs[2], conv.pool_spec.output_channels)?,
        })
    }

    /// A convolution with what follows it.
    fn convolution(&mut self) -> Option<Step> {
        let input = self.parameters()?.input;
        let shape = self.shape(input)?;
        let (convolution, mut residual) = self.single()?;
        let kernel = match convolution {
            Convolution::Depthwise(kernel) => self.block(Before::Nothing, kernel, &mut residual)?,
            Convolution::Pointwise(kernel) => match self.depthwise_after(residual.is_none()) {
                Some(next) => self.block(Before::Pointwise(kernel), next, &mut residual)?,
                None => Kernel::Pointwise(kernel),
            },
            Convolution::Window(kernel) => match self.depthwise_after(true) {
                Some(next) => self.block(Before::Window(kernel), next, &mut residual)?,
                None => Kernel::Window(kernel),
            },
        };
        Some(Step { layer: self.layer(kernel, shape)?, input: Some(input), residual })
    }

    /// A depthwise convolution with what is before it and the pointwise one after it.
    fn block(
        &mut self,
        before: Before,
        depthwise: Depthwise,
        residual: &mut Option<OutletId>,
    ) -> Option<Kernel> {
        let after = match self.following() {
            Some((Convolution::Pointwise(kernel), added, nodes)) => {
                *residual = added;
                self.nodes.extend(nodes);
                Some(kernel)
            }
            _ => None,
        };
        Some(Kernel::Block(Box::new(Block::new(before, depthwise, after)?)))
    }

    /// Walks over the depthwise convolution that follows, if it is wanted.
    fn depthwise_after(&mut self, wanted: bool) -> Option<Depthwise> {
        match wanted.then(|| self.following()).flatten()? {
            (Convolution::Depthwise(kernel), _, nodes) => {
                self.nodes.extend(nodes);
                Some(kernel)
            }
            _ => None,
        }
    }

    /// The convolution that alone reads the end's output; what is added to it; its nodes.
    fn following(&mut self) -> Option<(Convolution, Option<OutletId>, Vec<usize>)> {
        let input = OutletId::from(self.end());
        let nodes = vec![self.only_reader()?];
        let mut walk = Walk { nodes, kernels: self.kernels, ..*self };
        if walk.parameters()?.input != input {
            return None;
        }
        let (convolution, residual) = walk.single()?;
        Some((convolution, residual, walk.nodes))
    }

    /// The convolution at the end of the walk with its activation, and what is added to it.
    fn single(&mut self) -> Option<(Convolution, Option<OutletId>)> {
        let parameters = self.parameters()?;
        let Parameters { input, group, window, weights, bias } = &parameters;
        let channels = self.shape(*input)?.channels;
        let residual = if parameters.pointwise() { self.residual() } else { None };
        let activation = self.activation(bias.len());
        let convolution = if parameters.pointwise() {
            Convolution::Pointwise(Pointwise::new(weights, bias, &activation, self.precision))
        } else if *group == channels && *group == bias.len() {
            Convolution::Depthwise(Depthwise::new(weights, bias, *window, &activation)?)
        } else if *group == 1 && channels <= FEW_CHANNELS {
            let weights = channels_last(weights, *window, channels);
            Convolution::Window(Windowed::new(&weights, bias, *window, channels, &activation))
        } else {
            return None;
        };
        Some((convolution, residual))
    }

    /// Walks over an addition of another picture.
    fn addition(&mut self) -> Option<OutletId> {
        let reader = self.only_reader()?;
        let other = self.other_input::<Add>(reader)?;
        if self.shape(other)? != self.shape(self.end().into())? {
            return None;
        }
        self.nodes.push(reader);
        Some(other)
    }

    /// The same; if the other picture was widened by channels of zeros, what it was before.
    fn residual(&mut self) -> Option<OutletId> {
        let other = self.addition()?;
        let narrow = self.op::<Pad>(other.node).and_then(|pad| {
            let widened = self.model.node(other.node).inputs[0];
            let zeros = matches!(&pad.mode, PadMode::Constant(value)
                if value.cast_to_scalar::<f32>().is_ok_and(|value| value == 0.0));
            let only_channels = matches!(pad.pads[..], [(0, 0), (0, _), (0, 0), (0, 0)]);
            let whole = self.shape(widened)?.channels.is_multiple_of(8);
            (zeros && only_channels && whole).then_some(widened)
        });
        Some(narrow.unwrap_or(other))
    }

    /// Walks over an activation.
    fn activation(&mut self, channels: usize) -> Activation {
        self.clamp().or_else(|| self.slopes(channels)).unwrap_or(Activation::Linear)
    }

    /// A maximum, then a minimum.
    fn clamp(&mut self) -> Option<Activation> {
        let max = self.only_reader()?;
        let least = self.scalar(self.other_input::<Max>(max)?)?;
        self.nodes.push(max);
        let min = self.only_reader().and_then(|min| {
            let most = self.scalar(self.other_input::<Min>(min)?)?;
            self.nodes.push(min);
            Some(most)
        });
        Some(Activation::Clamp { least, most: min.unwrap_or(f32::INFINITY) })
    }

    /// `if 0 > x then slope * x else x`: what tract makes of PRelu.
    fn slopes(&mut self, channels: usize) -> Option<Activation> {
        let x = OutletId::from(self.end());
        let readers = self.readers();
        let find = |wanted: &dyn Fn(usize) -> bool| readers.iter().copied().find(|n| wanted(*n));
        let multiply = find(&|node| self.other_input::<Mul>(node).is_some())?;
        let choose = find(&|node| self.op::<Iff>(node).is_some())?;
        let &[condition, negative, other] = &self.model.node(choose).inputs[..] else {
            return None;
        };
        let below = condition.node;
        let compares = self.op::<TypedBinOp>(below)?.0.is::<CompGT>()
            && self.model.node(below).inputs.get(1) == Some(&x)
            && self.scalar(self.model.node(below).inputs[0])? == 0.0;
        let alone = |node: usize| self.model.node(node).outputs[0].successors.len() == 1;
        let fits = readers.len() == 3
            && readers.contains(&below)
            && compares
            && negative == OutletId::from(multiply)
            && other == x
            && alone(multiply)
            && alone(below);
        let slopes = self.by_channel(self.other_input::<Mul>(multiply)?, channels)?;
        if !fits {
            return None;
        }
        self.nodes.extend([multiply, below, choose]);
        Some(Activation::Slopes(slopes))
    }

    fn max_pool(&mut self) -> Option<Step> {
        let node = self.model.node(self.end());
        let pool = self.op::<MaxPool>(node.id)?;
        let halves = Window { side: 2, stride: 2, before: 0, after: 0 };
        if window(&pool.pool_spec)? != halves || pool.with_index_outputs.is_some() {
            return None;
        }
        let input = node.inputs[0];
        let layer = self.layer(Kernel::MaxPool, self.shape(input)?)?;
        Some(Step { layer, input: Some(input), residual: None })
    }

    /// Upsampling, then a pointwise convolution with its activation, then an addition. Both are
    /// linear and the weights of a bilinear sample add up to 1, so the convolution can come first,
    /// where it has a quarter of the pixels.
    fn upsampling(&mut self) -> Option<Vec<Step>> {
        let node = self.model.node(self.end());
        // tract's declutter makes its own operator of ONNX's, where that has no special options.
        let patch = node.op.declutter(self.model, node).ok()??;
        let resize =
            patch.model.nodes().iter().find_map(|node| node.op.downcast_ref::<Resize>())?;
        let input = node.inputs[0];
        let (from, to) = (self.shape(input)?, self.shape(node.id.into())?);
        if resize.coord_transformer != CoordTransformer::HalfPixel
            || resize.interpolator != Interpolator::Linear
            || to != (Shape { height: 2 * from.height, width: 2 * from.width, ..from })
        {
            return None;
        }
        self.nodes.push(self.only_reader()?);
        let parameters = self.parameters()?;
        if !parameters.pointwise() {
            return None;
        }
        let outputs = parameters.bias.len();
        let Parameters { weights, bias, .. } = &parameters;
        let kernel = Pointwise::new(weights, bias, &Activation::Linear, self.precision);
        let activation = self.activation(outputs);
        let residual = self.addition();
        let small = self.layer(Kernel::Pointwise(kernel), from)?;
        let upsample = Kernel::Upsample(Upsample::new(outputs, &activation)?);
        let upsample = self.layer(upsample, Shape { channels: outputs, ..from })?;
        Some(vec![
            Step { layer: small, input: Some(input), residual: None },
            Step { layer: upsample, input: None, residual },
        ])
    }
}

/// A convolution that the kernels can do.
enum Convolution {
    Pointwise(Pointwise),
    Window(Windowed),
    Depthwise(Depthwise),
}

/// What a convolution says of itself.
struct Parameters {
    input: OutletId,
    group: usize,
    window: Window,
    /// `[outputs][channels of the group][row][column]`.
    weights: Vec<f32>,
    bias: Vec<f32>,
}

impl Parameters {
    fn pointwise(&self) -> bool {
        self.group == 1 && self.window == Window { side: 1, stride: 1, before: 0, after: 0 }
    }
}

/// A constant's numbers, through casts.
fn constant(model: &TypedModel, outlet: OutletId) -> Option<Vec<f32>> {
    if let Some(tensor) = &model.outlet_fact(outlet).ok()?.konst {
        let tensor = tensor.cast_to::<f32>().ok()?;
        return Some(tensor.try_as_plain_ram().ok()?.as_slice::<f32>().ok()?.to_vec());
    }
    let node = model.node(outlet.node);
    node.op_as::<Cast>()?;
    constant(model, node.inputs[0])
}

/// The product of one row of numbers, `[1, inputs]`, and a constant matrix, if a node is that.
///
/// Always of 16 bits: it is the end of a model.
fn matrix(model: &TypedModel, node: &TypedNode) -> Option<Layer> {
    let product = node.op_as::<EinSum>()?;
    let plain = AxesMapping::for_numpy_matmul(2, false, false, false).ok()?;
    let &[input, weights] = &node.inputs[..] else { return None };
    let row = model.outlet_fact(input).ok()?;
    let (Some(&[1, inputs]), Some(&[_, outputs])) =
        (row.shape.as_concrete(), model.outlet_fact(weights).ok()?.shape.as_concrete())
    else {
        return None;
    };
    if product.axes != plain || product.q_params.is_some() || row.datum_type != f32::datum_type() {
        return None;
    }
    let weights = constant(model, weights)?;
    let by_output: Vec<f32> = (0..outputs)
        .flat_map(|output| weights.iter().skip(output).step_by(outputs).copied())
        .collect();
    let bias = vec![0.0; outputs];
    let kernel = Pointwise::new(&by_output, &bias, &Activation::Linear, Precision::Sixteen);
    let one = Shape { height: 1, width: 1, channels: inputs };
    Layer::new(Arc::new(Kernel::Matrix(kernel)), one)
}

/// From `[outputs][channels][row][column]` to `[outputs][row][column][channels]`.
fn channels_last(weights: &[f32], window: Window, channels: usize) -> Vec<f32> {
    let taps = window.side * window.side;
    let place = |i: usize| {
        let (output, tap, channel) = (i / channels / taps, i / channels % taps, i % channels);
        (output * channels + channel) * taps + tap
    };
    (0..weights.len()).map(|i| weights[place(i)]).collect()
}

/// The window of a convolution or a pool, if it is a square one over pictures, channels first.
fn window(spec: &PoolSpec) -> Option<Window> {
    let same = |numbers: &[usize]| match *numbers {
        [rows, columns] if rows == columns => Some(rows),
        _ => None,
    };
    let (before, after) = match &spec.padding {
        PaddingSpec::Explicit(before, after)
        | PaddingSpec::ExplicitOnnxPool(before, after, false) => (same(before)?, same(after)?),
        PaddingSpec::Valid => (0, 0),
        _ => return None,
    };
    if spec.data_format != DataFormat::NCHW
        || spec.dilations.as_ref().is_some_and(|dilations| dilations.iter().any(|by| *by != 1))
    {
        return None;
    }
    let stride = spec.strides.as_ref().map_or(Some(1), |strides| same(strides))?;
    Some(Window { side: same(&spec.kernel_shape)?, stride, before, after })
}

/// Where the source's outlets are in the target.
struct Rewriter<'a> {
    source: &'a TypedModel,
    target: TypedModel,
    /// As they were.
    plain: HashMap<OutletId, OutletId>,
    /// With the axis of the channels moved to the end.
    last: HashMap<OutletId, OutletId>,
}

impl Rewriter<'_> {
    /// An outlet as it was.
    fn plain(&mut self, outlet: OutletId) -> TractResult<OutletId> {
        if let Some(known) = self.plain.get(&outlet) {
            return Ok(*known);
        }
        let node = self.source.node(outlet.node);
        let wired = if let Some(constant) = node.op_as::<Const>() {
            self.target.add_const(&node.name, Arc::clone(constant.val()))?
        } else {
            let last = *self.last.get(&outlet).context("an outlet that is not wired yet")?;
            let name = format!("{}.{}.channels-first", node.name, outlet.slot);
            self.target.wire_node(name, AxisOp::Move(3, 1), &[last])?[0]
        };
        self.plain.insert(outlet, wired);
        Ok(wired)
    }

    /// An outlet with its channels last.
    fn last(&mut self, outlet: OutletId) -> TractResult<OutletId> {
        if let Some(known) = self.last.get(&outlet) {
            return Ok(*known);
        }
        let plain = self.plain(outlet)?;
        let name = format!("{}.{}.channels-last", self.source.node(outlet.node).name, outlet.slot);
        let wired = self.target.wire_node(name, AxisOp::Move(1, 3), &[plain])?[0];
        self.last.insert(outlet, wired);
        Ok(wired)
    }

    /// The layers in the place of a chain that ends with a node.
    fn wire_layers(&mut self, end: usize, steps: Vec<Step>) -> TractResult<()> {
        let name = &self.source.node(end).name;
        let mut before = None;
        for (index, step) in steps.into_iter().enumerate() {
            let mut inputs = tvec!();
            match (step.input, before) {
                (Some(input), _) => inputs.push(self.last(input)?),
                (None, Some(before)) => inputs.push(before),
                (None, None) => bail!("the first layer has no input"),
            }
            if let Some(residual) = step.residual {
                inputs.push(self.last(residual)?);
            }
            let name = format!("{name}.{index}");
            before = Some(self.target.wire_node(name, step.layer, &inputs)?[0]);
        }
        self.last.insert(end.into(), before.context("a chain without layers")?);
        Ok(())
    }

    /// A node that stays as it is; or that only moves the channels, or adds up whole pictures; or a
    /// matrix.
    fn wire_node(&mut self, id: usize) -> TractResult<()> {
        let node = self.source.node(id);
        if node.op_is::<Const>() {
            return Ok(());
        }
        if node.op_is::<TypedSource>() {
            let fact = node.outputs[0].fact.clone();
            let wired = self.target.add_source(&node.name, fact)?;
            self.plain.insert(id.into(), wired);
            return Ok(());
        }
        match node.op_as::<AxisOp>() {
            Some(AxisOp::Move(3, 1)) if node.outputs[0].fact.rank() == 4 => {
                let input = self.plain(node.inputs[0])?;
                self.last.insert(id.into(), input);
                return Ok(());
            }
            Some(AxisOp::Move(1, 3)) if self.last.contains_key(&node.inputs[0]) => {
                let input = self.last(node.inputs[0])?;
                self.plain.insert(id.into(), input);
                return Ok(());
            }
            _ => {}
        }
        if let Some(reduce) = node.op_as::<Reduce>()
            && reduce.axes[..] == [2, 3]
            && self.last.contains_key(&node.inputs[0])
        {
            let input = self.last(node.inputs[0])?;
            let reduce = Reduce { axes: tvec!(1, 2), ..reduce.clone() };
            let wired = self.target.wire_node(&node.name, reduce, &[input])?[0];
            self.last.insert(id.into(), wired);
            return Ok(());
        }
        if let Some(layer) = matrix(self.source, node) {
            let input = self.plain(node.inputs[0])?;
            let wired = self.target.wire_node(&node.name, layer, &[input])?[0];
            self.plain.insert(id.into(), wired);
            return Ok(());
        }
        let inputs = node
            .inputs
            .iter()
            .map(|outlet| self.plain(*outlet))
            .collect::<TractResult<TVec<_>>>()?;
        let wired = self.target.wire_node(&node.name, node.op.clone(), &inputs)?;
        for (slot, outlet) in wired.into_iter().enumerate() {
            self.plain.insert(OutletId::new(id, slot), outlet);
        }
        Ok(())
    }
}

//! A plan that runs without tract: a list of steps over values of fixed sizes.
//!
//! tract reads and optimises a model; where every operator that is left of it is one of [`Action`]'s, a
//! [`Plan`] is made of it and tract's graph is dropped. A component whose models are all plans keeps
//! nothing of tract. What moves no value in memory, such as a reshaping, is no step at all.
//!
//! # How to add an operator
//! 1. Add it to [`Action`] and to `Action::run`: plain loops over slices, which the compiler vectorises.
//!    What takes a good part of a model's time is a kernel instead: the crate `kernels`.
//! 2. Make it of tract's operator in `action`, which returns `None` for what it does not cover.
//! 3. Add a graph with it to the tests, which compare each plan with tract.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use kernels::shape::Activations;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::array::{Slice, TypedConcat};
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::identity::Identity;
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::ops::math::{Add, Max, Mul, Sqrt, Square, Sub};
use tract_onnx::tract_core::ops::nn::{Reduce, Reducer, Sigmoid, Softmax, SoftmaxKind};
use tract_onnx::tract_core::ops::source::TypedSource;

use super::op::{Layer, Prepared};
use super::{Input, OperatorTime, Runner};

/// A model as a list of steps.
pub struct Plan {
    constants: Vec<Vec<f32>>,
    steps: Vec<Step>,
    /// The model's outputs in order, each the output of a step.
    outputs: Vec<usize>,
}

/// An operator with its place in the plan. Its output's number is its own.
struct Step {
    action: Action,
    inputs: Vec<Source>,
    /// The steps whose outputs nobody reads after this one.
    last_read: Vec<usize>,
    /// True if nobody reads the model's input after this step.
    last_of_input: bool,
    /// The output's shape, for profiles.
    shape: Vec<usize>,
}

/// The place of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Source {
    Input,
    Constant(usize),
    Step(usize),
}

/// An operator over slices.
enum Action {
    /// A kernel. A second input is the residual.
    Layer(Arc<Prepared>),
    /// One value at a time.
    Unary(&'static str, fn(&mut [f32])),
    /// Two inputs of a length, or one of them a single value.
    Binary(&'static str, fn(Operand, Operand, &mut [f32])),
    /// The inputs' runs of these lengths, in turn.
    Concat(Vec<usize>),
    /// Of each run of `period` values those from `start` on, `length` of them.
    Slice { period: usize, start: usize, length: usize },
    /// Runs of `row` values, added up `rows` at a time.
    Sum { rows: usize, row: usize },
    /// Runs of this length, each to its probabilities.
    Softmax(usize),
}

/// An input of a binary operator.
#[derive(Clone, Copy)]
enum Operand<'a> {
    One(f32),
    Many(&'a [f32]),
}

impl Operand<'_> {
    fn of(values: &[f32]) -> Operand<'_> {
        match *values {
            [value] => Operand::One(value),
            _ => Operand::Many(values),
        }
    }
}

/// Writes `combine` of each pair of values.
#[inline(always)]
fn combine(a: Operand, b: Operand, output: &mut [f32], combine: impl Fn(f32, f32) -> f32) {
    use Operand::{Many, One};
    match (a, b) {
        (Many(a), Many(b)) => {
            for ((output, a), b) in output.iter_mut().zip(a).zip(b) {
                *output = combine(*a, *b);
            }
        }
        (Many(a), One(b)) => output.iter_mut().zip(a).for_each(|(o, a)| *o = combine(*a, b)),
        (One(a), Many(b)) => output.iter_mut().zip(b).for_each(|(o, b)| *o = combine(a, *b)),
        (One(a), One(b)) => output.fill(combine(a, b)),
    }
}

/// Replaces values by their probabilities.
fn softmax(values: &mut [f32]) {
    let max = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    values.iter_mut().for_each(|value| *value = (*value - max).exp());
    let sum: f32 = values.iter().sum();
    values.iter_mut().for_each(|value| *value /= sum);
}

impl Action {
    fn name(&self) -> &'static str {
        match self {
            Action::Layer(layer) => layer.name(),
            Action::Unary(name, _) | Action::Binary(name, _) => name,
            Action::Concat(_) => "Concat",
            Action::Slice { .. } => "Slice",
            Action::Sum { .. } => "Sum",
            Action::Softmax(_) => "Softmax",
        }
    }

    fn macs(&self) -> u64 {
        match self {
            Action::Layer(layer) => layer.macs() as u64,
            _ => 0,
        }
    }

    /// Returns the output, which has this length.
    fn run(&self, inputs: &[Activations], length: usize) -> Vec<f32> {
        let values = |index: usize| inputs[index].expect_f32();
        let mut output;
        match self {
            Action::Layer(layer) => {
                let residual = inputs.get(1).map(|residual| residual.expect_f32());
                return layer.run(inputs[0], residual);
            }
            Action::Unary(_, apply) => {
                output = values(0).to_vec();
                apply(&mut output);
            }
            Action::Binary(_, apply) => {
                output = vec![0.0; length];
                apply(Operand::of(values(0)), Operand::of(values(1)), &mut output);
            }
            Action::Concat(runs) => {
                output = Vec::with_capacity(length);
                let mut parts: Vec<&[f32]> = (0..inputs.len()).map(values).collect();
                while output.len() < length {
                    for (part, run) in parts.iter_mut().zip(runs) {
                        let (now, later) = part.split_at(*run);
                        output.extend_from_slice(now);
                        *part = later;
                    }
                }
            }
            Action::Slice { period, start, length: run } => {
                output = Vec::with_capacity(length);
                for values in values(0).chunks_exact(*period) {
                    output.extend_from_slice(&values[*start..*start + *run]);
                }
            }
            Action::Sum { rows, row } => {
                output = vec![0.0; length];
                let terms = values(0).chunks_exact(rows * row);
                for (sums, terms) in output.chunks_exact_mut(*row).zip(terms) {
                    for term in terms.chunks_exact(*row) {
                        sums.iter_mut().zip(term).for_each(|(sum, value)| *sum += value);
                    }
                }
            }
            Action::Softmax(row) => {
                output = values(0).to_vec();
                output.chunks_exact_mut(*row).for_each(softmax);
            }
        }
        output
    }
}

impl Plan {
    /// Returns the plan of an optimised model with one input; `None` if it has an operator that no
    /// [`Action`] stands for.
    ///
    /// # Errors
    /// If the model is broken.
    pub fn of(model: &TypedModel) -> TractResult<Option<Plan>> {
        let (constants, steps) = (Vec::new(), Vec::new());
        let mut builder = Builder { model, constants, steps, places: HashMap::new() };
        for id in model.eval_order()? {
            if builder.add(model.node(id))?.is_none() {
                return Ok(None);
            }
        }
        Ok(builder.finish())
    }

    /// Runs the steps, each by `run`.
    fn run_with(
        &self,
        input: Input,
        mut run: impl FnMut(&Step, &[Activations]) -> Vec<f32>,
    ) -> Vec<Vec<f32>> {
        let mut input = Some(input);
        let mut values: Vec<Vec<f32>> = vec![Vec::new(); self.steps.len()];
        for (number, step) in self.steps.iter().enumerate() {
            let read = |source: &Source| match (source, &input) {
                (Source::Constant(index), _) => Activations::F32(&self.constants[*index]),
                (Source::Step(number), _) => Activations::F32(&values[*number]),
                (Source::Input, Some(Input::Pixels(pixels))) => Activations::U8(pixels),
                (Source::Input, Some(Input::Values(values))) => Activations::F32(values),
                (Source::Input, None) => Activations::F32(&[]),
            };
            let inputs: Vec<Activations> = step.inputs.iter().map(read).collect();
            let output = run(step, &inputs);
            values[number] = output;
            if step.last_of_input {
                input = None;
            }
            step.last_read.iter().for_each(|number| values[*number] = Vec::new());
        }
        let output = |(index, number): (usize, &usize)| {
            let again = self.outputs[index + 1..].contains(number);
            if again { values[*number].clone() } else { std::mem::take(&mut values[*number]) }
        };
        self.outputs.iter().enumerate().map(output).collect()
    }
}

impl Runner for Plan {
    fn run(&self, input: Input) -> Result<Vec<Vec<f32>>, String> {
        Ok(self.run_with(input, Step::run))
    }

    fn profile(&self, input: Input) -> Result<Vec<OperatorTime>, String> {
        let mut times = Vec::with_capacity(self.steps.len());
        self.run_with(input, |step, inputs| {
            let start = Instant::now();
            let output = step.run(inputs);
            times.push(OperatorTime {
                name: step.action.name().to_owned(),
                output: step.shape.clone(),
                macs: step.action.macs(),
                time: start.elapsed(),
            });
            output
        });
        Ok(times)
    }
}

impl Step {
    /// Returns the output.
    fn run(&self, inputs: &[Activations]) -> Vec<f32> {
        self.action.run(inputs, self.shape.iter().product())
    }
}

/// A plan that is being made.
struct Builder<'a> {
    model: &'a TypedModel,
    constants: Vec<Vec<f32>>,
    steps: Vec<Step>,
    /// Where the outlets of tract's nodes are.
    places: HashMap<OutletId, Source>,
}

impl<'a> Builder<'a> {
    /// Adds a node; `None` if no action stands for it.
    fn add(&mut self, node: &TypedNode) -> TractResult<Option<()>> {
        let [output] = &node.outputs[..] else { return Ok(None) };
        let outlet = OutletId::from(node.id);
        let place = if node.op_is::<TypedSource>() {
            Source::Input
        } else if let Some(constant) = node.op_as::<Const>() {
            if constant.val().datum_type() != f32::datum_type() {
                return Ok(None);
            }
            self.constants.push(constant.val().try_as_plain_ram()?.as_slice()?.to_vec());
            Source::Constant(self.constants.len() - 1)
        } else {
            let inputs: Option<Vec<Source>> =
                node.inputs.iter().map(|input| self.places.get(input).copied()).collect();
            let Some(inputs) = inputs else { return Ok(None) };
            let facts = self.model.node_input_facts(node.id)?;
            let (Some(shapes), Some(shape)) = (
                facts.iter().map(|fact| fixed(fact)).collect::<Option<Vec<_>>>(),
                fixed(&output.fact),
            ) else {
                return Ok(None);
            };
            let floats = |fact: &TypedFact| fact.datum_type == f32::datum_type();
            if !floats(&output.fact) {
                return Ok(None);
            }
            if let Some(layer) = node.op_as::<Layer>() {
                self.step(Action::Layer(layer.prepared()), inputs, shape)
            } else if !facts.iter().all(|fact| floats(fact)) {
                return Ok(None);
            } else if moves_nothing(node, shapes[0]) {
                inputs[0]
            } else {
                match action(node, &shapes, shape) {
                    Some(action) => self.step(action, inputs, shape),
                    None => return Ok(None),
                }
            }
        };
        self.places.insert(outlet, place);
        Ok(Some(()))
    }

    fn step(&mut self, action: Action, inputs: Vec<Source>, shape: &[usize]) -> Source {
        let (last_read, last_of_input) = (Vec::new(), false);
        self.steps.push(Step { action, inputs, last_read, last_of_input, shape: shape.to_vec() });
        Source::Step(self.steps.len() - 1)
    }

    /// Returns the plan; `None` if an output is the input or a constant.
    fn finish(self) -> Option<Plan> {
        let Builder { model, constants, mut steps, places } = self;
        let output = |outlet| match places.get(outlet) {
            Some(Source::Step(number)) => Some(*number),
            _ => None,
        };
        let outputs: Vec<usize> = model.outputs.iter().map(output).collect::<Option<_>>()?;
        let mut read: HashSet<Source> = outputs.iter().copied().map(Source::Step).collect();
        for step in steps.iter_mut().rev() {
            for source in &step.inputs {
                if read.insert(*source) {
                    match source {
                        Source::Input => step.last_of_input = true,
                        Source::Constant(_) => {}
                        Source::Step(number) => step.last_read.push(*number),
                    }
                }
            }
        }
        Some(Plan { constants, steps, outputs })
    }
}

/// Returns a shape that is fixed and has values.
fn fixed(fact: &TypedFact) -> Option<&[usize]> {
    fact.shape.as_concrete().filter(|shape| !shape.contains(&0))
}

/// Returns true for a node that gives its input another shape at most.
fn moves_nothing(node: &TypedNode, input: &[usize]) -> bool {
    match node.op_as::<AxisOp>() {
        // Only axes of one value pass each other.
        Some(AxisOp::Move(from, to)) => {
            let passed = if from < to { &input[from + 1..=*to] } else { &input[*to..*from] };
            input[*from] == 1 || passed.iter().all(|size| *size == 1)
        }
        Some(_) => true,
        None => node.op_is::<Identity>(),
    }
}

/// Returns the action that stands for a node over floats of these shapes.
fn action(node: &TypedNode, inputs: &[&[usize]], output: &[usize]) -> Option<Action> {
    let input = *inputs.first()?;
    let product = |sizes: &[usize]| sizes.iter().product::<usize>();
    if let Some(TypedBinOp(operator, None)) = node.op_as::<TypedBinOp>() {
        let whole = |input: &&[usize]| [1, product(output)].contains(&product(input));
        if !inputs.iter().all(whole) {
            return None;
        }
        return Some(if operator.is::<Add>() {
            Action::Binary("Add", |a, b, output| combine(a, b, output, |a, b| a + b))
        } else if operator.is::<Sub>() {
            Action::Binary("Sub", |a, b, output| combine(a, b, output, |a, b| a - b))
        } else if operator.is::<Mul>() {
            Action::Binary("Mul", |a, b, output| combine(a, b, output, |a, b| a * b))
        } else if operator.is::<Max>() {
            // One instruction of SIMD, unlike `f32::max`.
            Action::Binary("Max", |a, b, output| {
                combine(a, b, output, |a, b| if a < b { b } else { a });
            })
        } else {
            return None;
        });
    }
    if let Some(ElementWiseOp(operator, None)) = node.op_as::<ElementWiseOp>() {
        return Some(if operator.is::<Square>() {
            Action::Unary("Square", |values| values.iter_mut().for_each(|x| *x *= *x))
        } else if operator.is::<Sqrt>() {
            Action::Unary("Sqrt", |values| values.iter_mut().for_each(|x| *x = x.sqrt()))
        } else if operator.is::<Sigmoid>() {
            Action::Unary("Sigmoid", |values| {
                values.iter_mut().for_each(|x| *x = 1.0 / (1.0 + (-*x).exp()));
            })
        } else {
            return None;
        });
    }
    if let Some(TypedConcat { axis }) = node.op_as() {
        return Some(Action::Concat(inputs.iter().map(|shape| product(&shape[*axis..])).collect()));
    }
    if let Some(Slice { axis, start, end }) = node.op_as() {
        let inner = product(&input[axis + 1..]);
        let [start, end] = [start.to_usize().ok()?, end.to_usize().ok()?];
        let (period, start, length) = (input[*axis] * inner, start * inner, (end - start) * inner);
        return Some(Action::Slice { period, start, length });
    }
    if let Some(Reduce { axes, reducer: Reducer::Sum }) = node.op_as() {
        let (first, last) = (*axes.first()?, *axes.last()?);
        let adjoining = axes.iter().copied().eq(first..=last);
        let (rows, row) = (product(&input[first..=last]), product(&input[last + 1..]));
        return adjoining.then_some(Action::Sum { rows, row });
    }
    let softmax = node.op_as::<Softmax>()?;
    let plain = softmax.kind == SoftmaxKind::Softmax && softmax.quant_output_dt.is_none();
    let last = softmax.axes[..] == [input.len() - 1];
    (plain && last).then_some(Action::Softmax(*input.last()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::frozen::FrozenModel;
    use crate::engine::test_graph::Graph;

    /// Returns a graph's plan, and the model that tract runs.
    fn both(graph: &Graph) -> (Option<Plan>, FrozenModel) {
        let model = graph.to_typed().into_decluttered().expect("a model");
        let plan = Plan::of(&model).expect("a model that is whole");
        (plan, model.into_optimized().and_then(FrozenModel::new).expect("a model"))
    }

    /// Asserts that a graph has a plan, which computes what tract computes but for rounding; returns the
    /// names of its steps.
    fn assert_equal_to_tract(graph: &Graph, length: usize) -> Vec<&'static str> {
        let (plan, tract) = both(graph);
        let plan = plan.expect("a plan");
        let input: Vec<f32> = (0..length).map(|i| (i as f32 * 0.7).sin() * 3.0).collect();
        let [ours, theirs] = [&plan as &dyn Runner, &tract]
            .map(|runner| runner.run(Input::Values(input.clone())).expect("a run"));
        assert_eq!(ours.len(), theirs.len());
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(ours.len(), theirs.len());
            for (a, b) in ours.iter().zip(theirs) {
                assert!((a - b).abs() <= 1e-6 * b.abs().max(1.0), "{a} instead of {b}");
            }
        }
        plan.steps.iter().map(|step| step.action.name()).collect()
    }

    #[test]
    fn elementwise_operators_equal_tract() {
        let mut graph = Graph::new(&[1, 6]);
        let (row, one) = (graph.random(&[1, 6], 1.0), graph.constant(&[1, 1], &[0.3]));
        let product = graph.node("Mul", &["input", &row]).add();
        let square = graph.node("Mul", &[&product, &product]).add();
        let sum = graph.node("Add", &[&square, &one]).add();
        let root = graph.node("Sqrt", &[&sum]).add();
        let difference = graph.node("Sub", &[&one, &root]).add();
        let relu = graph.node("Relu", &[&difference]).add();
        let sigmoid = graph.node("Sigmoid", &[&product]).add();
        let both = graph.node("Sub", &[&relu, &sigmoid]).add();
        graph.output(&both);
        graph.output(&root);
        let steps = assert_equal_to_tract(&graph, 6);
        for name in ["Mul", "Add", "Sqrt", "Sub", "Max", "Sigmoid"] {
            assert!(steps.contains(&name), "{name} among {steps:?}");
        }
    }

    #[test]
    fn slices_and_concatenations_of_inner_axes_equal_tract() {
        let mut graph = Graph::new(&[2, 4, 3]);
        let axis = graph.integers(&[1]);
        let slice = |graph: &mut Graph, start, end| {
            let (start, end) = (graph.integers(&[start]), graph.integers(&[end]));
            graph.node("Slice", &["input", &start, &end, &axis]).add()
        };
        let (low, high) = (slice(&mut graph, 0, 3), slice(&mut graph, 3, 4));
        let swapped = graph.node("Concat", &[&high, &low]).int("axis", 1).add();
        graph.output(&swapped);
        graph.output(&low);
        let steps = assert_equal_to_tract(&graph, 24);
        assert_eq!(steps.iter().filter(|name| **name == "Slice").count(), 2, "{steps:?}");
        assert!(steps.contains(&"Concat"), "{steps:?}");
    }

    #[test]
    fn sums_and_probabilities_equal_tract() {
        let mut graph = Graph::new(&[1, 5, 4]);
        let axes = graph.integers(&[1]);
        let sums = graph.node("ReduceSum", &["input", &axes]).int("keepdims", 0).add();
        let probabilities = graph.node("Softmax", &[&sums]).int("axis", 1).add();
        graph.output(&probabilities);
        let steps = assert_equal_to_tract(&graph, 20);
        assert_eq!(steps, ["Sum", "Softmax"]);
    }

    #[test]
    fn moves_of_single_axes_are_no_steps() {
        let mut graph = Graph::new(&[1, 1, 4, 3]);
        let moved = graph.transpose("input", &[0, 2, 3, 1]);
        let shape = graph.integers(&[2, 6]);
        let flat = graph.node("Reshape", &[&moved, &shape]).add();
        let output = graph.node("Relu", &[&flat]).add();
        graph.output(&output);
        assert_eq!(assert_equal_to_tract(&graph, 12), ["Max"]);
    }

    #[test]
    fn output_that_is_returned_twice_is_there_twice() {
        let mut graph = Graph::new(&[1, 4]);
        let output = graph.node("Relu", &["input"]).add();
        let again = graph.node("Identity", &[&output]).add();
        graph.output(&output);
        graph.output(&again);
        assert_equal_to_tract(&graph, 4);
    }

    #[test]
    fn other_operators_and_shapes_have_no_plan() {
        let refused = |input: &[usize], add: &dyn Fn(&mut Graph) -> String| {
            let mut graph = Graph::new(input);
            let output = add(&mut graph);
            graph.output(&output);
            assert!(both(&graph).0.is_none(), "{output}");
        };
        refused(&[1, 4], &|graph| graph.node("Tanh", &["input"]).add());
        refused(&[2, 3], &|graph| graph.transpose("input", &[1, 0]));
        refused(&[2, 3], &|graph| {
            let row = graph.random(&[1, 3], 1.0);
            graph.node("Add", &["input", &row]).add()
        });
        refused(&[2, 3], &|graph| graph.node("Softmax", &["input"]).int("axis", 0).add());
        refused(&[1, 4], &|graph| graph.node("Identity", &["input"]).add());
    }
}

//! Models as values behind a small trait: the one place that knows which engine runs them.
//!
//! The pipeline sees [`Model`] alone. [`OnnxModel`] implements it, in four steps:
//! 1. tract parses the ONNX file;
//! 2. [`fusion`] puts our kernels, as [operators](op) of tract, where they can compute;
//! 3. tract simplifies the rest;
//! 4. where all that is left has an operator of its own here, a [`plan`] runs it without tract. Elsewhere
//!    tract runs it, by the [frozen] plan, which keeps of every operator no more than its evaluation.
//!
//! A model holds either behind the trait `Runner`: no code leads to tract but a table of functions, which
//! is in memory only where tract runs a model. So pruning (the crate `freeze`) removes tract from a
//! component that does not need it.

mod frozen;
mod fusion;
mod op;
mod plan;
#[cfg(test)]
mod test_graph;

use std::time::Duration;

use kernels::pointwise::Precision;
use tract_onnx::prelude::*;

use self::frozen::FrozenModel;
pub use self::fusion::Fallback;
use self::fusion::{SharedOperators, fuse};
use self::plan::Plan;

/// A model's input, flattened in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Values of any range.
    Values(Vec<f32>),
    /// Pixels, channels last: 255 stands for 1.0.
    Pixels(Vec<u8>),
}

impl Input {
    /// Returns the number of values.
    pub fn len(&self) -> usize {
        match self {
            Input::Values(values) => values.len(),
            Input::Pixels(values) => values.len(),
        }
    }

    /// Returns true if there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A neural network with one input and some outputs.
///
/// The pipeline knows models by this trait alone, so that a test can put in a fake.
pub trait Model: Send + Sync {
    /// Runs the model: one pass.
    ///
    /// `input` has as many values as the model's input shape. Returns the outputs in the model's order,
    /// each flattened in row-major order.
    ///
    /// # Errors
    /// [`ModelError::Run`] if the input's length fits no shape of the model, if there are values for a
    /// model that takes pixels, or if the engine fails.
    fn run(&self, input: Input) -> Result<Vec<Vec<f32>>, ModelError>;
}

/// Errors of loading or running a model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// The file is not an ONNX model that the engine can read and optimise.
    #[error("cannot load the model {name}: {reason}")]
    Load {
        /// The model's name.
        name: String,
        /// The engine's error.
        reason: String,
    },
    /// The model's input or outputs do not have the shapes that the pipeline needs.
    #[error("cannot use the model {name}: {reason}")]
    Shape {
        /// The model's name.
        name: String,
        /// Shapes expected and found.
        reason: String,
    },
    /// The model failed while it ran.
    #[error("cannot run the model {name}: {reason}")]
    Run {
        /// The model's name.
        name: String,
        /// The engine's error, or sizes expected and found.
        reason: String,
    },
}

/// Shapes of a model's input and outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shapes {
    /// Shape of the one input.
    pub input: Vec<usize>,
    /// Shapes of the outputs, in order.
    pub outputs: Vec<Vec<usize>>,
}

impl Shapes {
    fn check(&self, name: &str, input: &[usize], outputs: &[Vec<usize>]) -> Result<(), ModelError> {
        if self.input == input && self.outputs == outputs {
            return Ok(());
        }
        let reason = format!(
            "input {input:?} and outputs {outputs:?} expected, input {:?} and outputs {:?} found",
            self.input, self.outputs
        );
        Err(ModelError::Shape { name: name.to_owned(), reason })
    }
}

/// Operators that run a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operators {
    /// Fused ones of this project, with matrix products of this precision; tract's for the rest.
    Fused(Precision),
    /// tract's alone, in `f32`: the reference of accuracy and speed.
    Tract,
}

impl Operators {
    /// The fastest ones: int8. Without `relaxed-simd`, int8 products are slower than int16 ones, so there
    /// they are int16.
    pub const FASTEST: Operators = Operators::Fused(
        if cfg!(all(target_family = "wasm", not(target_feature = "relaxed-simd"))) {
            Precision::Int16
        } else {
            Precision::Int8
        },
    );
}

/// Work and time of one operator in one run.
#[derive(Clone, Debug)]
pub struct OperatorTime {
    /// The operator's name.
    pub name: String,
    /// Shape of its first output.
    pub output: Vec<usize>,
    /// Multiply-accumulates, as far as the operator counts them.
    pub macs: u64,
    /// Wall-clock time.
    pub time: Duration,
}

/// An ONNX model, parsed, optimised and ready to run.
pub struct OnnxModel {
    name: String,
    /// One for each input shape, at least one.
    variants: Vec<Variant>,
    fallbacks: Vec<Fallback>,
}

/// A model for one input shape.
struct Variant {
    shapes: Shapes,
    /// True if the model reads bytes: its first layer scales pixels itself.
    reads_bytes: bool,
    /// True if tract runs the model.
    in_tract: bool,
    runner: Box<dyn Runner>,
}

/// A model's plan for one input shape. The input has that shape's length, and its type is the one
/// that the model reads. A failure's reason is returned.
trait Runner: Send + Sync {
    /// Runs the model: one pass.
    fn run(&self, input: Input) -> Result<Vec<Vec<f32>>, String>;

    /// Runs the model and measures each of its operators, in the order of evaluation.
    fn profile(&self, input: Input) -> Result<Vec<OperatorTime>, String>;
}

impl OnnxModel {
    /// Loads a model with fused operators in int16. `name` is for error messages.
    ///
    /// # Errors
    /// [`ModelError::Load`]; [`ModelError::Shape`] if the model has several inputs, or dimensions that
    /// are not fixed.
    pub fn load(name: &str, onnx: &[u8]) -> Result<OnnxModel, ModelError> {
        OnnxModel::load_with(name, onnx, Operators::Fused(Precision::Int16))
    }

    /// Loads a model with a choice of operators.
    ///
    /// # Errors
    /// As [`OnnxModel::load`].
    pub fn load_with(
        name: &str,
        onnx: &[u8],
        operators: Operators,
    ) -> Result<OnnxModel, ModelError> {
        let mut loader = Loader::new(name, operators);
        let variant = loader.variant(onnx, None)?;
        Ok(loader.finish(vec![variant]))
    }

    /// Loads a model for inputs of several shapes instead of the file's own: a fully convolutional
    /// model takes images of any size. Its weights are kept once.
    ///
    /// # Errors
    /// As [`OnnxModel::load`]; [`ModelError::Shape`] if outputs differ from `shapes`, or if `shapes`
    /// is empty.
    pub fn load_for(
        name: &str,
        onnx: &[u8],
        operators: Operators,
        shapes: &[Shapes],
    ) -> Result<OnnxModel, ModelError> {
        let mut loader = Loader::new(name, operators);
        let mut variants = Vec::with_capacity(shapes.len());
        for shapes in shapes {
            let variant = loader.variant(onnx, Some(&shapes.input))?;
            variant.shapes.check(name, &shapes.input, &shapes.outputs)?;
            variants.push(variant);
        }
        if variants.is_empty() {
            return Err(loader.shape_error("at least one input shape expected, none given".into()));
        }
        Ok(loader.finish(variants))
    }

    /// Returns the shapes of input and outputs; the first ones if the model has several.
    pub fn shapes(&self) -> &Shapes {
        &self.variants[0].shapes
    }

    /// Returns the layers that tract computes because no pattern of the fusion pass takes them. With
    /// [`Operators::Tract`] nothing is fused, and nothing is reported.
    pub fn fallbacks(&self) -> &[Fallback] {
        &self.fallbacks
    }

    /// Returns true if tract runs the model, since it has an operator that a [`plan`] lacks.
    pub fn runs_in_tract(&self) -> bool {
        self.variants.iter().any(|variant| variant.in_tract)
    }

    /// Returns the model if it has these shapes.
    ///
    /// # Errors
    /// [`ModelError::Shape`] that states the shapes expected and found.
    pub fn expect(self, input: &[usize], outputs: &[Vec<usize>]) -> Result<OnnxModel, ModelError> {
        self.shapes().check(&self.name, input, outputs)?;
        Ok(self)
    }

    /// Runs the model and measures each of its operators, in the order of evaluation.
    ///
    /// # Errors
    /// As [`Model::run`].
    pub fn profile(&self, input: &Input) -> Result<Vec<OperatorTime>, ModelError> {
        let (input, runner) = self.prepare(input.clone())?;
        runner.profile(input).map_err(|reason| self.run_error(reason))
    }

    /// Returns the input as the model reads it, and what runs the model for its shape.
    fn prepare(&self, input: Input) -> Result<(Input, &dyn Runner), ModelError> {
        let length = |variant: &Variant| variant.shapes.input.iter().product::<usize>();
        let variant = self.variants.iter().find(|variant| length(variant) == input.len());
        let Some(Variant { reads_bytes, runner, .. }) = variant else {
            let shapes: Vec<_> = self.variants.iter().map(|v| &v.shapes.input).collect();
            let reason = format!("{} values fit none of the inputs {shapes:?}", input.len());
            return Err(self.run_error(reason));
        };
        let input = match input {
            Input::Values(_) if *reads_bytes => {
                return Err(self.run_error("pixels expected, values found".into()));
            }
            Input::Pixels(pixels) if !reads_bytes => {
                let value = |pixel: &u8| f32::from(*pixel) / f32::from(u8::MAX);
                Input::Values(pixels.iter().map(value).collect())
            }
            input => input,
        };
        Ok((input, &**runner))
    }

    fn run_error(&self, reason: String) -> ModelError {
        ModelError::Run { name: self.name.clone(), reason }
    }
}

impl Model for OnnxModel {
    fn run(&self, input: Input) -> Result<Vec<Vec<f32>>, ModelError> {
        let (input, runner) = self.prepare(input)?;
        runner.run(input).map_err(|reason| self.run_error(reason))
    }
}

/// State that the variants of a model share while it is loaded.
struct Loader<'a> {
    name: &'a str,
    operators: Operators,
    shared: SharedOperators,
    fallbacks: Vec<Fallback>,
}

impl Loader<'_> {
    fn new(name: &str, operators: Operators) -> Loader<'_> {
        let (shared, fallbacks) = (SharedOperators::default(), Vec::new());
        Loader { name, operators, shared, fallbacks }
    }

    fn finish(self, variants: Vec<Variant>) -> OnnxModel {
        OnnxModel { name: self.name.to_owned(), variants, fallbacks: self.fallbacks }
    }

    fn load_error(&self, error: TractError) -> ModelError {
        ModelError::Load { name: self.name.to_owned(), reason: format!("{error:#}") }
    }

    fn shape_error(&self, reason: String) -> ModelError {
        ModelError::Shape { name: self.name.to_owned(), reason }
    }

    /// Loads the model for an input shape, or for the file's own.
    fn variant(&mut self, onnx: &[u8], input: Option<&[usize]>) -> Result<Variant, ModelError> {
        let model = self.simplified(onnx, input).map_err(|error| self.load_error(error))?;
        let [input] = model.inputs[..] else {
            let found = model.inputs.len();
            return Err(self.shape_error(format!("one input expected, {found} found")));
        };
        let input = self.fact(&model, input)?;
        let shapes = Shapes {
            input: self.fixed(input)?,
            outputs: model
                .outputs
                .iter()
                .map(|output| self.fixed(self.fact(&model, *output)?))
                .collect::<Result<_, _>>()?,
        };
        let reads_bytes = input.datum_type == u8::datum_type();
        let plan = match self.operators {
            Operators::Fused(_) => Plan::of(&model).map_err(|error| self.load_error(error))?,
            Operators::Tract => None,
        };
        let in_tract = plan.is_none();
        let runner: Box<dyn Runner> = match plan {
            Some(plan) => Box::new(plan),
            None => {
                let frozen = model.into_optimized().and_then(FrozenModel::new);
                Box::new(frozen.map_err(|error| self.load_error(error))?)
            }
        };
        Ok(Variant { shapes, reads_bytes, in_tract, runner })
    }

    /// Parses, fuses and simplifies the model.
    fn simplified(&mut self, onnx: &[u8], input: Option<&[usize]>) -> TractResult<TypedModel> {
        let mut model = tract_onnx::onnx()
            // The file's output shapes belong to its own input shape.
            .with_ignore_output_shapes(input.is_some())
            .model_for_read(&mut &*onnx)?;
        if let Some(input) = input {
            model = model.with_input_fact(0, f32::fact(input).into())?;
        }
        let mut model = model.into_typed()?;
        if let Operators::Fused(precision) = self.operators {
            let (fused, fallbacks) = fuse(&model, precision, &mut self.shared)?;
            for fallback in fallbacks {
                if !self.fallbacks.contains(&fallback) {
                    self.fallbacks.push(fallback);
                }
            }
            model = fused;
        }
        model.into_decluttered()
    }

    fn fact<'m>(
        &self,
        model: &'m TypedModel,
        outlet: OutletId,
    ) -> Result<&'m TypedFact, ModelError> {
        model.outlet_fact(outlet).map_err(|error| self.load_error(error))
    }

    /// Returns a shape whose dimensions are all fixed.
    fn fixed(&self, fact: &TypedFact) -> Result<Vec<usize>, ModelError> {
        let shape = fact.shape.as_concrete().map(<[usize]>::to_vec);
        shape.ok_or_else(|| {
            self.shape_error(format!("fixed dimensions expected, {:?} found", fact.shape))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::test_graph::Graph;
    use super::*;

    const INT16: Operators = Operators::Fused(Precision::Int16);

    /// 3 × 3 convolution with `outputs` channels over an RGB image, which is read as bytes.
    fn first_layer(side: usize, outputs: usize) -> Graph {
        let mut graph = Graph::new(&[1, side, side, 3]);
        let image = graph.transpose("input", &[0, 3, 1, 2]);
        let conv = graph.conv(&image, 3, outputs, 3).pads(1).add();
        graph.output(&conv);
        graph
    }

    fn load(graph: &Graph, operators: Operators) -> Result<OnnxModel, ModelError> {
        OnnxModel::load_with("test", &graph.to_onnx(), operators)
    }

    fn message<T>(result: Result<T, ModelError>) -> String {
        result.err().expect("an error").to_string()
    }

    #[test]
    fn load_rejects_bytes_that_are_not_onnx() {
        let error = OnnxModel::load("test", b"not a model").err().expect("an error");
        assert!(matches!(&error, ModelError::Load { name, .. } if name == "test"), "{error}");
        assert!(error.to_string().starts_with("cannot load the model test: "), "{error}");
    }

    #[test]
    fn load_rejects_operators_that_tract_lacks() {
        let mut graph = Graph::new(&[1, 4]);
        let output = graph.node("NoSuchOperator", &["input"]).add();
        graph.output(&output);
        let error = load(&graph, INT16).err().expect("an error");
        assert!(matches!(error, ModelError::Load { .. }), "{error}");
        assert!(error.to_string().contains("NoSuchOperator"), "{error}");
    }

    #[test]
    fn load_rejects_two_inputs() {
        let mut graph = Graph::new(&[1, 4]);
        graph.input("second", &[1, 4]);
        let sum = graph.node("Add", &["input", "second"]).add();
        graph.output(&sum);
        let error = message(load(&graph, INT16));
        assert_eq!(error, "cannot use the model test: one input expected, 2 found");
    }

    #[test]
    fn load_rejects_dimensions_that_are_not_fixed() {
        let mut graph = Graph::of_dimensions(&["rows", "4"]);
        let output = graph.node("Relu", &["input"]).add();
        graph.output(&output);
        let error = load(&graph, INT16).err().expect("an error");
        assert!(matches!(error, ModelError::Shape { .. }), "{error}");
        assert!(error.to_string().contains("fixed dimensions expected, rows,4"), "{error}");
    }

    #[test]
    fn expect_states_shapes_expected_and_found() {
        let model = load(&first_layer(8, 8), INT16).expect("a model");
        let error = message(model.expect(&[1, 8, 8, 3], &[vec![1, 9]]));
        assert_eq!(
            error,
            "cannot use the model test: input [1, 8, 8, 3] and outputs [[1, 9]] expected, \
             input [1, 8, 8, 3] and outputs [[1, 8, 8, 8]] found"
        );
    }

    #[test]
    fn load_for_takes_every_shape_and_rejects_others() {
        let onnx = first_layer(8, 8).to_onnx();
        let of = |side: usize| Shapes {
            input: vec![1, side, side, 3],
            outputs: vec![vec![1, 8, side, side]],
        };
        let model = OnnxModel::load_for("test", &onnx, INT16, &[of(8), of(16)]).expect("a model");
        for side in [8, 16] {
            let outputs = model.run(Input::Pixels(vec![9; side * side * 3])).expect("a run");
            assert_eq!(outputs.iter().map(Vec::len).collect::<Vec<_>>(), [8 * side * side]);
        }
        assert_eq!(
            message(model.run(Input::Pixels(vec![9; 5]))),
            "cannot run the model test: 5 values fit none of the inputs \
             [[1, 8, 8, 3], [1, 16, 16, 3]]"
        );
        let wrong = Shapes { outputs: vec![vec![1, 8, 7, 7]], ..of(8) };
        let error = OnnxModel::load_for("test", &onnx, INT16, &[wrong]).err().expect("an error");
        assert!(matches!(error, ModelError::Shape { .. }), "{error}");
        assert_eq!(
            message(OnnxModel::load_for("test", &onnx, INT16, &[])),
            "cannot use the model test: at least one input shape expected, none given"
        );
    }

    #[test]
    fn model_that_reads_bytes_rejects_values() {
        let graph = first_layer(8, 8);
        let input = Input::Values(vec![0.5; 8 * 8 * 3]);
        let error = message(load(&graph, INT16).expect("a model").run(input.clone()));
        assert_eq!(error, "cannot run the model test: pixels expected, values found");
        load(&graph, Operators::Tract).expect("a model").run(input).expect("a run");
    }

    #[test]
    fn pixels_become_values_for_a_model_that_reads_values() {
        let mut graph = Graph::new(&[1, 4]);
        let output = graph.node("Relu", &["input"]).add();
        graph.output(&output);
        let model = load(&graph, INT16).expect("a model");
        let outputs = model.run(Input::Pixels(vec![0, 51, 102, 255])).expect("a run");
        assert_eq!(outputs, [[0.0, 0.2, 0.4, 1.0]]);
    }

    #[test]
    fn fallbacks_of_several_shapes_are_reported_once() {
        let mut graph = Graph::new(&[1, 3, 8, 8]);
        let conv = graph.conv("input", 3, 8, 3).pads(2).ints("dilations", &[2, 2]).add();
        graph.output(&conv);
        let onnx = graph.to_onnx();
        let of = |side: usize| Shapes {
            input: vec![1, 3, side, side],
            outputs: vec![vec![1, 8, side, side]],
        };
        let model = OnnxModel::load_for("test", &onnx, INT16, &[of(8), of(16)]).expect("a model");
        let expected = Fallback { node: conv, op: "Conv".into(), reason: "a dilation" };
        assert_eq!(model.fallbacks(), [expected]);
        let tract = load(&graph, Operators::Tract).expect("a model");
        assert_eq!(tract.fallbacks(), []);
    }

    #[test]
    fn profile_names_every_operator_and_counts_macs() {
        let model = load(&first_layer(8, 8), INT16).expect("a model");
        let operators = model.profile(&Input::Pixels(vec![9; 8 * 8 * 3])).expect("a run");
        let fused: Vec<_> = operators.iter().filter(|operator| operator.macs > 0).collect();
        let [only] = fused[..] else { panic!("one operator with MACs expected: {operators:?}") };
        assert_eq!(only.output, [1, 8, 8, 8]);
        assert_eq!(only.macs, 3 * 3 * 3 * 8 * 8 * 8);
    }
}

//! Models as values: the one place that knows which engine runs them.

mod frozen;
mod fusion;
mod op;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::{bail, format_err};
use tract_onnx::tract_core::plan::eval;

use self::frozen::{FrozenPlan, freeze};
use kernels::pointwise::Precision;
use self::fusion::{Kernels, rewrite};

/// What a model gets to see, flattened in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Numbers.
    Numbers(Vec<f32>),
    /// A picture of 8 bits, channels last: 255 stands for the number 1.
    Picture(Vec<u8>),
}

impl Input {
    /// How many numbers.
    pub fn len(&self) -> usize {
        match self {
            Input::Numbers(numbers) => numbers.len(),
            Input::Picture(numbers) => numbers.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A neural network with one input and some outputs.
///
/// The pipeline knows models only by this trait, so that a test can put in a fake.
pub trait Model: Send + Sync {
    /// Runs the model.
    ///
    /// `input` has the model's input shape. The outputs come in the model's order, flattened likewise.
    ///
    /// # Errors
    /// [`ModelError::Run`] if the engine fails, if the input's length is not the shape's, or if there are
    /// numbers where the model takes pictures.
    fn run(&self, input: Input) -> Result<Vec<Vec<f32>>, ModelError>;
}

/// Why a model can't be loaded or run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelError {
    /// The file is not an ONNX model that the engine can read and optimise.
    Load {
        /// Which model.
        name: String,
        /// What the engine says.
        reason: String,
    },
    /// The model's input or outputs don't have the shapes that the pipeline needs.
    Shape {
        /// Which model.
        name: String,
        /// What was expected, and what is there.
        reason: String,
    },
    /// The engine failed while it ran the model.
    Run {
        /// Which model.
        name: String,
        /// What the engine says.
        reason: String,
    },
}

impl fmt::Display for ModelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ModelError::Load { name, reason } => {
                write!(f, "model {name} can't be loaded: {reason}")
            }
            ModelError::Shape { name, reason } => write!(f, "model {name} doesn't fit: {reason}"),
            ModelError::Run { name, reason } => write!(f, "model {name} failed: {reason}"),
        }
    }
}

impl std::error::Error for ModelError {}

/// The shapes of a model's input and outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shapes {
    /// Shape of the one input.
    pub input: Vec<usize>,
    /// Shapes of the outputs, in order.
    pub outputs: Vec<Vec<usize>>,
}

/// Whose operators run a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operators {
    /// This project's where they can, so finely, and tract's for the rest.
    Own(Precision),
    /// tract's alone, in 32-bit floats: what the others are compared with.
    Tract,
}

/// What one operator took in one run.
#[derive(Clone, Debug)]
pub struct OperatorTime {
    /// Which kind of operator.
    pub name: String,
    /// The shape of its output.
    pub output: Vec<usize>,
    /// Multiplications with an addition each, as far as the operator tells.
    pub multiply_adds: u64,
    /// How long it took.
    pub time: Duration,
}

/// An ONNX model, parsed, optimised and ready to run in `tract`.
pub struct OnnxModel {
    name: String,
    /// For each shape of the input that it is ready for; one at least.
    plans: Vec<Plan>,
}

struct Plan {
    shapes: Shapes,
    /// Whether it takes pictures as they are.
    bytes: bool,
    plan: Arc<FrozenPlan>,
}

impl OnnxModel {
    /// Parses and optimises a model, with products of 16 bits. `name` is for error messages.
    ///
    /// # Errors
    /// [`ModelError::Load`]; [`ModelError::Shape`] for several inputs, or dimensions that are not
    /// fixed.
    pub fn load(name: &str, onnx: &[u8]) -> Result<OnnxModel, ModelError> {
        OnnxModel::load_with(name, onnx, Operators::Own(Precision::Sixteen))
    }

    /// The same, with a choice of operators.
    ///
    /// # Errors
    /// As [`OnnxModel::load`].
    pub fn load_with(
        name: &str,
        onnx: &[u8],
        operators: Operators,
    ) -> Result<OnnxModel, ModelError> {
        let plan = plan(name, onnx, operators, None, &mut Kernels::default())?;
        Ok(OnnxModel { name: name.to_owned(), plans: vec![plan] })
    }

    /// The same for inputs of some shapes in the place of the file's own: a model of convolutions
    /// alone takes pictures of any size. Its weights are kept once.
    ///
    /// # Errors
    /// As [`OnnxModel::load`]; [`ModelError::Shape`] if the outputs have other shapes than these, or
    /// if there are none.
    pub fn load_for(
        name: &str,
        onnx: &[u8],
        operators: Operators,
        shapes: &[Shapes],
    ) -> Result<OnnxModel, ModelError> {
        let mut kernels = Kernels::default();
        let plans = shapes
            .iter()
            .map(|shapes| {
                let plan = plan(name, onnx, operators, Some(&shapes.input), &mut kernels)?;
                plan.shapes.check(name, &shapes.input, &shapes.outputs)?;
                Ok(plan)
            })
            .collect::<Result<Vec<_>, _>>()?;
        if plans.is_empty() {
            return Err(ModelError::Shape { name: name.to_owned(), reason: "of no input".into() });
        }
        Ok(OnnxModel { name: name.to_owned(), plans })
    }

    /// The shapes of input and outputs; the first ones, if it is ready for several.
    pub fn shapes(&self) -> &Shapes {
        &self.plans[0].shapes
    }

    /// Checks the shapes against what the pipeline needs.
    ///
    /// # Errors
    /// [`ModelError::Shape`] that names both.
    pub fn expect(self, input: &[usize], outputs: &[Vec<usize>]) -> Result<OnnxModel, ModelError> {
        self.shapes().check(&self.name, input, outputs)?;
        Ok(self)
    }
}

impl Shapes {
    fn check(&self, name: &str, input: &[usize], outputs: &[Vec<usize>]) -> Result<(), ModelError> {
        if self.input == input && self.outputs == outputs {
            return Ok(());
        }
        Err(ModelError::Shape {
            name: name.to_owned(),
            reason: format!(
                "input {input:?} and outputs {outputs:?} expected, input {:?} and outputs {:?} found",
                self.input, self.outputs
            ),
        })
    }
}

/// A plan for an input of a shape, or of the file's own.
fn plan(
    name: &str,
    onnx: &[u8],
    operators: Operators,
    input: Option<&[usize]>,
    kernels: &mut Kernels,
) -> Result<Plan, ModelError> {
    let load = |error: TractError| ModelError::Load {
        name: name.to_owned(),
        reason: format!("{error:#}"),
    };
    let shape = |reason: String| ModelError::Shape { name: name.to_owned(), reason };
    let model = tract_onnx::onnx()
        // They belong to the file's own input.
        .with_ignore_output_shapes(input.is_some())
        .model_for_read(&mut &*onnx)
        .and_then(|model| match input {
            Some(input) => model.with_input_fact(0, f32::fact(input).into()),
            None => Ok(model),
        })
        .and_then(|model| model.into_typed())
        .and_then(|model| match operators {
            Operators::Own(precision) => rewrite(&model, precision, kernels),
            Operators::Tract => Ok(model),
        })
        .and_then(|model| model.into_optimized())
        .map_err(load)?;

    let fixed = |fact: &TypedFact| {
        fact.shape
            .as_concrete()
            .map(<[usize]>::to_vec)
            .ok_or_else(|| shape(format!("a dimension of {:?} is not fixed", fact.shape)))
    };
    let [input] = model.inputs.as_slice() else {
        return Err(shape(format!("one input expected, {} found", model.inputs.len())));
    };
    let input = model.outlet_fact(*input).map_err(load)?;
    let bytes = input.datum_type == u8::datum_type();
    let input = fixed(input)?;
    let outputs = model
        .outputs
        .iter()
        .map(|outlet| fixed(model.outlet_fact(*outlet).map_err(load)?))
        .collect::<Result<_, _>>()?;
    let plan = freeze(model).map_err(load)?;
    Ok(Plan { shapes: Shapes { input, outputs }, bytes, plan })
}

impl OnnxModel {
    fn failed(&self) -> impl Fn(TractError) -> ModelError {
        |error| ModelError::Run { name: self.name.clone(), reason: format!("{error:#}") }
    }

    /// The input as a tensor, and the plan for its shape.
    fn prepare(&self, input: &Input) -> TractResult<(Tensor, &Arc<FrozenPlan>)> {
        let length = |plan: &Plan| plan.shapes.input.iter().product::<usize>();
        let Some(Plan { shapes, bytes, plan }) =
            self.plans.iter().find(|plan| length(plan) == input.len())
        else {
            let shapes: Vec<_> = self.plans.iter().map(|plan| &plan.shapes.input).collect();
            return Err(format_err!("{} numbers fit none of the inputs {shapes:?}", input.len()));
        };
        let shape = &shapes.input;
        let tensor = match input {
            Input::Picture(numbers) if *bytes => Tensor::from_shape(shape, numbers)?,
            Input::Numbers(_) if *bytes => bail!("numbers for a model that takes pictures"),
            Input::Numbers(numbers) => Tensor::from_shape(shape, numbers)?,
            Input::Picture(numbers) => {
                let number = |byte: &u8| f32::from(*byte) / f32::from(u8::MAX);
                let numbers: Vec<f32> = numbers.iter().map(number).collect();
                Tensor::from_shape(shape, &numbers)?
            }
        };
        Ok((tensor, plan))
    }

    /// Runs the model and tells what each of its operators took, in the order of their turns.
    ///
    /// # Errors
    /// As [`Model::run`].
    pub fn profile(&self, input: &Input) -> Result<Vec<OperatorTime>, ModelError> {
        let mut times = Vec::new();
        let mut profiled = || {
            let (input, plan) = self.prepare(input)?;
            plan.spawn()?.run_plan_with_eval(
                tvec!(input.into()),
                |context, state, node, inputs| {
                    let start = Instant::now();
                    let outputs = eval(context, state, node, inputs)?;
                    let time = start.elapsed();
                    times.push(OperatorTime {
                        name: node.op().name().into_owned(),
                        output: outputs.first().map(|o| o.shape().to_vec()).unwrap_or_default(),
                        multiply_adds: node.op.multiply_adds(),
                        time,
                    });
                    TractResult::Ok(outputs)
                },
            )?;
            Ok(())
        };
        profiled().map_err(self.failed())?;
        Ok(times)
    }
}

impl Model for OnnxModel {
    fn run(&self, input: Input) -> Result<Vec<Vec<f32>>, ModelError> {
        let failed = self.failed();
        let (tensor, plan) = self.prepare(&input).map_err(&failed)?;
        // Its room is the first layer's.
        drop(input);
        let outputs = plan.run(tvec!(tensor.into())).map_err(&failed)?;
        outputs
            .iter()
            .map(|output| Ok(output.try_as_plain_ram()?.as_slice::<f32>()?.to_vec()))
            .collect::<TractResult<_>>()
            .map_err(failed)
    }
}

//! A model that tract runs, and that can only be run: it keeps of every operator no more than its
//! evaluation.
//!
//! tract's operators can also be simplified, fused and split. A loaded model needs none of that, but
//! values that can do it keep its code, and with it most of tract, in the component.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::plan::eval;

use super::{Input, OperatorTime, Runner};

/// A model whose operators are frozen.
pub struct FrozenModel {
    input: Vec<usize>,
    plan: Arc<SimplePlan<TypedFact, FrozenOp>>,
}

impl FrozenModel {
    /// Freezes an optimised model with one input of a fixed shape.
    ///
    /// # Errors
    /// If the model is broken.
    pub fn new(model: TypedModel) -> TractResult<FrozenModel> {
        let input = model.input_fact(0)?.shape.as_concrete();
        let input = input.context("an input whose shape is not fixed")?.to_vec();
        // A new vector: `collect` would reuse the model's own, whose spare capacity stays allocated.
        let mut nodes = Vec::with_capacity(model.nodes.len());
        for node in &model.nodes {
            let op = FrozenOp::new(node.op.clone(), &model.node_input_facts(node.id)?)?;
            let TypedNode { id, name, inputs, outputs, .. } = node.clone();
            nodes.push(Node { id, name, inputs, op, outputs });
        }
        let plan = SimplePlan::new(Graph {
            nodes,
            inputs: model.inputs,
            outputs: model.outputs,
            symbols: model.symbols,
            ..Graph::default()
        })?;
        Ok(FrozenModel { input, plan })
    }

    fn tensor(&self, input: Input) -> TractResult<TVec<TValue>> {
        Ok(tvec!(match input {
            Input::Pixels(pixels) => Tensor::from_shape(&self.input, &pixels)?.into(),
            Input::Values(values) => Tensor::from_shape(&self.input, &values)?.into(),
        }))
    }

    fn try_run(&self, input: Input) -> TractResult<Vec<Vec<f32>>> {
        let outputs = self.plan.run(self.tensor(input)?)?;
        let values = |output: &TValue| Ok(output.try_as_plain_ram()?.as_slice::<f32>()?.to_vec());
        outputs.iter().map(values).collect()
    }

    fn try_profile(&self, input: Input) -> TractResult<Vec<OperatorTime>> {
        let mut times = Vec::new();
        self.plan.spawn()?.run_plan_with_eval(
            self.tensor(input)?,
            |context, state, node, inputs| {
                let start = Instant::now();
                let outputs = eval(context, state, node, inputs)?;
                let time = start.elapsed();
                times.push(OperatorTime {
                    name: node.op().name().into_owned(),
                    output: outputs.first().map(|o| o.shape().to_vec()).unwrap_or_default(),
                    macs: node.op.macs(),
                    time,
                });
                TractResult::Ok(outputs)
            },
        )?;
        Ok(times)
    }
}

impl Runner for FrozenModel {
    fn run(&self, input: Input) -> Result<Vec<Vec<f32>>, String> {
        self.try_run(input).map_err(|error| format!("{error:#}"))
    }

    fn profile(&self, input: Input) -> Result<Vec<OperatorTime>, String> {
        self.try_profile(input).map_err(|error| format!("{error:#}"))
    }
}

/// An operator of a frozen plan.
#[derive(Clone, Debug)]
pub struct FrozenOp(Box<dyn Op>);

impl FrozenOp {
    fn new(op: Box<dyn TypedOp>, inputs: &[&TypedFact]) -> TractResult<FrozenOp> {
        if op.state(&EvalContext::out_of_plan())?.is_some() {
            // The state of a loop, for example, asks for the operator itself.
            return Ok(FrozenOp(op));
        }
        let macs = op
            .cost(inputs)?
            .iter()
            .filter(|(cost, _)| matches!(cost, Cost::FMA(_)))
            .filter_map(|(_, count)| count.to_i64().ok())
            .sum::<i64>()
            .unsigned_abs();
        let name = op.name();
        let evaluation: Box<dyn EvalOp + Send + Sync> = op;
        let evaluation = Arc::from(evaluation);
        Ok(FrozenOp(Box::new(Evaluation { name, macs, evaluation })))
    }

    /// Returns the multiply-accumulates of one run, as far as the operator counts them.
    pub fn macs(&self) -> u64 {
        self.0.downcast_ref::<Evaluation>().map_or(0, |op| op.macs)
    }
}

impl AsRef<dyn Op> for FrozenOp {
    fn as_ref(&self) -> &dyn Op {
        &*self.0
    }
}

impl AsMut<dyn Op> for FrozenOp {
    fn as_mut(&mut self) -> &mut dyn Op {
        &mut *self.0
    }
}

impl fmt::Display for FrozenOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.name())
    }
}

/// An operator's evaluation, with the name and the work that profiles show.
#[derive(Clone)]
struct Evaluation {
    name: StaticName,
    macs: u64,
    evaluation: Arc<dyn EvalOp + Send + Sync>,
}

impl fmt::Debug for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl PartialEq for Evaluation {
    fn eq(&self, other: &Evaluation) -> bool {
        Arc::ptr_eq(&self.evaluation, &other.evaluation)
    }
}

impl Eq for Evaluation {}

impl Op for Evaluation {
    fn name(&self) -> StaticName {
        self.name.clone()
    }

    fn as_typed(&self) -> Option<&dyn TypedOp> {
        None
    }
}

impl EvalOp for Evaluation {
    fn eval(&self, context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.evaluation.eval(context, inputs)
    }

    fn eval_out_of_plan(&self, inputs: TVec<TValue>) -> TractResult<Option<TVec<TValue>>> {
        self.evaluation.eval_out_of_plan(inputs)
    }

    fn forwards_input(&self) -> Option<usize> {
        self.evaluation.forwards_input()
    }

    fn drop_session(&self, session: SessionId, node_id: usize) {
        self.evaluation.drop_session(session, node_id);
    }
}

//! A plan that can only be run: of each operator, no more than its evaluation is kept.
//!
//! tract's operators also know how to be simplified, fused and cut into pieces. That is over when a
//! model is loaded, but a value that has these abilities keeps their code, and with it most of
//! tract, in the component.

use std::fmt;
use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;

/// A plan of frozen operators.
pub type FrozenPlan = SimplePlan<TypedFact, Operator>;

/// Freezes an optimised model.
///
/// # Errors
/// If the model is broken.
pub fn freeze(model: TypedModel) -> TractResult<Arc<FrozenPlan>> {
    // A new vector: `collect` would put the nodes where the model's were, and leave the model's
    // behind in the room that is too much.
    let mut nodes = Vec::with_capacity(model.nodes.len());
    for node in &model.nodes {
        let op = Operator::new(node.op.clone(), &model.node_input_facts(node.id)?)?;
        let TypedNode { id, name, inputs, outputs, .. } = node.clone();
        nodes.push(Node { id, name, inputs, op, outputs });
    }
    SimplePlan::new(Graph {
        nodes,
        inputs: model.inputs,
        outputs: model.outputs,
        symbols: model.symbols,
        ..Graph::default()
    })
}

/// An operator of a frozen plan.
#[derive(Clone, Debug)]
pub struct Operator(Box<dyn Op>);

impl Operator {
    fn new(op: Box<dyn TypedOp>, inputs: &[&TypedFact]) -> TractResult<Operator> {
        if op.state(&EvalContext::out_of_plan())?.is_some() {
            // Its state (of a loop, for example) asks for the operator itself.
            return Ok(Operator(op));
        }
        let multiply_adds = op
            .cost(inputs)?
            .iter()
            .filter(|(cost, _)| matches!(cost, Cost::FMA(_)))
            .filter_map(|(_, count)| count.to_i64().ok())
            .sum::<i64>()
            .unsigned_abs();
        let name = op.name();
        let evaluation: Box<dyn EvalOp + Send + Sync> = op;
        let evaluation = Arc::from(evaluation);
        Ok(Operator(Box::new(Frozen { name, multiply_adds, evaluation })))
    }

    /// Multiplications with an addition each in one run, as far as the operator tells.
    pub fn multiply_adds(&self) -> u64 {
        self.0.downcast_ref::<Frozen>().map_or(0, |frozen| frozen.multiply_adds)
    }
}

impl AsRef<dyn Op> for Operator {
    fn as_ref(&self) -> &dyn Op {
        &*self.0
    }
}

impl AsMut<dyn Op> for Operator {
    fn as_mut(&mut self) -> &mut dyn Op {
        &mut *self.0
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.name())
    }
}

/// An operator's evaluation and what is shown of it.
#[derive(Clone)]
struct Frozen {
    name: StaticName,
    multiply_adds: u64,
    evaluation: Arc<dyn EvalOp + Send + Sync>,
}

impl fmt::Debug for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl PartialEq for Frozen {
    fn eq(&self, other: &Frozen) -> bool {
        Arc::ptr_eq(&self.evaluation, &other.evaluation)
    }
}

impl Eq for Frozen {}

impl Op for Frozen {
    fn name(&self) -> StaticName {
        self.name.clone()
    }

    fn as_typed(&self) -> Option<&dyn TypedOp> {
        None
    }
}

impl EvalOp for Frozen {
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

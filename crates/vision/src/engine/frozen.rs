//! A plan that can only be run: it keeps of every operator no more than its evaluation.
//!
//! tract's operators can also be simplified, fused and split. A loaded model needs none of that, but
//! values that can do it keep its code, and with it most of tract, in the component.

use std::fmt;
use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;

/// A plan of frozen operators.
pub type FrozenPlan = SimplePlan<TypedFact, FrozenOp>;

/// Freezes an optimised model.
///
/// # Errors
/// If the model is broken.
pub fn freeze(model: TypedModel) -> TractResult<Arc<FrozenPlan>> {
    // A new vector: `collect` would reuse the model's own, whose spare capacity stays allocated.
    let mut nodes = Vec::with_capacity(model.nodes.len());
    for node in &model.nodes {
        let op = FrozenOp::new(node.op.clone(), &model.node_input_facts(node.id)?)?;
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

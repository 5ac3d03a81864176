//! Operator fusion: rewrites a model so that the [kernels](kernels) compute what they can, as
//! [operators](super::op) of tract; tract computes the rest.
//!
//! Fusion works on the model as tract has read it, before tract's own optimiser: there every layer is
//! still a convolution followed by what belongs to it, in ONNX's layout `[1, channels, height, width]`.
//! Fused layers read and write `[1, height, width, channels]`.
//!
//! # Patterns
//! | ONNX nodes (`?`: optional) | operator |
//! |---|---|
//! | `Conv` 1 × 1, `Add`?, activation? | pointwise |
//! | `Conv` by channel 3 × 3 or 5 × 5, activation? | depthwise |
//! | `Conv` of up to 16 input channels, activation? | full convolution by im2col |
//! | one of the three as *expand*?, depthwise, pointwise as *project*? | inverted residual, row by row |
//! | `MaxPool` 2 × 2 | max pool |
//! | `Resize` to twice the size, `Conv` 1 × 1, activation?, `Add`? | pointwise, then upsample |
//! | `MatMul` or `Gemm` of one row and a constant matrix | matrix |
//!
//! An activation is `Clip`, `Relu` or `PRelu`. What is added before it may come through a `Pad` that
//! only appends channels of zeros. The pass has three parts, each of which knows those before it:
//! [`matcher`] follows a chain of nodes, [`patterns`] says which chains become which operators,
//! [`rewriter`] wires them.
//!
//! # Fallbacks
//! A layer that no pattern takes runs in tract, unless a [plan](super::plan) has an operator for it:
//! correct, but slower, and with a transposition before and after it. [`fuse`] reports each with the
//! reason. One layer in tract keeps tract's code in the component.
//!
//! # How to add a pattern
//! 1. The operator is a kernel first: the crate `kernels` says how to add one.
//! 2. Write a function in `patterns.rs` that starts at the pattern's first node, advances the matcher
//!    over every node that it takes in, and refuses with a reason.
//! 3. Call it from `patterns::fuse` for the type of the first node's operator.
//! 4. Add it to the table above, and to the tests: a graph for the pattern, one for each refusal.

mod matcher;
mod patterns;
mod rewriter;
mod shared;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use kernels::pointwise::Precision;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::array::Pad;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::cnn::{Deconv, SumPool};
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::logic::Iff;
use tract_onnx::tract_core::ops::scan::Scan;

use self::matcher::{Fused, Matcher, Refusal, feature_map};
use self::rewriter::Rewriter;
pub use self::shared::SharedOperators;

/// A layer that tract computes because no pattern of the fusion pass takes it.
///
/// Convolutions, pools, resizing and matrix products count, whatever their size; so do activations,
/// additions and padding of feature maps with more than one pixel. Nodes that only move or reshape
/// values do not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// Name of the node in the model file, or of a part that tract splits it into.
    pub node: String,
    /// tract's operator.
    pub op: String,
    /// A phrase that completes "because of …".
    pub reason: &'static str,
}

/// Rewrites a model with fused layers, whose matrix products have this precision, and reports what is
/// left to tract.
///
/// # Errors
/// If the model is broken.
pub fn fuse(
    model: &TypedModel,
    precision: Precision,
    operators: &mut SharedOperators,
) -> TractResult<(TypedModel, Vec<Fallback>)> {
    let order = model.eval_order()?;
    let mut consumed: HashSet<usize> = HashSet::new();
    let mut chains: HashMap<usize, Fused> = HashMap::new();
    let mut refusals: HashMap<usize, Refusal> = HashMap::new();
    for &node in &order {
        if consumed.contains(&node) {
            continue;
        }
        let mut matcher = Matcher::new(model, precision, operators, &consumed, node);
        match patterns::fuse(&mut matcher) {
            Some(Ok(fused)) => {
                let chain = matcher.into_chain();
                chains.extend(chain.last().map(|end| (*end, fused)));
                consumed.extend(chain);
            }
            Some(Err(refusal)) => {
                refusals.insert(node, refusal);
            }
            None => {}
        }
    }

    let mut rewriter = Rewriter::new(model)?;
    for node in order {
        match chains.remove(&node) {
            Some(fused) => rewriter.wire_fused(node, fused)?,
            None if consumed.contains(&node) => {}
            None => rewriter.wire_kept(node)?,
        }
    }
    let (target, kept) = rewriter.finish()?;
    let fallback = |id: usize| {
        let node = model.node(id);
        let reason = refusals.get(&id).copied().or_else(|| unmatched(model, node))?;
        Some(Fallback { node: node.name.clone(), op: node.op.name().into_owned(), reason })
    };
    Ok((target, kept.into_iter().filter_map(fallback).collect()))
}

/// Returns why a node counts as a fallback although no pattern begins with it; `None` if it does not.
fn unmatched(model: &TypedModel, node: &TypedNode) -> Option<Refusal> {
    if node.op_is::<Deconv>() || node.op_is::<SumPool>() || node.op_is::<Scan>() {
        return Some("a layer that no pattern begins with");
    }
    let by_value = node.op_is::<TypedBinOp>() || node.op_is::<ElementWiseOp>();
    let part = by_value || node.op_is::<Iff>() || node.op_is::<Pad>();
    let many_pixels = feature_map(model, node.id.into()).is_some_and(|shape| shape.pixels() > 1);
    (part && many_pixels).then_some("a place where no fused layer takes it in")
}

//! The matcher: a cursor that follows a chain of nodes, and the questions that patterns ask of them.

use std::collections::HashSet;

use kernels::operator::Operator;
use kernels::pointwise::Precision;
use kernels::shape::Shape;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::binary::{BinMiniOp, TypedBinOp};
use tract_onnx::tract_core::ops::cast::Cast;
use tract_onnx::tract_core::ops::change_axes::AxisOp;

use super::shared::SharedOperators;
use crate::engine::op::Layer;

/// Why a pattern does not match: a phrase that completes "because of …".
pub type Refusal = &'static str;

/// A match, or else the reason that there is none.
pub type Matched<T> = Result<T, Refusal>;

const UNFIT: Refusal = "an input shape that the operator does not take";

/// A layer to wire instead of nodes.
pub struct FusedLayer {
    /// Our operator for the layer's input shape.
    pub layer: Layer,
    /// First input: an outlet of the source model, or `None` for the output of the layer before.
    pub input: Option<OutletId>,
    /// Second input, added to the output: an outlet of the source model.
    pub residual: Option<OutletId>,
}

impl FusedLayer {
    /// Returns a chain's first layer.
    pub fn new(layer: Layer, input: OutletId, residual: Option<OutletId>) -> FusedLayer {
        FusedLayer { layer, input: Some(input), residual }
    }
}

/// The layout of a chain's inputs and output in the rewritten model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Feature maps `[1, height, width, channels]`.
    ChannelsLast,
    /// The source model's own.
    Unchanged,
}

/// A chain of nodes as layers, one after the other.
pub struct Fused {
    /// The layers; the first one names its input.
    pub layers: Vec<FusedLayer>,
    /// Layout of everything they read and write.
    pub layout: Layout,
}

/// A cursor along a chain of nodes of the source model that become layers together.
pub struct Matcher<'a> {
    model: &'a TypedModel,
    precision: Precision,
    operators: &'a mut SharedOperators,
    consumed: &'a HashSet<usize>,
    /// The chain so far. Its last node's output is the layers' output.
    chain: Vec<usize>,
}

impl<'a> Matcher<'a> {
    /// Returns a cursor at `start`. Nodes in `consumed` belong to other chains.
    pub fn new(
        model: &'a TypedModel,
        precision: Precision,
        operators: &'a mut SharedOperators,
        consumed: &'a HashSet<usize>,
        start: usize,
    ) -> Matcher<'a> {
        Matcher { model, precision, operators, consumed, chain: vec![start] }
    }

    /// Returns the chain's nodes, in order.
    pub fn into_chain(self) -> Vec<usize> {
        self.chain
    }

    /// The source model.
    pub fn model(&self) -> &'a TypedModel {
        self.model
    }

    /// Precision of matrix products.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The node at the cursor.
    pub fn node(&self) -> &'a TypedNode {
        self.model.node(self.end())
    }

    /// The output of the node at the cursor.
    pub fn output(&self) -> OutletId {
        self.end().into()
    }

    fn end(&self) -> usize {
        *self.chain.last().expect("a chain has a start")
    }

    /// Moves the cursor over nodes that follow each other or, as branches, the cursor's node. The last
    /// one's output becomes the chain's.
    pub fn advance(&mut self, nodes: &[usize]) {
        self.chain.extend(nodes);
    }

    /// Matches an optional part of a pattern: if it is refused, the cursor returns to where it was.
    pub fn attempt<T>(&mut self, part: impl FnOnce(&mut Self) -> Matched<T>) -> Option<T> {
        let length = self.chain.len();
        let matched = part(self).ok();
        if matched.is_none() {
            self.chain.truncate(length);
        }
        matched
    }

    /// Returns a layer for feature maps, its operator shared with the model's other plans.
    ///
    /// # Errors
    /// If the operator does not fit the shape.
    pub fn layer<O>(&mut self, operator: O, input: Shape) -> Matched<Layer>
    where
        O: Operator + PartialEq + 'static,
    {
        Layer::new(self.operators.share(operator), input).ok_or(UNFIT)
    }

    /// Returns a layer for rows `[1, inputs]`, its operator shared with the model's other plans.
    ///
    /// # Errors
    /// If the operator does not fit the length.
    pub fn row_layer<O>(&mut self, operator: O, inputs: usize) -> Matched<Layer>
    where
        O: Operator + PartialEq + 'static,
    {
        Layer::rows(self.operators.share(operator), inputs).ok_or(UNFIT)
    }

    /// Returns the operator of a node if it is of this type.
    pub fn op<O: TypedOp>(&self, node: usize) -> Option<&'a O> {
        self.model.node(node).op.downcast_ref()
    }

    /// Returns the nodes that read the chain's output.
    ///
    /// # Errors
    /// If the output is also the model's, if the node has others, or if a reader is part of another
    /// chain.
    pub fn readers(&self) -> Matched<Vec<usize>> {
        let end = self.node();
        if end.outputs.len() != 1 || self.model.outputs.contains(&self.output()) {
            return Err("an output of the model between its nodes");
        }
        let readers: Vec<usize> = end.outputs[0].successors.iter().map(|to| to.node).collect();
        if readers.iter().any(|reader| self.consumed.contains(reader)) {
            return Err("a reader that is part of another layer");
        }
        Ok(readers)
    }

    /// Returns the one node that reads the chain's output.
    ///
    /// # Errors
    /// As [`Matcher::readers`], or if there are several readers or none.
    pub fn only_reader(&self) -> Matched<usize> {
        match self.readers()?[..] {
            [reader] => Ok(reader),
            _ => Err("values between its nodes that others read"),
        }
    }

    /// Returns the other input of a binary operator of this type that reads the chain's output.
    ///
    /// # Errors
    /// If the node is none.
    pub fn other_input<O: BinMiniOp>(&self, node: usize) -> Matched<OutletId> {
        let binary = self.op::<TypedBinOp>(node).filter(|binary| binary.0.is::<O>());
        let end = self.output();
        match (binary, &self.model.node(node).inputs[..]) {
            (Some(_), &[a, b]) if a == end => Ok(b),
            (Some(_), &[a, b]) if b == end => Ok(a),
            _ => Err("another operator than expected"),
        }
    }

    /// Returns height, width and channels of a feature map.
    ///
    /// # Errors
    /// If the outlet is not `[1, channels, height, width]` of `f32`, all dimensions fixed.
    pub fn shape(&self, outlet: OutletId) -> Matched<Shape> {
        feature_map(self.model, outlet)
            .ok_or("values other than f32 [1, channels, height, width] of fixed size")
    }

    /// Returns a constant's values, row-major.
    ///
    /// # Errors
    /// If the outlet is not constant.
    pub fn constant(&self, outlet: OutletId) -> Matched<Vec<f32>> {
        constant(self.model, outlet).ok_or("weights that are not constant")
    }

    /// Returns a constant of one value.
    ///
    /// # Errors
    /// If the outlet is none.
    pub fn scalar(&self, outlet: OutletId) -> Matched<f32> {
        match self.constant(outlet)?[..] {
            [value] => Ok(value),
            _ => Err("a constant of several values where one is expected"),
        }
    }

    /// Returns a constant's value for each channel of `[1, channels, height, width]`.
    ///
    /// # Errors
    /// If the outlet is not constant, or has neither one value nor one for each channel.
    pub fn by_channel(&self, outlet: OutletId, channels: usize) -> Matched<Vec<f32>> {
        const SHAPE: Refusal = "a constant with neither one value nor one for each channel";
        let values = self.constant(outlet)?;
        let fact = self.model.outlet_fact(outlet).map_err(|_| SHAPE)?;
        match fact.shape.as_concrete().ok_or(SHAPE)? {
            [] | [1] | [1, 1, 1, 1] => Ok(vec![values[0]; channels]),
            &[count] | &[1, count, 1, 1] | &[count, 1, 1] if count == channels => Ok(values),
            _ => Err(SHAPE),
        }
    }
}

/// Returns height, width and channels of an outlet `[1, channels, height, width]` of `f32`.
pub fn feature_map(model: &TypedModel, outlet: OutletId) -> Option<Shape> {
    let fact = model.outlet_fact(outlet).ok()?;
    match fact.shape.as_concrete()? {
        &[1, channels, height, width] if fact.datum_type == f32::datum_type() => {
            Some(Shape { height, width, channels })
        }
        _ => None,
    }
}

/// Returns a constant's values, through what tract leaves between it and its reader: casts, since the
/// model files keep weights as `f16`, and dimensions of size 1 added or removed.
fn constant(model: &TypedModel, outlet: OutletId) -> Option<Vec<f32>> {
    if let Some(tensor) = &model.outlet_fact(outlet).ok()?.konst {
        let tensor = tensor.cast_to::<f32>().ok()?;
        return Some(tensor.try_as_plain_ram().ok()?.as_slice::<f32>().ok()?.to_vec());
    }
    let node = model.node(outlet.node);
    let keeps_values =
        node.op_is::<Cast>() || matches!(node.op_as(), Some(AxisOp::Add(_) | AxisOp::Rm(_)));
    if keeps_values { constant(model, node.inputs[0]) } else { None }
}

//! The rewriter: builds the new model node by node, and keeps track of layouts.
//!
//! Fused layers read and write feature maps channels last. A transposition is wired only where an
//! operator of tract's reads what a fused layer writes, or the other way round.

use std::collections::HashMap;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::ops::nn::Reduce;
use tract_onnx::tract_core::ops::source::TypedSource;

use super::matcher::{Fused, Layout};
use crate::engine::op::Layer;

/// The new model, and where the outlets of the source model are in it.
pub struct Rewriter<'a> {
    source: &'a TypedModel,
    target: TypedModel,
    /// Outlets in the source model's layout.
    unchanged: HashMap<OutletId, OutletId>,
    /// Feature maps `[1, height, width, channels]`.
    channels_last: HashMap<OutletId, OutletId>,
    /// Source and target of every node that tract computes.
    kept: Vec<(usize, usize)>,
}

impl<'a> Rewriter<'a> {
    /// Returns a rewriter whose target has the source model's inputs, in their order.
    ///
    /// # Errors
    /// If the source model is broken.
    pub fn new(source: &'a TypedModel) -> TractResult<Rewriter<'a>> {
        let symbols = source.symbols.clone();
        let mut target = TypedModel { symbols, ..TypedModel::default() };
        let mut unchanged = HashMap::new();
        for input in &source.inputs {
            let name = &source.node(input.node).name;
            let wired = target.add_source(name, source.outlet_fact(*input)?.clone())?;
            unchanged.insert(*input, wired);
        }
        let (channels_last, kept) = (HashMap::new(), Vec::new());
        Ok(Rewriter { source, target, unchanged, channels_last, kept })
    }

    /// Returns the rewritten model, and the source model's nodes that tract still computes in it.
    ///
    /// # Errors
    /// If the source model is broken.
    pub fn finish(mut self) -> TractResult<(TypedModel, Vec<usize>)> {
        let outputs = self.source.outputs.iter().map(|outlet| self.unchanged(*outlet));
        let outputs = outputs.collect::<TractResult<Vec<_>>>()?;
        self.target.select_output_outlets(&outputs)?;
        feed_bytes(&mut self.target);
        // A `Pad` before a fused addition, for example, is wired but not read.
        let live = self.target.eval_order()?;
        let kept = self.kept.iter().filter(|(_, target)| live.contains(target));
        let kept = kept.map(|(source, _)| *source).collect();
        Ok((self.target, kept))
    }

    /// Wires the layers of a chain that ends with the node `end`.
    ///
    /// # Errors
    /// If an input of the chain is not wired yet, or a layer does not take its inputs.
    pub fn wire_fused(&mut self, end: usize, fused: Fused) -> TractResult<()> {
        let name = &self.source.node(end).name;
        let mut output = None;
        for (index, layer) in fused.layers.into_iter().enumerate() {
            let input = match layer.input {
                Some(input) => self.outlet(input, fused.layout)?,
                None => output.context("the first layer has no input")?,
            };
            let mut inputs = tvec!(input);
            if let Some(residual) = layer.residual {
                inputs.push(self.outlet(residual, fused.layout)?);
            }
            let name = format!("{name}.{index}");
            output = Some(self.target.wire_node(name, layer.layer, &inputs)?[0]);
        }
        let output = output.context("a chain without layers")?;
        match fused.layout {
            Layout::ChannelsLast => self.channels_last.insert(end.into(), output),
            Layout::Unchanged => self.unchanged.insert(end.into(), output),
        };
        Ok(())
    }

    /// Wires a node that is part of no chain: as it is, or over channels last if it moves or sums up
    /// whole feature maps.
    ///
    /// # Errors
    /// If an input is not wired yet.
    pub fn wire_kept(&mut self, id: usize) -> TractResult<()> {
        let node = self.source.node(id);
        let wired_elsewhere = node.op_is::<Const>() || node.op_is::<TypedSource>();
        if wired_elsewhere || self.wire_move(node)? || self.wire_global_reduce(node)? {
            return Ok(());
        }
        let inputs = node.inputs.iter().map(|outlet| self.unchanged(*outlet));
        let inputs = inputs.collect::<TractResult<TVec<_>>>()?;
        let wired = self.target.wire_node(&node.name, node.op.clone(), &inputs)?;
        self.kept.extend(wired.first().map(|outlet| (id, outlet.node)));
        for (slot, outlet) in wired.into_iter().enumerate() {
            self.unchanged.insert(OutletId::new(id, slot), outlet);
        }
        Ok(())
    }

    /// `Transpose` from or to channels last: no node at all. Returns false if it is another one.
    fn wire_move(&mut self, node: &TypedNode) -> TractResult<bool> {
        match node.op_as::<AxisOp>() {
            Some(AxisOp::Move(3, 1)) if node.outputs[0].fact.rank() == 4 => {
                let input = self.unchanged(node.inputs[0])?;
                self.channels_last.insert(node.id.into(), input);
            }
            Some(AxisOp::Move(1, 3)) if self.channels_last.contains_key(&node.inputs[0]) => {
                let input = self.channels_last(node.inputs[0])?;
                self.unchanged.insert(node.id.into(), input);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// `GlobalAveragePool`'s sum over rows and columns. Returns false if it is another node.
    fn wire_global_reduce(&mut self, node: &TypedNode) -> TractResult<bool> {
        let Some(reduce) = node.op_as::<Reduce>() else { return Ok(false) };
        if reduce.axes[..] != [2, 3] || !self.channels_last.contains_key(&node.inputs[0]) {
            return Ok(false);
        }
        let input = self.channels_last(node.inputs[0])?;
        let reduce = Reduce { axes: tvec!(1, 2), ..reduce.clone() };
        let wired = self.target.wire_node(&node.name, reduce, &[input])?[0];
        self.channels_last.insert(node.id.into(), wired);
        Ok(true)
    }

    /// An outlet of the source model in a layout.
    fn outlet(&mut self, outlet: OutletId, layout: Layout) -> TractResult<OutletId> {
        match layout {
            Layout::ChannelsLast => self.channels_last(outlet),
            Layout::Unchanged => self.unchanged(outlet),
        }
    }

    fn unchanged(&mut self, outlet: OutletId) -> TractResult<OutletId> {
        if let Some(known) = self.unchanged.get(&outlet) {
            return Ok(*known);
        }
        let node = self.source.node(outlet.node);
        let wired = if let Some(constant) = node.op_as::<Const>() {
            self.target.add_const(&node.name, Arc::clone(constant.val()))?
        } else {
            let known = self.channels_last.get(&outlet);
            let known = *known.context("an outlet that is not wired yet")?;
            let name = format!("{}.{}.channels-first", node.name, outlet.slot);
            self.target.wire_node(name, AxisOp::Move(3, 1), &[known])?[0]
        };
        self.unchanged.insert(outlet, wired);
        Ok(wired)
    }

    fn channels_last(&mut self, outlet: OutletId) -> TractResult<OutletId> {
        if let Some(known) = self.channels_last.get(&outlet) {
            return Ok(*known);
        }
        let known = self.unchanged(outlet)?;
        let name = format!("{}.{}.channels-last", self.source.node(outlet.node).name, outlet.slot);
        let wired = self.target.wire_node(name, AxisOp::Move(1, 3), &[known])?[0];
        self.channels_last.insert(outlet, wired);
        Ok(wired)
    }
}

/// Turns inputs into bytes where every reader is a layer that takes bytes: pixels then need not become
/// floats only to become integers again.
fn feed_bytes(model: &mut TypedModel) {
    for input in model.inputs.clone() {
        let readers = &model.node(input.node).outputs[input.slot].successors;
        let takes_bytes = |reader: &InletId| {
            let layer = model.node(reader.node).op_as::<Layer>();
            reader.slot == 0 && layer.is_some_and(Layer::reads_u8)
        };
        if readers.is_empty() || !readers.iter().all(takes_bytes) || model.outputs.contains(&input)
        {
            continue;
        }
        let node = &mut model.nodes[input.node];
        let fact = u8::fact(node.outputs[input.slot].fact.shape.clone());
        node.op = Box::new(TypedSource::new(fact.clone()));
        node.outputs[input.slot].fact = fact;
    }
}

//! Small ONNX graphs for tests, with pseudo-random weights that are the same in every run.

use prost::Message;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};
use tract_onnx::prelude::*;

/// The operator set of the model files.
const OPSET: i64 = 13;

/// A graph under construction. Its first input is called `input`.
pub struct Graph {
    graph: GraphProto,
    random: fastrand::Rng,
}

impl Graph {
    /// Returns a graph with an input of this shape and no node.
    pub fn new(input: &[usize]) -> Graph {
        let mut graph = Graph { graph: GraphProto::default(), random: fastrand::Rng::with_seed(7) };
        graph.input("input", input);
        graph
    }

    /// Returns a graph whose input has these dimensions: numbers, or symbols that stand for any.
    pub fn of_dimensions(dimensions: &[&str]) -> Graph {
        let mut graph = Graph::new(&[]);
        graph.graph.input.clear();
        let dimensions = dimensions.iter().map(|dimension| match dimension.parse() {
            Ok(size) => dimension::Value::DimValue(size),
            Err(_) => dimension::Value::DimParam((*dimension).into()),
        });
        let input = value_info("input", DataType::Float, dimensions);
        graph.graph.input.push(input);
        graph
    }

    /// Adds an input of `f32`.
    pub fn input(&mut self, name: &str, shape: &[usize]) {
        self.typed_input(name, DataType::Float, shape);
    }

    /// Adds an input of any type.
    pub fn typed_input(&mut self, name: &str, of: DataType, shape: &[usize]) {
        let dimensions = shape.iter().map(|size| dimension::Value::DimValue(*size as i64));
        self.graph.input.push(value_info(name, of, dimensions));
    }

    /// Declares an output.
    pub fn output(&mut self, name: &str) {
        self.graph.output.push(ValueInfoProto { name: name.into(), ..Default::default() });
    }

    /// Adds a constant; returns its name.
    pub fn constant(&mut self, shape: &[usize], values: &[f32]) -> String {
        self.initializer(
            shape,
            TensorProto {
                data_type: DataType::Float as i32,
                float_data: values.to_vec(),
                ..Default::default()
            },
        )
    }

    /// Adds a constant vector of integers; returns its name.
    pub fn integers(&mut self, values: &[i64]) -> String {
        self.initializer(
            &[values.len()],
            TensorProto {
                data_type: DataType::Int64 as i32,
                int64_data: values.to_vec(),
                ..Default::default()
            },
        )
    }

    fn initializer(&mut self, shape: &[usize], tensor: TensorProto) -> String {
        let name = format!("constant_{}", self.graph.initializer.len());
        let dims = shape.iter().map(|size| *size as i64).collect();
        self.graph.initializer.push(TensorProto { name: name.clone(), dims, ..tensor });
        name
    }

    /// Adds a constant with values between −`limit` and `limit`; returns its name.
    pub fn random(&mut self, shape: &[usize], limit: f32) -> String {
        let values = shape.iter().product();
        let values: Vec<f32> =
            (0..values).map(|_| (2.0 * self.random.f32() - 1.0) * limit).collect();
        self.constant(shape, &values)
    }

    /// Begins a node; [`Node::add`] ends it.
    pub fn node(&mut self, op: &str, inputs: &[&str]) -> Node<'_> {
        let name = format!("{}_{}", op.to_lowercase(), self.graph.node.len());
        let node = NodeProto {
            input: inputs.iter().map(|input| (*input).into()).collect(),
            output: vec![name.clone()],
            name,
            op_type: op.into(),
            ..Default::default()
        };
        Node { graph: self, node }
    }

    /// Begins a convolution with random weights `[outputs][inputs][side][side]` and bias, where
    /// `inputs` are the channels of one group.
    pub fn conv(&mut self, input: &str, inputs: usize, outputs: usize, side: usize) -> Node<'_> {
        let limit = (3.0 / (inputs * side * side) as f32).sqrt();
        let weights = self.random(&[outputs, inputs, side, side], limit);
        let bias = self.random(&[outputs], 0.5);
        self.node("Conv", &[input, &weights, &bias])
    }

    /// Adds `Clip` between two bounds; returns its output.
    pub fn clip(&mut self, input: &str, least: f32, most: f32) -> String {
        let (least, most) = (self.constant(&[], &[least]), self.constant(&[], &[most]));
        self.node("Clip", &[input, &least, &most]).add()
    }

    /// Adds `PRelu` with a random slope for each channel; returns its output.
    pub fn prelu(&mut self, input: &str, channels: usize) -> String {
        let slopes = self.random(&[channels, 1, 1], 0.5);
        self.node("PRelu", &[input, &slopes]).add()
    }

    /// Adds `Transpose`; returns its output.
    pub fn transpose(&mut self, input: &str, permutation: &[i64]) -> String {
        self.node("Transpose", &[input]).ints("perm", permutation).add()
    }

    fn to_proto(&self) -> ModelProto {
        ModelProto {
            ir_version: 8,
            opset_import: vec![OperatorSetIdProto { version: OPSET, ..Default::default() }],
            graph: Some(self.graph.clone()),
            ..Default::default()
        }
    }

    /// Returns the graph as the bytes of an ONNX file.
    pub fn to_onnx(&self) -> Vec<u8> {
        self.to_proto().encode_to_vec()
    }

    /// Returns the graph as tract reads it, before its optimiser.
    pub fn to_typed(&self) -> TypedModel {
        let model = tract_onnx::onnx().model_for_proto_model(&self.to_proto());
        model.and_then(|model| model.into_typed()).expect("a model")
    }
}

/// A node under construction.
pub struct Node<'a> {
    graph: &'a mut Graph,
    node: NodeProto,
}

impl Node<'_> {
    /// Adds the node; returns its output, which is its name, too.
    pub fn add(self) -> String {
        let name = self.node.name.clone();
        self.graph.graph.node.push(self.node);
        name
    }

    fn attribute(mut self, name: &str, of: AttributeType, attribute: AttributeProto) -> Self {
        let attribute = AttributeProto { name: name.into(), r#type: of as i32, ..attribute };
        self.node.attribute.push(attribute);
        self
    }

    /// Sets an attribute to integers.
    pub fn ints(self, name: &str, values: &[i64]) -> Self {
        let attribute = AttributeProto { ints: values.to_vec(), ..Default::default() };
        self.attribute(name, AttributeType::Ints, attribute)
    }

    /// Sets an attribute to an integer.
    pub fn int(self, name: &str, value: i64) -> Self {
        let attribute = AttributeProto { i: value, ..Default::default() };
        self.attribute(name, AttributeType::Int, attribute)
    }

    /// Sets an attribute to a text.
    pub fn text(self, name: &str, value: &str) -> Self {
        let attribute = AttributeProto { s: value.into(), ..Default::default() };
        self.attribute(name, AttributeType::String, attribute)
    }

    /// Sets the padding, the same on all sides.
    pub fn pads(self, by: i64) -> Self {
        self.ints("pads", &[by; 4])
    }

    /// Sets the stride, the same down and across.
    pub fn stride(self, by: i64) -> Self {
        self.ints("strides", &[by; 2])
    }

    /// Adds an output.
    pub fn output(mut self, name: &str) -> Self {
        self.node.output.push(name.into());
        self
    }

    /// Sets the number of groups.
    pub fn groups(self, count: i64) -> Self {
        self.int("group", count)
    }
}

fn value_info(
    name: &str,
    of: DataType,
    dimensions: impl Iterator<Item = dimension::Value>,
) -> ValueInfoProto {
    let dim = dimensions.map(|value| Dimension { value: Some(value), ..Default::default() });
    let tensor = type_proto::Tensor {
        elem_type: of as i32,
        shape: Some(TensorShapeProto { dim: dim.collect() }),
    };
    let r#type =
        TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: name.into(), r#type: Some(r#type), ..Default::default() }
}

//! Small graphs for every pattern and every refusal: fused, each computes what tract computes.

use kernels::pointwise::Precision::{self, Int8, Int16};
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::cnn::{Conv, KernelFormat, PaddingSpec, PoolSpec};
use tract_onnx::tract_core::ops::nn::DataFormat;

use super::{SharedOperators, fuse};
use crate::engine::op::Layer;
use crate::engine::test_graph::Graph;

/// Largest error against tract's `f32`, as a part of the largest output. Measured natively: 0.0007 in
/// int16, 0.012 in int8. What nothing quantises differs by rounding alone.
fn tolerance(precision: Precision, operators: &[&str]) -> f32 {
    let in_f32 = |operator: &&str| ["depthwise", "max pool"].contains(operator);
    match precision {
        _ if operators.iter().all(in_f32) => 1e-6,
        Int16 => 0.001,
        Int8 => 0.016,
    }
}

const ELSEWHERE: &str = "a place where no fused layer takes it in";

/// A model's fused operators in order of evaluation.
fn operators(model: &TypedModel) -> Vec<String> {
    let order = model.eval_order().expect("an order");
    let layers = order.iter().map(|id| model.node(*id)).filter(|node| node.op_is::<Layer>());
    layers.map(|node| node.op.name().into_owned()).collect()
}

/// Pseudo-random pixels, and for inputs of values what they stand for from −1 to 1.
fn input(fact: &TypedFact, bytes: bool, random: &mut fastrand::Rng) -> (Tensor, Tensor) {
    let shape = fact.shape.as_concrete().expect("a fixed shape");
    let pixels: Vec<u8> = (0..shape.iter().product()).map(|_| random.u8(..)).collect();
    let value = |pixel: &u8| match bytes {
        true => f32::from(*pixel) / 255.0,
        false => f32::from(*pixel) / 127.5 - 1.0,
    };
    let values: Vec<f32> = pixels.iter().map(value).collect();
    let values = Tensor::from_shape(shape, &values).expect("a tensor");
    let of = |dtype| values.cast_to_dt(dtype).expect("values").into_owned();
    let floats = of(fact.datum_type);
    let fused =
        if bytes { Tensor::from_shape(shape, &pixels).expect("a tensor") } else { floats.clone() };
    (floats, fused)
}

/// Runs a model after tract's optimiser.
fn run(model: TypedModel, inputs: Vec<Tensor>) -> Vec<Vec<f32>> {
    let inputs = inputs.into_iter().map(Tensor::into_tvalue).collect();
    let outputs = model.into_optimized().and_then(|model| model.into_runnable()?.run(inputs));
    let values = |output: &TValue| {
        let output = output.cast_to::<f32>().expect("values");
        output.try_as_plain_ram().expect("values").as_slice::<f32>().expect("floats").to_vec()
    };
    outputs.expect("a run").iter().map(values).collect()
}

/// Fuses a model and compares what it computes with tract.
fn check_typed(
    model: &TypedModel,
    precision: Precision,
    expected: &[&str],
    expected_fallbacks: &[(&str, &str)],
) {
    let (fused, fallbacks) =
        fuse(model, precision, &mut SharedOperators::default()).expect("a model");
    assert_eq!(operators(&fused), expected, "operators");
    let fallbacks: Vec<_> =
        fallbacks.iter().map(|fallback| (fallback.op.as_str(), fallback.reason)).collect();
    assert_eq!(fallbacks, expected_fallbacks, "fallbacks");

    let mut random = fastrand::Rng::with_seed(11);
    let (mut floats, mut inputs) = (Vec::new(), Vec::new());
    for (index, outlet) in model.inputs.iter().enumerate() {
        let bytes = fused.input_fact(index).expect("a fact").datum_type == u8::datum_type();
        let fact = model.outlet_fact(*outlet).expect("a fact");
        let (values, pixels) = input(fact, bytes, &mut random);
        floats.push(values);
        inputs.push(pixels);
    }
    let (fused, plain) = (run(fused, inputs), run(model.clone(), floats));
    assert_eq!(fused.len(), plain.len());
    for (fused, plain) in fused.iter().zip(&plain) {
        assert_eq!(fused.len(), plain.len());
        let largest = plain.iter().fold(0.0_f32, |max, value| max.max(value.abs()));
        assert!(largest > 0.0, "an output that is zero everywhere shows nothing");
        let apart = fused.iter().zip(plain).map(|(fused, plain)| (fused - plain).abs());
        let error = apart.fold(0.0, f32::max) / largest;
        println!("{precision:?} {expected:?}: error {error:.2e}");
        let tolerance = tolerance(precision, expected);
        assert!(error <= tolerance, "{precision:?} {expected:?}: error {error:.2e}");
    }
}

/// Checks the graph that ends with a node, in int16 and in int8.
fn check(mut graph: Graph, output: &str, expected: &[&str], expected_fallbacks: &[(&str, &str)]) {
    graph.output(output);
    for precision in [Int16, Int8] {
        check_typed(&graph.to_typed(), precision, expected, expected_fallbacks);
    }
}

/// Checks that a pattern takes all of a graph.
fn fuses(graph: Graph, output: &str, expected: &[&str]) {
    check(graph, output, expected, &[]);
}

/// Checks that tract's operator stays, and is reported, where nothing is fused.
fn refuses(graph: Graph, output: &str, op: &str, reason: &str) {
    check(graph, output, &[], &[(op, reason)]);
}

mod patterns {
    use super::*;

    #[test]
    fn pointwise_convolution_is_fused() {
        let mut graph = Graph::new(&[1, 16, 5, 7]);
        let conv = graph.conv("input", 16, 24, 1).add();
        fuses(graph, &conv, &["pointwise"]);
    }

    #[test]
    fn pointwise_convolution_without_bias_is_fused() {
        let mut graph = Graph::new(&[1, 16, 5, 7]);
        let weights = graph.random(&[24, 16, 1, 1], 0.5);
        let conv = graph.node("Conv", &["input", &weights]).add();
        fuses(graph, &conv, &["pointwise"]);
    }

    #[test]
    fn weights_in_f16_are_read_through_their_cast() {
        let mut graph = Graph::new(&[1, 8, 4, 4]);
        let weights = graph.random(&[8, 8, 1, 1], 0.5);
        let half = graph.node("Cast", &[&weights]).int("to", DataType::Float16 as i64).add();
        let weights = graph.node("Cast", &[&half]).int("to", DataType::Float as i64).add();
        let conv = graph.node("Conv", &["input", &weights]).add();
        fuses(graph, &conv, &["pointwise"]);
    }

    #[test]
    fn every_activation_becomes_part_of_its_convolution() {
        let activations: [fn(&mut Graph, &str) -> String; 6] = [
            |graph, conv| graph.clip(conv, 0.0, 1.5),
            |graph, conv| graph.node("Relu", &[conv]).add(),
            |graph, conv| {
                let least = graph.constant(&[], &[-0.25]);
                graph.node("Clip", &[conv, &least]).add()
            },
            |graph, conv| graph.prelu(conv, 24),
            |graph, conv| {
                let slopes = graph.random(&[1, 24, 1, 1], 0.5);
                graph.node("PRelu", &[conv, &slopes]).add()
            },
            |graph, conv| {
                let slope = graph.constant(&[1], &[0.25]);
                graph.node("PRelu", &[conv, &slope]).add()
            },
        ];
        for activation in activations {
            let mut graph = Graph::new(&[1, 16, 5, 7]);
            let conv = graph.conv("input", 16, 24, 1).add();
            let output = activation(&mut graph, &conv);
            fuses(graph, &output, &["pointwise"]);

            let mut graph = Graph::new(&[1, 24, 6, 7]);
            let conv = graph.conv("input", 1, 24, 3).groups(24).pads(1).add();
            let output = activation(&mut graph, &conv);
            fuses(graph, &output, &["depthwise"]);
        }
    }

    #[test]
    fn residual_is_added_in_the_pointwise_operator() {
        for swapped in [false, true] {
            let mut graph = Graph::new(&[1, 16, 5, 7]);
            let conv = graph.conv("input", 16, 16, 1).add();
            let operands = if swapped { ["input", &conv] } else { [&conv, "input"] };
            let sum = graph.node("Add", &operands).add();
            let output = graph.prelu(&sum, 16);
            fuses(graph, &output, &["pointwise"]);
        }
    }

    #[test]
    fn relu_has_no_upper_bound() {
        let mut graph = Graph::new(&[1, 16, 5, 7]);
        let (weights, bias) =
            (graph.random(&[8, 16, 1, 1], 0.5), graph.constant(&[8], &[1000.0; 8]));
        let conv = graph.node("Conv", &["input", &weights, &bias]).add();
        let relu = graph.node("Relu", &[&conv]).add();
        fuses(graph, &relu, &["pointwise"]);
    }

    #[test]
    fn sum_of_two_convolutions_belongs_to_one_of_them() {
        let mut graph = Graph::new(&[1, 16, 5, 7]);
        let one = graph.conv("input", 16, 8, 1).add();
        let other = graph.conv("input", 16, 8, 1).add();
        let sum = graph.node("Add", &[&one, &other]).add();
        let output = graph.clip(&sum, 0.0, 6.0);
        fuses(graph, &output, &["pointwise", "pointwise"]);
    }

    #[test]
    fn residual_of_fewer_channels_needs_no_padding() {
        let mut graph = Graph::new(&[1, 8, 5, 7]);
        let conv = graph.conv("input", 8, 16, 1).add();
        let pads = graph.integers(&[0, 0, 0, 0, 0, 8, 0, 0]);
        let padded = graph.node("Pad", &["input", &pads]).add();
        let sum = graph.node("Add", &[&conv, &padded]).add();
        fuses(graph, &sum, &["pointwise"]);
    }

    #[test]
    fn depthwise_convolution_is_fused_in_every_geometry() {
        for (side, stride, pads) in [
            (3, 1, [1, 1, 1, 1]),
            (5, 1, [2, 2, 2, 2]),
            (3, 2, [0, 0, 1, 1]),
            (5, 2, [1, 1, 2, 2]),
            (3, 1, [0, 0, 0, 0]),
        ] {
            let mut graph = Graph::new(&[1, 12, 10, 8]);
            let conv = graph.conv("input", 1, 12, side).groups(12).stride(stride);
            let conv = conv.ints("pads", &pads).add();
            fuses(graph, &conv, &["depthwise"]);
        }
    }

    #[test]
    fn full_convolution_of_few_channels_is_fused() {
        for (channels, side, stride, pads) in [
            (3, 3, 2, [0, 0, 1, 1]),
            (3, 5, 2, [1, 1, 2, 2]),
            (16, 3, 1, [1; 4]),
            (4, 1, 2, [0; 4]),
        ] {
            let mut graph = Graph::new(&[1, channels, 10, 8]);
            let conv = graph.conv("input", channels, 24, side).stride(stride);
            let conv = conv.ints("pads", &pads).add();
            let output = graph.clip(&conv, 0.0, 6.0);
            fuses(graph, &output, &["conv2d"]);
        }
    }

    /// Depthwise 3 × 3 over as many channels.
    fn depthwise(graph: &mut Graph, input: &str, channels: usize) -> String {
        graph.conv(input, 1, channels, 3).groups(channels as i64).pads(1).add()
    }

    #[test]
    fn inverted_residual_is_one_operator_whatever_its_parts() {
        type Activation = fn(&mut Graph, &str) -> String;
        // Known bounds let the depthwise convolution run in int16; without, it runs in f32.
        let bounded: Activation = |graph, conv| graph.clip(conv, 0.0, 6.0);
        let unbounded: Activation = |graph, conv| graph.prelu(conv, 24);
        for activation in [bounded, unbounded] {
            for expand in ["", "pointwise, ", "conv2d, "] {
                for project in [false, true] {
                    let channels = if expand.is_empty() { 24 } else { 8 };
                    let mut graph = Graph::new(&[1, channels, 10, 8]);
                    let mut output = match expand {
                        "pointwise, " => graph.conv("input", 8, 24, 1).add(),
                        "conv2d, " => graph.conv("input", 8, 24, 3).pads(1).add(),
                        _ => "input".into(),
                    };
                    if !expand.is_empty() {
                        output = activation(&mut graph, &output);
                    }
                    output = depthwise(&mut graph, &output, 24);
                    output = activation(&mut graph, &output);
                    if project {
                        output = graph.conv(&output, 24, channels, 1).add();
                        output = graph.node("Add", &[&output, "input"]).add();
                    }
                    let project = if project { ", pointwise" } else { "" };
                    fuses(graph, &output, &[&format!("{expand}depthwise{project}")]);
                }
            }
        }
    }

    #[test]
    fn max_pool_is_fused() {
        let mut graph = Graph::new(&[1, 8, 7, 6]);
        let pool = graph.node("MaxPool", &["input"]).ints("kernel_shape", &[2, 2]).stride(2).add();
        fuses(graph, &pool, &["max pool"]);
    }

    /// `Resize` to `factor` times height and width.
    pub fn resize(graph: &mut Graph, input: &str, factor: f32, mode: &str) -> String {
        let scales = graph.constant(&[4], &[1.0, 1.0, factor, factor]);
        let resize = graph.node("Resize", &[input, "", &scales]).text("mode", mode);
        resize.text("nearest_mode", "floor").add()
    }

    #[test]
    fn resize_follows_its_pointwise_convolution() {
        let mut graph = Graph::new(&[1, 16, 4, 5]);
        let resized = resize(&mut graph, "input", 2.0, "linear");
        let conv = graph.conv(&resized, 16, 8, 1).add();
        fuses(graph, &conv, &["pointwise", "upsample"]);
    }

    #[test]
    fn addition_after_resize_comes_after_the_activation() {
        let mut graph = Graph::new(&[1, 16, 4, 5]);
        graph.input("second", &[1, 8, 8, 10]);
        let resized = resize(&mut graph, "input", 2.0, "linear");
        let conv = graph.conv(&resized, 16, 8, 1).add();
        let activated = graph.prelu(&conv, 8);
        let sum = graph.node("Add", &["second", &activated]).add();
        fuses(graph, &sum, &["pointwise", "upsample"]);
    }

    #[test]
    fn product_of_a_row_and_a_matrix_is_fused() {
        let mut graph = Graph::new(&[1, 40]);
        let weights = graph.random(&[40, 25], 0.3);
        let product = graph.node("MatMul", &["input", &weights]).add();
        let bias = graph.random(&[25], 0.5);
        let sum = graph.node("Add", &[&product, &bias]).add();
        fuses(graph, &sum, &["matmul"]);

        let mut graph = Graph::new(&[1, 40]);
        let (weights, bias) = (graph.random(&[40, 25], 0.3), graph.random(&[25], 0.5));
        let product = graph.node("Gemm", &["input", &weights, &bias]).add();
        fuses(graph, &product, &["matmul"]);
    }
}

mod layout {
    use super::*;

    fn transpositions(model: &TypedModel) -> usize {
        let order = model.eval_order().expect("an order");
        let moves = |id: &&usize| matches!(model.node(**id).op_as(), Some(AxisOp::Move(..)));
        order.iter().filter(moves).count()
    }

    fn fused(graph: &Graph) -> TypedModel {
        fuse(&graph.to_typed(), Int16, &mut SharedOperators::default()).expect("a model").0
    }

    /// Three operators in a row, channels first at both ends, or last.
    fn three_operators(channels_last: bool) -> (Graph, String) {
        let (mut graph, mut output);
        if channels_last {
            graph = Graph::new(&[1, 8, 8, 16]);
            output = graph.transpose("input", &[0, 3, 1, 2]);
        } else {
            graph = Graph::new(&[1, 16, 8, 8]);
            output = "input".into();
        }
        output = graph.conv(&output, 16, 16, 1).add();
        output = graph.node("MaxPool", &[&output]).ints("kernel_shape", &[2, 2]).stride(2).add();
        output = graph.conv(&output, 1, 16, 3).groups(16).pads(1).add();
        if channels_last {
            output = graph.transpose(&output, &[0, 2, 3, 1]);
        }
        (graph, output)
    }

    #[test]
    fn fused_layers_need_transpositions_at_the_ends_alone() {
        for (channels_last, count) in [(false, 2), (true, 0)] {
            let (mut graph, output) = three_operators(channels_last);
            graph.output(&output);
            assert_eq!(transpositions(&fused(&graph)), count, "channels last: {channels_last}");
            let (graph, output) = three_operators(channels_last);
            fuses(graph, &output, &["pointwise", "max pool", "depthwise"]);
        }
    }

    #[test]
    fn global_average_pool_reads_channels_last() {
        let graph = || {
            let mut graph = Graph::new(&[1, 4, 4, 16]);
            let input = graph.transpose("input", &[0, 3, 1, 2]);
            let conv = graph.conv(&input, 16, 24, 1).add();
            let pool = graph.node("GlobalAveragePool", &[&conv]).add();
            let axes = graph.integers(&[2, 3]);
            let output = graph.node("Squeeze", &[&pool, &axes]).add();
            (graph, output)
        };
        let (mut counted, output) = graph();
        counted.output(&output);
        // One of 1 × 1 pixels after the pool, which moves nothing.
        assert_eq!(transpositions(&fused(&counted)), 1);
        let (graph, output) = graph();
        fuses(graph, &output, &["pointwise"]);
    }

    #[test]
    fn input_becomes_bytes_where_every_reader_takes_them() {
        let bytes = |build: fn(&mut Graph) -> Vec<String>| {
            let mut graph = Graph::new(&[1, 8, 8, 3]);
            for output in build(&mut graph) {
                graph.output(&output);
            }
            fused(&graph).input_fact(0).expect("a fact").datum_type == u8::datum_type()
        };
        fn first(graph: &mut Graph) -> String {
            let image = graph.transpose("input", &[0, 3, 1, 2]);
            graph.conv(&image, 3, 8, 3).pads(1).add()
        }
        assert!(bytes(|graph| vec![first(graph)]));
        assert!(bytes(|graph| vec![first(graph), first(graph)]));
        assert!(bytes(|graph| {
            let output = first(graph);
            vec![graph.conv(&output, 1, 8, 3).groups(8).pads(1).add()]
        }));
        // Read by tract, too; read by a layer that takes floats alone.
        assert!(!bytes(|graph| vec![first(graph), graph.node("Relu", &["input"]).add()]));
        assert!(!bytes(|graph| {
            let image = graph.transpose("input", &[0, 3, 1, 2]);
            vec![graph.conv(&image, 3, 8, 1).add()]
        }));
        // Added by the layer that reads it, too.
        assert!(!bytes(|graph| {
            let image = graph.transpose("input", &[0, 3, 1, 2]);
            let conv = graph.conv(&image, 3, 8, 3).pads(1).add();
            let conv = graph.conv(&conv, 1, 8, 3).groups(8).pads(1).add();
            let conv = graph.conv(&conv, 8, 3, 1).add();
            vec![graph.node("Add", &[&conv, &image]).add()]
        }));
    }

    #[test]
    fn other_reductions_read_channels_first() {
        let mut graph = Graph::new(&[1, 16, 4, 6]);
        let conv = graph.conv("input", 16, 24, 1).add();
        let mean = graph.node("ReduceMean", &[&conv]).ints("axes", &[1]).add();
        check(graph, &mean, &["pointwise"], &[("Div", ELSEWHERE)]);
    }

    #[test]
    fn input_that_is_an_output_too_stays_as_it_is() {
        let mut graph = Graph::new(&[1, 8, 8, 3]);
        let image = graph.transpose("input", &[0, 3, 1, 2]);
        let conv = graph.conv(&image, 3, 8, 3).pads(1).add();
        graph.output(&conv);
        let mut model = graph.to_typed();
        model.outputs.push(model.inputs[0]);
        let (fused, _) = fuse(&model, Int16, &mut SharedOperators::default()).expect("a model");
        assert_eq!(fused.outputs[1], fused.inputs[0]);
        check_typed(&model, Int16, &["conv2d"], &[]);
        assert_eq!(fused.input_fact(0).expect("a fact").datum_type, f32::datum_type());
    }

    #[test]
    fn inputs_keep_their_order() {
        let mut graph = Graph::new(&[1, 8]);
        graph.input("second", &[1, 4]);
        graph.input("unread", &[1, 2]);
        let (second, first) =
            (graph.node("Relu", &["second"]).add(), graph.node("Relu", &["input"]).add());
        graph.output(&second);
        graph.output(&first);
        let fused = fused(&graph);
        let names = fused.inputs.iter().map(|input| fused.node(input.node).name.as_str());
        assert_eq!(names.collect::<Vec<_>>(), ["input", "second", "unread"]);
    }

    #[test]
    fn equal_operators_of_two_shapes_are_shared() {
        let model = |side: usize| {
            let mut graph = Graph::new(&[1, 16, side, side]);
            let conv = graph.conv("input", 16, 24, 1).add();
            let conv = graph.conv(&conv, 1, 24, 3).groups(24).pads(1).add();
            graph.output(&conv);
            graph.to_typed()
        };
        let mut shared = SharedOperators::default();
        for side in [8, 16] {
            fuse(&model(side), Int16, &mut shared).expect("a model");
            assert_eq!(shared.len(), 1, "after {side} × {side}");
        }
        fuse(&model(8), Int8, &mut shared).expect("a model");
        assert_eq!(shared.len(), 2, "another precision is another operator");
    }
}

mod refusals {
    use super::patterns::resize;
    use super::*;

    /// A convolution over `[1, 8, 9, 9]` that is fused but for one attribute.
    fn conv_with(set: impl Fn(crate::engine::test_graph::Node) -> String) -> (Graph, String) {
        let mut graph = Graph::new(&[1, 8, 9, 9]);
        let conv = set(graph.conv("input", 8, 8, 3));
        (graph, conv)
    }

    #[test]
    fn geometry_that_the_kernels_lack_is_refused() {
        let (graph, conv) = conv_with(|conv| conv.pads(1).add());
        fuses(graph, &conv, &["conv2d"]);
        let (graph, conv) = conv_with(|conv| conv.ints("dilations", &[2, 2]).add());
        refuses(graph, &conv, "Conv", "a dilation");
        const SQUARE: &str = "a kernel, stride or padding that is not square";
        let (graph, conv) = conv_with(|conv| conv.ints("strides", &[1, 2]).add());
        refuses(graph, &conv, "Conv", SQUARE);
        let (graph, conv) = conv_with(|conv| conv.ints("pads", &[0, 1, 0, 1]).add());
        refuses(graph, &conv, "Conv", SQUARE);
        let (graph, conv) = conv_with(|conv| conv.text("auto_pad", "SAME_UPPER").add());
        refuses(graph, &conv, "Conv", "padding that depends on the input's size");

        let mut graph = Graph::new(&[1, 8, 9, 9]);
        let weights = graph.random(&[8, 8, 1, 3], 0.3);
        let conv = graph.node("Conv", &["input", &weights]).add();
        refuses(graph, &conv, "Conv", SQUARE);

        let mut graph = Graph::new(&[1, 8, 9]);
        let weights = graph.random(&[8, 8, 3], 0.3);
        let conv = graph.node("Conv", &["input", &weights]).add();
        refuses(graph, &conv, "Conv", SQUARE);
    }

    #[test]
    fn groups_and_channels_that_the_kernels_lack_are_refused() {
        const GROUPS: &str = "groups of several channels";
        let mut graph = Graph::new(&[1, 8, 9, 9]);
        let conv = graph.conv("input", 4, 8, 3).groups(2).add();
        refuses(graph, &conv, "Conv", GROUPS);
        let mut graph = Graph::new(&[1, 8, 9, 9]);
        let conv = graph.conv("input", 1, 16, 3).groups(8).add();
        refuses(graph, &conv, "Conv", GROUPS);

        const DEPTHWISE: &str = "a depthwise convolution whose kernel is not 3 × 3 or 5 × 5, whose \
                                 stride is not 1 or 2, or whose channels are no multiple of 4";
        for (channels, side, stride) in [(8, 7, 1), (8, 3, 3), (6, 3, 1)] {
            let mut graph = Graph::new(&[1, channels, 9, 9]);
            let conv = graph.conv("input", 1, channels, side).groups(channels as i64);
            let conv = conv.stride(stride).add();
            refuses(graph, &conv, "Conv", DEPTHWISE);
        }

        let mut graph = Graph::new(&[1, 17, 9, 9]);
        let conv = graph.conv("input", 17, 8, 3).add();
        refuses(graph, &conv, "Conv", "more than 16 input channels of a full convolution");
    }

    #[test]
    fn weights_and_bias_that_are_not_constant_are_refused() {
        const CONSTANT: &str = "weights that are not constant";
        let mut graph = Graph::new(&[1, 8, 9, 9]);
        graph.input("weights", &[8, 8, 1, 1]);
        let conv = graph.node("Conv", &["input", "weights"]).add();
        refuses(graph, &conv, "Conv", CONSTANT);
        let mut graph = Graph::new(&[1, 8, 9, 9]);
        graph.input("bias", &[8]);
        let weights = graph.random(&[8, 8, 1, 1], 0.5);
        let conv = graph.node("Conv", &["input", &weights, "bias"]).add();
        refuses(graph, &conv, "Conv", CONSTANT);
    }

    #[test]
    fn values_that_the_kernels_do_not_read_are_refused() {
        const SHAPE: &str = "values other than f32 [1, channels, height, width] of fixed size";
        let mut graph = Graph::new(&[2, 8, 5, 5]);
        let conv = graph.conv("input", 8, 8, 1).add();
        refuses(graph, &conv, "Conv", SHAPE);

        let mut graph = Graph::new(&[1, 8, 5, 5]);
        let half = graph.node("Cast", &["input"]).int("to", DataType::Float16 as i64).add();
        let weights = graph.random(&[8, 8, 1, 1], 0.5);
        let weights = graph.node("Cast", &[&weights]).int("to", DataType::Float16 as i64).add();
        let conv = graph.node("Conv", &[&half, &weights]).add();
        refuses(graph, &conv, "Conv", SHAPE);

        let mut graph = Graph::new(&[1, 6, 4, 4]);
        let pool = graph.node("MaxPool", &["input"]).ints("kernel_shape", &[2, 2]).stride(2).add();
        refuses(graph, &pool, "MaxPool", "an input shape that the operator does not take");
    }

    #[test]
    fn quantised_convolution_is_refused() {
        let mut graph = Graph::new(&[1, 8, 5, 5]);
        let scale = graph.constant(&[], &[0.01]);
        let zero = graph.constant(&[], &[0.0]);
        let to_i8 = |graph: &mut Graph, values: &str| {
            graph.node("Cast", &[values]).int("to", DataType::Int8 as i64).add()
        };
        let zero = to_i8(&mut graph, &zero);
        let input = graph.node("QuantizeLinear", &["input", &scale, &zero]).add();
        let weights = graph.random(&[8, 8, 1, 1], 100.0);
        let weights = to_i8(&mut graph, &weights);
        let conv = graph.node("ConvInteger", &[&input, &weights]).add();
        let output = graph.node("Cast", &[&conv]).int("to", DataType::Float as i64).add();
        graph.output(&output);
        let (fused, fallbacks) =
            fuse(&graph.to_typed(), Int16, &mut SharedOperators::default()).expect("a model");
        assert_eq!(operators(&fused), [""; 0]);
        let conv = fallbacks.iter().find(|fallback| fallback.op == "Conv").expect("a fallback");
        assert_eq!(conv.reason, "a quantised convolution");
    }

    /// ONNX has one layout and one order of weights; tract has more.
    #[test]
    fn layouts_other_than_those_of_onnx_are_refused() {
        for (data_format, kernel_fmt, input, weights, reason) in [
            (
                DataFormat::NHWC,
                KernelFormat::OIHW,
                [1, 5, 5, 8],
                [8, 8, 1, 1],
                "channels that are not in ONNX's order",
            ),
            (
                DataFormat::NCHW,
                KernelFormat::HWIO,
                [1, 8, 5, 5],
                [1, 1, 8, 8],
                "weights that are not in ONNX's order",
            ),
        ] {
            let mut model = TypedModel::default();
            let input = model.add_source("input", f32::fact(input)).expect("an input");
            let values: Vec<f32> = (0..64).map(|i| (i % 7) as f32 - 3.0).collect();
            let weights = Tensor::from_shape(&weights, &values).expect("a tensor");
            let weights = model.add_const("weights", weights).expect("a constant");
            let bias = model.add_const("bias", Tensor::zero_scalar::<f32>().expect("zero"));
            let spec = PoolSpec {
                data_format,
                kernel_shape: tvec!(1, 1),
                padding: PaddingSpec::Valid,
                dilations: None,
                strides: None,
                input_channels: 8,
                output_channels: 8,
            };
            let conv = Conv::new(spec, kernel_fmt, 1, None);
            let inputs = [input, weights, bias.expect("a constant")];
            let output = model.wire_node("conv", conv, &inputs).expect("a node");
            model.select_output_outlets(&output).expect("an output");
            check_typed(&model, Int16, &[], &[("Conv", reason)]);
        }
    }

    #[test]
    fn values_that_others_read_end_their_layer() {
        // The activation stays tract's if the values before it are the model's output.
        let mut graph = Graph::new(&[1, 8, 5, 5]);
        let conv = graph.conv("input", 8, 8, 1).add();
        graph.output(&conv);
        let relu = graph.node("Relu", &[&conv]).add();
        check(graph, &relu, &["pointwise"], &[("Max", ELSEWHERE)]);

        // Or if another layer reads them.
        let mut graph = Graph::new(&[1, 8, 5, 5]);
        let conv = graph.conv("input", 8, 8, 1).add();
        let prelu = graph.prelu(&conv, 8);
        let other = graph.conv(&conv, 8, 8, 1).add();
        graph.output(&other);
        check(
            graph,
            &prelu,
            &["pointwise", "pointwise"],
            &[("Mul", ELSEWHERE), ("Iff", ELSEWHERE)],
        );

        // An expansion whose values are read twice is no part of an inverted residual.
        let mut graph = Graph::new(&[1, 8, 5, 5]);
        let expand = graph.conv("input", 8, 16, 1).add();
        graph.output(&expand);
        let depthwise = graph.conv(&expand, 1, 16, 3).groups(16).add();
        fuses(graph, &depthwise, &["pointwise", "depthwise"]);
    }

    #[test]
    fn pointwise_with_a_residual_is_no_expansion() {
        let mut graph = Graph::new(&[1, 16, 5, 5]);
        let conv = graph.conv("input", 16, 16, 1).add();
        let sum = graph.node("Add", &[&conv, "input"]).add();
        let depthwise = graph.conv(&sum, 1, 16, 3).groups(16).add();
        fuses(graph, &depthwise, &["pointwise", "depthwise"]);
    }

    #[test]
    fn additions_that_are_no_residual_stay_with_tract() {
        // Of a value for each channel.
        let mut graph = Graph::new(&[1, 8, 5, 5]);
        let conv = graph.conv("input", 8, 8, 1).add();
        let bias = graph.random(&[8, 1, 1], 0.5);
        let sum = graph.node("Add", &[&conv, &bias]).add();
        check(graph, &sum, &["pointwise"], &[("Add", ELSEWHERE)]);

        // Of the convolution's own values.
        let mut graph = Graph::new(&[1, 8, 5, 5]);
        let conv = graph.conv("input", 8, 8, 1).add();
        let sum = graph.node("Add", &[&conv, &conv]).add();
        check(graph, &sum, &["pointwise"], &[("Add", ELSEWHERE)]);

        // After a depthwise convolution.
        let mut graph = Graph::new(&[1, 8, 5, 5]);
        let conv = graph.conv("input", 1, 8, 3).groups(8).pads(1).add();
        let sum = graph.node("Add", &[&conv, "input"]).add();
        check(graph, &sum, &["depthwise"], &[("Add", ELSEWHERE)]);
    }

    #[test]
    fn padding_other_than_by_channels_of_zeros_stays_with_tract() {
        // Channels before the others; channels that are not zero; less than a block of channels.
        for (channels, before, value) in [(8, 8, 0.0), (8, 0, 0.5), (4, 0, 0.0)] {
            let mut graph = Graph::new(&[1, channels, 5, 5]);
            let conv = graph.conv("input", channels, 16, 1).add();
            let after = 16 - channels as i64 - before;
            let pads = graph.integers(&[0, before, 0, 0, 0, after, 0, 0]);
            let value = graph.constant(&[], &[value]);
            let padded = graph.node("Pad", &["input", &pads, &value]).add();
            let sum = graph.node("Add", &[&conv, &padded]).add();
            check(graph, &sum, &["pointwise"], &[("Pad", ELSEWHERE)]);
        }
    }

    #[test]
    fn activations_that_the_kernels_lack_stay_with_tract() {
        let mut graph = Graph::new(&[1, 8, 5, 5]);
        let conv = graph.conv("input", 8, 8, 1).add();
        let output = graph.node("Sigmoid", &[&conv]).add();
        check(graph, &output, &["pointwise"], &[("Sigmoid", ELSEWHERE)]);

        // A bound for each channel.
        let mut graph = Graph::new(&[1, 8, 5, 5]);
        let conv = graph.conv("input", 8, 8, 1).add();
        let bounds = graph.random(&[8, 1, 1], 0.5);
        let output = graph.node("Max", &[&conv, &bounds]).add();
        check(graph, &output, &["pointwise"], &[("Max", ELSEWHERE)]);

        // An upper bound without a lower one.
        let mut graph = Graph::new(&[1, 8, 5, 5]);
        let conv = graph.conv("input", 8, 8, 1).add();
        let most = graph.constant(&[], &[0.5]);
        let output = graph.node("Clip", &[&conv, "", &most]).add();
        check(graph, &output, &["pointwise"], &[("Min", ELSEWHERE)]);

        // A slope for each pixel.
        let mut graph = Graph::new(&[1, 8, 5, 5]);
        let conv = graph.conv("input", 8, 8, 1).add();
        let slopes = graph.random(&[1, 5, 5], 0.5);
        let output = graph.node("PRelu", &[&conv, &slopes]).add();
        check(graph, &output, &["pointwise"], &[("Mul", ELSEWHERE), ("Iff", ELSEWHERE)]);
    }

    /// `Conv`, then `if greater[0] > greater[1] then chosen[0] else chosen[1]` of its values `x`, a
    /// `constant`, and `slope` times `x`. Returns the condition, the product and the output, too.
    fn conditional(constant: f32, greater: [&str; 2], chosen: [&str; 2]) -> (Graph, [String; 3]) {
        let mut graph = Graph::new(&[1, 8, 5, 5]);
        let conv = graph.conv("input", 8, 8, 1).add();
        let constant = graph.constant(&[1, 1, 1, 1], &[constant]);
        let slopes = graph.random(&[1, 8, 1, 1], 0.5);
        let slope = graph.node("Mul", &[&conv, &slopes]).add();
        let name = |of: &str| match of {
            "x" => conv.clone(),
            "slope" => slope.clone(),
            _ => constant.clone(),
        };
        let [left, right] = greater.map(name);
        let condition = graph.node("Greater", &[&left, &right]).add();
        let [yes, no] = chosen.map(name);
        let output = graph.node("Where", &[&condition, &yes, &no]).add();
        (graph, [condition, slope, output])
    }

    #[test]
    fn conditions_that_are_no_prelu_stay_with_tract() {
        let (graph, [.., output]) = conditional(0.0, ["constant", "x"], ["slope", "x"]);
        fuses(graph, &output, &["pointwise"]);

        const LEFT: [(&str, &str); 2] = [("Mul", ELSEWHERE), ("Iff", ELSEWHERE)];
        for (constant, greater, chosen) in [
            (0.0, ["constant", "x"], ["x", "slope"]),
            (0.0, ["x", "constant"], ["slope", "x"]),
            (0.5, ["constant", "x"], ["slope", "x"]),
        ] {
            let (graph, [.., output]) = conditional(constant, greater, chosen);
            check(graph, &output, &["pointwise"], &LEFT);
        }

        // Parts of it that are the model's outputs, or that others read.
        let (mut graph, [condition, _, output]) =
            conditional(0.0, ["constant", "x"], ["slope", "x"]);
        let condition = graph.node("Cast", &[&condition]).int("to", DataType::Float as i64).add();
        graph.output(&condition);
        check(graph, &output, &["pointwise"], &LEFT);
        let (mut graph, [_, slope, output]) = conditional(0.0, ["constant", "x"], ["slope", "x"]);
        graph.output(&slope);
        check(graph, &output, &["pointwise"], &LEFT);
    }

    #[test]
    fn pools_other_than_halving_are_refused() {
        const OTHER: &str = "a pool other than 2 × 2 with stride 2 and no padding";
        for (side, stride, pads, reason) in [(3, 2, 0, OTHER), (2, 1, 0, OTHER), (2, 2, 1, OTHER)] {
            let mut graph = Graph::new(&[1, 8, 8, 8]);
            let pool = graph.node("MaxPool", &["input"]).ints("kernel_shape", &[side, side]);
            let pool = pool.stride(stride).pads(pads).add();
            refuses(graph, &pool, "MaxPool", reason);
        }
        let mut graph = Graph::new(&[1, 8, 7, 7]);
        let pool = graph.node("MaxPool", &["input"]).ints("kernel_shape", &[2, 2]).stride(2);
        let pool = pool.int("ceil_mode", 1).add();
        refuses(graph, &pool, "MaxPool", "an output size that is rounded up");

        let mut graph = Graph::new(&[1, 8, 8, 8]);
        let pool = graph.node("MaxPool", &["input"]).ints("kernel_shape", &[2, 2]).stride(2);
        let pool = pool.output("indices").add();
        refuses(graph, &pool, "MaxPool", "a pool with indices");
    }

    #[test]
    fn resizing_that_the_kernels_lack_is_refused() {
        const LINEAR: &str = "resizing that is not linear with half-pixel centres";
        const CONV: &str = "resizing that no 1 × 1 convolution follows";
        let graph = |factor: f32, mode: &str, side: usize| {
            let mut graph = Graph::new(&[1, 8, 4, 4]);
            let resized = resize(&mut graph, "input", factor, mode);
            let conv = graph.conv(&resized, 8, 8, side).add();
            (graph, conv)
        };
        for (factor, mode, side, operator, reason) in [
            (2.0, "nearest", 1, "pointwise", LINEAR),
            (3.0, "linear", 1, "pointwise", "resizing to another than twice the size"),
            (2.0, "linear", 3, "conv2d", CONV),
        ] {
            let (graph, conv) = graph(factor, mode, side);
            check(graph, &conv, &[operator], &[("Resize", reason)]);
        }

        let mut graph = Graph::new(&[1, 8, 4, 4]);
        let resized = resize(&mut graph, "input", 2.0, "linear");
        let relu = graph.node("Relu", &[&resized]).add();
        check(graph, &relu, &[], &[("Resize", CONV), ("Max", ELSEWHERE)]);

        // Corners instead of centres; options that ONNX alone has.
        for (attribute, value, reason) in [
            ("align_corners", 0, LINEAR),
            ("half_pixel", 1, "resizing with options that tract's own operator lacks"),
        ] {
            let mut graph = Graph::new(&[1, 8, 4, 4]);
            let scales = graph.constant(&[4], &[1.0, 1.0, 2.0, 2.0]);
            let resized = graph.node("Resize", &["input", "", &scales]).text("mode", "linear");
            let resized = resized.text("coordinate_transformation_mode", attribute);
            let resized = resized.int("exclude_outside", value).add();
            let conv = graph.conv(&resized, 8, 8, 1).add();
            check(graph, &conv, &["pointwise"], &[("Resize", reason)]);
        }

        let mut graph = Graph::new(&[1, 8, 4, 4]);
        let resized = resize(&mut graph, "input", 2.0, "linear");
        let conv = graph.conv(&resized, 8, 6, 1).add();
        check(graph, &conv, &["pointwise"], &[("Resize", "channels that are no multiple of 4")]);

        let mut graph = Graph::new(&[1, 8, 4, 4]);
        let resized = resize(&mut graph, "input", 2.0, "linear");
        let conv = graph.conv(&resized, 8, 8, 1).add();
        graph.output(&resized);
        const READ: &str = "an output of the model between its nodes";
        check(graph, &conv, &["pointwise"], &[("Resize", READ)]);

        let mut graph = Graph::new(&[1, 8, 4, 4]);
        let resized = resize(&mut graph, "input", 2.0, "linear");
        let conv = graph.conv(&resized, 8, 8, 1).add();
        let other = graph.conv(&resized, 8, 8, 1).add();
        graph.output(&other);
        const READ_TWICE: &str = "values between its nodes that others read";
        check(graph, &conv, &["pointwise", "pointwise"], &[("Resize", READ_TWICE)]);
    }

    #[test]
    fn products_that_the_kernels_lack_are_refused() {
        const SHAPES: &str = "a product other than of one f32 row and a matrix";
        const AXES: &str = "a product of other axes, or with a transposed matrix";
        let mut graph = Graph::new(&[2, 12]);
        let weights = graph.random(&[12, 5], 0.5);
        let product = graph.node("MatMul", &["input", &weights]).add();
        refuses(graph, &product, "EinSum", SHAPES);

        let mut graph = Graph::new(&[1, 12]);
        let weights = graph.random(&[5, 12], 0.5);
        let product = graph.node("Gemm", &["input", &weights]).int("transB", 1).add();
        refuses(graph, &product, "EinSum", AXES);

        let mut graph = Graph::new(&[1, 1, 12]);
        let weights = graph.random(&[1, 12, 5], 0.5);
        let product = graph.node("MatMul", &["input", &weights]).add();
        refuses(graph, &product, "EinSum", AXES);

        let mut graph = Graph::new(&[1, 12]);
        graph.input("weights", &[12, 5]);
        let product = graph.node("MatMul", &["input", "weights"]).add();
        refuses(graph, &product, "EinSum", "weights that are not constant");

        let mut graph = Graph::new(&[1, 12]);
        let weights = graph.random(&[12, 5], 0.5);
        let half = DataType::Float16 as i64;
        let input = graph.node("Cast", &["input"]).int("to", half).add();
        let weights = graph.node("Cast", &[&weights]).int("to", half).add();
        let product = graph.node("MatMul", &[&input, &weights]).add();
        refuses(graph, &product, "EinSum", SHAPES);
    }

    #[test]
    fn layers_that_no_pattern_begins_with_are_reported() {
        const NONE: &str = "a layer that no pattern begins with";
        let mut graph = Graph::new(&[1, 8, 4, 4]);
        let weights = graph.random(&[8, 8, 2, 2], 0.3);
        let output = graph.node("ConvTranspose", &["input", &weights]).stride(2).add();
        refuses(graph, &output, "Deconv", NONE);

        let mut graph = Graph::new(&[1, 8, 4, 4]);
        let pool = graph.node("AveragePool", &["input"]).ints("kernel_shape", &[2, 2]).stride(2);
        let output = pool.add();
        refuses(graph, &output, "SumPool", NONE);
    }
}

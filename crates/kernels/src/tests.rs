//! The operators against the plain loops of [`reference`], over random shapes.
//!
//! They run natively and in the sandbox. Each comparison prints its largest error; tolerances are at most
//! about twice what was measured.

mod reference;

use self::reference::activate;
use crate::activation::Activation;
use crate::conv2d::Conv2d;
use crate::depthwise::Depthwise;
use crate::inverted_residual::{Expand, InvertedResidual};
use crate::operator::Operator;
use crate::pointwise::{MatMul, Pointwise, Precision};
use crate::pool::MaxPool;
use crate::resize::Upsample;
use crate::shape::{Activations, ConvGeometry, Residual, Shape};

/// Random shapes and values, which are the same on every target.
struct Random(fastrand::Rng);

impl Random {
    fn new(seed: u64) -> Random {
        Random(fastrand::Rng::with_seed(seed))
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0.u32(..limit as u32) as usize
    }

    /// Values between −1 and 1.
    fn values(&mut self, length: usize) -> Vec<f32> {
        (0..length).map(|_| self.0.f32() * 2.0 - 1.0).collect()
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.0.u8(..)).collect()
    }

    fn activation(&mut self, channels: usize) -> Activation {
        match self.below(3) {
            0 => Activation::Linear,
            1 => Activation::Clamp { min: 0.0, max: 0.7 },
            _ => Activation::Prelu(self.values(channels)),
        }
    }

    fn precision(&mut self) -> Precision {
        [Precision::Int16, Precision::Int8][self.below(2)]
    }

    fn geometry(&mut self) -> ConvGeometry {
        let kernel_size = [3, 5][self.below(2)];
        ConvGeometry {
            kernel_size,
            stride: 1 + self.below(2),
            pad_before: self.below(kernel_size),
            pad_after: self.below(kernel_size),
        }
    }
}

/// Returns true if the activation bounds the values.
fn is_bounded(activation: &Activation) -> bool {
    matches!(activation, Activation::Clamp { .. })
}

/// Runs an operator and checks that it writes all of the output that it announces.
fn run(
    operator: &impl Operator,
    input: Activations,
    shape: Shape,
    residual: Option<Residual>,
) -> Vec<f32> {
    let output = operator.output(shape).expect("a shape that fits");
    let mut values = vec![f32::NAN; output.len()];
    operator.run(input, shape, residual, &mut values);
    assert!(values.iter().all(|value| !value.is_nan()), "{} wrote too little", operator.name());
    values
}

fn max_abs(values: &[f32]) -> f32 {
    values.iter().fold(1.0, |max, value| max.max(value.abs()))
}

/// The largest error of a comparison, as a part of the values' size.
struct Errors {
    what: &'static str,
    tolerance: f32,
    largest: f32,
}

impl Errors {
    fn new(what: &'static str, tolerance: f32) -> Errors {
        Errors { what, tolerance, largest: 0.0 }
    }

    /// Compares values of which the largest has a size of `scale`.
    fn compare(&mut self, found: &[f32], expected: &[f32], scale: f32, case: &str) {
        assert_eq!(found.len(), expected.len(), "{}: {case}", self.what);
        for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
            let error = (found - expected).abs() / scale;
            self.largest = self.largest.max(error);
            assert!(
                error <= self.tolerance,
                "{}: {case}: value {i} is {found}, {expected} expected, error {error:.2e}",
                self.what
            );
        }
    }
}

impl Drop for Errors {
    fn drop(&mut self) {
        println!("{}: error {:.2e}, tolerance {:.2e}", self.what, self.largest, self.tolerance);
    }
}

fn compare_pointwise(precision: Precision, mut errors: Errors) {
    let mut random = Random::new(7);
    for _ in 0..60 {
        let (pixels, inputs, outputs) =
            (1 + random.below(40), 2 + random.below(70), 1 + random.below(40));
        let shape = Shape { height: 1, width: pixels, channels: inputs };
        let input = random.values(shape.len());
        let (weights, bias) = (random.values(inputs * outputs), random.values(outputs));
        let activation = random.activation(outputs);
        // None, of all channels, or of some: whole blocks of eight.
        let channels = [0, outputs, outputs / 16 * 8][random.below(3)];
        let residual = random.values(pixels * channels);

        let mut expected = reference::pointwise(&input, &weights, &bias);
        let scale = max_abs(&expected);
        for (i, value) in expected.iter_mut().enumerate() {
            let (pixel, channel) = (i / outputs, i % outputs);
            if channel < channels {
                *value += residual[pixel * channels + channel];
            }
            *value = activate(&activation, channel, *value);
        }
        let kernel = Pointwise::new(&weights, &bias, &activation, precision);
        let residual = (channels > 0).then_some(Residual { values: &residual, channels });
        let found = run(&kernel, Activations::F32(&input), shape, residual);
        let case = format!("{pixels} pixels, {inputs} to {outputs}, residual {channels}");
        errors.compare(&found, &expected, scale, &case);
    }
}

#[test]
fn int16_pointwise_matches_plain_loops() {
    compare_pointwise(Precision::Int16, Errors::new("int16 pointwise", 2e-4));
}

#[test]
fn int8_pointwise_matches_plain_loops() {
    compare_pointwise(Precision::Int8, Errors::new("int8 pointwise", 2.5e-2));
}

#[test]
fn matmul_matches_plain_loops() {
    let mut random = Random::new(8);
    let mut errors = Errors::new("matmul", 4e-4);
    for _ in 0..20 {
        let (inputs, outputs) = (1 + random.below(200), 1 + random.below(70));
        let shape = Shape { height: 1, width: 1, channels: inputs };
        let (input, weights) = (random.values(inputs), random.values(inputs * outputs));
        let kernel = MatMul::new(&weights, outputs, Precision::Int16);
        assert_eq!(kernel.macs(shape), weights.len());
        let expected = reference::pointwise(&input, &weights, &vec![0.0; outputs]);
        let found = run(&kernel, Activations::F32(&input), shape, None);
        errors.compare(&found, &expected, max_abs(&expected), &format!("{inputs} to {outputs}"));
    }
}

#[test]
fn pointwise_of_largest_products_does_not_overflow() {
    for (precision, tolerance) in [(Precision::Int16, 8e-4), (Precision::Int8, 6e-5)] {
        let mut errors = Errors::new("largest products", tolerance);
        for inputs in [8, 1152, 5000] {
            for sign in [-1.0, 1.0] {
                let weights = vec![3e4; inputs * 8];
                let kernel = Pointwise::new(&weights, &[0.0; 8], &Activation::Linear, precision);
                let shape = Shape { height: 1, width: 1, channels: inputs };
                let input = vec![sign * 2e5; inputs];
                let found = run(&kernel, Activations::F32(&input), shape, None);
                let expected = [sign * 6e9 * inputs as f32; 8];
                let case = format!("{precision:?}, {inputs} inputs");
                errors.compare(&found, &expected, max_abs(&expected), &case);
            }
        }
    }
}

/// Each pixel has a scale of its own, so that a power of two changes no bit of the sums.
#[test]
fn pointwise_of_tiny_values_is_as_precise() {
    let mut random = Random::new(9);
    let tiny = 2.0_f32.powi(-100);
    for precision in [Precision::Int16, Precision::Int8] {
        let (inputs, outputs) = (40, 12);
        let (input, weights) = (random.values(inputs), random.values(inputs * outputs));
        let kernel = Pointwise::new(&weights, &vec![0.0; outputs], &Activation::Linear, precision);
        let shape = Shape { height: 1, width: 1, channels: inputs };
        let expected = run(&kernel, Activations::F32(&input), shape, None);
        let input: Vec<f32> = input.iter().map(|value| value * tiny).collect();
        let found = run(&kernel, Activations::F32(&input), shape, None);
        let expected: Vec<f32> = expected.iter().map(|value| value * tiny).collect();
        assert_eq!(found, expected, "{precision:?}");
    }
}

#[test]
fn pointwise_accepts_any_float() {
    let shape = Shape { height: 1, width: 1, channels: 8 };
    for precision in [Precision::Int16, Precision::Int8] {
        let kernel = Pointwise::new(&[1.0; 16], &[0.5; 2], &Activation::Linear, precision);
        for value in [0.0, f32::MIN_POSITIVE, 1e-40, f32::MAX, f32::INFINITY, f32::NAN] {
            let mut found = [0.0; 2];
            kernel.run(Activations::F32(&[value; 8]), shape, None, &mut found);
            if value < 1e-30 {
                assert_eq!(found, [0.5; 2], "{precision:?}, {value}");
            }
        }
    }
}

#[test]
fn conv2d_matches_plain_loops() {
    let mut random = Random::new(11);
    let mut errors = Errors::new("conv2d of floats", 9e-4);
    // No value of a picture is rounded.
    let mut u8_errors = Errors::new("conv2d of bytes", 4e-5);
    for _ in 0..30 {
        let geometry = random.geometry();
        let size = geometry.kernel_size;
        let shape = Shape {
            height: size + random.below(12),
            width: size + random.below(12),
            channels: 2 + random.below(3),
        };
        let outputs = 1 + random.below(40);
        let inputs = size * size * shape.channels;
        let (weights, bias) = (random.values(inputs * outputs), random.values(outputs));
        let activation = random.activation(outputs);
        let kernel = Conv2d::new(&weights, &bias, geometry, shape.channels, &activation);
        let compare = |input: Activations, floats: &[f32], errors: &mut Errors| {
            let weights = (&weights[..], &bias[..], shape.channels);
            let mut expected = reference::convolution(floats, shape, geometry, weights);
            let scale = max_abs(&expected);
            for (i, value) in expected.iter_mut().enumerate() {
                *value = activate(&activation, i % outputs, *value);
            }
            let found = run(&kernel, input, shape, None);
            errors.compare(&found, &expected, scale, &format!("{shape:?}, {geometry:?}"));
        };
        let floats = random.values(shape.len());
        compare(Activations::F32(&floats), &floats, &mut errors);
        let bytes = random.bytes(shape.len());
        let floats: Vec<f32> = bytes.iter().map(|byte| f32::from(*byte) / 255.0).collect();
        compare(Activations::U8(&bytes), &floats, &mut u8_errors);
    }
}

#[test]
fn depthwise_matches_plain_loops() {
    let mut random = Random::new(13);
    // Sums of up to 25 products of values between −1 and 1, in another order.
    let mut errors = Errors::new("depthwise", 1e-6);
    for _ in 0..60 {
        let geometry = random.geometry();
        let size = geometry.kernel_size;
        let shape = Shape {
            height: size + random.below(12),
            width: size + random.below(12),
            channels: 4 * (1 + random.below(6)),
        };
        let input = random.values(shape.len());
        let weights = random.values(size * size * shape.channels);
        let bias = random.values(shape.channels);
        let activation = random.activation(shape.channels);
        let mut expected = reference::convolution(&input, shape, geometry, (&weights, &bias, 1));
        for (i, value) in expected.iter_mut().enumerate() {
            *value = activate(&activation, i % shape.channels, *value);
        }
        let kernel = Depthwise::new(&weights, &bias, geometry, &activation).expect("a kernel");
        let kernel = InvertedResidual::new(Expand::None, kernel, None).expect("an operator");
        let found = run(&kernel, Activations::F32(&input), shape, None);
        errors.compare(&found, &expected, 1.0, &format!("{shape:?}, {geometry:?}"));
    }
}

/// To the bit in floats, since rows are computed as in the whole activations. Between layers whose
/// activations bound the values, these are rounded to 16 bits.
#[test]
fn inverted_residual_matches_its_layers() {
    let mut random = Random::new(31);
    let mut exact = Errors::new("fused layers in floats", 0.0);
    let mut rounded = Errors::new("fused layers in int16", 1.5e-3);
    let mut projected = Errors::new("fused layers in int16, projected", 4e-3);
    for turn in 0..90 {
        let precision = random.precision();
        let (first, geometry) = (random.geometry(), random.geometry());
        let (first_size, size) = (first.kernel_size, geometry.kernel_size);
        let shape = Shape {
            height: 11 + random.below(12),
            width: 11 + random.below(12),
            channels: [4 * (1 + random.below(6)), 3][usize::from(turn % 3 == 2)],
        };
        let input = random.values(shape.len());
        let wide = 4 * (1 + random.below(10));
        let mut pointwise = |inputs: usize, outputs: usize| {
            let (weights, bias) = (random.values(inputs * outputs), random.values(outputs));
            let activation = random.activation(outputs);
            (Pointwise::new(&weights, &bias, &activation, precision), is_bounded(&activation))
        };
        let (expansion, expansion_is_bounded) = pointwise(shape.channels, wide);
        let narrow = 1 + turn % 20;
        let projections = [pointwise(shape.channels, narrow).0, pointwise(wide, narrow).0];

        let floats = Activations::F32(&input);
        let (expand, between, expanded, mut in_i16) = match turn % 3 {
            0 => (Expand::None, shape, input.clone(), false),
            1 => {
                let expanded = run(&expansion, floats, shape, None);
                let between = Shape { channels: wide, ..shape };
                (Expand::Pointwise(expansion), between, expanded, expansion_is_bounded)
            }
            _ => {
                let weights = random.values(first_size * first_size * shape.channels * wide);
                let (bias, activation) = (random.values(wide), random.activation(wide));
                let kernel = Conv2d::new(&weights, &bias, first, shape.channels, &activation);
                let expanded = run(&kernel, floats, shape, None);
                let between = first.output(shape, wide).expect("a kernel that fits");
                (Expand::Conv2d(kernel), between, expanded, is_bounded(&activation))
            }
        };
        let Some(place) = geometry.output(between, between.channels) else { continue };
        let weights = random.values(size * size * between.channels);
        let bias = random.values(between.channels);
        let activation = random.activation(between.channels);
        in_i16 &= is_bounded(&activation);
        let kernel = Depthwise::new(&weights, &bias, geometry, &activation).expect("a kernel");
        let fuse = |expand, project| {
            InvertedResidual::new(expand, kernel.clone(), project).expect("layers that fit")
        };
        let alone = fuse(Expand::None, None);
        let deep = run(&alone, Activations::F32(&expanded), between, None);

        let case = format!("{turn}: {shape:?}, {first:?}, {geometry:?}");
        let fused = fuse(expand.clone(), None);
        assert_eq!(fused.output(shape), Some(place), "{case}");
        let found = run(&fused, floats, shape, None);
        let errors = if in_i16 { &mut rounded } else { &mut exact };
        errors.compare(&found, &deep, 1.0, &case);

        let [narrower, wider] = projections;
        let project = if turn % 3 == 0 { narrower } else { wider };
        let residual = random.values(place.pixels() * narrow);
        let residual = [None, Some(Residual { values: &residual, channels: narrow })];
        let residual = residual[random.below(2)];
        let expected = run(&project, Activations::F32(&deep), place, residual);
        let fused = fuse(expand, Some(project));
        assert_eq!(fused.output(shape), Some(Shape { channels: narrow, ..place }), "{case}");
        let found = run(&fused, floats, shape, residual);
        let errors = if in_i16 { &mut projected } else { &mut exact };
        errors.compare(&found, &expected, max_abs(&expected), &case);
    }
}

/// All values 0 or the largest, and sums far beyond what the activation leaves.
#[test]
fn i16_between_layers_does_not_overflow() {
    let mut random = Random::new(37);
    let max = 6.0;
    let activation = Activation::Clamp { min: 0.0, max };
    // The larger the weights, the coarser the sums. An overflow would be off by all of the range.
    let mut errors = [
        Errors::new("int16 with small weights", 2e-4),
        Errors::new("int16 with weights around 1", 1.2e-3),
        Errors::new("int16 with large weights", 8e-2),
    ];
    for turn in 0..60 {
        let size = [3, 5][random.below(2)];
        let (stride, pad) = (1 + random.below(2), size / 2);
        let geometry = ConvGeometry { kernel_size: size, stride, pad_before: pad, pad_after: pad };
        let shape = Shape { height: 9, width: 4 + random.below(9), channels: 1 };
        let channels = 4 * (1 + random.below(6));
        let between = Shape { channels, ..shape };
        let input = random.values(shape.len());
        let weights = vec![1e6; channels];
        let expand = Pointwise::new(&weights, &vec![0.0; channels], &activation, Precision::Int8);
        let expanded: Vec<f32> = input
            .iter()
            .flat_map(|value| vec![if *value > 0.0 { max } else { 0.0 }; channels])
            .collect();

        let (large, far) = ([0.01, 1.0, 100.0][turn % 3], [0.0, 5.0, 1e4][turn / 3 % 3]);
        let sign = [1.0, -1.0, 0.0][turn / 9 % 3];
        // Of one sign, of the other, or of both.
        let weights: Vec<f32> = random
            .values(size * size * channels)
            .into_iter()
            .map(|weight| large * if sign == 0.0 { weight } else { sign * weight.abs() })
            .collect();
        let bias: Vec<f32> = random.values(channels).iter().map(|bias| far * bias).collect();
        let mut expected =
            reference::convolution(&expanded, between, geometry, (&weights, &bias, 1));
        for value in &mut expected {
            *value = value.clamp(0.0, max);
        }
        let kernel = Depthwise::new(&weights, &bias, geometry, &activation).expect("a kernel");
        let kernel = InvertedResidual::new(Expand::Pointwise(expand), kernel, None);
        let kernel = kernel.expect("layers that fit");
        let found = run(&kernel, Activations::F32(&input), shape, None);
        let case = format!("{turn}: {shape:?}, {geometry:?}");
        errors[turn % 3].compare(&found, &expected, max, &case);
    }
}

#[test]
fn inverted_residual_refuses_layers_whose_channels_differ() {
    let geometry = ConvGeometry { kernel_size: 3, stride: 1, pad_before: 1, pad_after: 1 };
    let depthwise = || Depthwise::new(&[0.0; 72], &[0.0; 8], geometry, &Activation::Linear);
    let depthwise = || depthwise().expect("a kernel");
    let pointwise = |inputs: usize, outputs: usize| {
        let weights = vec![0.0; inputs * outputs];
        Pointwise::new(&weights, &vec![0.0; outputs], &Activation::Linear, Precision::Int8)
    };
    let expand = Expand::Pointwise(pointwise(4, 12));
    assert!(InvertedResidual::new(expand, depthwise(), None).is_none());
    assert!(InvertedResidual::new(Expand::None, depthwise(), Some(pointwise(4, 8))).is_none());
    let fused = InvertedResidual::new(Expand::None, depthwise(), Some(pointwise(8, 4)));
    let fused = fused.expect("layers that fit");
    let shape = Shape { height: 3, width: 3, channels: 8 };
    assert_eq!(fused.output(shape), Some(Shape { channels: 4, ..shape }));
    assert_eq!(fused.output(Shape { channels: 4, ..shape }), None);
}

#[test]
fn depthwise_refuses_geometries_that_no_model_has() {
    let geometry = ConvGeometry { kernel_size: 7, stride: 1, pad_before: 0, pad_after: 0 };
    assert!(Depthwise::new(&[0.0; 196], &[0.0; 4], geometry, &Activation::Linear).is_none());
    let geometry = ConvGeometry { kernel_size: 3, stride: 3, ..geometry };
    assert!(Depthwise::new(&[0.0; 36], &[0.0; 4], geometry, &Activation::Linear).is_none());
    let geometry = ConvGeometry { stride: 1, ..geometry };
    assert!(Depthwise::new(&[0.0; 45], &[0.0; 5], geometry, &Activation::Linear).is_none());
}

#[test]
fn max_pool_matches_plain_loops() {
    let mut random = Random::new(17);
    for _ in 0..20 {
        let shape = Shape {
            height: 1 + random.below(9),
            width: 1 + random.below(9),
            channels: 4 * (1 + random.below(4)),
        };
        let input = random.values(shape.len());
        let found = run(&MaxPool, Activations::F32(&input), shape, None);
        assert_eq!(found, reference::max_pool(&input, shape), "{shape:?}");
    }
    assert_eq!(MaxPool.output(Shape { height: 4, width: 4, channels: 6 }), None);
}

#[test]
fn upsample_matches_plain_loops() {
    let mut random = Random::new(19);
    let mut errors = Errors::new("upsample", 0.0);
    for _ in 0..20 {
        let shape = Shape {
            height: 1 + random.below(6),
            width: 1 + random.below(6),
            channels: 4 * (1 + random.below(4)),
        };
        let channels = shape.channels;
        let (input, residual) = (random.values(shape.len()), random.values(4 * shape.len()));
        let activation = random.activation(channels);
        let mut expected = reference::upsample(&input, shape);
        for (i, value) in expected.iter_mut().enumerate() {
            *value = activate(&activation, i % channels, *value) + residual[i];
        }
        let kernel = Upsample::new(channels, &activation).expect("a multiple of 4 channels");
        let residual = Some(Residual { values: &residual, channels });
        let found = run(&kernel, Activations::F32(&input), shape, residual);
        errors.compare(&found, &expected, 1.0, &format!("{shape:?}"));
    }
    assert!(Upsample::new(6, &Activation::Linear).is_none());
}

/// An inverted residual of 2 × 2 pixels, small enough to count its products by hand.
#[test]
fn macs_count_every_product() {
    let geometry = ConvGeometry { kernel_size: 3, stride: 1, pad_before: 1, pad_after: 1 };
    let linear = Activation::Linear;
    let pointwise = |inputs: usize, outputs: usize| {
        let weights = vec![1.0; inputs * outputs];
        Pointwise::new(&weights, &vec![0.0; outputs], &linear, Precision::Int8)
    };
    let depthwise = || Depthwise::new(&[1.0; 72], &[0.0; 8], geometry, &linear).expect("a kernel");
    let conv = Conv2d::new(&[1.0; 9 * 3 * 8], &[0.0; 8], geometry, 3, &linear);
    let shape = Shape { height: 2, width: 2, channels: 4 };
    let picture = Shape { channels: 3, ..shape };
    assert_eq!(pointwise(4, 8).macs(shape), 4 * 4 * 8);
    assert_eq!(conv.macs(picture), 4 * 9 * 3 * 8);
    let fused = InvertedResidual::new(
        Expand::Pointwise(pointwise(4, 8)),
        depthwise(),
        Some(pointwise(8, 2)),
    );
    let fused = fused.expect("layers that fit");
    assert_eq!(fused.macs(shape), 4 * 4 * 8 + 4 * 9 * 8 + 4 * 8 * 2);
    assert_eq!(fused.macs(picture), 0, "it does not fit");
    let first = InvertedResidual::new(Expand::Conv2d(conv), depthwise(), None);
    assert_eq!(first.expect("layers that fit").macs(picture), 4 * 9 * 3 * 8 + 4 * 9 * 8);
}

#[test]
fn only_first_layers_read_bytes() {
    let geometry = ConvGeometry { kernel_size: 3, stride: 2, pad_before: 0, pad_after: 1 };
    let linear = Activation::Linear;
    let conv = Conv2d::new(&[1.0; 9 * 3 * 8], &[0.0; 8], geometry, 3, &linear);
    let depthwise = || Depthwise::new(&[1.0; 72], &[0.0; 8], geometry, &linear).expect("a kernel");
    let fuse = |expand| InvertedResidual::new(expand, depthwise(), None).expect("layers that fit");
    assert!(conv.reads_u8());
    assert!(fuse(Expand::Conv2d(conv)).reads_u8());
    assert!(!fuse(Expand::None).reads_u8());
    assert!(!Pointwise::new(&[1.0; 8], &[0.0; 8], &linear, Precision::Int8).reads_u8());
    assert!(!MaxPool.reads_u8());
}

#[test]
#[should_panic(expected = "cannot add a residual")]
fn conv2d_refuses_a_residual() {
    let geometry = ConvGeometry { kernel_size: 3, stride: 1, pad_before: 1, pad_after: 1 };
    let conv = Conv2d::new(&[1.0; 27], &[0.0], geometry, 3, &Activation::Linear);
    let shape = Shape { height: 1, width: 1, channels: 3 };
    let residual = Some(Residual { values: &[0.0], channels: 1 });
    conv.run(Activations::F32(&[0.0; 3]), shape, residual, &mut [0.0]);
}

//! The kernels once more, as plainly as possible, and tests that compare them over random shapes.
//! They run natively and in the sandbox (`cargo xtask test`).

use super::activation::Activation;
use super::block::{Before, Block};
use super::depthwise::Depthwise;
use super::pointwise::{Pointwise, Precision, Residual};
use super::resample::{Upsample, max_pool};
use super::window::Windowed;
use super::{Numbers, Shape, Window};

/// Random numbers that are the same in every run (Marsaglia's xorshift32).
struct Random(u32);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        self.next() as usize % limit
    }

    fn numbers(&mut self, length: usize) -> Vec<f32> {
        (0..length).map(|_| self.next() as f32 / u32::MAX as f32 * 2.0 - 1.0).collect()
    }

    fn activation(&mut self, channels: usize) -> Activation {
        match self.below(3) {
            0 => Activation::Linear,
            1 => Activation::Clamp { least: 0.0, most: 0.7 },
            _ => Activation::Slopes(self.numbers(channels)),
        }
    }
}

fn activate(activation: &Activation, channel: usize, value: f32) -> f32 {
    match activation {
        Activation::Linear => value,
        Activation::Clamp { least, most } => value.clamp(*least, *most),
        Activation::Slopes(slopes) if value < 0.0 => value * slopes[channel],
        Activation::Slopes(_) => value,
    }
}

/// A convolution of any kind: `weights` are `[outputs][row][column][channels of the group]`.
fn convolution(
    input: &[f32],
    shape: Shape,
    window: Window,
    (weights, bias, group): (&[f32], &[f32], usize),
) -> Vec<f32> {
    let place = window.output(shape, bias.len()).expect("a window that fits");
    let mut output = Vec::new();
    for row in 0..place.height {
        for column in 0..place.width {
            for (channel, bias) in bias.iter().enumerate() {
                let mut sum = f64::from(*bias);
                for y in 0..window.side {
                    for x in 0..window.side {
                        let at = |place: usize, tap: usize, side: usize| {
                            let at = (place * window.stride + tap).checked_sub(window.before)?;
                            (at < side).then_some(at)
                        };
                        let (Some(v), Some(u)) =
                            (at(row, y, shape.height), at(column, x, shape.width))
                        else {
                            continue;
                        };
                        for c in 0..group {
                            let from = if group == 1 { channel } else { c };
                            let number = input[(v * shape.width + u) * shape.channels + from];
                            let weight = weights
                                [((channel * window.side + y) * window.side + x) * group + c];
                            sum += f64::from(number) * f64::from(weight);
                        }
                    }
                }
                output.push(sum as f32);
            }
        }
    }
    output
}

fn most(numbers: &[f32]) -> f32 {
    numbers.iter().fold(1.0, |most, number| most.max(number.abs()))
}

/// No number is farther away than `tolerance`.
fn assert_near(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (found - expected).abs() <= tolerance,
            "{what}: number {i} is {found}, not {expected}"
        );
    }
}

/// As a part of the largest sum: with about 13 bits of the numbers, or with 7.
const SIXTEEN_BITS: f32 = 1e-3;
const EIGHT_BITS: f32 = 0.05;
/// Sums of up to 25 products of numbers between −1 and 1, in another order.
const FLOATS: f32 = 1e-5;

#[test]
fn pointwise_is_what_the_plain_loops_say() {
    pointwise_is_near(Precision::Sixteen, SIXTEEN_BITS);
    pointwise_is_near(Precision::Eight, EIGHT_BITS);
}

fn pointwise_is_near(precision: Precision, tolerance: f32) {
    let mut random = Random(7);
    for _ in 0..60 {
        let (pixels, inputs, outputs) =
            (1 + random.below(40), 2 + random.below(70), 1 + random.below(40));
        let shape = Shape { height: 1, width: pixels, channels: inputs };
        let one = Window { side: 1, stride: 1, before: 0, after: 0 };
        let (input, weights, bias) = (
            random.numbers(pixels * inputs),
            random.numbers(inputs * outputs),
            random.numbers(outputs),
        );
        let activation = random.activation(outputs);
        // None, of all channels, or of some: whole blocks of eight.
        let channels = [0, outputs, outputs / 16 * 8][random.below(3)];
        let residual = random.numbers(pixels * channels);

        let mut expected = convolution(&input, shape, one, (&weights, &bias, inputs));
        let tolerance = tolerance * most(&expected);
        for (i, value) in expected.iter_mut().enumerate() {
            let (pixel, channel) = (i / outputs, i % outputs);
            if channel < channels {
                *value += residual[pixel * channels + channel];
            }
            *value = activate(&activation, channel, *value);
        }
        let mut found = vec![f32::NAN; pixels * outputs];
        let kernel = Pointwise::new(&weights, &bias, &activation, precision);
        let residual = (channels > 0).then_some(Residual { numbers: &residual, channels });
        kernel.run(&input, residual, &mut found);
        let what = format!("{pixels} pixels, {inputs} to {outputs}, residual {channels}");
        assert_near(&found, &expected, tolerance, &what);
    }
}

#[test]
fn pointwise_does_not_overflow() {
    // All products have the same sign and the largest size.
    for inputs in [8, 1152, 5000] {
        for (precision, tolerance) in
            [(Precision::Sixteen, SIXTEEN_BITS), (Precision::Eight, EIGHT_BITS)]
        {
            for sign in [-1.0, 1.0] {
                let weights = vec![3e4; inputs * 8];
                let kernel = Pointwise::new(&weights, &[0.0; 8], &Activation::Linear, precision);
                let mut found = [0.0; 8];
                kernel.run(&vec![sign * 2e5; inputs], None, &mut found);
                let expected = [sign * 6e9 * inputs as f32; 8];
                let tolerance = tolerance * most(&expected);
                assert_near(&found, &expected, tolerance, &format!("{precision:?}"));
            }
        }
    }
}

#[test]
fn pointwise_takes_any_number_without_a_panic() {
    for precision in [Precision::Sixteen, Precision::Eight] {
        let kernel = Pointwise::new(&[1.0; 16], &[0.5; 2], &Activation::Linear, precision);
        for number in [0.0, f32::MIN_POSITIVE, 1e-40, f32::MAX, f32::INFINITY, f32::NAN] {
            let mut found = [0.0; 2];
            kernel.run(&[number; 8], None, &mut found);
            if number < 1e-30 {
                assert_eq!(found, [0.5; 2], "{precision:?}, {number}");
            }
        }
    }
}

#[test]
fn windows_over_few_channels_are_what_the_plain_loops_say() {
    let mut random = Random(11);
    for _ in 0..30 {
        let side = [3, 5][random.below(2)];
        let window = Window {
            side,
            stride: 1 + random.below(2),
            before: random.below(side),
            after: random.below(side),
        };
        let shape = Shape {
            height: side + random.below(12),
            width: side + random.below(12),
            channels: 2 + random.below(3),
        };
        let outputs = 1 + random.below(40);
        let inputs = side * side * shape.channels;
        let (weights, bias) = (random.numbers(inputs * outputs), random.numbers(outputs));
        let activation = random.activation(outputs);
        let kernel = Windowed::new(&weights, &bias, window, shape.channels, &activation);
        let is_near = |input: Numbers, floats: &[f32], tolerance: f32| {
            let weights = (&weights[..], &bias[..], shape.channels);
            let mut expected = convolution(floats, shape, window, weights);
            let tolerance = tolerance * most(&expected);
            for (i, value) in expected.iter_mut().enumerate() {
                *value = activate(&activation, i % outputs, *value);
            }
            let mut found = vec![f32::NAN; expected.len()];
            kernel.run(input, shape, &mut found);
            assert_near(&found, &expected, tolerance, &format!("{shape:?}, {window:?}"));
        };
        let floats = random.numbers(shape.len());
        is_near(Numbers::Floats(&floats), &floats, SIXTEEN_BITS);
        // Of a picture's numbers none is rounded.
        let bytes: Vec<u8> = (0..shape.len()).map(|_| (random.next() >> 8) as u8).collect();
        let floats: Vec<f32> = bytes.iter().map(|byte| f32::from(*byte) / 255.0).collect();
        is_near(Numbers::Bytes(&bytes), &floats, SIXTEEN_BITS / 4.0);
    }
}

#[test]
fn depthwise_is_what_the_plain_loops_say() {
    let mut random = Random(13);
    for _ in 0..60 {
        let side = [3, 5][random.below(2)];
        let window = Window {
            side,
            stride: 1 + random.below(2),
            before: random.below(side),
            after: random.below(side),
        };
        let shape = Shape {
            height: side + random.below(12),
            width: side + random.below(12),
            channels: 4 * (1 + random.below(6)),
        };
        let (input, weights, bias) = (
            random.numbers(shape.len()),
            random.numbers(side * side * shape.channels),
            random.numbers(shape.channels),
        );
        let activation = random.activation(shape.channels);
        let mut expected = convolution(&input, shape, window, (&weights, &bias, 1));
        for (i, value) in expected.iter_mut().enumerate() {
            *value = activate(&activation, i % shape.channels, *value);
        }
        let mut found = vec![f32::NAN; expected.len()];
        let kernel = Depthwise::new(&weights, &bias, window, &activation).expect("a kernel");
        let block = Block::new(Before::Nothing, kernel, None).expect("a block");
        block.run(Numbers::Floats(&input), shape, None, &mut found);
        assert_near(&found, &expected, FLOATS, &format!("{shape:?}, {window:?}"));
    }
}

/// To the bit: rows are computed as in the picture as a whole. Between layers of which the activations
/// say in which range all lies, numbers are rounded to 16 bits.
#[test]
fn a_block_is_what_its_layers_are_one_after_the_other() {
    let mut random = Random(31);
    for turn in 0..90 {
        let precision = [Precision::Sixteen, Precision::Eight][random.below(2)];
        let side = [3, 5][random.below(2)];
        let mut window = || Window {
            side,
            stride: 1 + random.below(2),
            before: random.below(side),
            after: random.below(side),
        };
        let (first_window, window) = (window(), window());
        let shape = Shape {
            height: 11 + random.below(12),
            width: 11 + random.below(12),
            channels: [4 * (1 + random.below(6)), 3][usize::from(turn % 3 == 2)],
        };
        let input = random.numbers(shape.len());
        let wide = 4 * (1 + random.below(10));
        let mut pointwise = |inputs: usize, outputs: usize| {
            let (weights, bias) = (random.numbers(inputs * outputs), random.numbers(outputs));
            let activation = random.activation(outputs);
            (Pointwise::new(&weights, &bias, &activation, precision), bounded(&activation))
        };
        let (expansion, expansion_is_bounded) = pointwise(shape.channels, wide);
        let narrow = 1 + turn % 20;
        let projections = [pointwise(shape.channels, narrow).0, pointwise(wide, narrow).0];

        let mut rounded = false;
        let (before, between, picture) = match turn % 3 {
            0 => (Before::Nothing, shape, input.clone()),
            1 => {
                let between = Shape { channels: wide, ..shape };
                let mut picture = vec![f32::NAN; between.len()];
                expansion.run(&input, None, &mut picture);
                rounded = expansion_is_bounded;
                (Before::Pointwise(expansion), between, picture)
            }
            _ => {
                let weights = random.numbers(side * side * shape.channels * wide);
                let (bias, activation) = (random.numbers(wide), random.activation(wide));
                let channels = shape.channels;
                let kernel = Windowed::new(&weights, &bias, first_window, channels, &activation);
                let between = first_window.output(shape, wide).expect("it fits");
                let mut picture = vec![f32::NAN; between.len()];
                kernel.run(Numbers::Floats(&input), shape, &mut picture);
                rounded = bounded(&activation);
                (Before::Window(kernel), between, picture)
            }
        };
        let Some(place) = window.output(between, between.channels) else { continue };
        let weights = random.numbers(side * side * between.channels);
        let (bias, activation) =
            (random.numbers(between.channels), random.activation(between.channels));
        rounded &= bounded(&activation);
        let kernel = Depthwise::new(&weights, &bias, window, &activation).expect("a kernel");
        let alone = Block::new(Before::Nothing, kernel.clone(), None).expect("a block");
        let mut deep = vec![f32::NAN; place.len()];
        alone.run(Numbers::Floats(&picture), between, None, &mut deep);

        let what = format!("{turn}: {shape:?}, {first_window:?}, {window:?}");
        let block = Block::new(before.clone(), kernel.clone(), None).expect("a block");
        assert_eq!(block.output(shape), Some(place), "{what}");
        let mut found = vec![f32::NAN; deep.len()];
        block.run(Numbers::Floats(&input), shape, None, &mut found);
        assert_near(&found, &deep, if rounded { SIXTEEN_BITS } else { 0.0 }, &what);

        let [narrower, wider] = projections;
        let projection = if turn % 3 == 0 { narrower } else { wider };
        let residual = random.numbers(place.pixels() * narrow);
        let residual = [None, Some(Residual { numbers: &residual, channels: narrow })];
        let residual = residual[random.below(2)];
        let mut expected = vec![f32::NAN; place.pixels() * narrow];
        projection.run(&deep, residual, &mut expected);
        let block = Block::new(before, kernel, Some(projection)).expect("a block");
        assert_eq!(block.output(shape), Some(Shape { channels: narrow, ..place }), "{what}");
        let mut found = vec![f32::NAN; expected.len()];
        block.run(Numbers::Floats(&input), shape, residual, &mut found);
        let tolerance = if rounded { EIGHT_BITS * most(&expected) } else { 0.0 };
        assert_near(&found, &expected, tolerance, &what);
    }
}

/// Whether an activation says in which range all lies.
fn bounded(activation: &Activation) -> bool {
    matches!(activation, Activation::Clamp { .. })
}

/// All numbers 0 or the largest, and sums far beyond what the activation leaves.
#[test]
fn integers_between_layers_do_not_overflow() {
    let mut random = Random(37);
    let most = 6.0;
    let activation = Activation::Clamp { least: 0.0, most };
    for turn in 0..60 {
        let side = [3, 5][random.below(2)];
        let window =
            Window { side, stride: 1 + random.below(2), before: side / 2, after: side / 2 };
        let shape = Shape { height: 9, width: 4 + random.below(9), channels: 1 };
        let channels = 4 * (1 + random.below(6));
        let between = Shape { channels, ..shape };
        let input = random.numbers(shape.len());
        let expansion = vec![1e6; channels];
        let expansion =
            Pointwise::new(&expansion, &vec![0.0; channels], &activation, Precision::Eight);
        let picture: Vec<f32> = input
            .iter()
            .flat_map(|number| vec![if *number > 0.0 { most } else { 0.0 }; channels])
            .collect();

        let (large, far) = ([0.01, 1.0, 100.0][turn % 3], [0.0, 5.0, 1e4][turn / 3 % 3]);
        let sign = [1.0, -1.0, 0.0][turn / 9 % 3];
        let taps = side * side;
        // Of one sign, of the other, or of both.
        let weights: Vec<f32> = random
            .numbers(taps * channels)
            .into_iter()
            .map(|weight| large * if sign == 0.0 { weight } else { sign * weight.abs() })
            .collect();
        let bias: Vec<f32> = random.numbers(channels).iter().map(|bias| far * bias).collect();
        let mut expected = convolution(&picture, between, window, (&weights, &bias, 1));
        for value in &mut expected {
            *value = value.clamp(0.0, most);
        }
        let kernel = Depthwise::new(&weights, &bias, window, &activation).expect("a kernel");
        let block = Block::new(Before::Pointwise(expansion), kernel, None).expect("a block");
        let mut found = vec![f32::NAN; expected.len()];
        block.run(Numbers::Floats(&input), shape, None, &mut found);
        // The larger the weights, the coarser the sums; what had overflown would be off by the most.
        let tolerance = most * [2e-4, 2e-3, 0.1][turn % 3];
        assert_near(&found, &expected, tolerance, &format!("{turn}: {shape:?}, {window:?}"));
    }
}

#[test]
fn layers_whose_channels_do_not_fit_are_no_block() {
    let window = Window { side: 3, stride: 1, before: 1, after: 1 };
    let depthwise = || Depthwise::new(&[0.0; 72], &[0.0; 8], window, &Activation::Linear);
    let depthwise = || depthwise().expect("a kernel");
    let pointwise = |inputs: usize, outputs: usize| {
        let weights = vec![0.0; inputs * outputs];
        Pointwise::new(&weights, &vec![0.0; outputs], &Activation::Linear, Precision::Eight)
    };
    let expansion = Before::Pointwise(pointwise(4, 12));
    assert!(Block::new(expansion, depthwise(), None).is_none());
    assert!(Block::new(Before::Nothing, depthwise(), Some(pointwise(4, 8))).is_none());
    let block = Block::new(Before::Nothing, depthwise(), Some(pointwise(8, 4))).expect("a block");
    assert!(block.output(Shape { height: 3, width: 3, channels: 4 }).is_none());
}

#[test]
fn depthwise_is_for_the_windows_that_the_models_have() {
    let window = Window { side: 7, stride: 1, before: 0, after: 0 };
    assert!(Depthwise::new(&[0.0; 196], &[0.0; 4], window, &Activation::Linear).is_none());
    let window = Window { side: 3, stride: 3, ..window };
    assert!(Depthwise::new(&[0.0; 36], &[0.0; 4], window, &Activation::Linear).is_none());
    let window = Window { stride: 1, ..window };
    assert!(Depthwise::new(&[0.0; 45], &[0.0; 5], window, &Activation::Linear).is_none());
}

#[test]
fn max_pool_is_what_the_plain_loops_say() {
    let mut random = Random(17);
    for _ in 0..20 {
        let shape = Shape {
            height: 1 + random.below(9),
            width: 1 + random.below(9),
            channels: 4 * (1 + random.below(4)),
        };
        let input = random.numbers(shape.len());
        let (height, width) = (shape.height / 2, shape.width / 2);
        let mut expected = Vec::new();
        for i in 0..height * width * shape.channels {
            let (pixel, channel) = (i / shape.channels, i % shape.channels);
            let at = |y: usize, x: usize| {
                let (row, column) = (2 * (pixel / width) + y, 2 * (pixel % width) + x);
                input[(row * shape.width + column) * shape.channels + channel]
            };
            expected.push(at(0, 0).max(at(0, 1)).max(at(1, 0)).max(at(1, 1)));
        }
        let mut found = vec![f32::NAN; expected.len()];
        max_pool(&input, shape, &mut found);
        assert_eq!(found, expected, "{shape:?}");
    }
}

#[test]
fn upsampling_is_what_the_plain_loops_say() {
    let mut random = Random(19);
    for _ in 0..20 {
        let shape = Shape {
            height: 1 + random.below(6),
            width: 1 + random.below(6),
            channels: 4 * (1 + random.below(4)),
        };
        let (input, residual) = (random.numbers(shape.len()), random.numbers(4 * shape.len()));
        let activation = random.activation(shape.channels);
        let mut expected = Vec::new();
        for (i, residual) in residual.iter().enumerate() {
            let (pixel, channel) = (i / shape.channels, i % shape.channels);
            // ONNX Resize, `half_pixel`: the output's place in the input, cut to the edge.
            let weights = |at: usize, side: usize| {
                let place = ((at as f32 + 0.5) / 2.0 - 0.5).clamp(0.0, (side - 1) as f32);
                let first = place.floor() as usize;
                (first, (first + 1).min(side - 1), place.fract())
            };
            let (top, bottom, down) = weights(pixel / (2 * shape.width), shape.height);
            let (left, right, across) = weights(pixel % (2 * shape.width), shape.width);
            let at = |row: usize, column: usize| {
                input[(row * shape.width + column) * shape.channels + channel]
            };
            let line = |row: usize| at(row, left) * (1.0 - across) + at(row, right) * across;
            let value = line(top) * (1.0 - down) + line(bottom) * down;
            expected.push(activate(&activation, channel, value) + residual);
        }
        let mut found = vec![f32::NAN; expected.len()];
        let kernel = Upsample::new(shape.channels, &activation).expect("a kernel");
        kernel.run(&input, shape, Some(&residual), &mut found);
        assert_near(&found, &expected, FLOATS, &format!("{shape:?}"));
    }
}

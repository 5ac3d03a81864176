//! The operators as plain loops, in 64-bit floats where sums are long.

use crate::activation::Activation;
use crate::shape::{ConvGeometry, Shape};

/// Applies an activation function.
pub fn activate(activation: &Activation, channel: usize, value: f32) -> f32 {
    match activation {
        Activation::Linear => value,
        Activation::Clamp { min, max } => value.clamp(*min, *max),
        Activation::Prelu(slopes) if value < 0.0 => value * slopes[channel],
        Activation::Prelu(_) => value,
    }
}

/// Computes a convolution of any kind, without its activation. `weights` are `[outputs][row][column]
/// [channels of the group]`; a group has one channel, or all.
pub fn convolution(
    input: &[f32],
    shape: Shape,
    geometry: ConvGeometry,
    (weights, bias, group): (&[f32], &[f32], usize),
) -> Vec<f32> {
    let size = geometry.kernel_size;
    let place = geometry.output(shape, bias.len()).expect("a kernel that fits");
    let mut output = Vec::new();
    for row in 0..place.height {
        for column in 0..place.width {
            for (channel, bias) in bias.iter().enumerate() {
                let mut sum = f64::from(*bias);
                for y in 0..size {
                    for x in 0..size {
                        let at = |place: usize, tap: usize, size: usize| {
                            let padded = place * geometry.stride + tap;
                            let at = padded.checked_sub(geometry.pad_before)?;
                            (at < size).then_some(at)
                        };
                        let (Some(v), Some(u)) =
                            (at(row, y, shape.height), at(column, x, shape.width))
                        else {
                            continue;
                        };
                        for c in 0..group {
                            let from = if group == 1 { channel } else { c };
                            let value = input[(v * shape.width + u) * shape.channels + from];
                            let weight = weights[((channel * size + y) * size + x) * group + c];
                            sum += f64::from(value) * f64::from(weight);
                        }
                    }
                }
                output.push(sum as f32);
            }
        }
    }
    output
}

/// Computes a product of pixels and weights `[outputs][inputs]`, without its activation.
pub fn pointwise(input: &[f32], weights: &[f32], bias: &[f32]) -> Vec<f32> {
    let inputs = weights.len() / bias.len();
    let shape = Shape { height: 1, width: input.len() / inputs, channels: inputs };
    let geometry = ConvGeometry { kernel_size: 1, stride: 1, pad_before: 0, pad_after: 0 };
    convolution(input, shape, geometry, (weights, bias, inputs))
}

/// Returns the largest of each 2 × 2 pixels, by channel.
pub fn max_pool(input: &[f32], shape: Shape) -> Vec<f32> {
    let (height, width) = (shape.height / 2, shape.width / 2);
    let mut output = Vec::new();
    for i in 0..height * width * shape.channels {
        let (pixel, channel) = (i / shape.channels, i % shape.channels);
        let at = |y: usize, x: usize| {
            let (row, column) = (2 * (pixel / width) + y, 2 * (pixel % width) + x);
            input[(row * shape.width + column) * shape.channels + channel]
        };
        output.push(at(0, 0).max(at(0, 1)).max(at(1, 0)).max(at(1, 1)));
    }
    output
}

/// Computes twice the height and width by ONNX's Resize (`linear`, `half_pixel`).
pub fn upsample(input: &[f32], shape: Shape) -> Vec<f32> {
    let mut output = Vec::new();
    for i in 0..4 * shape.len() {
        let (pixel, channel) = (i / shape.channels, i % shape.channels);
        // The output's place in the input, limited to the edge.
        let weights = |at: usize, size: usize| {
            let place = ((at as f32 + 0.5) / 2.0 - 0.5).clamp(0.0, (size - 1) as f32);
            let first = place.floor() as usize;
            (first, (first + 1).min(size - 1), place.fract())
        };
        let (top, bottom, down) = weights(pixel / (2 * shape.width), shape.height);
        let (left, right, across) = weights(pixel % (2 * shape.width), shape.width);
        let at = |row: usize, column: usize| {
            input[(row * shape.width + column) * shape.channels + channel]
        };
        let line = |row: usize| at(row, left) * (1.0 - across) + at(row, right) * across;
        output.push(line(top) * (1.0 - down) + line(bottom) * down);
    }
    output
}

//! Convolution over few channels: a model's first layer.
//!
//! It is a matrix product in int16 (`gemm/int16.rs`) over the pixels that the kernel covers (im2col).
//! The whole input is quantised once. The rows that the kernel covers lie side by side in it, so that
//! only what is left of a row beside whole panels has to be gathered value by value.

use crate::activation::Activation;
use crate::gemm::int16::{Int16, K_STEP, KPanel};
use crate::gemm::{NhwcOutput, OutputTile, PackedWeights};
use crate::operator::Operator;
use crate::quant::{MR, RowQuant};
use crate::shape::{Activations, ConvGeometry, Residual, Shape};
use crate::simd::{F32x4, I16x8};

/// A convolution that mixes the pixels and channels of its kernel.
///
/// It adds no residual.
#[derive(Clone, Debug, PartialEq)]
pub struct Conv2d {
    geometry: ConvGeometry,
    channels: usize,
    /// Panels of each row of the kernel.
    row_panels: usize,
    /// Values that are left of each row, if they are gathered to panels of their own. Otherwise the last
    /// one of a row's panels has values beside the kernel, too, with weights of 0.
    rest: usize,
    weights: PackedWeights<Int16>,
}

impl Conv2d {
    /// Packs weights `[outputs][row][column][channel]` with one bias for each output.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub fn new(
        weights: &[f32],
        bias: &[f32],
        geometry: ConvGeometry,
        channels: usize,
        activation: &Activation,
    ) -> Conv2d {
        let taps = geometry.kernel_size * geometry.kernel_size;
        assert_eq!(weights.len(), bias.len() * taps * channels);
        let (rows, length) = (geometry.kernel_size, geometry.kernel_size * channels);
        // Only where it saves panels. Measured: docs/benchmarks.md#kernels-im2col
        let gathers = (rows * (length % K_STEP)).div_ceil(K_STEP) < rows;
        let (row_panels, rest) = match gathers {
            true => (length / K_STEP, length % K_STEP),
            false => (length.div_ceil(K_STEP), 0),
        };
        let whole = length - rest;
        let mut packed = Vec::new();
        for weights in weights.chunks_exact(rows * length) {
            let mut pack = |weights: &mut dyn Iterator<Item = f32>| {
                packed.extend(weights);
                packed.resize(packed.len().next_multiple_of(K_STEP), 0.0);
            };
            let rows = || weights.chunks_exact(length);
            rows().for_each(|row| pack(&mut row[..whole].iter().copied()));
            pack(&mut rows().flat_map(|row| row[whole..].iter().copied()));
        }
        let weights = PackedWeights::packed_by(Int16::pack_for_u8, &packed, bias, activation);
        Conv2d { geometry, channels, row_panels, rest, weights }
    }

    /// Returns the convolution with outputs in integers of 16 bits, and the scale of these; `None` if the
    /// activation does not bound them.
    pub(crate) fn with_i16_outputs(&self) -> Option<(Conv2d, f32)> {
        let (weights, scale) = self.weights.with_i16_outputs()?;
        Some((Conv2d { weights, ..self.clone() }, scale))
    }

    /// Returns the number of output channels.
    pub fn outputs(&self) -> usize {
        self.weights.outputs()
    }

    /// Quantises the input and pads it.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub(crate) fn quantise(&self, input: Activations, shape: Shape) -> QuantisedInput {
        let ConvGeometry { kernel_size, stride, pad_before, .. } = self.geometry;
        assert_eq!(self.channels, shape.channels);
        assert_eq!(input.len(), shape.len());
        let output = self.geometry.output(shape, self.outputs()).expect("a kernel that fits");
        let (width, height) =
            ((output.width - 1) * stride + kernel_size, (output.height - 1) * stride + kernel_size);
        let (width, height) =
            (width.max(pad_before + shape.width), height.max(pad_before + shape.height));
        // The last row of the last kernel may reach over the end.
        let mut values = vec![0; width * height * shape.channels + self.row_panels * K_STEP];
        let length = shape.width * shape.channels;
        let rows = values.chunks_exact_mut(width * shape.channels).skip(pad_before);
        let rows = rows.map(|row| &mut row[pad_before * shape.channels..][..length]);
        let scale = match input {
            Activations::F32(values) => {
                let (factor, scale) = self.weights.kernel().factor_and_scale(values);
                for (row, values) in rows.zip(values.chunks_exact(length)) {
                    quantise_row(row, values, |values| {
                        let [low, high] = F32x4::load_two(values);
                        I16x8::quantise(low, high, F32x4::splat(factor))
                    });
                }
                scale
            }
            Activations::U8(values) => {
                let (factor, scale) = self.weights.kernel().factor_and_scale_of_u8();
                for (row, values) in rows.zip(values.chunks_exact(length)) {
                    quantise_row(row, values, |values| {
                        I16x8::widen(values).mul(I16x8::splat(factor))
                    });
                }
                scale
            }
        };
        QuantisedInput { values, width, scale, output }
    }

    /// Computes one row of output.
    ///
    /// # Panics
    /// If the length does not fit.
    pub(crate) fn run_row(&self, input: &QuantisedInput, row: usize, output: impl OutputTile) {
        let QuantisedInput { values, width, scale, output: place } = input;
        assert_eq!(output.pixels(), place.width);
        let top = row * self.geometry.stride;
        let line = width * self.channels;
        // The places of the gathered values, from the kernel's first one on.
        let first = self.row_panels * K_STEP;
        let gathered: Vec<usize> = (0..self.geometry.kernel_size)
            .flat_map(|row| (0..self.rest).map(move |value| row * line + first + value))
            .collect();
        let im2col = |first: usize, tile: &mut [KPanel]| {
            for pixel in 0..MR {
                let left = (first + pixel).min(place.width - 1) * self.geometry.stride;
                let covered = &values[(top * width + left) * self.channels..];
                let mut panels = tile.iter_mut();
                for row in 0..self.geometry.kernel_size {
                    let row = &covered[row * line..][..self.row_panels * K_STEP];
                    for (values, panel) in row.as_chunks().0.iter().zip(&mut panels) {
                        I16x8::load(values).store_splat_pairs(&mut panel[pixel]);
                    }
                }
                for (places, panel) in gathered.chunks(K_STEP).zip(&mut panels) {
                    let mut values = [0; K_STEP];
                    for (value, place) in values.iter_mut().zip(places) {
                        *value = covered[*place];
                    }
                    I16x8::load(&values).store_splat_pairs(&mut panel[pixel]);
                }
            }
            RowQuant { scale: F32x4::splat(*scale), zero_offset: F32x4::splat(0.0) }
        };
        self.weights.run_filled(im2col, None, output);
    }
}

impl Operator for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn output(&self, input: Shape) -> Option<Shape> {
        let fits = input.channels == self.channels;
        fits.then(|| self.geometry.output(input, self.outputs())).flatten()
    }

    fn macs(&self, input: Shape) -> usize {
        let taps = self.geometry.kernel_size * self.geometry.kernel_size;
        taps * self.channels * self.output(input).map_or(0, Shape::len)
    }

    fn reads_u8(&self) -> bool {
        true
    }

    fn run(
        &self,
        input: Activations,
        shape: Shape,
        residual: Option<Residual>,
        output: &mut [f32],
    ) {
        assert!(residual.is_none(), "cannot add a residual to a conv2d");
        let input = self.quantise(input, shape);
        let channels = self.outputs();
        let rows = output.chunks_exact_mut(input.output.width * channels);
        for (row, values) in rows.enumerate() {
            self.run_row(&input, row, NhwcOutput { values, channels });
        }
    }
}

/// Quantises a row, eight values at once.
#[inline(always)]
fn quantise_row<T: Copy + Default>(
    row: &mut [i16],
    values: &[T],
    quantise: impl Fn(&[T; K_STEP]) -> I16x8,
) {
    let (whole, rest) = values.as_chunks::<K_STEP>();
    let (quantised, last) = row.as_chunks_mut::<K_STEP>();
    for (quantised, values) in quantised.iter_mut().zip(whole) {
        quantise(values).store(quantised);
    }
    let mut values = [T::default(); K_STEP];
    values[..rest.len()].copy_from_slice(rest);
    let mut quantised = [0; K_STEP];
    quantise(&values).store(&mut quantised);
    last.copy_from_slice(&quantised[..rest.len()]);
}

/// An input in integers of 16 bits, with its padding.
pub(crate) struct QuantisedInput {
    values: Vec<i16>,
    /// Pixels of a row with its padding.
    width: usize,
    /// Value of the integer 1.
    scale: f32,
    /// The output's shape.
    output: Shape,
}

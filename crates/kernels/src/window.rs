//! Convolution in a window over few channels: a model's first layer.
//!
//! It is the [pointwise](super::pointwise) kernel of 16 bits over the window's numbers. The whole picture is
//! scaled to 16 bits once; the window's rows lie side by side in it, so that whole steps of a row need
//! not be gathered number by number.

use super::activation::Activation;
use super::simd::{F32x4, I16x8};
use super::sixteen::{PixelStep, STEP, Sixteen};
use super::tiles::{Outputs, PIXELS, Pixels, Tiles, Units};
use super::{Numbers, Shape, Window};

/// A convolution's weights, packed.
#[derive(Clone, Debug, PartialEq)]
pub struct Windowed {
    window: Window,
    channels: usize,
    /// Steps of each row of the window.
    steps: usize,
    /// Numbers that are left of each row, if they are gathered to steps of their own. Else the last one
    /// of a row's steps has what is beside the window, too, without a weight.
    rest: usize,
    kernel: Tiles<Sixteen>,
}

impl Windowed {
    /// Packs weights `[outputs][row][column][channel]` with one bias for each output.
    ///
    /// # Panics
    /// If the lengths don't fit.
    pub fn new(
        weights: &[f32],
        bias: &[f32],
        window: Window,
        channels: usize,
        activation: &Activation,
    ) -> Windowed {
        assert_eq!(weights.len(), bias.len() * window.side * window.side * channels);
        let (side, numbers) = (window.side, window.side * channels);
        // MediaPipe's 3 × 3 × 3 is 4 steps in the place of 6: its block takes 1.54 ms in that of 1.61.
        let gathered = (side * (numbers % STEP)).div_ceil(STEP) < side;
        let (steps, rest) = match gathered {
            true => (numbers / STEP, numbers % STEP),
            false => (numbers.div_ceil(STEP), 0),
        };
        let whole = numbers - rest;
        let mut packed = Vec::new();
        for weights in weights.chunks_exact(side * numbers) {
            let mut pack = |numbers: &mut dyn Iterator<Item = f32>| {
                packed.extend(numbers);
                packed.resize(packed.len().next_multiple_of(STEP), 0.0);
            };
            let rows = || weights.chunks_exact(numbers);
            rows().for_each(|row| pack(&mut row[..whole].iter().copied()));
            pack(&mut rows().flat_map(|row| row[whole..].iter().copied()));
        }
        let kernel = Tiles::packed_by(Sixteen::pack_for_bytes, &packed, bias, activation);
        Windowed { window, channels, steps, rest, kernel }
    }

    /// The same with outputs in whole units, and what a unit stands for.
    pub(super) fn in_units(&self) -> Option<(Windowed, f32)> {
        let (kernel, unit) = self.kernel.in_units()?;
        Some((Windowed { kernel, ..self.clone() }, unit))
    }

    /// How the window moves.
    pub fn window(&self) -> Window {
        self.window
    }

    /// Channels of the input.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Channels of the output.
    pub fn outputs(&self) -> usize {
        self.kernel.outputs()
    }

    /// Multiplications with an addition each for one number of output.
    pub fn multiply_adds(&self) -> usize {
        self.window.side * self.window.side * self.channels
    }

    /// The whole picture.
    ///
    /// # Panics
    /// If the lengths don't fit.
    pub fn run(&self, input: Numbers, shape: Shape, output: &mut [f32]) {
        let picture = self.scale(input, shape);
        let rows = output.chunks_exact_mut(picture.output.width * self.outputs());
        let channels = self.outputs();
        for (row, numbers) in rows.enumerate() {
            self.run_row(&picture, row, Pixels { numbers, channels });
        }
    }

    /// The picture in 16 bits, with its border.
    ///
    /// # Panics
    /// If the lengths don't fit.
    pub(super) fn scale(&self, input: Numbers, shape: Shape) -> Scaled {
        let Window { side, stride, before, .. } = self.window;
        assert_eq!(self.channels, shape.channels);
        assert_eq!(input.len(), shape.len());
        let output = self.window.output(shape, self.outputs()).expect("a window that fits");
        // The last row of the last window may reach over the end.
        let (width, height) =
            ((output.width - 1) * stride + side, (output.height - 1) * stride + side);
        let (width, height) = (width.max(before + shape.width), height.max(before + shape.height));
        let mut picture = vec![0; width * height * shape.channels + self.steps * STEP];
        let length = shape.width * shape.channels;
        let rows = picture.chunks_exact_mut(width * shape.channels).skip(before);
        let rows = rows.map(|row| &mut row[before * shape.channels..][..length]);
        let unit = match input {
            Numbers::Floats(numbers) => {
                let (factor, unit) = self.kernel.products().factor_and_unit(numbers);
                for (row, numbers) in rows.zip(numbers.chunks_exact(length)) {
                    each_step(row, numbers, |numbers| {
                        let [low, high] = F32x4::load_two(numbers);
                        I16x8::scale(low, high, F32x4::splat(factor))
                    });
                }
                unit
            }
            Numbers::Bytes(numbers) => {
                let (factor, unit) = self.kernel.products().factor_and_unit_of_bytes();
                for (row, numbers) in rows.zip(numbers.chunks_exact(length)) {
                    each_step(row, numbers, |numbers| {
                        I16x8::widen(numbers).mul(I16x8::splat(factor))
                    });
                }
                unit
            }
        };
        Scaled { numbers: picture, width, unit, output }
    }

    /// One row of output.
    ///
    /// # Panics
    /// If the length doesn't fit.
    pub(super) fn run_row(&self, picture: &Scaled, row: usize, outputs: impl Outputs) {
        let Scaled { numbers, width, unit, output: place } = picture;
        assert_eq!(outputs.pixels(), place.width);
        let top = row * self.window.stride;
        let line = width * self.channels;
        // Where the numbers are that are gathered, from the window's first one on.
        let first = self.steps * STEP;
        let gathered: Vec<usize> = (0..self.window.side)
            .flat_map(|row| (0..self.rest).map(move |number| row * line + first + number))
            .collect();
        let fill = |first: usize, tile: &mut [PixelStep]| {
            for at in 0..PIXELS {
                let left = (first + at).min(place.width - 1) * self.window.stride;
                let window = &numbers[(top * width + left) * self.channels..];
                let mut steps = tile.iter_mut();
                for row in 0..self.window.side {
                    let row = &window[row * line..][..self.steps * STEP];
                    for (numbers, step) in row.as_chunks().0.iter().zip(&mut steps) {
                        I16x8::load(numbers).store_pairs(&mut step[at]);
                    }
                }
                for (places, step) in gathered.chunks(STEP).zip(&mut steps) {
                    let mut numbers = [0; STEP];
                    for (number, place) in numbers.iter_mut().zip(places) {
                        *number = window[*place];
                    }
                    I16x8::load(&numbers).store_pairs(&mut step[at]);
                }
            }
            Units { unit: F32x4::splat(*unit), zero: F32x4::splat(0.0) }
        };
        self.kernel.run_filled(fill, None, outputs);
    }
}

/// Turns numbers into integers, a step after the other.
#[inline(always)]
fn each_step<N: Copy + Default>(
    row: &mut [i16],
    numbers: &[N],
    scale: impl Fn(&[N; STEP]) -> I16x8,
) {
    let (steps, rest) = numbers.as_chunks::<STEP>();
    let (scaled, last) = row.as_chunks_mut::<STEP>();
    for (scaled, numbers) in scaled.iter_mut().zip(steps) {
        scale(numbers).store(scaled);
    }
    let mut numbers = [N::default(); STEP];
    numbers[..rest.len()].copy_from_slice(rest);
    let mut scaled = [0; STEP];
    scale(&numbers).store(&mut scaled);
    last.copy_from_slice(&scaled[..rest.len()]);
}

/// A picture in 16 bits, with its border.
pub(super) struct Scaled {
    numbers: Vec<i16>,
    /// Pixels of a row with its border.
    width: usize,
    /// What a unit is worth.
    unit: f32,
    /// The shape of what becomes of it.
    output: Shape,
}

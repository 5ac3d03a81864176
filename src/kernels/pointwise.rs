//! Convolution that mixes the channels of each pixel (pointwise, 1 × 1).
//!
//! The products are of 16 bits, the sums of 32. Each pixel is scaled by its own largest number and
//! each output channel by its own weights, such that no sum can overflow, and that numbers and
//! weights are about equally fine: 11 to 15 bits, the more the fewer there are to add up. Measured:
//! the landmarks of the test photos move by 0.09 % of the palm's length on average against 32-bit
//! floats, with the lite models by 0.13 %.

use super::activation::{Activate, Activation, Padded, fours, with_activation};
use super::simd::{F32x4, I16x8, I32x4};

/// Pixels of one tile.
///
/// Measured in wasmtime 48 on a Zen 5 core, 112 → 672 channels, 196 pixels, in GMAC/s: 3 pixels 31,
/// 4 pixels 31, 5 pixels 30.5, 6 pixels 28, 8 pixels 27. The inner loop alone: 40, where in floats
/// with `relaxed_madd` it has 20, and in 8 bits with `relaxed_dot` 51.
const PIXELS: usize = 4;
/// Output channels of one tile.
const CHANNELS: usize = 8;
/// Input channels that are loaded at once.
pub(super) const STEP: usize = 8;
/// Eight input channels of a tile's pixels.
pub(super) type PixelStep = [[i16; STEP]; PIXELS];
/// Weights of eight input and eight output channels: four pairs of inputs, two times four outputs.
type WeightStep = [[[i16; 8]; 2]; STEP / 2];

/// A convolution's weights, packed.
#[derive(Clone, Debug, PartialEq)]
pub struct Pointwise {
    inputs: usize,
    outputs: usize,
    /// What the largest number of a pixel becomes.
    largest: f32,
    /// By eight output channels, then by eight input channels.
    weights: Vec<WeightStep>,
    /// What one of the integer sums is worth, by output channel, before the pixel's own factor.
    scales: Vec<[f32; 4]>,
    bias: Vec<[f32; 4]>,
    activation: Padded,
}

/// What is added to the outputs before the activation: a picture of the same height and width; if
/// it has fewer channels, the others get nothing.
#[derive(Clone, Copy)]
pub struct Residual<'a> {
    /// The numbers.
    pub numbers: &'a [f32],
    /// Channels of each pixel: a multiple of 8, or as many as the outputs.
    pub channels: usize,
}

impl Pointwise {
    /// Packs weights `[outputs][inputs]` with one bias for each output.
    ///
    /// # Panics
    /// If the lengths don't fit.
    pub fn new(weights: &[f32], bias: &[f32], activation: &Activation) -> Pointwise {
        let outputs = bias.len();
        let inputs = weights.len() / outputs;
        assert_eq!(weights.len(), outputs * inputs);
        let steps = inputs.div_ceil(STEP);
        let blocks = outputs.div_ceil(CHANNELS);
        let mut packed = vec![WeightStep::default(); blocks * steps];
        let mut scales = vec![0.0; outputs];
        // How many weights as large as the largest one a channel's weights are together.
        let many = weights.chunks_exact(inputs).map(|row| sum(row) / most(row)).fold(1.0, f64::max);
        let largest = (f64::from(i32::MAX) / many).sqrt().min(i16::MAX.into()).floor();
        for (output, row) in weights.chunks_exact(inputs).enumerate() {
            if most(row) == 0.0 {
                continue;
            }
            // No weight beyond 16 bits, and all of them times the largest number within 32; each
            // may be rounded up by a half.
            let room = f64::from(i32::MAX) / largest - inputs as f64;
            let factor = (f64::from(i16::MAX) / most(row)).min(room / sum(row));
            scales[output] = (1.0 / factor) as f32;
            for (input, weight) in row.iter().enumerate() {
                let step = &mut packed[output / CHANNELS * steps + input / STEP];
                let (pair, lane) = (input % STEP / 2, input % 2);
                let (four, place) = (output % CHANNELS / 4, output % 4);
                step[pair][four][2 * place + lane] = (f64::from(*weight) * factor).round() as i16;
            }
        }
        let padded = blocks * CHANNELS;
        Pointwise {
            inputs,
            outputs,
            largest: largest as f32,
            weights: packed,
            scales: fours(&scales, padded),
            bias: fours(bias, padded),
            activation: Padded::new(activation, padded),
        }
    }

    /// Input channels.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Output channels.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Each pixel by itself: `[pixels][inputs]` becomes `[pixels][outputs]`.
    ///
    /// # Panics
    /// If the lengths don't fit.
    pub fn run(&self, input: &[f32], residual: Option<Residual>, output: &mut [f32]) {
        let inputs = self.inputs;
        let row = |pixel: usize, tile: &mut [PixelStep], place: usize| {
            quantise(&input[pixel * inputs..][..inputs], self.largest, tile, place)
        };
        assert_eq!(input.len() / inputs, output.len() / self.outputs);
        self.run_rows(row, residual, output);
    }

    /// Pixels from anywhere. `row` scales one into its place of a tile and says what a unit is worth.
    pub(super) fn run_rows(
        &self,
        row: impl FnMut(usize, &mut [PixelStep], usize) -> f32,
        residual: Option<Residual>,
        output: &mut [f32],
    ) {
        with_activation!(&self.activation, |activation| {
            self.tiles(row, &activation, residual, output);
        });
    }

    /// What the largest number of a pixel becomes.
    pub(super) fn largest(&self) -> f32 {
        self.largest
    }

    /// All tiles.
    fn tiles(
        &self,
        mut row: impl FnMut(usize, &mut [PixelStep], usize) -> f32,
        activation: &impl Activate,
        residual: Option<Residual>,
        output: &mut [f32],
    ) {
        let steps = self.inputs.div_ceil(STEP);
        let mut tile = vec![PixelStep::default(); steps];
        let mut units = [0.0; PIXELS];
        let pixels = output.len() / self.outputs;
        let whole = pixels / PIXELS * PIXELS;
        let (most, last) = output.split_at_mut(whole * self.outputs);
        for (index, output) in most.chunks_exact_mut(PIXELS * self.outputs).enumerate() {
            let first = index * PIXELS;
            for (place, unit) in units.iter_mut().enumerate() {
                *unit = row(first + place, &mut tile, place);
            }
            let residual = residual.map(|all| all.from(first));
            self.tile(&tile, &units, activation, residual, output);
        }
        if last.is_empty() {
            return;
        }
        // The last pixels, in a tile that is filled up.
        for (place, unit) in units.iter_mut().enumerate().take(pixels - whole) {
            *unit = row(whole + place, &mut tile, place);
        }
        let added = residual.map(|all| {
            let mut numbers = all.from(whole).numbers.to_vec();
            numbers.resize(PIXELS * all.channels, 0.0);
            (numbers, all.channels)
        });
        let residual =
            added.as_ref().map(|(numbers, channels)| Residual { numbers, channels: *channels });
        let mut filled = vec![0.0; PIXELS * self.outputs];
        self.tile(&tile, &units, activation, residual, &mut filled);
        last.copy_from_slice(&filled[..last.len()]);
    }

    /// All channels of a tile.
    #[inline(always)]
    fn tile(
        &self,
        tile: &[PixelStep],
        units: &[f32; PIXELS],
        activation: &impl Activate,
        residual: Option<Residual>,
        output: &mut [f32],
    ) {
        for (block, weights) in self.weights.chunks_exact(tile.len()).enumerate() {
            let sums = multiply(tile, weights);
            let channel = block * CHANNELS;
            let finish = [0, 4].map(|half| {
                let scale = F32x4::load(&self.scales[(channel + half) / 4]);
                let bias = F32x4::load(&self.bias[(channel + half) / 4]);
                let activate = activation.four(channel + half);
                move |sum: I32x4, unit: F32x4, residual: F32x4| {
                    activate(sum.to_f32().mul(scale).mul_add(unit, bias).add(residual))
                }
            });
            for (place, (sums, unit)) in sums.into_iter().zip(units).enumerate() {
                let unit = F32x4::splat(*unit);
                let [low, high] = match residual {
                    Some(residual) => residual.eight(place, channel),
                    None => [F32x4::splat(0.0); 2],
                };
                let low = finish[0](sums[0], unit, low);
                let high = finish[1](sums[1], unit, high);
                let out = &mut output[place * self.outputs + channel..];
                if channel + CHANNELS <= self.outputs
                    && let Some(out) = out.first_chunk_mut::<CHANNELS>()
                {
                    F32x4::store_two([low, high], out);
                } else {
                    let mut eight = [0.0; CHANNELS];
                    F32x4::store_two([low, high], &mut eight);
                    let rest = self.outputs - channel;
                    out[..rest].copy_from_slice(&eight[..rest]);
                }
            }
        }
    }
}

impl<'a> Residual<'a> {
    /// From a pixel on.
    fn from(self, pixel: usize) -> Residual<'a> {
        Residual { numbers: &self.numbers[pixel * self.channels..], ..self }
    }

    /// Eight channels of a pixel.
    #[inline(always)]
    fn eight(self, pixel: usize, channel: usize) -> [F32x4; 2] {
        let numbers = &self.numbers[pixel * self.channels..][..self.channels];
        let numbers = numbers.get(channel..).unwrap_or_default();
        match numbers.first_chunk() {
            Some(eight) => F32x4::load_two(eight),
            None => {
                let mut eight = [0.0; CHANNELS];
                eight[..numbers.len()].copy_from_slice(numbers);
                F32x4::load_two(&eight)
            }
        }
    }
}

/// The sums of a tile: eight channels of each of its pixels.
#[inline(always)]
fn multiply(tile: &[PixelStep], weights: &[WeightStep]) -> [[I32x4; 2]; PIXELS] {
    #[inline(always)]
    fn pair<const PAIR: usize>(
        sums: &mut [[I32x4; 2]; PIXELS],
        pixels: &[I16x8; PIXELS],
        weights: &WeightStep,
    ) {
        let low = I16x8::load(&weights[PAIR][0]);
        let high = I16x8::load(&weights[PAIR][1]);
        for (sums, pixel) in sums.iter_mut().zip(pixels) {
            let numbers = pixel.pair::<PAIR>();
            sums[0] = sums[0].add(numbers.dot(low));
            sums[1] = sums[1].add(numbers.dot(high));
        }
    }
    #[inline(always)]
    fn step(sums: &mut [[I32x4; 2]; PIXELS], pixels: &PixelStep, weights: &WeightStep) {
        let pixels = std::array::from_fn(|pixel| I16x8::load(&pixels[pixel]));
        pair::<0>(sums, &pixels, weights);
        pair::<1>(sums, &pixels, weights);
        pair::<2>(sums, &pixels, weights);
        pair::<3>(sums, &pixels, weights);
    }
    let mut sums = [[I32x4::ZERO; 2]; PIXELS];
    for (pixels, weights) in tile.iter().zip(weights) {
        step(&mut sums, pixels, weights);
    }
    sums
}

/// The largest absolute value.
fn most(numbers: &[f32]) -> f64 {
    numbers.iter().fold(0.0, |most, number| most.max(f64::from(number.abs())))
}

/// All absolute values together.
fn sum(numbers: &[f32]) -> f64 {
    numbers.iter().map(|number| f64::from(number.abs())).sum()
}

/// Scales a pixel such that its largest number becomes `limit`, and gives back what a unit is worth
/// then.
#[inline(always)]
fn quantise(numbers: &[f32], limit: f32, tile: &mut [PixelStep], place: usize) -> f32 {
    let (whole, rest) = numbers.as_chunks::<STEP>();
    let mut last = [0.0; STEP];
    last[..rest.len()].copy_from_slice(rest);
    let last = if rest.is_empty() { &[][..] } else { &[last][..] };
    let mut most = [F32x4::splat(0.0); 2];
    for numbers in [whole, last].into_iter().flatten() {
        let [low, high] = F32x4::load_two(numbers);
        most = [most[0].max(low.abs()), most[1].max(high.abs())];
    }
    let largest = most[0].max(most[1]).to_array().into_iter().fold(0.0, f32::max);
    let (factor, unit) = limits(largest, limit);
    let factor = F32x4::splat(factor);
    let (first, second) = tile.split_at_mut(whole.len());
    for (tile, numbers) in [(first, whole), (second, last)] {
        for (step, numbers) in tile.iter_mut().zip(numbers) {
            let [low, high] = F32x4::load_two(numbers);
            I16x8::scale(low, high, factor).store(&mut step[place]);
        }
    }
    unit
}

/// By what numbers are multiplied such that the largest one becomes `limit`, and what a unit is
/// worth then.
pub(super) fn factor_and_unit(numbers: &[f32], limit: f32) -> (f32, f32) {
    let (eights, rest) = numbers.as_chunks::<8>();
    let mut last = [0.0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let mut most = [F32x4::splat(0.0); 2];
    for eight in eights.iter().chain([&last]) {
        let [low, high] = F32x4::load_two(eight);
        most = [most[0].max(low.abs()), most[1].max(high.abs())];
    }
    limits(most[0].max(most[1]).to_array().into_iter().fold(0.0, f32::max), limit)
}

fn limits(largest: f32, limit: f32) -> (f32, f32) {
    // Where it is not a number, or too small to divide by, all is taken for 0.
    if largest > f32::MIN_POSITIVE * limit && largest.is_finite() {
        (limit / largest, largest / limit)
    } else {
        (0.0, 0.0)
    }
}

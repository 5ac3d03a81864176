//! Convolution that mixes the channels of each pixel (pointwise, 1 × 1).
//!
//! The products are of 16 bits, the sums of 32. Each pixel is scaled by its own largest number and
//! each output channel by its own weights, such that no sum can overflow, and that numbers and
//! weights are about equally fine: 11 to 15 bits, the more the fewer there are to add up. Measured:
//! the landmarks of the test photos move by 0.06 % of the palm's length on average against 32-bit
//! floats, with the lite models by 0.16 %.

use super::activation::{Activate, Activation, Padded, fours, with_activation};
use super::simd::{F32x4, I16x8, I32x4};

/// Pixels of one tile.
///
/// Measured in wasmtime 48 on a Zen 5 core, 112 → 672 channels, 196 pixels, in GMAC/s: 3 pixels 31,
/// 4 pixels 31, 5 pixels 30.5, 6 pixels 28, 8 pixels 27. The inner loop alone: 40, where in floats
/// with `relaxed_madd` it has 20, and in 8 bits with `relaxed_dot` 51.
pub(super) const PIXELS: usize = 4;
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
        let pixels = input.len() / self.inputs;
        assert_eq!(pixels, output.len() / self.outputs);
        let fill = |first: usize, tile: &mut [PixelStep]| {
            // A last tile that is not full has its last pixel several times.
            let rows = std::array::from_fn(|place| {
                let pixel = (first + place).min(pixels - 1);
                &input[pixel * self.inputs..][..self.inputs]
            });
            scale_rows(rows, self.largest, tile)
        };
        self.run_tiles(fill, residual, output);
    }

    /// Pixels from anywhere. `fill` scales as many as a tile has, from one on, and says what a unit
    /// of each is worth; there may be fewer left in the last tile.
    pub(super) fn run_tiles(
        &self,
        fill: impl FnMut(usize, &mut [PixelStep]) -> [f32; PIXELS],
        residual: Option<Residual>,
        output: &mut [f32],
    ) {
        with_activation!(&self.activation, |activation| {
            self.tiles(fill, &activation, residual, output);
        });
    }

    /// What the largest number of a pixel becomes.
    pub(super) fn largest(&self) -> f32 {
        self.largest
    }

    /// All tiles.
    fn tiles(
        &self,
        mut fill: impl FnMut(usize, &mut [PixelStep]) -> [f32; PIXELS],
        activation: &impl Activate,
        residual: Option<Residual>,
        output: &mut [f32],
    ) {
        let mut tile = vec![PixelStep::default(); self.inputs.div_ceil(STEP)];
        let pixels = output.len() / self.outputs;
        let whole = pixels / PIXELS * PIXELS;
        let (most, last) = output.split_at_mut(whole * self.outputs);
        for (index, output) in most.chunks_exact_mut(PIXELS * self.outputs).enumerate() {
            let units = fill(index * PIXELS, &mut tile);
            let residual = residual.map(|all| all.from(index * PIXELS));
            self.tile(&tile, &units, activation, residual, output);
        }
        if last.is_empty() {
            return;
        }
        // The last pixels, in a tile that is filled up.
        let units = fill(whole, &mut tile);
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
    fn tile<'a>(
        &self,
        tile: &[PixelStep],
        units: &[f32; PIXELS],
        activation: &impl Activate,
        residual: Option<Residual<'a>>,
        output: &mut [f32],
    ) {
        let mut rows = output.chunks_exact_mut(self.outputs).map(|row| row.as_chunks_mut());
        let mut rows: [(&mut [[f32; CHANNELS]], &mut [f32]); PIXELS] =
            std::array::from_fn(|_| rows.next().unwrap_or_default());
        let added: [(&[[f32; CHANNELS]], &[f32]); PIXELS] = std::array::from_fn(|place| {
            let row = |all: Residual<'a>| &all.numbers[place * all.channels..][..all.channels];
            residual.map(row).unwrap_or_default().as_chunks()
        });
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
            for place in 0..PIXELS {
                let unit = F32x4::splat(units[place]);
                let (whole, rest) = added[place];
                let [low, high] = match whole.get(block) {
                    Some(eight) => F32x4::load_two(eight),
                    None if block == whole.len() && !rest.is_empty() => {
                        let mut eight = [0.0; CHANNELS];
                        eight[..rest.len()].copy_from_slice(rest);
                        F32x4::load_two(&eight)
                    }
                    None => [F32x4::splat(0.0); 2],
                };
                let low = finish[0](sums[place][0], unit, low);
                let high = finish[1](sums[place][1], unit, high);
                let (whole, rest) = &mut rows[place];
                match whole.get_mut(block) {
                    Some(eight) => F32x4::store_two([low, high], eight),
                    None => {
                        let mut eight = [0.0; CHANNELS];
                        F32x4::store_two([low, high], &mut eight);
                        rest.copy_from_slice(&eight[..rest.len()]);
                    }
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

/// Scales each of a tile's pixels such that its largest number becomes `limit`, and gives back what
/// a unit of it is worth then.
///
/// All pixels together, without a branch: one after the other it takes more than twice as long,
/// which is a third of the whole layer where there are few channels.
#[inline(always)]
fn scale_rows(rows: [&[f32]; PIXELS], limit: f32, tile: &mut [PixelStep]) -> [f32; PIXELS] {
    let most = rows.map(most_of_each);
    let (factors, units) = limits(F32x4::largest_of_each(most), limit);
    let factors = factors.to_array();
    for place in 0..PIXELS {
        let factor = F32x4::splat(factors[place]);
        let (whole, rest) = rows[place].as_chunks::<STEP>();
        for (step, numbers) in tile.iter_mut().zip(whole) {
            let [low, high] = F32x4::load_two(numbers);
            I16x8::scale(low, high, factor).store(&mut step[place]);
        }
        if let Some(step) = tile.get_mut(whole.len()) {
            let [low, high] = F32x4::load_two(&filled(rest));
            I16x8::scale(low, high, factor).store(&mut step[place]);
        }
    }
    units.to_array()
}

/// By what numbers are multiplied such that the largest one becomes `limit`, and what a unit is
/// worth then.
pub(super) fn factor_and_unit(numbers: &[f32], limit: f32) -> (f32, f32) {
    let most = F32x4::largest_of_each([most_of_each(numbers); 4]);
    let (factors, units) = limits(most, limit);
    (factors.to_array()[0], units.to_array()[0])
}

/// The largest absolute values of every fourth number.
#[inline(always)]
fn most_of_each(numbers: &[f32]) -> F32x4 {
    let (whole, rest) = numbers.as_chunks::<STEP>();
    let mut most = F32x4::load_two(&filled(rest)).map(F32x4::abs);
    for numbers in whole {
        let [low, high] = F32x4::load_two(numbers);
        most = [most[0].max(low.abs()), most[1].max(high.abs())];
    }
    most[0].max(most[1])
}

/// Fewer than eight numbers, and zeros.
#[inline(always)]
fn filled(rest: &[f32]) -> [f32; STEP] {
    let mut filled = [0.0; STEP];
    if !rest.is_empty() {
        filled[..rest.len()].copy_from_slice(rest);
    }
    filled
}

/// Factors and units for four largest numbers.
#[inline(always)]
fn limits(most: F32x4, limit: f32) -> (F32x4, F32x4) {
    // What is smaller would have a factor without end: its numbers become 0.
    let most = most.max(F32x4::splat(f32::MIN_POSITIVE * limit));
    let limit = F32x4::splat(limit);
    (limit.div(most), most.div(limit))
}

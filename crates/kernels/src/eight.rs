//! Products of 8 bits: numbers have 7, weights 8.
//!
//! Each pixel is cut into 127 steps between its own least and largest number, and each output
//! channel scaled by its own weights, such that no sum can overflow. The sums of eight products are
//! of 16 bits, for which an instruction multiplies 16 numbers at once; then they go on in 32.
//!
//! The inner loop has 77 GMAC/s (wasmtime 48, a Zen 5 core), with all sums in 32 bits 50, with
//! products of 16 bits 40. Measured: the landmarks of the test photos move by 0.4 % of the palm's
//! length on average against 32-bit floats, with the lite models by 0.7 %. Palm detection does not
//! bear it: it misses palms.

use super::line::GROUP;
use super::number::{self, Number};
use super::simd::{F32x4, I8x16, I16x8};
use super::sixteen::most;
use super::tiles::{
    CHANNELS, Group, LineTile, PIXELS, Products, Sums, Units, Worth, add_up, load_rest, ranges,
    ranges_in_line,
};

/// Input channels of one step.
const STEP: usize = 16;
/// Sixteen input channels of a tile's pixels: each four of them four times.
pub(super) type PixelStep = [[[i8; 16]; STEP / 4]; PIXELS];
/// Weights of sixteen input and eight output channels: two times four outputs, four times four
/// inputs.
type WeightStep = [[[i8; 16]; STEP / 4]; 2];

/// What the largest number of a pixel becomes; the least one becomes 0. One bit more, and the
/// instruction is free to take it for a sign.
const LARGEST: f32 = 127.0;

/// Weights in 8 bits.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Eight {
    steps: usize,
    /// By eight output channels, then by sixteen input channels.
    weights: Vec<WeightStep>,
}

impl Products for Eight {
    type Step = PixelStep;

    fn pack(weights: &[f32], inputs: usize) -> (Eight, Vec<Worth>) {
        let outputs = weights.len() / inputs;
        let steps = inputs.div_ceil(STEP);
        let blocks = outputs.div_ceil(CHANNELS);
        let mut packed = vec![WeightStep::default(); blocks * steps];
        let mut worth = vec![Worth::default(); outputs];
        for (output, row) in weights.chunks_exact(inputs).enumerate() {
            if most(row) == 0.0 {
                continue;
            }
            // No weight beyond 8 bits, and no sum of 16 bits beyond these; each of the eight
            // weights in it may be rounded up by one.
            let room = f64::from(i16::MAX) / f64::from(LARGEST) - 8.0;
            let factor = (f64::from(i8::MAX) / most(row)).min(room / most_together(row));
            let rounded = round(row.iter().map(|weight| f64::from(*weight) * factor).collect());
            let total: f64 = rounded.iter().sum();
            for (input, weight) in rounded.into_iter().enumerate() {
                let step = &mut packed[output / CHANNELS * steps + input / STEP];
                let (quad, lane) = (input % STEP / 4, input % 4);
                let (four, place) = (output % CHANNELS / 4, output % 4);
                step[four][quad][4 * place + lane] = weight as i8;
            }
            worth[output] = Worth { scale: (1.0 / factor) as f32, total: (total / factor) as f32 };
        }
        (Eight { steps, weights: packed }, worth)
    }

    fn steps(&self) -> usize {
        self.steps
    }

    #[inline(always)]
    fn scale(&self, rows: [&[f32]; PIXELS], tile: &mut [PixelStep]) -> Units {
        let (steps, units) = Steps::new(ranges(rows));
        for place in 0..PIXELS {
            let (whole, rest) = rows[place].as_chunks::<STEP>();
            for (step, numbers) in tile.iter_mut().zip(whole) {
                steps.take(place, F32x4::load_four(numbers)).store_quads(&mut step[place]);
            }
            if let Some(step) = tile.get_mut(whole.len()) {
                steps.take(place, load_rest(rest)).store_quads(&mut step[place]);
            }
        }
        units
    }

    #[inline(always)]
    fn scale_line<N: Number>(&self, pixels: LineTile<N>, tile: &mut [PixelStep]) -> Units {
        N::scale_to_eight(pixels, tile)
    }

    #[inline(always)]
    fn sums(&self, tile: &[PixelStep], block: usize) -> Sums {
        let weights = &self.weights[block * self.steps..][..self.steps];
        let load = |[a, b, c, d]: &[_; 4]| [a, b, c, d].map(I8x16::load);
        let product = |[a, b, c, d]: [I8x16; 4], pixel: [I8x16; 4]| {
            let sum = a.dot(pixel[0]).add(b.dot(pixel[1]));
            sum.add(c.dot(pixel[2])).add(d.dot(pixel[3])).pairs()
        };
        add_up(tile, weights, load, product)
    }

    #[inline(always)]
    fn base(bias: F32x4, total: F32x4, zero: F32x4) -> F32x4 {
        total.mul_add(zero, bias)
    }
}

/// Scales a line's floats.
#[inline(always)]
pub(super) fn scale_floats(pixels: LineTile<f32>, tile: &mut [PixelStep]) -> Units {
    let (steps, units) = Steps::new(ranges_in_line(pixels));
    each_step(pixels, tile, |place, first, second| {
        let ([a, b], [c, d]) = (F32x4::load_two(first), F32x4::load_two(second));
        steps.take(place, [a, b, c, d])
    });
    units
}

/// Scales a line's integers, none of which is negative.
#[inline(always)]
pub(super) fn scale_integers(pixels: LineTile<i16>, tile: &mut [PixelStep]) -> Units {
    let mut most = [I16x8::splat(0); PIXELS];
    for group in 0..pixels.groups {
        let group = pixels.group(group);
        for place in 0..PIXELS {
            most[place] = most[place].max(I16x8::load(&group[place]));
        }
    }
    let most = most.map(|most| {
        let [low, high] = most.to_floats();
        low.max(high)
    });
    // The factors as fractions of 2¹⁵, rounded down, so that nothing becomes larger than it may. Where
    // all numbers are so small that they would have no such factor, they get the largest one.
    const ONE: f32 = 32_768.0;
    let most = F32x4::largest_of_each(most).max(F32x4::splat(LARGEST * ONE / number::LARGEST));
    let factors = F32x4::splat(LARGEST * ONE).div(most);
    let [factors, _] = I16x8::truncate(factors, factors).to_floats();
    let unit = F32x4::splat(ONE).div(factors);
    let factors = factors.lanes().map(|factor| I16x8::truncate(factor, factor));
    each_step(pixels, tile, |place, first, second| {
        let of = |group| I16x8::load(group).times(factors[place]);
        I8x16::narrow(of(first), of(second))
    });
    Units { unit, zero: F32x4::splat(0.0) }
}

/// Sixteen channels of each pixel after the others: two groups.
#[inline(always)]
fn each_step<N: Number>(
    pixels: LineTile<N>,
    tile: &mut [PixelStep],
    integers: impl Fn(usize, &[N; GROUP], &[N; GROUP]) -> I8x16,
) {
    let nothing: Group<N> = [[N::default(); GROUP]; PIXELS];
    for (index, step) in tile.iter_mut().enumerate() {
        let first = pixels.group(2 * index);
        // The last group may have none beside it.
        let beside = 2 * index + 1;
        let second = if beside < pixels.groups { pixels.group(beside) } else { &nothing };
        for place in 0..PIXELS {
            integers(place, &first[place], &second[place]).store_quads(&mut step[place]);
        }
    }
}

/// How the numbers of a tile's pixels become integers.
struct Steps {
    factors: [F32x4; PIXELS],
    zeros: [F32x4; PIXELS],
}

impl Steps {
    /// For numbers between the least and the largest one of each pixel.
    #[inline(always)]
    fn new([least, most]: [F32x4; 2]) -> (Steps, Units) {
        let negative = F32x4::splat(-1.0);
        let largest = F32x4::splat(LARGEST);
        // What is smaller would have a factor without end: its numbers become 0.
        let smallest = F32x4::splat(f32::MIN_POSITIVE * LARGEST);
        let range = least.mul_add(negative, most).max(smallest);
        let (factors, units) = (largest.div(range), range.div(largest));
        // Zero is an integer too, so that there is one rounding only.
        let zeros = least.mul(factors).round().mul(negative);
        let units = Units { unit: units, zero: zeros.mul(units).mul(negative) };
        (Steps { factors: factors.lanes(), zeros: zeros.lanes() }, units)
    }

    #[inline(always)]
    fn take(&self, place: usize, numbers: [F32x4; 4]) -> I8x16 {
        I8x16::scale(numbers, self.factors[place], self.zeros[place])
    }
}

/// The largest sum of positive, or of negative weights that come together in one sum of 16 bits:
/// those of the first, or of the last two of each four inputs of a step. Numbers are not negative,
/// so that each sum lies between these.
fn most_together(row: &[f32]) -> f64 {
    let mut most = 0.0_f64;
    for step in row.chunks(STEP) {
        let mut together = [[0.0; 2]; 2];
        for (input, weight) in step.iter().enumerate() {
            let sign = usize::from(*weight < 0.0);
            together[input % 4 / 2][sign] += f64::from(weight.abs());
        }
        most = together.as_flattened().iter().fold(most, |most, sum| most.max(*sum));
    }
    most
}

/// Integers near the numbers, and all together as near to the numbers' sum as can be: those that
/// are rounded most are rounded the other way. Most layers' inputs are not negative, so that what is
/// left of the roundings would move all pixels the same way. Measured: the landmarks move by 0.36 %
/// of the palm's length in the place of 0.48 %, with the lite models by 0.74 % in that of 0.90 %.
fn round(numbers: Vec<f64>) -> Vec<f64> {
    let mut rounded: Vec<f64> = numbers.iter().map(|number| number.round()).collect();
    let left = |i: usize, rounded: &[f64]| numbers[i] - rounded[i];
    let sum: f64 = (0..numbers.len()).map(|i| left(i, &rounded)).sum();
    let mut order: Vec<usize> = (0..numbers.len()).collect();
    order.sort_by(|&a, &b| (left(b, &rounded) * sum).total_cmp(&(left(a, &rounded) * sum)));
    for &i in order.iter().take(sum.abs().round() as usize) {
        rounded[i] += sum.signum();
    }
    rounded
}

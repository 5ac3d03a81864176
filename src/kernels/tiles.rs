//! Products of pixels and weights, a tile of pixels after the other: what the
//! [pointwise](super::pointwise) and the [windowed](super::window) convolution are made of.
//!
//! The products are of integers. How numbers and weights become integers is the choice of
//! [`Products`]; here is what is around them.

use super::activation::{Activate, Activation, Padded, fours, with_activation};
use super::pointwise::Residual;
use super::simd::{F32x4, I32x4};

/// Pixels of one tile.
///
/// Measured in wasmtime 48 on a Zen 5 core, 112 → 672 channels, 196 pixels, 16 bits, in GMAC/s:
/// 3 pixels 31, 4 pixels 31, 5 pixels 30.5, 6 pixels 28, 8 pixels 27. The inner loop of 8 bits: 4
/// and 5 pixels 77, 6 pixels 74, 8 pixels 46. Each block of weights for four tiles together: −8 to
/// +2 %.
pub(super) const PIXELS: usize = 4;
/// Output channels of one block.
pub(super) const CHANNELS: usize = 8;

/// The sums of one tile and one block.
pub(super) type Sums = [[I32x4; CHANNELS / 4]; PIXELS];

/// What the integers of a tile's pixels stand for: the number `n` for `n * unit + zero`.
pub(super) struct Units {
    pub unit: [f32; PIXELS],
    pub zero: [f32; PIXELS],
}

/// Weights as integers, and how they are multiplied.
pub(super) trait Products: Sized {
    /// Some input channels of a tile's pixels.
    type Step: Copy + Default;
    /// What a sum begins with.
    type Base: Copy;

    /// Packs weights `[outputs][inputs]`; also says what one of the sums is worth, by output
    /// channel, before the pixel's own unit.
    fn pack(weights: &[f32], inputs: usize) -> (Self, Vec<f32>);

    /// How many steps a tile has.
    fn steps(&self) -> usize;

    /// Turns a tile's pixels into integers.
    fn scale(&self, rows: [&[f32]; PIXELS], tile: &mut [Self::Step]) -> Units;

    /// The sums of a tile and the weights of a block of output channels.
    fn sums(&self, tile: &[Self::Step], block: usize) -> Sums;

    /// What is added to the products of four output channels, whatever the pixel.
    fn base(&self, four: usize, bias: F32x4) -> Self::Base;

    /// The same for a pixel, whose zero counts for each weight.
    fn add_zero(base: Self::Base, zero: F32x4) -> F32x4;
}

/// Weights, and what is done to the sums at the end.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tiles<P> {
    inputs: usize,
    outputs: usize,
    products: P,
    /// What one of the integer sums is worth, by output channel, before the pixel's own unit.
    scales: Vec<[f32; 4]>,
    bias: Vec<[f32; 4]>,
    activation: Padded,
}

impl<P: Products> Tiles<P> {
    /// Packs weights `[outputs][inputs]` with one bias for each output.
    ///
    /// # Panics
    /// If the lengths don't fit.
    pub fn new(weights: &[f32], bias: &[f32], activation: &Activation) -> Tiles<P> {
        let outputs = bias.len();
        let inputs = weights.len() / outputs;
        assert_eq!(weights.len(), outputs * inputs);
        let (products, scales) = P::pack(weights, inputs);
        let padded = outputs.next_multiple_of(CHANNELS);
        Tiles {
            inputs,
            outputs,
            products,
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

    /// The weights.
    pub fn products(&self) -> &P {
        &self.products
    }

    /// Each pixel by itself: `[pixels][inputs]` becomes `[pixels][outputs]`.
    ///
    /// # Panics
    /// If the lengths don't fit.
    pub fn run(&self, input: &[f32], residual: Option<Residual>, output: &mut [f32]) {
        let pixels = input.len() / self.inputs;
        assert_eq!(pixels, output.len() / self.outputs);
        let fill = |first: usize, tile: &mut [P::Step]| {
            // A last tile that is not full has its last pixel several times.
            let rows = std::array::from_fn(|place| {
                let pixel = (first + place).min(pixels - 1);
                &input[pixel * self.inputs..][..self.inputs]
            });
            self.products.scale(rows, tile)
        };
        self.run_filled(fill, residual, output);
    }

    /// Pixels from anywhere. `fill` turns as many as a tile has into integers, from one on; there
    /// may be fewer left in the last tile.
    pub fn run_filled(
        &self,
        fill: impl FnMut(usize, &mut [P::Step]) -> Units,
        residual: Option<Residual>,
        output: &mut [f32],
    ) {
        with_activation!(&self.activation, |activation| match residual {
            // Each by itself, or a sum with nothing would cost as much as a sum.
            None => self.all(fill, &activation, None, output),
            Some(residual) => self.all(fill, &activation, Some(residual), output),
        });
    }

    #[inline(always)]
    fn all(
        &self,
        mut fill: impl FnMut(usize, &mut [P::Step]) -> Units,
        activation: &impl Activate,
        residual: Option<Residual>,
        output: &mut [f32],
    ) {
        let mut tile = vec![P::Step::default(); self.products.steps()];
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
    fn tile(
        &self,
        tile: &[P::Step],
        units: &Units,
        activation: &impl Activate,
        residual: Option<Residual>,
        output: &mut [f32],
    ) {
        for block in 0..self.outputs.div_ceil(CHANNELS) {
            let sums = self.products.sums(tile, block);
            let channel = block * CHANNELS;
            // What is added is settled for all pixels together: asked for each, a layer of 32
            // channels took two thirds more.
            match residual {
                Some(residual) if channel + CHANNELS <= residual.channels => {
                    let added = |place: usize, values: [F32x4; 2]| {
                        let at = place * residual.channels + channel;
                        let numbers = residual.numbers[at..].first_chunk().expect("whole pixels");
                        let added = F32x4::load_two(numbers);
                        [values[0].add(added[0]), values[1].add(added[1])]
                    };
                    self.finish(channel, &sums, units, activation, added, output);
                }
                Some(residual) if channel < residual.channels => {
                    let added = |place: usize, values: [F32x4; 2]| {
                        let row = &residual.numbers[place * residual.channels..];
                        let added = F32x4::load_two(&filled(&row[channel..residual.channels]));
                        [values[0].add(added[0]), values[1].add(added[1])]
                    };
                    self.finish(channel, &sums, units, activation, added, output);
                }
                _ => self.finish(channel, &sums, units, activation, |_, values| values, output),
            }
        }
    }

    /// The outputs of a tile from one channel on, eight of each pixel or what is left.
    #[inline(always)]
    fn finish(
        &self,
        channel: usize,
        sums: &Sums,
        units: &Units,
        activation: &impl Activate,
        added: impl Fn(usize, [F32x4; 2]) -> [F32x4; 2],
        output: &mut [f32],
    ) {
        let channels = CHANNELS.min(self.outputs - channel);
        let fours = [channel / 4, channel / 4 + 1];
        let scales = fours.map(|four| F32x4::load(&self.scales[four]));
        let bases = fours.map(|four| self.products.base(four, F32x4::load(&self.bias[four])));
        let [low, high] = fours.map(|four| activation.four(4 * four));
        for place in 0..PIXELS {
            let unit = F32x4::splat(units.unit[place]);
            let zero = F32x4::splat(units.zero[place]);
            let sum = |half: usize| {
                let base = P::add_zero(bases[half], zero);
                sums[place][half].to_f32().mul(scales[half]).mul_add(unit, base)
            };
            let values = added(place, [sum(0), sum(1)]);
            let values = [low(values[0]), high(values[1])];
            let output = &mut output[place * self.outputs + channel..][..channels];
            match output.first_chunk_mut() {
                Some(eight) => F32x4::store_two(values, eight),
                None => {
                    let mut eight = [0.0; CHANNELS];
                    F32x4::store_two(values, &mut eight);
                    output.copy_from_slice(&eight[..channels]);
                }
            }
        }
    }
}

impl<'a> Residual<'a> {
    /// From a pixel on.
    pub(super) fn from(self, pixel: usize) -> Residual<'a> {
        Residual { numbers: &self.numbers[pixel * self.channels..], ..self }
    }
}

/// Fewer than eight numbers, and zeros.
#[inline(always)]
pub(super) fn filled(rest: &[f32]) -> [f32; 8] {
    let mut filled = [0.0; 8];
    if !rest.is_empty() {
        filled[..rest.len()].copy_from_slice(rest);
    }
    filled
}

/// Fewer than sixteen numbers, and zeros. Eight of them are not copied, which is a call of the
/// host in WebAssembly: the models have layers of 24 and 40 channels.
#[inline(always)]
pub(super) fn load_rest(rest: &[f32]) -> [F32x4; 4] {
    let zeros = [F32x4::splat(0.0); 2];
    let load = |rest| F32x4::load_two(&filled(rest));
    let ([a, b], [c, d]) = match rest.split_first_chunk() {
        Some((eight, [])) => (F32x4::load_two(eight), zeros),
        Some((eight, rest)) => (F32x4::load_two(eight), load(rest)),
        None => (load(rest), zeros),
    };
    [a, b, c, d]
}

/// The least and the largest number of each of a tile's pixels, or 0.
///
/// All pixels together, without a branch: one after the other it takes more than twice as long,
/// which is a third of the whole layer where there are few channels.
#[inline(always)]
pub(super) fn ranges(rows: [&[f32]; PIXELS]) -> [F32x4; 2] {
    let ranges = rows.map(range);
    let negative = F32x4::splat(-1.0);
    let least = F32x4::largest_of_each(ranges.map(|[least, _]| least.mul(negative)));
    [least.mul(negative), F32x4::largest_of_each(ranges.map(|[_, most]| most))]
}

/// The least and the largest of every fourth number, or 0.
#[inline(always)]
pub(super) fn range(numbers: &[f32]) -> [F32x4; 2] {
    /// So many at once: what is kept from one turn of the loop to the next goes through memory.
    const AT_ONCE: usize = 16;
    let (whole, rest) = numbers.as_chunks::<AT_ONCE>();
    let mut range = [F32x4::splat(0.0); 2];
    let mut widen = |[a, b, c, d]: [F32x4; 4]| {
        let [least, most] = range;
        range = [least.min(a.min(b).min(c.min(d))), most.max(a.max(b).max(c.max(d)))];
    };
    whole.iter().for_each(|numbers| widen(F32x4::load_four(numbers)));
    if !rest.is_empty() {
        widen(load_rest(rest));
    }
    range
}

//! Products of pixels and weights, a tile of pixels after the other: what the
//! [pointwise](super::pointwise) and the [windowed](super::window) convolution are made of.
//!
//! The products are of integers. How numbers and weights become integers is the choice of
//! [`Products`]; here is what is around them.

use super::activation::{Activate, Activation, Padded, with_activation};
use super::line::{GROUP, Lines, Strip};
use super::number::{LARGEST, Number};
use super::pointwise::Residual;
use super::simd::{F32x4, I32x4, unknown};

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

/// Eight channels of a tile's pixels.
pub(super) type Group<N> = [[N; GROUP]; PIXELS];

/// A tile's pixels in a line.
#[derive(Clone, Copy)]
pub(super) struct LineTile<'a, N> {
    line: &'a Lines<N>,
    first: usize,
    /// How many groups of channels there are.
    pub groups: usize,
}

impl<'a, N: Number> LineTile<'a, N> {
    /// Eight of the channels.
    #[inline(always)]
    pub fn group(self, group: usize) -> &'a Group<N> {
        self.line.group(group, 0)[self.first..].first_chunk().expect("a whole tile")
    }
}

/// What the integers of a tile's pixels stand for: the number `n` for `n * unit + zero`.
pub(super) struct Units {
    pub unit: F32x4,
    pub zero: F32x4,
}

/// Weights as integers, and how they are multiplied.
pub(super) trait Products: Sized {
    /// Some input channels of a tile's pixels.
    type Step: Copy + Default;

    /// Packs weights `[outputs][inputs]`; also says what the sums are worth.
    fn pack(weights: &[f32], inputs: usize) -> (Self, Vec<Worth>);

    /// How many steps a tile has.
    fn steps(&self) -> usize;

    /// Turns a tile's pixels into integers.
    fn scale(&self, rows: [&[f32]; PIXELS], tile: &mut [Self::Step]) -> Units;

    /// The same for pixels of a line.
    fn scale_line<N: Number>(&self, pixels: LineTile<N>, tile: &mut [Self::Step]) -> Units;

    /// The sums of a tile and the weights of a block of output channels.
    fn sums(&self, tile: &[Self::Step], block: usize) -> Sums;

    /// The bias, and what the pixel's zero comes to: it counts for each weight.
    fn base(bias: F32x4, total: F32x4, zero: F32x4) -> F32x4;
}

/// The sums over all steps of a tile. `load` puts the four vectors of a pixel or of a weight's row into
/// registers, `product` is what two of these come to.
///
/// The engine does all loads of a piece of code without stores and branches before anything else,
/// and what is more than it has registers goes through memory. So the sums are kept in memory, pixel
/// by pixel: the weights stay in registers, and each pixel is loaded when it is its turn. It lies
/// there as it is multiplied, each of its numbers several times: all blocks of weights read it, and
/// what had to be done to it here would take the place of a multiplication. Measured in wasmtime 48
/// on a Xeon (Sapphire Rapids), 192 → 1152 channels, in GMAC/s: 8 bits 52, sums in registers and
/// numbers spread out in the loop 47; 16 bits 31 and 27. Three vector instructions a cycle, which is
/// all that the processor does, are 63 and 36. With numbers spread out by their loads it is slower
/// than before: the engine makes three instructions of each.
#[inline(always)]
pub(super) fn add_up<Four, Loaded: Copy>(
    tile: &[[Four; PIXELS]],
    weights: &[[Four; CHANNELS / 4]],
    load: impl Fn(&Four) -> Loaded,
    product: impl Fn(Loaded, Loaded) -> I32x4,
) -> Sums {
    let mut sums = [[I32x4::ZERO; CHANNELS / 4]; PIXELS];
    assert_eq!(tile.len(), weights.len());
    let mut add = |step: usize, kept: fn(&I32x4) -> I32x4| {
        // SAFETY: it is a step of the tile, which has as many as there are weights.
        let (pixels, weights) = unsafe { (tile.get_unchecked(step), weights.get_unchecked(step)) };
        let (low, high) = (load(&weights[0]), load(&weights[1]));
        for (sums, pixel) in sums.iter_mut().zip(pixels) {
            let pixel = load(pixel);
            let low = kept(&sums[0]).add(product(low, pixel));
            let high = kept(&sums[1]).add(product(high, pixel));
            low.keep(&mut sums[0]);
            high.keep(&mut sums[1]);
        }
    };
    if !tile.is_empty() {
        add(0, |_| I32x4::ZERO);
    }
    for step in 1..tile.len() {
        add(unknown(step), I32x4::kept);
    }
    sums
}

/// What the sums of an output channel are worth.
#[derive(Clone, Copy, Default)]
pub(super) struct Worth {
    /// One of them, before the pixel's own unit.
    pub scale: f32,
    /// All weights together.
    pub total: f32,
}

/// What is done to the sums of a block at the end.
#[derive(Clone, Debug, Default, PartialEq)]
struct Ending {
    scales: [[f32; 4]; CHANNELS / 4],
    totals: [[f32; 4]; CHANNELS / 4],
    bias: [[f32; 4]; CHANNELS / 4],
}

/// Weights, and what is done to the sums at the end.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tiles<P> {
    inputs: usize,
    outputs: usize,
    products: P,
    endings: Vec<Ending>,
    activation: Padded,
}

impl<P: Products> Tiles<P> {
    /// Packs weights `[outputs][inputs]` with one bias for each output.
    ///
    /// # Panics
    /// If the lengths don't fit.
    pub fn new(weights: &[f32], bias: &[f32], activation: &Activation) -> Tiles<P> {
        Tiles::packed_by(P::pack, weights, bias, activation)
    }

    /// The same with another way to pack them.
    pub fn packed_by(
        pack: impl FnOnce(&[f32], usize) -> (P, Vec<Worth>),
        weights: &[f32],
        bias: &[f32],
        activation: &Activation,
    ) -> Tiles<P> {
        let outputs = bias.len();
        let inputs = weights.len() / outputs;
        assert_eq!(weights.len(), outputs * inputs);
        let (products, worth) = pack(weights, inputs);
        let mut endings = vec![Ending::default(); outputs.div_ceil(CHANNELS)];
        for (channel, (bias, worth)) in bias.iter().zip(worth).enumerate() {
            let (four, place) = (channel % CHANNELS / 4, channel % 4);
            let ending = &mut endings[channel / CHANNELS];
            ending.scales[four][place] = worth.scale;
            ending.totals[four][place] = worth.total;
            ending.bias[four][place] = *bias;
        }
        let activation = Padded::new(activation, outputs.next_multiple_of(CHANNELS));
        Tiles { inputs, outputs, products, endings, activation }
    }

    /// The same with outputs in whole units, and what a unit stands for; `None` if the activation
    /// does not say in which range they lie.
    pub fn in_units(&self) -> Option<(Tiles<P>, f32)>
    where
        P: Clone,
    {
        let unit = self.activation.unit()?;
        let mut tiles = self.clone();
        for ending in &mut tiles.endings {
            for numbers in [&mut ending.scales, &mut ending.totals, &mut ending.bias] {
                numbers.as_flattened_mut().iter_mut().for_each(|number| *number /= unit);
            }
            // What is behind the point is left out.
            ending.bias.as_flattened_mut().iter_mut().for_each(|bias| *bias += 0.5);
        }
        tiles.activation = Padded::Clamp { least: 0.0, most: LARGEST };
        Some((tiles, unit))
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

    /// Each pixel by itself: `[pixels][inputs]` becomes `outputs`.
    ///
    /// # Panics
    /// If the lengths don't fit.
    pub fn run(&self, input: &[f32], residual: Option<Residual>, outputs: impl Outputs) {
        let pixels = input.len() / self.inputs;
        assert_eq!(pixels, outputs.pixels());
        let fill = |first: usize, tile: &mut [P::Step]| {
            // A last tile that is not full has its last pixel several times.
            let rows = std::array::from_fn(|place| {
                let pixel = (first + place).min(pixels - 1);
                &input[pixel * self.inputs..][..self.inputs]
            });
            self.products.scale(rows, tile)
        };
        self.run_filled(fill, residual, outputs);
    }

    /// The pixels of a line, which has whole tiles of them; `unit` is what its number 1 stands for.
    ///
    /// # Panics
    /// If the lengths don't fit.
    pub fn run_line<N: Number>(
        &self,
        line: &Lines<N>,
        unit: f32,
        residual: Option<Residual>,
        outputs: impl Outputs,
    ) {
        let groups = self.inputs.div_ceil(GROUP);
        let unit = F32x4::splat(unit);
        let fill = |first: usize, tile: &mut [P::Step]| {
            let units = self.products.scale_line(LineTile { line, first, groups }, tile);
            Units { unit: units.unit.mul(unit), zero: units.zero.mul(unit) }
        };
        self.run_filled(fill, residual, outputs);
    }

    /// Pixels from anywhere. `fill` turns as many as a tile has into integers, from one on; there
    /// may be fewer left in the last tile.
    pub fn run_filled(
        &self,
        fill: impl FnMut(usize, &mut [P::Step]) -> Units,
        residual: Option<Residual>,
        outputs: impl Outputs,
    ) {
        with_activation!(&self.activation, |activation| match residual {
            // Each by itself, or a sum with nothing would cost as much as a sum.
            None => self.all(fill, &activation, None, outputs),
            Some(residual) => self.all(fill, &activation, Some(residual), outputs),
        });
    }

    #[inline(always)]
    fn all(
        &self,
        mut fill: impl FnMut(usize, &mut [P::Step]) -> Units,
        activation: &impl Activate,
        residual: Option<Residual>,
        mut outputs: impl Outputs,
    ) {
        let mut tile = vec![P::Step::default(); self.products.steps()];
        let pixels = outputs.pixels();
        let mut last;
        for first in (0..pixels).step_by(PIXELS) {
            let units = fill(first, &mut tile);
            let mut residual = residual.map(|all| all.from(first));
            if let Some(left) = &mut residual
                && left.numbers.len() < PIXELS * left.channels
            {
                // The last pixels, in a tile that is filled up.
                last = left.numbers.to_vec();
                last.resize(PIXELS * left.channels, 0.0);
                left.numbers = &last;
            }
            self.tile(&tile, &units, activation, residual, (&mut outputs, first));
        }
    }

    /// All channels of a tile; where the outputs go, from which pixel on.
    #[inline(always)]
    fn tile(
        &self,
        tile: &[P::Step],
        units: &Units,
        activation: &impl Activate,
        residual: Option<Residual>,
        (outputs, first): (&mut impl Outputs, usize),
    ) {
        // What doesn't fit as a whole goes there by way of these.
        let mut filled = [[Default::default(); CHANNELS]; PIXELS];
        for (block, ending) in self.endings.iter().enumerate() {
            let sums = self.products.sums(tile, block);
            let channel = block * CHANNELS;
            let activate = [activation.four(channel), activation.four(channel + 4)];
            let places = outputs.places(first, channel);
            let whole = places.is_some();
            let places = places.unwrap_or_else(|| filled.each_mut());
            // What is added is settled for all pixels together: asked for each, a layer of 32
            // channels took two thirds more.
            match residual.filter(|residual| channel < residual.channels) {
                Some(residual) => {
                    let added = |place: usize, values: [F32x4; 2]| {
                        let added = residual.eight(place, channel);
                        [values[0].add(added[0]), values[1].add(added[1])]
                    };
                    Self::finish(&sums, ending, units, added, &activate, places);
                }
                None => Self::finish(&sums, ending, units, |_, values| values, &activate, places),
            }
            if !whole {
                outputs.put(first, channel, &filled);
            }
        }
    }

    /// The outputs of a tile's block.
    #[inline(always)]
    fn finish(
        sums: &Sums,
        ending: &Ending,
        units: &Units,
        added: impl Fn(usize, [F32x4; 2]) -> [F32x4; 2],
        [low, high]: &[impl Fn(F32x4) -> F32x4; 2],
        places: [&mut [impl Number; CHANNELS]; PIXELS],
    ) {
        let scales = ending.scales.each_ref().map(F32x4::load);
        let totals = ending.totals.each_ref().map(F32x4::load);
        let bias = ending.bias.each_ref().map(F32x4::load);
        let (units, zeros) = (units.unit.lanes(), units.zero.lanes());
        for (place, output) in places.into_iter().enumerate() {
            let sum = |half: usize| {
                let base = P::base(bias[half], totals[half], zeros[place]);
                sums[place][half].to_f32().mul(scales[half]).mul_add(units[place], base)
            };
            let values = added(place, [sum(0), sum(1)]);
            Number::put([low(values[0]), high(values[1])], output);
        }
    }
}

/// Where a layer's outputs go.
pub(super) trait Outputs {
    /// What they are there.
    type Number: Number;

    /// How many pixels there are.
    fn pixels(&self) -> usize;

    /// Where eight channels of a tile's pixels go; `None` if there are fewer channels or pixels.
    fn places(
        &mut self,
        first: usize,
        channel: usize,
    ) -> Option<[&mut [Self::Number; CHANNELS]; PIXELS]>;

    /// Keeps those of eight channels of a tile's pixels that there are.
    fn put(&mut self, first: usize, channel: usize, numbers: &Group<Self::Number>);
}

/// Pixels with their channels last.
pub(super) struct Pixels<'a> {
    pub numbers: &'a mut [f32],
    pub channels: usize,
}

impl Outputs for Pixels<'_> {
    type Number = f32;

    fn pixels(&self) -> usize {
        self.numbers.len() / self.channels
    }

    #[inline(always)]
    fn places(&mut self, first: usize, channel: usize) -> Option<[&mut [f32; CHANNELS]; PIXELS]> {
        let channels = self.channels;
        let tile = self.numbers.get_mut(first * channels..)?.get_mut(..PIXELS * channels)?;
        let (a, rest) = tile.split_at_mut(channels);
        let (b, rest) = rest.split_at_mut(channels);
        let (c, d) = rest.split_at_mut(channels);
        let eight = channel..channel + CHANNELS;
        Some([
            a.get_mut(eight.clone())?.first_chunk_mut()?,
            b.get_mut(eight.clone())?.first_chunk_mut()?,
            c.get_mut(eight.clone())?.first_chunk_mut()?,
            d.get_mut(eight)?.first_chunk_mut()?,
        ])
    }

    fn put(&mut self, first: usize, channel: usize, numbers: &Group<f32>) {
        let count = CHANNELS.min(self.channels - channel);
        let pixels = self.numbers.chunks_exact_mut(self.channels).skip(first);
        for (pixel, numbers) in pixels.zip(numbers) {
            pixel[channel..][..count].copy_from_slice(&numbers[..count]);
        }
    }
}

impl<N: Number> Outputs for Strip<'_, N> {
    type Number = N;

    fn pixels(&self) -> usize {
        Strip::pixels(self)
    }

    #[inline(always)]
    fn places(&mut self, first: usize, channel: usize) -> Option<[&mut [N; CHANNELS]; PIXELS]> {
        let tile: &mut Group<N> = self.from(first, channel / GROUP).first_chunk_mut()?;
        Some(tile.each_mut())
    }

    fn put(&mut self, first: usize, channel: usize, numbers: &Group<N>) {
        let last = Strip::pixels(self).min(first + PIXELS);
        for (pixel, numbers) in (first..last).zip(numbers) {
            self.from(pixel, channel / GROUP)[0] = *numbers;
        }
    }
}

impl Residual<'_> {
    /// Eight channels of a pixel, or those that there are, and zeros.
    #[inline(always)]
    fn eight(&self, place: usize, channel: usize) -> [F32x4; 2] {
        let numbers = &self.numbers[place * self.channels..][..self.channels][channel..];
        match numbers.first_chunk() {
            Some(eight) => F32x4::load_two(eight),
            None => F32x4::load_two(&filled(numbers)),
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
    of_each(ranges.map(|[least, _]| least), ranges.map(|[_, most]| most))
}

/// The same of a line's pixels.
#[inline(always)]
pub(super) fn ranges_in_line<N: Number>(pixels: LineTile<N>) -> [F32x4; 2] {
    let mut least = [F32x4::splat(0.0); PIXELS];
    let mut most = least;
    for group in 0..pixels.groups {
        let group = pixels.group(group);
        for place in 0..PIXELS {
            let [low, high] = N::floats(&group[place]);
            least[place] = least[place].min(low.min(high));
            most[place] = most[place].max(low.max(high));
        }
    }
    of_each(least, most)
}

/// The least and the largest lane of each.
#[inline(always)]
fn of_each(least: [F32x4; PIXELS], most: [F32x4; PIXELS]) -> [F32x4; 2] {
    let negative = F32x4::splat(-1.0);
    let least = F32x4::largest_of_each(least.map(|least| least.mul(negative)));
    [least.mul(negative), F32x4::largest_of_each(most)]
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

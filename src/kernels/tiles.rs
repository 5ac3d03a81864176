//! Products of pixels and weights, a tile of pixels after the other: what the
//! [pointwise](super::pointwise) and the [windowed](super::window) convolution are made of.
//!
//! The products are of integers. How numbers and weights become integers is the choice of
//! [`Products`]; here is what is around them.

use super::activation::{Activate, Activation, Padded, with_activation};
use super::line::{GROUP, Lines, Part};
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

/// Eight channels of a tile's pixels.
pub(super) type Group = [[f32; GROUP]; PIXELS];

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

    /// The same for pixels whose channels lie in groups.
    fn scale_groups<'a>(
        &self,
        count: usize,
        group: impl Fn(usize) -> &'a Group,
        tile: &mut [Self::Step],
    ) -> Units;

    /// The sums of a tile and the weights of a block of output channels.
    fn sums(&self, tile: &[Self::Step], block: usize) -> Sums;

    /// The bias, and what the pixel's zero comes to: it counts for each weight.
    fn base(bias: F32x4, total: F32x4, zero: F32x4) -> F32x4;
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
        let outputs = bias.len();
        let inputs = weights.len() / outputs;
        assert_eq!(weights.len(), outputs * inputs);
        let (products, worth) = P::pack(weights, inputs);
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

    /// The pixels of a line, which has whole tiles of them.
    ///
    /// # Panics
    /// If the lengths don't fit.
    pub fn run_line(&self, line: &Lines, residual: Option<Residual>, outputs: impl Outputs) {
        let groups = self.inputs.div_ceil(GROUP);
        let fill = |first: usize, tile: &mut [P::Step]| {
            let group = |group: usize| line.group(group, 0)[first..].first_chunk().expect("a tile");
            self.products.scale_groups(groups, group, tile)
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
        let whole = pixels / PIXELS * PIXELS;
        for first in (0..whole).step_by(PIXELS) {
            let units = fill(first, &mut tile);
            let residual = residual.map(|all| all.from(first));
            self.tile::<true>(&tile, &units, activation, residual, (&mut outputs, first));
        }
        if whole == pixels {
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
        self.tile::<false>(&tile, &units, activation, residual, (&mut outputs, whole));
    }

    /// All channels of a tile; where the outputs go, from which pixel on.
    #[inline(always)]
    fn tile<const WHOLE: bool>(
        &self,
        tile: &[P::Step],
        units: &Units,
        activation: &impl Activate,
        residual: Option<Residual>,
        (outputs, first): (&mut impl Outputs, usize),
    ) {
        for (block, ending) in self.endings.iter().enumerate() {
            let sums = self.products.sums(tile, block);
            let channel = block * CHANNELS;
            let activate = [activation.four(channel), activation.four(channel + 4)];
            let store = outputs.block::<WHOLE>(first, channel);
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
                    Self::finish(&sums, ending, units, added, &activate, store);
                }
                Some(residual) if channel < residual.channels => {
                    let added = |place: usize, values: [F32x4; 2]| {
                        let row = &residual.numbers[place * residual.channels..];
                        let added = F32x4::load_two(&filled(&row[channel..residual.channels]));
                        [values[0].add(added[0]), values[1].add(added[1])]
                    };
                    Self::finish(&sums, ending, units, added, &activate, store);
                }
                _ => Self::finish(&sums, ending, units, |_, values| values, &activate, store),
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
        mut store: impl FnMut(usize, [F32x4; 2]),
    ) {
        let scales = ending.scales.each_ref().map(F32x4::load);
        let totals = ending.totals.each_ref().map(F32x4::load);
        let bias = ending.bias.each_ref().map(F32x4::load);
        let (units, zeros) = (units.unit.lanes(), units.zero.lanes());
        for place in 0..PIXELS {
            let sum = |half: usize| {
                let base = P::base(bias[half], totals[half], zeros[place]);
                sums[place][half].to_f32().mul(scales[half]).mul_add(units[place], base)
            };
            let values = added(place, [sum(0), sum(1)]);
            store(place, [low(values[0]), high(values[1])]);
        }
    }
}

/// Where a layer's outputs go.
pub(super) trait Outputs {
    /// How many pixels there are.
    fn pixels(&self) -> usize;

    /// Some channels of a tile of them, `WHOLE` or with fewer pixels than a tile has: what takes a
    /// place in it and eight numbers, of which those beyond the last channel are not kept.
    fn block<const WHOLE: bool>(
        &mut self,
        first: usize,
        channel: usize,
    ) -> impl FnMut(usize, [F32x4; 2]);
}

/// Pixels with their channels last.
pub(super) struct Pixels<'a> {
    pub numbers: &'a mut [f32],
    pub channels: usize,
}

impl Outputs for Pixels<'_> {
    fn pixels(&self) -> usize {
        self.numbers.len() / self.channels
    }

    #[inline(always)]
    fn block<const WHOLE: bool>(
        &mut self,
        first: usize,
        channel: usize,
    ) -> impl FnMut(usize, [F32x4; 2]) {
        let channels = self.channels;
        let left = if WHOLE { PIXELS } else { self.pixels() - first };
        let tile = &mut self.numbers[first * channels..][..left * channels];
        move |place, values| {
            if place >= left {
                return;
            }
            let output = &mut tile[place * channels..][..channels][channel..];
            match output.first_chunk_mut() {
                Some(eight) => F32x4::store_two(values, eight),
                None => {
                    let mut eight = [0.0; CHANNELS];
                    F32x4::store_two(values, &mut eight);
                    output.copy_from_slice(&eight[..output.len()]);
                }
            }
        }
    }
}

impl Outputs for Part<'_> {
    fn pixels(&self) -> usize {
        self.columns()
    }

    #[inline(always)]
    fn block<const WHOLE: bool>(
        &mut self,
        first: usize,
        channel: usize,
    ) -> impl FnMut(usize, [F32x4; 2]) {
        let group = &mut self.group(channel / GROUP)[first..];
        let tile = if WHOLE { &mut group[..PIXELS] } else { group };
        move |place, values| {
            if let Some(eight) = tile.get_mut(place) {
                F32x4::store_two(values, eight);
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

/// The same of pixels whose channels lie in groups.
#[inline(always)]
pub(super) fn ranges_of_groups<'a>(
    count: usize,
    group: impl Fn(usize) -> &'a Group,
) -> [F32x4; 2] {
    let mut least = [F32x4::splat(0.0); PIXELS];
    let mut most = least;
    for index in 0..count {
        let group = group(index);
        for place in 0..PIXELS {
            let [low, high] = F32x4::load_two(&group[place]);
            least[place] = least[place].min(low.min(high));
            most[place] = most[place].max(low.max(high));
        }
    }
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

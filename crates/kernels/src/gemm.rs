//! Matrix products in integers: pixels by input channels, times input channels by output channels.
//!
//! A tile of [`MR`] pixels is quantised, then multiplied by the packed weights, [`NR`] output channels at a
//! time. The [`MicroKernel`] decides what the integers are: [`int8`] or [`int16`]. Around it are packing,
//! the loop over tiles, and the epilogue: scales, bias, residual, activation.

pub mod int16;
pub mod int8;

use crate::activation::{Activate, Activation, PackedActivation, with_activation};
use crate::layout::{BLOCK, BlockedRows, BlockedRowsMut, BlockedTile, ChannelBlock, Element};
use crate::quant::{ChannelQuant, I16_MAX, MR, RowQuant};
use crate::shape::Residual;
use crate::simd::cranelift::{opaque, volatile_load, volatile_store};
use crate::simd::{F32x4, I32x4};

/// Output channels of a micro-kernel: a block of the layout, so that it writes one.
pub const NR: usize = BLOCK;

/// The sums of products of a tile's pixels and [`NR`] output channels.
pub type Accumulators = [[I32x4; NR / 4]; MR];

/// Weights as integers, and their products with a tile's pixels.
pub trait MicroKernel: Sized {
    /// Some input channels of a tile's pixels, as they are multiplied.
    type KPanel: Copy + Default;

    /// Packs weights `[outputs][inputs]`, and returns the quantisation of each output channel.
    fn pack(weights: &[f32], inputs: usize) -> (Self, Vec<ChannelQuant>);

    /// Returns the number of panels of a tile.
    fn k_panels(&self) -> usize;

    /// Quantises a tile's pixels.
    fn quantise(&self, rows: [&[f32]; MR], tile: &mut [Self::KPanel]) -> RowQuant;

    /// Multiplies a tile by the weights of block `block` of [`NR`] output channels.
    fn accumulate(&self, tile: &[Self::KPanel], block: usize) -> Accumulators;

    /// Returns the part of the outputs that does not depend on the accumulators: the bias, and where
    /// pixels have a zero offset, that offset once for each weight.
    fn base(bias: F32x4, weight_sum: F32x4, zero_offset: F32x4) -> F32x4;
}

/// A micro-kernel that quantises blocked pixels of an element type.
pub trait QuantiseBlocked<E>: MicroKernel {
    /// Quantises a tile's pixels. The scale is in units of the element.
    fn quantise_blocked(&self, pixels: BlockedTile<E>, tile: &mut [Self::KPanel]) -> RowQuant;
}

/// Adds up the products of all panels of a tile. `load` loads the four vectors of a pixel or of four
/// output channels, `product` multiplies two of these.
///
/// The accumulators stay in memory. Cranelift loads all that a piece of code reads before anything else
/// (see `simd/cranelift.rs`). With a store after each pixel, the weights stay in registers, and each pixel
/// is loaded when it is multiplied.
///
/// A tile's values lie in memory as they are multiplied, each several times, since all blocks of weights
/// read them: a shuffle here would cost a multiplication. Loads that splat cost more still, since Cranelift
/// makes several instructions of each.
///
/// Measured: `docs/benchmarks.md#kernels-accumulators-in-memory`.
#[inline(always)]
fn accumulate_panels<Four, Loaded: Copy>(
    tile: &[[Four; MR]],
    weights: &[[Four; NR / 4]],
    load: impl Fn(&Four) -> Loaded,
    product: impl Fn(Loaded, Loaded) -> I32x4,
) -> Accumulators {
    let mut accumulators = [[I32x4::ZERO; NR / 4]; MR];
    assert_eq!(tile.len(), weights.len());
    let mut accumulate = |panel: usize, previous: fn(&I32x4) -> I32x4| {
        // SAFETY: the panel is one of the tile's, which has as many as there are of weights.
        let (pixels, weights) =
            unsafe { (tile.get_unchecked(panel), weights.get_unchecked(panel)) };
        let (low, high) = (load(&weights[0]), load(&weights[1]));
        for (sums, pixel) in accumulators.iter_mut().zip(pixels) {
            let pixel = load(pixel);
            let low = previous(&sums[0]).add(product(low, pixel));
            let high = previous(&sums[1]).add(product(high, pixel));
            volatile_store(low, &mut sums[0]);
            volatile_store(high, &mut sums[1]);
        }
    };
    if !tile.is_empty() {
        accumulate(0, |_| I32x4::ZERO);
    }
    for panel in 1..tile.len() {
        accumulate(opaque(panel), volatile_load);
    }
    accumulators
}

/// The constants of the epilogue for [`NR`] output channels.
#[derive(Clone, Debug, Default, PartialEq)]
struct BlockEpilogue {
    scales: [[f32; 4]; NR / 4],
    weight_sums: [[f32; 4]; NR / 4],
    bias: [[f32; 4]; NR / 4],
}

/// A layer's weights as a micro-kernel multiplies them, and its epilogue.
#[derive(Clone, Debug, PartialEq)]
pub struct PackedWeights<K> {
    inputs: usize,
    outputs: usize,
    kernel: K,
    epilogues: Vec<BlockEpilogue>,
    activation: PackedActivation,
}

impl<K: MicroKernel> PackedWeights<K> {
    /// Packs weights `[outputs][inputs]` with one bias for each output.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub fn new(weights: &[f32], bias: &[f32], activation: &Activation) -> PackedWeights<K> {
        PackedWeights::packed_by(K::pack, weights, bias, activation)
    }

    /// Packs weights by another function than the micro-kernel's own.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub fn packed_by(
        pack: impl FnOnce(&[f32], usize) -> (K, Vec<ChannelQuant>),
        weights: &[f32],
        bias: &[f32],
        activation: &Activation,
    ) -> PackedWeights<K> {
        let outputs = bias.len();
        let inputs = weights.len() / outputs;
        assert_eq!(weights.len(), outputs * inputs);
        let (kernel, quants) = pack(weights, inputs);
        let mut epilogues = vec![BlockEpilogue::default(); outputs.div_ceil(NR)];
        for (channel, (bias, quant)) in bias.iter().zip(quants).enumerate() {
            let (four, lane) = (channel % NR / 4, channel % 4);
            let epilogue = &mut epilogues[channel / NR];
            epilogue.scales[four][lane] = quant.scale;
            epilogue.weight_sums[four][lane] = quant.weight_sum;
            epilogue.bias[four][lane] = *bias;
        }
        let activation = PackedActivation::new(activation, outputs.next_multiple_of(NR));
        PackedWeights { inputs, outputs, kernel, epilogues, activation }
    }

    /// Returns weights whose outputs are integers of 16 bits, and the scale of these; `None` if the
    /// activation does not bound the outputs.
    pub fn with_i16_outputs(&self) -> Option<(PackedWeights<K>, f32)>
    where
        K: Clone,
    {
        let scale = self.activation.i16_scale()?;
        let mut packed = self.clone();
        for epilogue in &mut packed.epilogues {
            for values in [&mut epilogue.scales, &mut epilogue.weight_sums, &mut epilogue.bias] {
                values.as_flattened_mut().iter_mut().for_each(|value| *value /= scale);
            }
            // Outputs are truncated when they are stored.
            epilogue.bias.as_flattened_mut().iter_mut().for_each(|bias| *bias += 0.5);
        }
        packed.activation = PackedActivation::Clamp { min: 0.0, max: I16_MAX };
        Some((packed, scale))
    }

    /// Returns the number of input channels.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Returns the number of output channels.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Returns the weights.
    pub fn kernel(&self) -> &K {
        &self.kernel
    }

    /// Multiplies pixels `[pixels][inputs]`.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub fn run(&self, input: &[f32], residual: Option<Residual>, output: impl OutputTile) {
        let pixels = input.len() / self.inputs;
        assert_eq!(pixels, output.pixels());
        let fill = |first: usize, tile: &mut [K::KPanel]| {
            // The last tile repeats the last pixel until it is full.
            let rows = std::array::from_fn(|row| {
                let pixel = (first + row).min(pixels - 1);
                &input[pixel * self.inputs..][..self.inputs]
            });
            self.kernel.quantise(rows, tile)
        };
        self.run_filled(fill, residual, output);
    }

    /// Multiplies the pixels of a blocked row, which has whole tiles of them. `scale` is what the
    /// element's 1 stands for.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub fn run_blocked<E: Element>(
        &self,
        rows: &BlockedRows<E>,
        scale: f32,
        residual: Option<Residual>,
        output: impl OutputTile,
    ) where
        K: QuantiseBlocked<E>,
    {
        let blocks = self.inputs.div_ceil(BLOCK);
        let scale = F32x4::splat(scale);
        let fill = |first: usize, tile: &mut [K::KPanel]| {
            let quant = self.kernel.quantise_blocked(BlockedTile::new(rows, first, blocks), tile);
            RowQuant { scale: quant.scale.mul(scale), zero_offset: quant.zero_offset.mul(scale) }
        };
        self.run_filled(fill, residual, output);
    }

    /// Multiplies pixels from anywhere. `fill` quantises a tile of them from one on; fewer may be left
    /// for the last tile.
    pub fn run_filled(
        &self,
        fill: impl FnMut(usize, &mut [K::KPanel]) -> RowQuant,
        residual: Option<Residual>,
        output: impl OutputTile,
    ) {
        with_activation!(&self.activation, |activation| match residual {
            // A loop for each: adding nothing would cost as much as adding a residual.
            None => self.run_tiles(fill, &activation, None, output),
            Some(residual) => self.run_tiles(fill, &activation, Some(residual), output),
        });
    }

    #[inline(always)]
    fn run_tiles(
        &self,
        mut fill: impl FnMut(usize, &mut [K::KPanel]) -> RowQuant,
        activation: &impl Activate,
        residual: Option<Residual>,
        mut output: impl OutputTile,
    ) {
        let mut tile = vec![K::KPanel::default(); self.kernel.k_panels()];
        let pixels = output.pixels();
        let mut last;
        for first in (0..pixels).step_by(MR) {
            let quant = fill(first, &mut tile);
            let mut residual = residual.map(|residual| residual.skip(first));
            if let Some(left) = &mut residual
                && left.values.len() < MR * left.channels
            {
                // The last tile is padded.
                last = left.values.to_vec();
                last.resize(MR * left.channels, 0.0);
                left.values = &last;
            }
            self.run_tile(&tile, &quant, activation, residual, (&mut output, first));
        }
    }

    /// Writes all channels of a tile to the output, from a pixel on.
    #[inline(always)]
    fn run_tile(
        &self,
        tile: &[K::KPanel],
        quant: &RowQuant,
        activation: &impl Activate,
        residual: Option<Residual>,
        (output, first): (&mut impl OutputTile, usize),
    ) {
        // Outputs that are no whole block go by way of this one.
        let mut partial = [[Default::default(); NR]; MR];
        for (block, epilogue) in self.epilogues.iter().enumerate() {
            let accumulators = self.kernel.accumulate(tile, block);
            let channel = block * NR;
            let activate = [activation.for_channels(channel), activation.for_channels(channel + 4)];
            let whole = output.whole_block(first, channel);
            let is_whole = whole.is_some();
            let pixels = whole.unwrap_or_else(|| partial.each_mut());
            // The residual is looked up once for all pixels of the block. Measured:
            // docs/benchmarks.md#kernels-residual-by-block
            match residual.filter(|residual| channel < residual.channels) {
                Some(residual) => {
                    let add = |pixel: usize, values: [F32x4; 2]| {
                        let added = load_residual(&residual, pixel, channel);
                        [values[0].add(added[0]), values[1].add(added[1])]
                    };
                    Self::finish(&accumulators, epilogue, quant, add, &activate, pixels);
                }
                None => {
                    let add = |_, values| values;
                    Self::finish(&accumulators, epilogue, quant, add, &activate, pixels);
                }
            }
            if !is_whole {
                output.put_partial(first, channel, &partial);
            }
        }
    }

    /// Computes the outputs of a block from its accumulators.
    #[inline(always)]
    fn finish(
        accumulators: &Accumulators,
        epilogue: &BlockEpilogue,
        quant: &RowQuant,
        add: impl Fn(usize, [F32x4; 2]) -> [F32x4; 2],
        [low, high]: &[impl Fn(F32x4) -> F32x4; 2],
        pixels: [&mut [impl Element; NR]; MR],
    ) {
        let scales = epilogue.scales.each_ref().map(F32x4::load);
        let weight_sums = epilogue.weight_sums.each_ref().map(F32x4::load);
        let bias = epilogue.bias.each_ref().map(F32x4::load);
        let (row_scales, zero_offsets) =
            (quant.scale.splat_lanes(), quant.zero_offset.splat_lanes());
        for (pixel, output) in pixels.into_iter().enumerate() {
            let value = |half: usize| {
                let base = K::base(bias[half], weight_sums[half], zero_offsets[pixel]);
                let sum = accumulators[pixel][half].to_f32().mul(scales[half]);
                sum.mul_add(row_scales[pixel], base)
            };
            let values = add(pixel, [value(0), value(1)]);
            Element::store_f32([low(values[0]), high(values[1])], output);
        }
    }
}

/// Loads eight channels of a pixel, or those that there are and zeros.
#[inline(always)]
fn load_residual(residual: &Residual, pixel: usize, channel: usize) -> [F32x4; 2] {
    let values = &residual.values[pixel * residual.channels..][..residual.channels][channel..];
    match values.first_chunk() {
        Some(eight) => F32x4::load_two(eight),
        None => F32x4::load_partial_two(values),
    }
}

/// The destination of a layer's outputs, tile by tile.
pub trait OutputTile {
    /// The type of the outputs.
    type Element: Element;

    /// Returns the number of pixels.
    fn pixels(&self) -> usize;

    /// Returns the place of [`NR`] channels of a tile's pixels; `None` if there are fewer channels or
    /// pixels.
    fn whole_block(
        &mut self,
        first: usize,
        channel: usize,
    ) -> Option<[&mut [Self::Element; NR]; MR]>;

    /// Copies those of [`NR`] channels of a tile's pixels that there are.
    fn put_partial(&mut self, first: usize, channel: usize, values: &ChannelBlock<Self::Element>);
}

/// Outputs with their channels last.
pub struct NhwcOutput<'a> {
    pub values: &'a mut [f32],
    pub channels: usize,
}

impl OutputTile for NhwcOutput<'_> {
    type Element = f32;

    fn pixels(&self) -> usize {
        self.values.len() / self.channels
    }

    #[inline(always)]
    fn whole_block(&mut self, first: usize, channel: usize) -> Option<[&mut [f32; NR]; MR]> {
        let channels = self.channels;
        let tile = self.values.get_mut(first * channels..)?.get_mut(..MR * channels)?;
        let (a, rest) = tile.split_at_mut(channels);
        let (b, rest) = rest.split_at_mut(channels);
        let (c, d) = rest.split_at_mut(channels);
        let eight = channel..channel + NR;
        Some([
            a.get_mut(eight.clone())?.first_chunk_mut()?,
            b.get_mut(eight.clone())?.first_chunk_mut()?,
            c.get_mut(eight.clone())?.first_chunk_mut()?,
            d.get_mut(eight)?.first_chunk_mut()?,
        ])
    }

    fn put_partial(&mut self, first: usize, channel: usize, values: &ChannelBlock<f32>) {
        let count = NR.min(self.channels - channel);
        let pixels = self.values.chunks_exact_mut(self.channels).skip(first);
        for (pixel, values) in pixels.zip(values) {
            pixel[channel..][..count].copy_from_slice(&values[..count]);
        }
    }
}

impl<E: Element> OutputTile for BlockedRowsMut<'_, E> {
    type Element = E;

    fn pixels(&self) -> usize {
        BlockedRowsMut::pixels(self)
    }

    #[inline(always)]
    fn whole_block(&mut self, first: usize, channel: usize) -> Option<[&mut [E; NR]; MR]> {
        let tile: &mut ChannelBlock<E> =
            self.block_from(first, channel / BLOCK).first_chunk_mut()?;
        Some(tile.each_mut())
    }

    fn put_partial(&mut self, first: usize, channel: usize, values: &ChannelBlock<E>) {
        let last = BlockedRowsMut::pixels(self).min(first + MR);
        for (pixel, values) in (first..last).zip(values) {
            self.block_from(pixel, channel / BLOCK)[0] = *values;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::int16::Int16;
    use super::*;

    #[test]
    fn i16_outputs_are_the_nearest_integers() {
        let mut random = fastrand::Rng::with_seed(15);
        let mut values =
            |length: usize| -> Vec<f32> { (0..length).map(|_| 2.0 * random.f32() - 1.0).collect() };
        let (pixels, inputs, outputs) = (2 * MR, 20, NR);
        let input = values(pixels * inputs);
        let activation = Activation::Clamp { min: 0.0, max: 6.0 };
        let (weights, bias) = (values(inputs * outputs), values(outputs));
        let packed = PackedWeights::<Int16>::new(&weights, &bias, &activation);
        let mut floats = vec![f32::NAN; pixels * outputs];
        packed.run(&input, None, NhwcOutput { values: &mut floats, channels: outputs });

        let (packed, scale) = packed.with_i16_outputs().expect("bounded outputs");
        let mut rows = BlockedRows::<i16>::new(1, outputs, pixels);
        packed.run(&input, None, rows.rows_mut(0..1, 0, pixels));
        let integers = rows.block(0, 0).as_flattened();
        for (integer, float) in integers.iter().zip(&floats) {
            let exact = float / scale;
            assert!((f32::from(*integer) - exact).abs() <= 0.51, "{integer} for {exact}");
        }
        assert!(integers.iter().any(|integer| *integer > 1000));
    }

    #[test]
    fn nhwc_output_offers_only_whole_blocks() {
        let channels = NR + 3;
        let mut values = vec![0.0; (MR + 1) * channels];
        let mut output = NhwcOutput { values: &mut values, channels };
        assert_eq!(output.pixels(), MR + 1);
        assert!(output.whole_block(0, 0).is_some());
        assert!(output.whole_block(0, NR).is_none(), "three channels are left");
        assert!(output.whole_block(MR, 0).is_none(), "one pixel is left");
        output.put_partial(MR, NR, &[[1.0; NR]; MR]);
        let written = |value: &f32| *value == 1.0;
        assert_eq!(values.iter().filter(|value| written(value)).count(), 3);
        assert!(values[MR * channels + NR..].iter().all(written));
    }

    #[test]
    fn blocked_output_splits_a_tile_at_the_end_of_a_row() {
        let (columns, channels) = (MR + 1, NR);
        let mut rows = BlockedRows::<f32>::new(2, channels, columns);
        let mut output = rows.rows_mut(0..2, 0, columns);
        assert!(OutputTile::whole_block(&mut output, 0, 0).is_some());
        assert!(OutputTile::whole_block(&mut output, MR, 0).is_none(), "it ends in the next row");
        let values: ChannelBlock<f32> = std::array::from_fn(|pixel| [pixel as f32 + 1.0; NR]);
        output.put_partial(MR, 0, &values);
        assert_eq!(rows.block(0, 0)[MR], [1.0; NR]);
        assert_eq!(rows.block(0, 1)[..MR - 1], values[1..]);
        assert_eq!(rows.block(0, 1)[MR - 1..], [[0.0; NR]; 2]);
    }
}

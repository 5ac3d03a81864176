//! Depthwise convolution: each channel by itself, with a kernel of 3 × 3 or 5 × 5 pixels.
//!
//! It is computed in floats, or in integers of 16 bits where the activations around it bound all values
//! (see `layout.rs`). An instruction then takes eight values instead of four. Palm detection
//! stays in floats: its activation (PReLU) has no largest value.

mod epilogue;

use std::ops::Range;

use self::epilogue::{ChannelEpilogue, F32ChannelEpilogue, I16Channel};
pub(crate) use self::epilogue::{F32Epilogue, I16Epilogue};
use crate::activation::{Activation, PackedActivation, pack_fours, with_activation};
use crate::layout::{BLOCK, BlockedRows, BlockedRowsMut, Element};
use crate::quant::MR;
use crate::shape::{ConvGeometry, Shape};
use crate::simd::cranelift::{force_evaluation, opaque, unrolled};

/// The bias and the activation of a depthwise convolution whose element type is `E`.
pub(crate) trait Epilogue<E: Element>: Sized {
    /// Writes the next rows of output. `which` is the row of input at which the first one's kernel
    /// begins, and their number.
    fn write(&self, rows: &RowStream<E, Self>, which: (usize, usize), output: RowOutput<E>);

    /// Returns the value of an output's 1.
    fn scale(&self) -> f32;
}

impl Epilogue<f32> for F32Epilogue {
    fn write(&self, rows: &RowStream<f32, Self>, which: (usize, usize), output: RowOutput<f32>) {
        with_activation!(&self.activation, |activation| {
            let epilogue = F32ChannelEpilogue { bias: &self.bias, activation: &activation };
            rows.write(which, output, &epilogue);
        });
    }

    fn scale(&self) -> f32 {
        1.0
    }
}

impl Epilogue<i16> for I16Epilogue {
    fn write(&self, rows: &RowStream<i16, Self>, which: (usize, usize), output: RowOutput<i16>) {
        rows.write(which, output, self);
    }

    fn scale(&self) -> f32 {
        I16Epilogue::scale(self)
    }
}

/// The packed weights of a depthwise convolution, and its epilogue.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DepthwiseKernel<E: Element, P> {
    geometry: ConvGeometry,
    channels: usize,
    /// By vectors of channels, then by the kernel's rows and columns.
    weights: Vec<E::Vector>,
    epilogue: P,
}

/// A depthwise convolution.
#[derive(Clone, Debug, PartialEq)]
pub struct Depthwise(DepthwiseKernel<f32, F32Epilogue>);

impl Depthwise {
    /// Packs weights `[channels][row][column]` with one bias for each channel.
    ///
    /// Returns `None` for a kernel other than 3 × 3 and 5 × 5, a stride other than 1 and 2, or channels
    /// that are not a multiple of 4. No model here has these.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub fn new(
        weights: &[f32],
        bias: &[f32],
        geometry: ConvGeometry,
        activation: &Activation,
    ) -> Option<Depthwise> {
        let (channels, taps) = (bias.len(), geometry.kernel_size * geometry.kernel_size);
        assert_eq!(weights.len(), channels * taps);
        if ![3, 5].contains(&geometry.kernel_size)
            || ![1, 2].contains(&geometry.stride)
            || !channels.is_multiple_of(4)
        {
            return None;
        }
        let weights = (0..channels / 4)
            .flat_map(|four| {
                (0..taps).map(move |tap| {
                    std::array::from_fn(|lane| weights[(4 * four + lane) * taps + tap])
                })
            })
            .collect();
        let activation = PackedActivation::new(activation, channels);
        let epilogue = F32Epilogue { bias: pack_fours(bias, channels), activation };
        Some(Depthwise(DepthwiseKernel { geometry, channels, weights, epilogue }))
    }

    /// Returns the geometry.
    pub fn geometry(&self) -> ConvGeometry {
        self.0.geometry
    }

    /// Returns the number of channels of input and output.
    pub fn channels(&self) -> usize {
        self.0.channels
    }

    /// Returns the kernel in floats.
    pub(crate) fn into_f32(self) -> DepthwiseKernel<f32, F32Epilogue> {
        self.0
    }

    /// Returns the kernel in integers of 16 bits, for values of which none is negative and of which 1
    /// stands for `scale`; `None` if the activation does not bound the outputs.
    pub(crate) fn to_i16(&self, scale: f32) -> Option<DepthwiseKernel<i16, I16Epilogue>> {
        let DepthwiseKernel { geometry, channels, weights, epilogue } = &self.0;
        let F32Epilogue { bias, activation } = epilogue;
        let output_scale = activation.i16_scale()?;
        let taps = geometry.kernel_size * geometry.kernel_size;
        let to_output = f64::from(scale) / f64::from(output_scale);
        // In units of output.
        let weight = |channel: usize, tap: usize| {
            f64::from(weights[channel / 4 * taps + tap][channel % 4]) * to_output
        };
        let mut packed = vec![[0; 8]; channels.div_ceil(8) * taps];
        let mut params = Vec::new();
        for channel in 0..*channels {
            let bias = f64::from(bias[channel / 4][channel % 4]) / f64::from(output_scale);
            let param = I16Channel::new((0..taps).map(|tap| weight(channel, tap)), bias)?;
            for tap in 0..taps {
                packed[channel / 8 * taps + tap][channel % 8] = param.weight(weight(channel, tap));
            }
            params.push(param);
        }
        let epilogue = I16Epilogue::new(&params, output_scale);
        let (geometry, channels) = (*geometry, *channels);
        Some(DepthwiseKernel { geometry, channels, weights: packed, epilogue })
    }
}

impl<E: Element, P: Epilogue<E>> DepthwiseKernel<E, P> {
    /// Returns the geometry.
    pub fn geometry(&self) -> ConvGeometry {
        self.geometry
    }

    /// Returns the number of channels of input and output.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Starts with activations of a shape, to be computed some rows after the others.
    ///
    /// # Panics
    /// If the shape does not fit.
    pub fn stream(&self, input: Shape) -> RowStream<'_, E, P> {
        assert_eq!(input.channels, self.channels);
        let output = self.geometry.output(input, self.channels).expect("a kernel that fits");
        let ConvGeometry { kernel_size, stride, pad_before, .. } = self.geometry;
        // The last tile may reach over the last pixel by `MR - 1` pixels of output.
        let columns = (output.width.next_multiple_of(MR) - 1) * stride + kernel_size;
        let columns = columns.max(pad_before + input.width);
        // The pixels of so many rows are whole tiles.
        let together = (1..MR).find(|rows| (rows * output.width).is_multiple_of(MR));
        let together = together.unwrap_or(MR).min(output.height);
        let ring_rows = kernel_size + (together - 1) * stride;
        let ring = BlockedRows::new(ring_rows, self.channels, columns);
        RowStream { kernel: self, input, output, together, ring, read: 0, written: 0 }
    }
}

/// Returns the sums of a vector of channels of a tile's pixels. The pixels of `rows` are as many vectors
/// apart as a block has.
///
/// All loops are unrolled, and after each row the sums are evaluated (see `simd/cranelift.rs`). A row of
/// five taps is added up by itself, since each sum has to wait for the one before. The distances from
/// `rows` are constants, which are a part of the load instructions.
///
/// Measured: `docs/benchmarks.md#kernels-depthwise-tile`.
///
/// # Safety
/// From each of `rows` on there have to be all pixels that the tile's kernels cover.
#[inline(always)]
unsafe fn accumulate_tile<E: Element, const KERNEL: usize, const STRIDE: usize>(
    rows: [*const E::Vector; KERNEL],
    weights: &[[E::Vector; KERNEL]; KERNEL],
    start: E::Register,
) -> [E::Register; MR] {
    let vectors = BLOCK / E::LANES;
    let columns = (MR - 1) * STRIDE + KERNEL;
    let mut sums = [start; MR];
    const BY_ITSELF: usize = 5;
    unrolled!(row in 0 1 2 3 4 => {
        if row < KERNEL {
            let weights: [E::Register; KERNEL] =
                std::array::from_fn(|tap| E::load(&weights[row][tap]));
            let before = sums;
            unrolled!(column in 0 1 2 3 4 5 6 7 8 9 10 => {
                if column < columns {
                    // SAFETY: a pixel that the tile's kernels cover.
                    let values = E::load(unsafe { &*rows[row].add(vectors * column) });
                    unrolled!(pixel in 0 1 2 3 => {
                        let taps = pixel * STRIDE..pixel * STRIDE + KERNEL;
                        if taps.contains(&column) {
                            let tap = column - taps.start;
                            sums[pixel] = if KERNEL == BY_ITSELF && tap == 0 {
                                E::mul(values, weights[tap])
                            } else {
                                E::mul_add(values, weights[tap], sums[pixel])
                            };
                        }
                    });
                }
            });
            if KERNEL == BY_ITSELF {
                sums = std::array::from_fn(|pixel| E::add(before[pixel], sums[pixel]));
            }
            if row + 1 < KERNEL {
                force_evaluation(&mut sums);
            }
        }
    });
    sums
}

/// The destination of some rows of output.
pub(crate) enum RowOutput<'a, E> {
    /// Pixels with their channels last.
    Nhwc(&'a mut [f32]),
    /// One blocked row for all pixels, whose last tile is whole.
    Blocked(&'a mut BlockedRows<E>),
}

/// A depthwise convolution that is computed some rows after the others.
///
/// The rows of input that the kernel covers lie in a ring with borders of zeros. With stride 1 each row of
/// output needs one new row, so that they stay in the cache.
pub(crate) struct RowStream<'a, E: Element, P> {
    kernel: &'a DepthwiseKernel<E, P>,
    input: Shape,
    output: Shape,
    /// Rows of output that are computed together.
    together: usize,
    /// The rows of input for these. Row `r`, counted from the upper border, is in row `r % ring.rows()`.
    ring: BlockedRows<E>,
    /// Rows that were read, the upper border's among them.
    read: usize,
    /// Rows that were written.
    written: usize,
}

impl<E: Element, P: Epilogue<E>> RowStream<'_, E, P> {
    /// Returns the value of an output's 1.
    pub fn scale(&self) -> f32 {
        self.kernel.epilogue.scale()
    }

    /// Returns the number of pixels of output that are computed together; fewer are left at the end.
    pub fn pixels(&self) -> usize {
        self.together * self.output.width
    }

    /// Returns a blocked row for these.
    pub fn blocked_row(&self) -> BlockedRows<E> {
        // Each row's last tile may reach over its end.
        let columns = self.pixels() + MR - 1;
        BlockedRows::new(1, self.output.channels, columns.next_multiple_of(MR))
    }

    /// Writes the next rows. `make` writes rows of the input, each of which is asked for once.
    ///
    /// # Panics
    /// If the length does not fit.
    pub fn next(
        &mut self,
        make: &mut dyn FnMut(Range<usize>, BlockedRowsMut<E>),
        output: RowOutput<E>,
    ) {
        let rows = self.read(make);
        self.kernel.epilogue.write(self, rows, output);
    }

    /// Reads the input of the next rows. Returns the row at which the first one's kernel begins, and the
    /// number of rows.
    fn read(&mut self, make: &mut dyn FnMut(Range<usize>, BlockedRowsMut<E>)) -> (usize, usize) {
        let ConvGeometry { kernel_size, stride, pad_before, .. } = self.kernel.geometry;
        let count = self.together.min(self.output.height - self.written);
        let top = self.written * stride;
        let end = top + (count - 1) * stride + kernel_size;
        while self.read < end {
            let last = (pad_before + self.input.height).min(end);
            let inside = self.read >= pad_before && self.read < last;
            // The rows of the input together, those of the border one by one.
            let rows = self.read..if inside { last } else { self.read + 1 };
            let ring_rows = self.ring.rows();
            let places = rows.clone().map(|row| row % ring_rows);
            let mut places = self.ring.rows_mut(places, pad_before, self.input.width);
            if inside {
                make(rows.start - pad_before..rows.end - pad_before, places);
            } else {
                places.clear();
            }
            self.read = rows.end;
        }
        self.written += count;
        (top, count)
    }

    /// Writes some rows of output: the row at which the first one's kernel begins, and their number.
    fn write(
        &self,
        which: (usize, usize),
        output: RowOutput<E>,
        epilogue: &impl ChannelEpilogue<E>,
    ) {
        let ConvGeometry { kernel_size, stride, .. } = self.kernel.geometry;
        match (kernel_size, stride) {
            (3, 1) => self.write_rows::<3, 1>(which, output, epilogue),
            (3, _) => self.write_rows::<3, 2>(which, output, epilogue),
            (_, 1) => self.write_rows::<5, 1>(which, output, epilogue),
            (_, _) => self.write_rows::<5, 2>(which, output, epilogue),
        }
    }

    /// Writes rows with the geometry as a type.
    fn write_rows<const KERNEL: usize, const STRIDE: usize>(
        &self,
        (top, count): (usize, usize),
        mut output: RowOutput<E>,
        epilogue: &impl ChannelEpilogue<E>,
    ) {
        let scale = self.kernel.epilogue.scale();
        let width = self.output.width;
        let block_vectors = BLOCK / E::LANES;
        let (vectors, tiles) = (self.input.channels.div_ceil(E::LANES), width.div_ceil(MR));
        let columns = block_vectors * self.ring.columns();
        let block_stride = self.ring.rows() * columns;
        let step = block_vectors * MR * STRIDE;
        let values = self.ring.vectors();
        let reach = block_vectors * ((MR - 1) * STRIDE + KERNEL);
        assert!((tiles - 1) * step + reach <= columns);
        assert!(values.len() >= vectors.div_ceil(block_vectors) * block_stride);
        // The places in the ring of the rows that a row of output needs.
        let covered: Vec<[usize; KERNEL]> = (0..count)
            .map(|row| {
                let place = |line| (top + row * STRIDE + line) % self.ring.rows() * columns;
                std::array::from_fn(place)
            })
            .collect();
        let weights = self.kernel.weights.as_chunks::<KERNEL>().0.as_chunks::<KERNEL>().0;
        for (vector, weights) in weights.iter().enumerate().take(vectors) {
            let first = vector / block_vectors * block_stride + vector % block_vectors;
            let (start, finish) = (epilogue.start(vector), epilogue.finish(vector));
            for (row, covered) in covered.iter().enumerate() {
                // SAFETY: by the assertions above each block of channels has all rows.
                let rows = covered.map(|place| unsafe { values.as_ptr().add(place) });
                let sums = |index: usize| {
                    // One offset, or each load would compute its own address.
                    let at = opaque(first + index * step);
                    // SAFETY: by the assertions above each row has all pixels that the last tile's
                    // kernels cover.
                    unsafe {
                        let rows = rows.map(|row| row.add(at));
                        accumulate_tile::<E, KERNEL, STRIDE>(rows, weights, start)
                    }
                };
                // A loop for each destination. Measured:
                // docs/benchmarks.md#kernels-depthwise-destinations
                match &mut output {
                    RowOutput::Blocked(blocked) => {
                        let place = vector / block_vectors * block_vectors * blocked.columns()
                            + vector % block_vectors;
                        let blocked =
                            &mut blocked.vectors_mut()[place + block_vectors * row * width..];
                        for index in 0..tiles {
                            let sums = sums(index);
                            let output = &mut blocked[opaque(block_vectors * index * MR)..]
                                [..block_vectors * (MR - 1) + 1];
                            for (pixel, sum) in sums.into_iter().enumerate() {
                                E::store(finish(sum), &mut output[block_vectors * pixel]);
                            }
                        }
                    }
                    RowOutput::Nhwc(pixels) => {
                        let channels = self.input.channels;
                        let row = &mut pixels[row * width * channels..][..width * channels];
                        for (index, tile) in row.chunks_mut(MR * channels).enumerate() {
                            let pixels = tile.chunks_exact_mut(channels);
                            for (pixel, sum) in pixels.zip(sums(index)) {
                                let to = &mut pixel[vector * E::LANES..];
                                E::store_scaled(finish(sum), scale, to);
                            }
                        }
                    }
                }
            }
        }
    }
}

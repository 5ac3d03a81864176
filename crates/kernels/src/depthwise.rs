//! Depthwise convolution: each channel by itself, in a window of 3 × 3 or 5 × 5 pixels.
//!
//! In floats, or in integers of 16 bits where the activations around it say in which range all numbers
//! lie: an instruction then takes eight of them in the place of four, and they need half of the memory.
//! Measured in wasmtime 48 on a Xeon (Sapphire Rapids): landmarks 11.4 ms in the place of 12.8, the lite
//! ones 6.7 in that of 7.6. Palm detection's activations (PReLU) have no largest number.

use std::ops::Range;

use super::activation::{Activation, Padded, fours};
use super::ends::{Channel, End, Ends, Floats, Integers};
use super::line::{GROUP, Lines, Strip};
use super::number::Number;
use super::simd::{settle, unknown};
use super::tiles::PIXELS;
use super::{Shape, Window};

/// A block for each of some numbers, one after the other.
macro_rules! unrolled {
    ($name:ident in $($number:literal)* => $block:expr) => {
        $({
            let $name: usize = $number;
            $block
        })*
    };
}

/// A depthwise convolution's weights, packed, and what is done to the sums at the end.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Kernel<N: Number> {
    window: Window,
    channels: usize,
    /// By vectors of channels, then by the window's rows and columns.
    weights: Vec<N::Vector>,
    end: N::Ends,
}

/// A depthwise convolution's weights, packed.
#[derive(Clone, Debug, PartialEq)]
pub struct Depthwise(Kernel<f32>);

impl Depthwise {
    /// Packs weights `[channels][row][column]` with one bias for each channel; `None` for a window
    /// other than 3 × 3 and 5 × 5, a stride other than 1 and 2, or channels that are not a multiple
    /// of 4: no model here has these.
    ///
    /// # Panics
    /// If the lengths don't fit.
    pub fn new(
        weights: &[f32],
        bias: &[f32],
        window: Window,
        activation: &Activation,
    ) -> Option<Depthwise> {
        let (channels, taps) = (bias.len(), window.side * window.side);
        assert_eq!(weights.len(), channels * taps);
        if ![3, 5].contains(&window.side)
            || ![1, 2].contains(&window.stride)
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
        let activation = Padded::new(activation, channels);
        let end = Floats { bias: fours(bias, channels), activation };
        Some(Depthwise(Kernel { window, channels, weights, end }))
    }

    /// How the window moves.
    pub fn window(&self) -> Window {
        self.0.window
    }

    /// Channels of input and output.
    pub fn channels(&self) -> usize {
        self.0.channels
    }

    /// In floats.
    pub(super) fn in_floats(self) -> Kernel<f32> {
        self.0
    }

    /// In integers of 16 bits, for numbers of which none is negative, and of which 1 stands for
    /// `unit`. `None` if the activation does not say in which range the outputs lie.
    pub(super) fn in_integers(&self, unit: f32) -> Option<Kernel<i16>> {
        let Kernel { window, channels, weights, end: Floats { bias, activation } } = &self.0;
        let output_unit = activation.unit()?;
        let taps = window.side * window.side;
        // In units of output.
        let scale = f64::from(unit) / f64::from(output_unit);
        let weight = |channel: usize, tap: usize| {
            f64::from(weights[channel / 4 * taps + tap][channel % 4]) * scale
        };
        let mut packed = vec![[0; 8]; channels.div_ceil(8) * taps];
        let mut ends = Vec::new();
        for channel in 0..*channels {
            let bias = f64::from(bias[channel / 4][channel % 4]) / f64::from(output_unit);
            let end = Channel::new((0..taps).map(|tap| weight(channel, tap)), bias)?;
            for tap in 0..taps {
                packed[channel / 8 * taps + tap][channel % 8] = end.weight(weight(channel, tap));
            }
            ends.push(end);
        }
        let end = Integers::new(&ends, output_unit);
        Some(Kernel { window: *window, channels: *channels, weights: packed, end })
    }
}

impl<N: Number> Kernel<N> {
    /// How the window moves.
    pub fn window(&self) -> Window {
        self.window
    }

    /// Channels of input and output.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Starts with a picture of a shape, to be made some rows after the others.
    ///
    /// # Panics
    /// If the shape doesn't fit.
    pub fn rows(&self, input: Shape) -> Rows<'_, N> {
        assert_eq!(input.channels, self.channels);
        let output = self.window.output(input, self.channels).expect("a window that fits");
        let Window { side, stride, before, .. } = self.window;
        // The last tile may reach over the last pixel by `PIXELS - 1` pixels of output.
        let columns = (output.width.next_multiple_of(PIXELS) - 1) * stride + side;
        let columns = columns.max(before + input.width);
        // Of so many rows the pixels are whole tiles.
        let together = (1..PIXELS).find(|rows| (rows * output.width).is_multiple_of(PIXELS));
        let together = together.unwrap_or(PIXELS).min(output.height);
        let lines = Lines::new(side + (together - 1) * stride, self.channels, columns);
        Rows { kernel: self, input, output, together, lines, read: 0, written: 0 }
    }
}

/// A vector of channels of a tile's pixels, before the end. The pixels of `lines` are so many
/// vectors apart.
///
/// # Safety
/// From each of `lines` on there have to be all pixels that the tile sees.
#[inline(always)]
unsafe fn tile<N: Number, const SIDE: usize, const STRIDE: usize>(
    lines: [*const N::Vector; SIDE],
    weights: &[[N::Vector; SIDE]; SIDE],
    start: N::Register,
) -> [N::Register; PIXELS] {
    let apart = GROUP / N::LANES;
    let columns = (PIXELS - 1) * STRIDE + SIDE;
    let mut sums = [start; PIXELS];
    // All is written out: at the end of each turn of a loop the engine looks whether it
    // should stop (epoch interruption), for which all sums go through memory. After each
    // row they are settled, or the engine loads everything first, and no register is left.
    // A row of five is added up by itself, for each sum has to wait for the one before.
    // Measured in wasmtime 48 on a Zen 5 core, stride 1 and 2, in GMAC/s: 5 × 5 20 and 15;
    // not by itself 16.5 and 12; with a loop over the rows 14 and 9; not settled 8.5. 3 × 3
    // 15.5 and 10.8; each row by itself 14.9 and 10.6.
    // How far all is from `lines` is a part of the instructions: a tile of 3 × 3 has some 135
    // of them, with channels last, whose addresses have to be reckoned, 250.
    const BY_ITSELF: usize = 5;
    unrolled!(row in 0 1 2 3 4 => {
        if row < SIDE {
            let weights: [N::Register; SIDE] =
                std::array::from_fn(|tap| N::load(&weights[row][tap]));
            let before = sums;
            unrolled!(column in 0 1 2 3 4 5 6 7 8 9 10 => {
                if column < columns {
                    // SAFETY: a pixel that the tile sees.
                    let number = N::load(unsafe { &*lines[row].add(apart * column) });
                    unrolled!(pixel in 0 1 2 3 => {
                        let taps = pixel * STRIDE..pixel * STRIDE + SIDE;
                        if taps.contains(&column) {
                            let tap = column - taps.start;
                            sums[pixel] = if SIDE == BY_ITSELF && tap == 0 {
                                N::multiply(number, weights[tap])
                            } else {
                                N::multiply_add(number, weights[tap], sums[pixel])
                            };
                        }
                    });
                }
            });
            if SIDE == BY_ITSELF {
                sums = std::array::from_fn(|pixel| N::add(before[pixel], sums[pixel]));
            }
            if row + 1 < SIDE {
                settle(&mut sums);
            }
        }
    });
    sums
}

/// Where a row of output goes.
pub(super) enum Output<'a, N> {
    /// Pixels with their channels last.
    Pixels(&'a mut [f32]),
    /// A line, whose last tile is whole.
    Line(&'a mut Lines<N>),
}

/// A picture of which some rows after the others are made.
///
/// The rows that the window sees lie where they have a border of zeros: with stride 1 one new row for
/// each row of output, so that they stay in the cache.
pub(super) struct Rows<'a, N: Number> {
    kernel: &'a Kernel<N>,
    input: Shape,
    output: Shape,
    /// How many rows of output are made together.
    together: usize,
    /// As many as these see; row `r`, counted from the upper border, is in line `r % lines.rows()`.
    lines: Lines<N>,
    /// How many rows were read, the upper border's among them.
    read: usize,
    /// How many rows were written.
    written: usize,
}

impl<N: Number> Rows<'_, N> {
    /// What the number 1 of the output stands for.
    pub fn unit(&self) -> f32 {
        self.kernel.end.unit()
    }

    /// How many pixels of output are made together; fewer at the end.
    pub fn pixels(&self) -> usize {
        self.together * self.output.width
    }

    /// A line for these.
    pub fn line(&self) -> Lines<N> {
        // Each row's last tile may reach over its end.
        let columns = self.pixels() + PIXELS - 1;
        Lines::new(1, self.output.channels, columns.next_multiple_of(PIXELS))
    }

    /// Writes the next rows. `make` writes rows of the input; it is called once for each.
    ///
    /// # Panics
    /// If the length doesn't fit.
    pub fn next(&mut self, make: &mut dyn FnMut(Range<usize>, Strip<N>), output: Output<N>) {
        let rows = self.read(make);
        self.kernel.end.write(self, rows, output);
    }

    /// Reads what the next rows see, and says at which row the first one's window begins, and how many
    /// rows they are.
    fn read(&mut self, make: &mut dyn FnMut(Range<usize>, Strip<N>)) -> (usize, usize) {
        let Window { side, stride, before, .. } = self.kernel.window;
        let count = self.together.min(self.output.height - self.written);
        let top = self.written * stride;
        let end = top + (count - 1) * stride + side;
        while self.read < end {
            let last = (before + self.input.height).min(end);
            let inside = self.read >= before && self.read < last;
            // The rows of the picture together, those of the border one by one.
            let rows = self.read..if inside { last } else { self.read + 1 };
            let all = self.lines.rows();
            let lines = rows.clone().map(|row| row % all);
            let mut strip = self.lines.strip(lines, before, self.input.width);
            if inside {
                make(rows.start - before..rows.end - before, strip);
            } else {
                strip.clear();
            }
            self.read = rows.end;
        }
        self.written += count;
        (top, count)
    }

    /// Some rows of output: how many, and at which row the first one's window begins.
    pub fn write(&self, which: (usize, usize), output: Output<N>, end: &impl End<N>) {
        let Window { side, stride, .. } = self.kernel.window;
        match (side, stride) {
            (3, 1) => self.rows::<3, 1>(which, output, end),
            (3, _) => self.rows::<3, 2>(which, output, end),
            (_, 1) => self.rows::<5, 1>(which, output, end),
            (_, _) => self.rows::<5, 2>(which, output, end),
        }
    }

    /// The same with the window as a type.
    fn rows<const SIDE: usize, const STRIDE: usize>(
        &self,
        (top, count): (usize, usize),
        mut output: Output<N>,
        end: &impl End<N>,
    ) {
        let unit = self.kernel.end.unit();
        let width = self.output.width;
        let apart = GROUP / N::LANES;
        let (vectors, tiles) = (self.input.channels.div_ceil(N::LANES), width.div_ceil(PIXELS));
        let columns = apart * self.lines.columns();
        let group = self.lines.rows() * columns;
        let step = apart * PIXELS * STRIDE;
        let numbers = self.lines.vectors();
        let reach = apart * ((PIXELS - 1) * STRIDE + SIDE);
        assert!((tiles - 1) * step + reach <= columns);
        assert!(numbers.len() >= vectors.div_ceil(apart) * group);
        // Where the rows begin that a row of output sees.
        let seen: Vec<[usize; SIDE]> = (0..count)
            .map(|row| {
                let line = |line| (top + row * STRIDE + line) % self.lines.rows() * columns;
                std::array::from_fn(line)
            })
            .collect();
        let weights = self.kernel.weights.as_chunks::<SIDE>().0.as_chunks::<SIDE>().0;
        for (vector, weights) in weights.iter().enumerate().take(vectors) {
            let first = vector / apart * group + vector % apart;
            let (start, finish) = (end.start(vector), end.end(vector));
            for (row, seen) in seen.iter().enumerate() {
                // SAFETY: by the assertions above each group has all rows.
                let lines = seen.map(|line| unsafe { numbers.as_ptr().add(line) });
                let sums = |index: usize| {
                    // As one number, or each load would reckon its own address.
                    let at = unknown(first + index * step);
                    // SAFETY: by the assertions above each row has all that the last tile sees.
                    unsafe {
                        tile::<N, SIDE, STRIDE>(lines.map(|line| line.add(at)), weights, start)
                    }
                };
                // A loop for each: with one loop for both the models take 2.8 % more.
                match &mut output {
                    Output::Line(line) => {
                        let place = vector / apart * apart * line.columns() + vector % apart;
                        let line = &mut line.vectors_mut()[place + apart * row * width..];
                        for index in 0..tiles {
                            let sums = sums(index);
                            let output = &mut line[unknown(apart * index * PIXELS)..]
                                [..apart * (PIXELS - 1) + 1];
                            for (pixel, sum) in sums.into_iter().enumerate() {
                                N::store(finish(sum), &mut output[apart * pixel]);
                            }
                        }
                    }
                    Output::Pixels(pixels) => {
                        let channels = self.input.channels;
                        let row = &mut pixels[row * width * channels..][..width * channels];
                        for (index, tile) in row.chunks_mut(PIXELS * channels).enumerate() {
                            let pixels = tile.chunks_exact_mut(channels);
                            for (pixel, sum) in pixels.zip(sums(index)) {
                                N::spread(finish(sum), unit, &mut pixel[vector * N::LANES..]);
                            }
                        }
                    }
                }
            }
        }
    }
}

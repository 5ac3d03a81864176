//! Depthwise convolution: each channel by itself, in a window of 3 × 3 or 5 × 5 pixels.

use std::ops::Range;

use super::activation::{Activate, Activation, Padded, fours, with_activation};
use super::line::{Lines, Strip};
use super::simd::{F32x4, settle, unknown};
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

/// A depthwise convolution's weights, packed.
#[derive(Clone, Debug, PartialEq)]
pub struct Depthwise {
    window: Window,
    channels: usize,
    /// By four channels, then by the window's rows and columns.
    weights: Vec<[f32; 4]>,
    bias: Vec<[f32; 4]>,
    activation: Padded,
}

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
        Some(Depthwise { window, channels, weights, bias: fours(bias, channels), activation })
    }

    /// How the window moves.
    pub fn window(&self) -> Window {
        self.window
    }

    /// Channels of input and output.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Multiplications with an addition each for one number of output.
    pub fn multiply_adds(&self) -> usize {
        self.window.side * self.window.side
    }

    /// Starts with a picture of a shape, to be made some rows after the others.
    ///
    /// # Panics
    /// If the shape doesn't fit.
    pub(super) fn rows(&self, input: Shape) -> Rows<'_> {
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

    /// Four channels of a tile's pixels, before the activation. `REACH` is how far a tile reaches in
    /// a line, in steps of half a pixel's group.
    #[inline(always)]
    fn tile<const SIDE: usize, const STRIDE: usize, const REACH: usize>(
        lines: [&[[f32; 4]; REACH]; SIDE],
        weights: &[[[f32; 4]; SIDE]; SIDE],
        bias: F32x4,
    ) -> [F32x4; PIXELS] {
        let columns = (PIXELS - 1) * STRIDE + SIDE;
        let mut sums = [bias; PIXELS];
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
                let line = lines[row];
                let weights: [F32x4; SIDE] =
                    std::array::from_fn(|tap| F32x4::load(&weights[row][tap]));
                let before = sums;
                unrolled!(column in 0 1 2 3 4 5 6 7 8 9 10 => {
                    if column < columns {
                        let number = F32x4::load(&line[2 * column]);
                        unrolled!(pixel in 0 1 2 3 => {
                            let taps = pixel * STRIDE..pixel * STRIDE + SIDE;
                            if taps.contains(&column) {
                                let tap = column - taps.start;
                                sums[pixel] = if SIDE == BY_ITSELF && tap == 0 {
                                    number.mul(weights[tap])
                                } else {
                                    number.mul_add(weights[tap], sums[pixel])
                                };
                            }
                        });
                    }
                });
                if SIDE == BY_ITSELF {
                    sums = std::array::from_fn(|pixel| before[pixel].add(sums[pixel]));
                }
                if row + 1 < SIDE {
                    settle(&mut sums);
                }
            }
        });
        sums
    }
}

/// Where a row of output goes.
pub(super) enum Output<'a> {
    /// Pixels with their channels last.
    Pixels(&'a mut [f32]),
    /// A line, whose last tile is whole.
    Line(&'a mut Lines),
}

/// A picture of which some rows after the others are made.
///
/// The rows that the window sees lie where they have a border of zeros: with stride 1 one new row for
/// each row of output, so that they stay in the cache.
pub(super) struct Rows<'a> {
    kernel: &'a Depthwise,
    input: Shape,
    output: Shape,
    /// How many rows of output are made together.
    together: usize,
    /// As many as these see; row `r`, counted from the upper border, is in line `r % lines.rows()`.
    lines: Lines,
    /// How many rows were read, the upper border's among them.
    read: usize,
    /// How many rows were written.
    written: usize,
}

impl Rows<'_> {
    /// How many pixels of output are made together; fewer at the end.
    pub fn pixels(&self) -> usize {
        self.together * self.output.width
    }

    /// A line for these.
    pub fn line(&self) -> Lines {
        // Each row's last tile may reach over its end.
        let columns = self.pixels() + PIXELS - 1;
        Lines::new(1, self.output.channels, columns.next_multiple_of(PIXELS))
    }

    /// Writes the next rows. `make` writes rows of the input; it is called once for each.
    ///
    /// # Panics
    /// If the length doesn't fit.
    pub fn next(&mut self, make: &mut dyn FnMut(Range<usize>, Strip), output: Output) {
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
        with_activation!(&self.kernel.activation, |activation| {
            match (side, stride) {
                (3, 1) => self.rows::<3, 1, 11>(top, count, output, &activation),
                (3, _) => self.rows::<3, 2, 17>(top, count, output, &activation),
                (_, 1) => self.rows::<5, 1, 15>(top, count, output, &activation),
                (_, _) => self.rows::<5, 2, 21>(top, count, output, &activation),
            }
        });
    }

    /// Some rows of output; the window of the first one begins at the row `top`.
    fn rows<const SIDE: usize, const STRIDE: usize, const REACH: usize>(
        &self,
        top: usize,
        count: usize,
        mut output: Output,
        activation: &impl Activate,
    ) {
        const { assert!(REACH == 2 * ((PIXELS - 1) * STRIDE + SIDE) - 1) };
        let width = self.output.width;
        let (fours, tiles) = (self.input.channels / 4, width.div_ceil(PIXELS));
        let columns = 2 * self.lines.columns();
        let group = self.lines.rows() * columns;
        let step = 2 * PIXELS * STRIDE;
        let numbers = self.lines.fours();
        assert!((tiles - 1) * step + REACH < columns);
        assert!(numbers.len() >= fours.div_ceil(2) * group);
        // Where the rows begin that a row of output sees.
        let seen: Vec<[usize; SIDE]> = (0..count)
            .map(|row| {
                let line = |line| (top + row * STRIDE + line) % self.lines.rows() * columns;
                std::array::from_fn(line)
            })
            .collect();
        let weights = self.kernel.weights.as_chunks::<SIDE>().0.as_chunks::<SIDE>().0;
        for (four, (weights, bias)) in weights.iter().zip(&self.kernel.bias).enumerate() {
            let first = four / 2 * group + four % 2;
            let (bias, activate) = (F32x4::load(bias), activation.four(4 * four));
            for (row, seen) in seen.iter().enumerate() {
                // SAFETY: by the assertions above each group has all rows.
                let lines = seen.map(|line| unsafe { numbers.as_ptr().add(line) });
                let tile = |tile: usize| {
                    // As one number, or each load would reckon its own address.
                    let start = unknown(first + tile * step);
                    // SAFETY: by the assertions above each row has all that the last tile reaches.
                    lines.map(|line| unsafe { &*line.add(start).cast::<[[f32; 4]; REACH]>() })
                };
                // A loop for each: with one loop for both the models take 2.8 % more.
                match &mut output {
                    Output::Line(line) => {
                        let start = four / 2 * 2 * line.columns() + four % 2;
                        let line = &mut line.fours_mut()[start + 2 * row * width..];
                        for index in 0..tiles {
                            let sums =
                                Depthwise::tile::<SIDE, STRIDE, REACH>(tile(index), weights, bias);
                            let output: &mut [_; 2 * PIXELS - 1] = line
                                [unknown(2 * index * PIXELS)..]
                                .first_chunk_mut()
                                .expect("a whole tile");
                            for (pixel, sum) in sums.into_iter().enumerate() {
                                activate(sum).store(&mut output[2 * pixel]);
                            }
                        }
                    }
                    Output::Pixels(pixels) => {
                        let row = &mut pixels[4 * row * width * fours..][..4 * width * fours];
                        let row = row.as_chunks_mut().0;
                        for index in 0..tiles {
                            let sums =
                                Depthwise::tile::<SIDE, STRIDE, REACH>(tile(index), weights, bias);
                            for (pixel, sum) in sums.into_iter().enumerate() {
                                let at = (index * PIXELS + pixel) * fours + four;
                                if let Some(output) = row.get_mut(at) {
                                    activate(sum).store(output);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

//! Depthwise convolution: each channel by itself, in a window of 3 × 3 or 5 × 5 pixels.

use super::activation::{Activate, Activation, Padded, fours, with_activation};
use super::simd::{F32x4, settle};
use super::{Shape, Window};

/// Neighbouring pixels of one tile.
const PIXELS: usize = 4;

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

    /// Starts with a picture of a shape, to be made row by row.
    ///
    /// # Panics
    /// If the shape doesn't fit.
    pub fn rows(&self, input: Shape) -> Rows<'_> {
        assert_eq!(input.channels, self.channels);
        let output = self.window.output(input, self.channels).expect("a window that fits");
        let Window { side, stride, before, .. } = self.window;
        // The last tile may reach over the last pixel by `PIXELS - 1` pixels of output.
        let columns = (output.width.next_multiple_of(PIXELS) - 1) * stride + side;
        let columns = columns.max(before + input.width);
        let lines = vec![[0.0; 4]; side * columns * self.channels / 4];
        Rows { kernel: self, input, output, columns, lines, read: 0, written: 0 }
    }

    /// All channels of some neighbouring pixels.
    #[inline(always)]
    fn tile<const SIDE: usize, const STRIDE: usize, const PIXELS: usize>(
        &self,
        lines: &[&[[f32; 4]]; SIDE],
        output: &mut [f32],
        activation: &impl Activate,
    ) {
        let fours = self.channels / 4;
        let (output, _) = output.as_chunks_mut::<4>();
        let weights = self.weights.chunks_exact(SIDE * SIDE).take(fours);
        let columns = (PIXELS - 1) * STRIDE + SIDE;
        assert!(lines.iter().all(|line| line.len() >= columns * fours));
        for (four, (weights, bias)) in weights.zip(&self.bias).enumerate() {
            let mut sums = [F32x4::load(bias); PIXELS];
            // All is written out: at the end of each turn of a loop the engine looks whether it
            // should stop (epoch interruption), for which all sums go through memory. After each
            // row they are settled, or the engine loads everything first, and no register is left.
            // A row of five is added up by itself, for each sum has to wait for the one before.
            // Measured in wasmtime 48 on a Zen 5 core, stride 1 and 2, in GMAC/s: 5 × 5 20 and 15;
            // not by itself 16.5 and 12; with a loop over the rows 14 and 9; not settled 8.5. 3 × 3
            // 15.5 and 10.8; each row by itself 14.9 and 10.6.
            const BY_ITSELF: usize = 5;
            unrolled!(row in 0 1 2 3 4 => {
                if row < SIDE {
                    let line = lines[row];
                    let weights: [F32x4; SIDE] =
                        std::array::from_fn(|tap| F32x4::load(&weights[row * SIDE + tap]));
                    let before = sums;
                    unrolled!(column in 0 1 2 3 4 5 6 7 8 9 10 => {
                        if column < columns {
                            // SAFETY: the line has at least `columns * fours` elements, by the
                            // assertion above; `column` is less than `columns` and `four`, which
                            // counts groups of weights, less than `fours`. Measured: with the check
                            // 10 GMAC/s in the place of 13.
                            let number = unsafe { line.get_unchecked(column * fours + four) };
                            let number = F32x4::load(number);
                            unrolled!(pixel in 0 1 2 3 => {
                                let taps = pixel * STRIDE..pixel * STRIDE + SIDE;
                                if pixel < PIXELS && taps.contains(&column) {
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
            let activate = activation.four(4 * four);
            for (pixel, sum) in sums.into_iter().enumerate() {
                activate(sum).store(&mut output[pixel * fours + four]);
            }
        }
    }
}

/// A picture of which one row after the other is made.
///
/// The rows that the window sees lie where they have a border of zeros: with stride 1 one new row for
/// each row of output, so that they stay in the cache.
pub struct Rows<'a> {
    kernel: &'a Depthwise,
    input: Shape,
    output: Shape,
    /// Pixels of a line with its border.
    columns: usize,
    /// As many as the window has rows; row `r`, counted from the upper border, is in line
    /// `r % side`.
    lines: Vec<[f32; 4]>,
    /// How many rows were read, the upper border's among them.
    read: usize,
    /// How many rows were written.
    written: usize,
}

impl Rows<'_> {
    /// The shape of the whole output.
    pub fn output(&self) -> Shape {
        self.output
    }

    /// Writes the next row. `make` writes a row of the input; it is called once for each.
    ///
    /// # Panics
    /// If the length doesn't fit.
    pub fn next(&mut self, make: &mut dyn FnMut(usize, &mut [f32]), output: &mut [f32]) {
        assert_eq!(output.len(), self.output.width * self.output.channels);
        let Window { side, stride, before, .. } = self.kernel.window;
        let fours = self.input.channels / 4;
        let top = self.written * stride;
        while self.read < top + side {
            let line = &mut self.lines[self.read % side * self.columns * fours..];
            let line = &mut line[before * fours..][..self.input.width * fours];
            match self.read.checked_sub(before).filter(|row| *row < self.input.height) {
                Some(row) => make(row, line.as_flattened_mut()),
                None => line.fill([0.0; 4]),
            }
            self.read += 1;
        }
        self.written += 1;
        with_activation!(&self.kernel.activation, |activation| {
            match (side, stride) {
                (3, 1) => self.row::<3, 1>(top, output, &activation),
                (3, _) => self.row::<3, 2>(top, output, &activation),
                (_, 1) => self.row::<5, 1>(top, output, &activation),
                (_, _) => self.row::<5, 2>(top, output, &activation),
            }
        });
    }

    /// The row of output whose window begins at the row `top`.
    fn row<const SIDE: usize, const STRIDE: usize>(
        &self,
        top: usize,
        output: &mut [f32],
        activation: &impl Activate,
    ) {
        let channels = self.input.channels;
        let (columns, fours) = (self.columns, channels / 4);
        let lines: [&[[f32; 4]]; SIDE] = std::array::from_fn(|line| {
            &self.lines[(top + line) % SIDE * columns * fours..][..columns * fours]
        });
        for (tile, output) in output.chunks_mut(PIXELS * channels).enumerate() {
            let start = tile * PIXELS * STRIDE * fours;
            let lines = lines.map(|line| &line[start..]);
            let kernel = self.kernel;
            if output.len() == PIXELS * channels {
                kernel.tile::<SIDE, STRIDE, PIXELS>(&lines, output, activation);
            } else if output.len() == 3 * channels {
                kernel.tile::<SIDE, STRIDE, 3>(&lines, output, activation);
            } else if output.len() == 2 * channels {
                kernel.tile::<SIDE, STRIDE, 2>(&lines, output, activation);
            } else {
                kernel.tile::<SIDE, STRIDE, 1>(&lines, output, activation);
            }
        }
    }
}

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

    /// The whole picture.
    ///
    /// # Panics
    /// If the lengths don't fit.
    pub fn run(&self, input: &[f32], shape: Shape, output: &mut [f32]) {
        assert_eq!(shape.channels, self.channels);
        with_activation!(&self.activation, |activation| {
            match (self.window.side, self.window.stride) {
                (3, 1) => self.rows::<3, 1>(input, shape, output, &activation),
                (3, _) => self.rows::<3, 2>(input, shape, output, &activation),
                (_, 1) => self.rows::<5, 1>(input, shape, output, &activation),
                (_, _) => self.rows::<5, 2>(input, shape, output, &activation),
            }
        });
    }

    /// Row by row. The rows that the window sees are copied to where they have a border of zeros:
    /// one new row for each row of output, so that they stay in the cache.
    fn rows<const SIDE: usize, const STRIDE: usize>(
        &self,
        input: &[f32],
        shape: Shape,
        output: &mut [f32],
        activation: &impl Activate,
    ) {
        let Shape { height, width, channels } = shape;
        assert_eq!(input.len(), shape.len());
        let place = self.window.output(shape, channels).expect("a window that fits");
        assert_eq!(output.len(), place.len());

        // The last tile may reach over the last pixel by `PIXELS - 1` pixels of output.
        let columns = (place.width.next_multiple_of(PIXELS) - 1) * STRIDE + SIDE;
        let columns = columns.max(self.window.before + width);
        let fours = channels / 4;
        let mut lines = vec![[0.0; 4]; SIDE * columns * fours];
        let mut next = 0;
        for (row, output) in output.chunks_exact_mut(place.width * channels).enumerate() {
            let top = row * STRIDE;
            while next < top + SIDE {
                let line = &mut lines[next % SIDE * columns * fours..][..columns * fours];
                let line = &mut line[self.window.before * fours..][..width * fours];
                match next.checked_sub(self.window.before).filter(|row| *row < height) {
                    Some(row) => line
                        .as_flattened_mut()
                        .copy_from_slice(&input[row * width * channels..][..width * channels]),
                    None => line.fill([0.0; 4]),
                }
                next += 1;
            }
            let lines: [&[[f32; 4]]; SIDE] = std::array::from_fn(|line| {
                &lines[(top + line) % SIDE * columns * fours..][..columns * fours]
            });
            for (tile, output) in output.chunks_mut(PIXELS * channels).enumerate() {
                let start = tile * PIXELS * STRIDE * fours;
                let lines = lines.map(|line| &line[start..]);
                if output.len() == PIXELS * channels {
                    self.tile::<SIDE, STRIDE, PIXELS>(&lines, output, activation);
                } else if output.len() == 3 * channels {
                    self.tile::<SIDE, STRIDE, 3>(&lines, output, activation);
                } else if output.len() == 2 * channels {
                    self.tile::<SIDE, STRIDE, 2>(&lines, output, activation);
                } else {
                    self.tile::<SIDE, STRIDE, 1>(&lines, output, activation);
                }
            }
        }
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

//! Convolution that mixes the channels of each pixel (pointwise, 1 × 1).

use super::activation::Activation;
use super::eight::Eight;
use super::line::{Lines, Strip};
use super::number::Number;
use super::sixteen::Sixteen;
use super::tiles::{Pixels, Tiles};

/// How finely numbers and weights are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Products of [16 bits](super::sixteen).
    Sixteen,
    /// Products of [8 bits](super::eight): about twice as fast.
    Eight,
}

/// A convolution's weights, packed.
#[derive(Clone, Debug, PartialEq)]
pub struct Pointwise(Packed);

#[derive(Clone, Debug, PartialEq)]
enum Packed {
    Sixteen(Tiles<Sixteen>),
    Eight(Tiles<Eight>),
}

/// What is added to the outputs before the activation: a picture of the same height and width; if
/// it has fewer channels, the others get nothing.
#[derive(Clone, Copy)]
pub struct Residual<'a> {
    /// The numbers.
    pub numbers: &'a [f32],
    /// Channels of each pixel: a multiple of 8, or as many as the outputs.
    pub channels: usize,
}

impl Pointwise {
    /// Packs weights `[outputs][inputs]` with one bias for each output.
    ///
    /// # Panics
    /// If the lengths don't fit.
    pub fn new(
        weights: &[f32],
        bias: &[f32],
        activation: &Activation,
        precision: Precision,
    ) -> Pointwise {
        Pointwise(match precision {
            Precision::Sixteen => Packed::Sixteen(Tiles::new(weights, bias, activation)),
            Precision::Eight => Packed::Eight(Tiles::new(weights, bias, activation)),
        })
    }

    /// The same with outputs in whole units, and what a unit stands for.
    pub(super) fn in_units(&self) -> Option<(Pointwise, f32)> {
        Some(match &self.0 {
            Packed::Sixteen(tiles) => {
                let (tiles, unit) = tiles.in_units()?;
                (Pointwise(Packed::Sixteen(tiles)), unit)
            }
            Packed::Eight(tiles) => {
                let (tiles, unit) = tiles.in_units()?;
                (Pointwise(Packed::Eight(tiles)), unit)
            }
        })
    }

    /// Input channels.
    pub fn inputs(&self) -> usize {
        match &self.0 {
            Packed::Sixteen(tiles) => tiles.inputs(),
            Packed::Eight(tiles) => tiles.inputs(),
        }
    }

    /// Output channels.
    pub fn outputs(&self) -> usize {
        match &self.0 {
            Packed::Sixteen(tiles) => tiles.outputs(),
            Packed::Eight(tiles) => tiles.outputs(),
        }
    }

    /// Each pixel by itself: `[pixels][inputs]` becomes `[pixels][outputs]`.
    ///
    /// # Panics
    /// If the lengths don't fit.
    pub fn run(&self, input: &[f32], residual: Option<Residual>, output: &mut [f32]) {
        let outputs = Pixels { numbers: output, channels: self.outputs() };
        match &self.0 {
            Packed::Sixteen(tiles) => tiles.run(input, residual, outputs),
            Packed::Eight(tiles) => tiles.run(input, residual, outputs),
        }
    }

    /// The same to a strip.
    ///
    /// # Panics
    /// If the lengths don't fit.
    pub(super) fn run_to_strip(&self, input: &[f32], strip: Strip<impl Number>) {
        match &self.0 {
            Packed::Sixteen(tiles) => tiles.run(input, None, strip),
            Packed::Eight(tiles) => tiles.run(input, None, strip),
        }
    }

    /// The same from a line, whose number 1 stands for `unit`.
    ///
    /// # Panics
    /// If the lengths don't fit.
    pub(super) fn run_from_line(
        &self,
        line: &Lines<impl Number>,
        unit: f32,
        residual: Option<Residual>,
        output: &mut [f32],
    ) {
        let outputs = Pixels { numbers: output, channels: self.outputs() };
        match &self.0 {
            Packed::Sixteen(tiles) => tiles.run_line(line, unit, residual, outputs),
            Packed::Eight(tiles) => tiles.run_line(line, unit, residual, outputs),
        }
    }
}

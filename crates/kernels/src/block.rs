//! Layers that follow each other, row by row: what is between them is never there as a whole.
//!
//! A depthwise convolution, with the pointwise or windowed convolution before it, with the pointwise
//! one after it, or with both: MobileNet's blocks. In the models' large pictures what is between
//! them has up to 3 MB, which no cache near the core holds, and which a new instance has to get from
//! its host page by page. In small ones so many rows are made together that their pixels are whole
//! tiles. Measured in wasmtime 48 on a Xeon (Sapphire Rapids), the layers of small pictures in blocks
//! too: landmarks 13.5 ms in the place of 13.9, palm detection 7.0 in that of 7.3.

use std::ops::Range;

use super::depthwise::{Depthwise, Kernel, Output, Rows};
use super::line::Strip;
use super::number::Number;
use super::pointwise::{Pointwise, Residual};
use super::window::Windowed;
use super::{Numbers, Shape, Window};

/// What makes the rows that a depthwise convolution reads.
#[derive(Clone, Debug, PartialEq)]
pub enum Before {
    /// Nothing: they are the block's input.
    Nothing,
    /// An expansion: more channels.
    Pointwise(Pointwise),
    /// A model's first layer.
    Window(Windowed),
}

/// Layers around a depthwise convolution.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    before: Before,
    depthwise: Middle,
    /// A projection: fewer channels.
    after: Option<Pointwise>,
}

/// The depthwise convolution, and what the numbers are that it reads and writes.
#[derive(Clone, Debug, PartialEq)]
enum Middle {
    Floats(Kernel<f32>),
    Integers(Kernel<i16>),
}

impl Middle {
    fn window(&self) -> Window {
        match self {
            Middle::Floats(kernel) => kernel.window(),
            Middle::Integers(kernel) => kernel.window(),
        }
    }

    fn channels(&self) -> usize {
        match self {
            Middle::Floats(kernel) => kernel.channels(),
            Middle::Integers(kernel) => kernel.channels(),
        }
    }
}

impl Block {
    /// A block of layers whose channels fit; `None` if they don't.
    pub fn new(before: Before, depthwise: Depthwise, after: Option<Pointwise>) -> Option<Block> {
        let made = match &before {
            Before::Nothing => depthwise.channels(),
            Before::Pointwise(kernel) => kernel.outputs(),
            Before::Window(kernel) => kernel.outputs(),
        };
        let taken = after.as_ref().map_or(depthwise.channels(), Pointwise::inputs);
        if made != depthwise.channels() || taken != made {
            return None;
        }
        let (before, depthwise) = match before.in_integers(&depthwise) {
            Some((before, kernel)) => (before, Middle::Integers(kernel)),
            None => (before, Middle::Floats(depthwise.in_floats())),
        };
        Some(Block { before, depthwise, after })
    }

    /// Which layers it has.
    pub fn name(&self) -> &'static str {
        match (&self.before, &self.after) {
            (Before::Nothing, None) => "depthwise",
            (Before::Nothing, Some(_)) => "depthwise, pointwise",
            (Before::Pointwise(_), None) => "pointwise, depthwise",
            (Before::Pointwise(_), Some(_)) => "pointwise, depthwise, pointwise",
            (Before::Window(_), None) => "window, depthwise",
            (Before::Window(_), Some(_)) => "window, depthwise, pointwise",
        }
    }

    /// The shape of what the depthwise convolution reads, if the block fits the input.
    fn between(&self, input: Shape) -> Option<Shape> {
        let channels = self.depthwise.channels();
        let fits = |expected: usize| (expected == input.channels).then_some(());
        match &self.before {
            Before::Nothing => fits(channels)?,
            Before::Pointwise(kernel) => fits(kernel.inputs())?,
            Before::Window(kernel) => {
                fits(kernel.channels())?;
                return kernel.window().output(input, channels);
            }
        }
        Some(Shape { channels, ..input })
    }

    /// The shape of what it makes of a picture; `None` if the block does not fit it.
    pub fn output(&self, input: Shape) -> Option<Shape> {
        let channels = self.after.as_ref().map_or(self.depthwise.channels(), Pointwise::outputs);
        self.depthwise.window().output(self.between(input)?, channels)
    }

    /// Multiplications with an addition each for a picture.
    pub fn multiply_adds(&self, input: Shape) -> usize {
        let (Some(between), Some(output)) = (self.between(input), self.output(input)) else {
            return 0;
        };
        let before = match &self.before {
            Before::Nothing => 0,
            Before::Pointwise(kernel) => kernel.inputs() * between.len(),
            Before::Window(kernel) => kernel.multiply_adds() * between.len(),
        };
        let depthwise = self.depthwise.window().side.pow(2) * output.pixels() * between.channels;
        let after = self.after.as_ref().map_or(0, |kernel| kernel.inputs() * output.len());
        before + depthwise + after
    }

    /// Whether it can read bytes.
    pub fn reads_bytes(&self) -> bool {
        matches!(self.before, Before::Window(_))
    }

    /// The whole picture; `residual` is added to what comes after the depthwise convolution.
    ///
    /// # Panics
    /// If the lengths don't fit, or if there are bytes that it can't read.
    pub fn run(
        &self,
        input: Numbers,
        shape: Shape,
        residual: Option<Residual>,
        output: &mut [f32],
    ) {
        match &self.depthwise {
            Middle::Floats(kernel) => self.run_with(kernel, input, shape, residual, output),
            Middle::Integers(kernel) => self.run_with(kernel, input, shape, residual, output),
        }
    }

    fn run_with<N: Number>(
        &self,
        depthwise: &Kernel<N>,
        input: Numbers,
        shape: Shape,
        residual: Option<Residual>,
        output: &mut [f32],
    ) {
        assert_eq!(input.len(), shape.len());
        let between = self.between(shape).expect("a picture that fits");
        let rows = depthwise.rows(between);
        let length = shape.width * shape.channels;
        match &self.before {
            Before::Nothing => {
                let input = input.floats();
                let copy = |rows: Range<usize>, mut strip: Strip<N>| {
                    strip.copy(&input[rows.start * length..rows.end * length], shape.channels);
                };
                self.rows(rows, copy, residual, output);
            }
            Before::Pointwise(kernel) => {
                let input = input.floats();
                let expand = |rows: Range<usize>, strip: Strip<N>| {
                    kernel.run_to_strip(&input[rows.start * length..rows.end * length], strip);
                };
                self.rows(rows, expand, residual, output);
            }
            Before::Window(kernel) => {
                let picture = kernel.scale(input, shape);
                let see = |rows: Range<usize>, mut strip: Strip<N>| {
                    for (place, row) in rows.enumerate() {
                        kernel.run_row(&picture, row, strip.row(place));
                    }
                };
                self.rows(rows, see, residual, output);
            }
        }
    }

    /// The same with a function that makes rows of what the depthwise convolution reads.
    fn rows<N: Number>(
        &self,
        mut rows: Rows<N>,
        mut make: impl FnMut(Range<usize>, Strip<N>),
        residual: Option<Residual>,
        output: &mut [f32],
    ) {
        let pixels = rows.pixels();
        let Some(after) = &self.after else {
            for output in output.chunks_mut(pixels * self.depthwise.channels()) {
                rows.next(&mut make, Output::Pixels(output));
            }
            return;
        };
        let (mut line, unit) = (rows.line(), rows.unit());
        for (index, output) in output.chunks_mut(pixels * after.outputs()).enumerate() {
            rows.next(&mut make, Output::Line(&mut line));
            let residual = residual.map(|all| all.from(index * pixels));
            after.run_from_line(&line, unit, residual, output);
        }
    }
}

impl Before {
    /// The same in units of 16 bits, and the depthwise convolution of these; `None` if the activations
    /// don't say in which range the numbers lie.
    fn in_integers(&self, depthwise: &Depthwise) -> Option<(Before, Kernel<i16>)> {
        let (before, unit) = match self {
            Before::Nothing => return None,
            Before::Pointwise(kernel) => {
                let (kernel, unit) = kernel.in_units()?;
                (Before::Pointwise(kernel), unit)
            }
            Before::Window(kernel) => {
                let (kernel, unit) = kernel.in_units()?;
                (Before::Window(kernel), unit)
            }
        };
        Some((before, depthwise.in_integers(unit)?))
    }
}

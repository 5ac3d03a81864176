//! Hand-written kernels for the layers of the models: channels last, each layer in one pass.
//!
//! Pictures are `height × width × channels` in row-major order, so that a pixel's channels lie
//! side by side. The crate `vision` makes tract operators of these.

pub mod activation;
pub mod block;
pub mod depthwise;
mod eight;
mod ends;
mod line;
mod number;
pub mod pointwise;
#[cfg(test)]
mod reference;
pub mod resample;
pub mod simd;
mod sixteen;
mod tiles;
pub mod window;

/// Height, width and channels of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Numbers of each pixel.
    pub channels: usize,
}

impl Shape {
    /// How many pixels.
    pub fn pixels(self) -> usize {
        self.height * self.width
    }

    /// How many numbers.
    pub fn len(self) -> usize {
        self.pixels() * self.channels
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// What a layer reads: numbers, channels last.
#[derive(Clone, Copy, Debug)]
pub enum Numbers<'a> {
    /// Any.
    Floats(&'a [f32]),
    /// A picture of 8 bits, in which 255 stands for 1: what a model's first layer reads.
    Bytes(&'a [u8]),
}

impl<'a> Numbers<'a> {
    /// How many there are.
    pub fn len(self) -> usize {
        match self {
            Numbers::Floats(numbers) => numbers.len(),
            Numbers::Bytes(numbers) => numbers.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The floats.
    ///
    /// # Panics
    /// If they are bytes.
    pub fn floats(self) -> &'a [f32] {
        match self {
            Numbers::Floats(numbers) => numbers,
            Numbers::Bytes(_) => panic!("bytes for a layer that reads floats"),
        }
    }
}

/// How a square window moves over a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Its height and width.
    pub side: usize,
    /// By how much it moves, down and to the right.
    pub stride: usize,
    /// How far the first position reaches over the upper edge, and over the left one. What lies
    /// outside is 0.
    pub before: usize,
    /// The same at the lower and the right edge.
    pub after: usize,
}

impl Window {
    /// The shape of what a window with so many output channels makes of a picture; `None` if the
    /// window does not fit into it.
    pub fn output(self, input: Shape, channels: usize) -> Option<Shape> {
        let side = |side: usize| {
            let room = (side + self.before + self.after).checked_sub(self.side)?;
            Some(room / self.stride + 1)
        };
        Some(Shape { height: side(input.height)?, width: side(input.width)?, channels })
    }
}

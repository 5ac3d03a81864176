//! Shapes of activations, the geometry of a convolution, and what an operator reads.

/// Height, width and channels of a layer's activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Values of each pixel.
    pub channels: usize,
}

impl Shape {
    /// Returns the number of pixels.
    pub fn pixels(self) -> usize {
        self.height * self.width
    }

    /// Returns the number of values.
    pub fn len(self) -> usize {
        self.pixels() * self.channels
    }

    /// Returns true if there are no values.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// The activations that an operator reads, channels last.
#[derive(Clone, Copy, Debug)]
pub enum Activations<'a> {
    /// Floats of any size.
    F32(&'a [f32]),
    /// A picture of 8 bits, in which 255 stands for 1: the input of a model's first layer.
    U8(&'a [u8]),
}

impl<'a> Activations<'a> {
    /// Returns the number of values.
    pub fn len(self) -> usize {
        match self {
            Activations::F32(values) => values.len(),
            Activations::U8(values) => values.len(),
        }
    }

    /// Returns true if there are no values.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Returns the floats.
    ///
    /// # Panics
    /// If they are bytes.
    pub fn expect_f32(self) -> &'a [f32] {
        match self {
            Activations::F32(values) => values,
            Activations::U8(_) => panic!("cannot read bytes: the operator reads floats only"),
        }
    }
}

/// Activations that are added to an operator's outputs, of the same height and width.
///
/// If there are fewer channels than outputs, nothing is added to the others.
#[derive(Clone, Copy, Debug)]
pub struct Residual<'a> {
    /// The values, channels last.
    pub values: &'a [f32],
    /// Channels of each pixel: a multiple of 8, or as many as the outputs.
    pub channels: usize,
}

impl<'a> Residual<'a> {
    /// Returns the part that begins at a pixel.
    #[inline(always)]
    pub(crate) fn skip(self, pixels: usize) -> Residual<'a> {
        Residual { values: &self.values[pixels * self.channels..], ..self }
    }
}

/// The geometry of a convolution or a pool with a square kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvGeometry {
    /// Height and width of the kernel, in pixels.
    pub kernel_size: usize,
    /// Distance between neighbouring outputs, down and to the right, in pixels of the input.
    pub stride: usize,
    /// Rows of zeros above the input, and columns of zeros to its left.
    pub pad_before: usize,
    /// Rows of zeros below the input, and columns of zeros to its right.
    pub pad_after: usize,
}

impl ConvGeometry {
    /// Returns the output's shape for an input and a number of output channels; `None` if the kernel
    /// is larger than the padded input.
    pub fn output(self, input: Shape, channels: usize) -> Option<Shape> {
        let size = |size: usize| {
            let room = (size + self.pad_before + self.pad_after).checked_sub(self.kernel_size)?;
            Some(room / self.stride + 1)
        };
        Some(Shape { height: size(input.height)?, width: size(input.width)?, channels })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conv_geometry_counts_the_places_of_its_kernel() {
        let input = Shape { height: 7, width: 8, channels: 3 };
        let same = ConvGeometry { kernel_size: 3, stride: 1, pad_before: 1, pad_after: 1 };
        assert_eq!(same.output(input, 5), Some(Shape { channels: 5, ..input }));
        let halved = ConvGeometry { stride: 2, pad_before: 0, ..same };
        assert_eq!(halved.output(input, 5), Some(Shape { height: 3, width: 4, channels: 5 }));
    }

    #[test]
    fn conv_geometry_larger_than_the_input_has_no_output() {
        let input = Shape { height: 2, width: 9, channels: 1 };
        let geometry = ConvGeometry { kernel_size: 5, stride: 1, pad_before: 1, pad_after: 1 };
        assert_eq!(geometry.output(input, 1), None);
        let geometry = ConvGeometry { pad_after: 2, ..geometry };
        assert_eq!(geometry.output(input, 1).map(|shape| shape.height), Some(1));
    }

    #[test]
    #[should_panic(expected = "cannot read bytes")]
    fn activations_of_bytes_are_no_floats() {
        Activations::U8(&[0; 4]).expect_f32();
    }
}

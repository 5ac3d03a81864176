//! A photo under construction: rows of a picture, scaled down as they arrive.

use super::Photo;

/// Receives a picture's rows in any order and becomes a photo.
///
/// Each pixel of the photo is the mean of a square of the picture. Pixels that never arrive are black.
pub(super) struct Canvas {
    width: usize,
    height: usize,
    /// The side of a square is 2 to this.
    shift: u32,
    values: Values,
}

enum Values {
    /// The photo itself: squares of one pixel.
    Pixels(Vec<u8>),
    /// The sum of each square. 64 pixels of 255 fit into 16 bits.
    Sums(Vec<u16>),
}

impl Canvas {
    /// Returns a black canvas for a picture of this size, to be divided by 1, 2, 4 or 8.
    ///
    /// It takes 3 bytes a pixel of the photo; with a divisor above 1, 6 bytes, and 9 in
    /// [`Canvas::finish`].
    pub(super) fn new((width, height): (u32, u32), divisor: u32) -> Canvas {
        let (width, height) = (width as usize, height as usize);
        let shift = divisor.trailing_zeros();
        let side = 1 << shift;
        let length = width.div_ceil(side) * height.div_ceil(side) * 3;
        let values = match shift {
            0 => Values::Pixels(vec![0; length]),
            _ => Values::Sums(vec![0; length]),
        };
        Canvas { width, height, shift, values }
    }

    /// Adds pixels of the picture's row `y`: those in the columns `first`, `first + step` and so on.
    /// Those outside are ignored. A pixel must not be added twice.
    pub(super) fn add(
        &mut self,
        y: usize,
        first: usize,
        step: usize,
        mut pixels: impl Iterator<Item = [u8; 3]>,
    ) {
        if y >= self.height {
            return;
        }
        let row = (y >> self.shift) * self.width.div_ceil(1 << self.shift);
        let columns = (first..self.width).step_by(step);
        match &mut self.values {
            Values::Pixels(values) => {
                let row = &mut values.as_chunks_mut::<3>().0[row..][..self.width];
                for (x, pixel) in columns.zip(pixels) {
                    row[x] = pixel;
                }
            }
            Values::Sums(sums) if step == 1 => {
                // A square's pixels together, since a sum in memory waits for the one before.
                let side = 1 << self.shift;
                let mut left = self.width.saturating_sub(first);
                let mut count = (side - first % side).min(left);
                let row = &mut sums.as_chunks_mut::<3>().0[row..];
                for sum in row.iter_mut().skip(first >> self.shift) {
                    let mut square = [0; 3];
                    for pixel in pixels.by_ref().take(count) {
                        for (sum, value) in square.iter_mut().zip(pixel) {
                            *sum += u16::from(value);
                        }
                    }
                    for (sum, added) in sum.iter_mut().zip(square) {
                        *sum += added;
                    }
                    left -= count;
                    if left == 0 {
                        break;
                    }
                    count = side.min(left);
                }
            }
            Values::Sums(sums) => {
                let row = &mut sums.as_chunks_mut::<3>().0[row..];
                for (x, pixel) in columns.zip(pixels) {
                    let sum = &mut row[x >> self.shift];
                    for (sum, value) in sum.iter_mut().zip(pixel) {
                        *sum += u16::from(value);
                    }
                }
            }
        }
    }

    /// Returns the photo of the picture's first rows.
    ///
    /// `None` if that is no row, or there is no column.
    pub(super) fn finish(self, rows: usize) -> Option<Photo> {
        let Canvas { width, height, shift, values } = self;
        let rows = rows.min(height);
        let side = 1 << shift;
        let (photo_width, photo_height) = (width.div_ceil(side), rows.div_ceil(side));
        let pixels = match values {
            Values::Pixels(mut pixels) => {
                pixels.truncate(photo_width * photo_height * 3);
                pixels
            }
            Values::Sums(sums) => {
                let mut pixels = Vec::with_capacity(photo_width * photo_height * 3);
                let (sums, _) = sums.as_chunks::<3>();
                for (y, row) in sums.chunks(photo_width.max(1)).take(photo_height).enumerate() {
                    let below = side.min(rows - y * side);
                    for (x, sum) in row.iter().enumerate() {
                        let count = (below * side.min(width - x * side)) as u32;
                        let mean = |sum: u16| ((u32::from(sum) + count / 2) / count) as u8;
                        pixels.extend(sum.map(mean));
                    }
                }
                pixels
            }
        };
        Photo::from_rgb(photo_width, photo_height, pixels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of the picture in the tests below.
    fn value(x: usize, y: usize) -> [u8; 3] {
        [(x * 7) as u8, (y * 11) as u8, (x * y) as u8]
    }

    fn canvas(size: (u32, u32), divisor: u32, passes: &[[usize; 4]]) -> Canvas {
        let mut canvas = Canvas::new(size, divisor);
        let (width, height) = (size.0 as usize, size.1 as usize);
        for [first_x, step_x, first_y, step_y] in passes.iter().copied() {
            for y in (first_y..height).step_by(step_y) {
                let row = (first_x..width).step_by(step_x).map(|x| value(x, y));
                canvas.add(y, first_x, step_x, row);
            }
        }
        canvas
    }

    #[test]
    fn picture_of_divisor_one_is_kept() {
        let photo = canvas((5, 3), 1, &[[0, 1, 0, 1]]).finish(3).expect("pixels");
        assert_eq!((photo.width(), photo.height()), (5, 3));
        let expected: Vec<u8> =
            (0..3).flat_map(|y| (0..5).flat_map(move |x| value(x, y))).collect();
        assert_eq!(photo.pixels(), expected);
    }

    #[test]
    fn each_pixel_is_the_mean_of_its_square() {
        for divisor in [2usize, 4, 8] {
            let (width, height) = (19usize, 13usize);
            let whole = canvas((19, 13), divisor as u32, &[[0, 1, 0, 1]]).finish(13);
            let photo = whole.expect("pixels");
            let columns = width.div_ceil(divisor);
            assert_eq!((photo.width(), photo.height()), (columns, height.div_ceil(divisor)));
            for (i, pixel) in photo.pixels().as_chunks::<3>().0.iter().enumerate() {
                let (left, top) = (i % columns * divisor, i / columns * divisor);
                let square: Vec<[u8; 3]> = (top..height.min(top + divisor))
                    .flat_map(|y| (left..width.min(left + divisor)).map(move |x| value(x, y)))
                    .collect();
                for (channel, value) in pixel.iter().enumerate() {
                    let sum: f64 = square.iter().map(|pixel| f64::from(pixel[channel])).sum();
                    let mean = sum / square.len() as f64;
                    assert!((f64::from(*value) - mean).abs() <= 0.5, "{divisor}: {i}");
                }
            }
        }
    }

    #[test]
    fn rows_may_come_in_passes() {
        let passes = [[0, 2, 0, 1], [1, 2, 0, 2], [1, 2, 1, 2]];
        for divisor in [1, 2, 8] {
            let whole = canvas((21, 9), divisor, &[[0, 1, 0, 1]]).finish(9);
            assert_eq!(canvas((21, 9), divisor, &passes).finish(9), whole, "{divisor}");
        }
    }

    #[test]
    fn missing_rows_are_left_out() {
        for divisor in [1, 4] {
            let whole = canvas((8, 7), divisor, &[[0, 1, 0, 1]]).finish(7);
            let mut longer = Canvas::new((8, 16), divisor);
            for y in 0..7 {
                longer.add(y, 0, 1, (0..8).map(|x| value(x, y)));
            }
            assert_eq!(longer.finish(7), whole, "{divisor}");
        }
        assert_eq!(Canvas::new((8, 16), 2).finish(0), None);
    }

    #[test]
    fn pixels_outside_are_ignored() {
        for divisor in [1, 2] {
            let mut canvas = Canvas::new((2, 2), divisor);
            canvas.add(2, 0, 1, std::iter::repeat([9; 3]));
            canvas.add(0, 5, 1, std::iter::repeat([9; 3]));
            canvas.add(1, 1, 1, std::iter::repeat([80; 3]));
            let photo = canvas.finish(9).expect("pixels");
            assert_eq!(*photo.pixels().last().expect("pixels"), if divisor == 1 { 80 } else { 20 });
        }
    }
}

//! Warping: a photo sampled at a grid of points between its pixels.
//!
//! [`sample`] interpolates bilinearly in integers, four points of a row at a time. Almost all points
//! lie inside the photo and take the SIMD path; those at its edge are sampled one by one.

use kernels::simd::{F32x4, I8x16, I16x8, I32x4};

use crate::decode::Photo;

/// Bits of a position between two pixels: OpenCV's `INTER_BITS`. MediaPipe samples with OpenCV.
///
/// Palm detection is so sensitive that unrounded positions move the landmarks noticeably
/// (`tests/fidelity.rs`).
const SUBPIXEL_BITS: u32 = 5;
/// Number of positions from one pixel to the next.
const SUBPIXELS: i32 = 1 << SUBPIXEL_BITS;
/// Half the sum of the weights of a point's four pixels: rounds to the nearest value.
const HALF: i32 = SUBPIXELS * SUBPIXELS / 2;

/// Points that are sampled together.
const LANES: usize = 4;
/// Bytes that are stored for them. Those after `3 * LANES` have no meaning.
const STORED: usize = 16;
/// Bytes that are loaded of a row for one point: two pixels, then two bytes without meaning.
const LOADED: usize = 8;

/// The pixels beyond a photo's edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Border {
    /// Black. Palm detection was trained with it.
    Black,
    /// The nearest pixel of the edge. The landmark model was trained with it.
    Replicate,
}

/// A square grid of points, in pixels of a photo.
#[derive(Clone, Copy, Debug)]
pub struct Grid {
    /// x and y of the first point.
    pub origin: [f32; 2],
    /// Step from one column to the next, in x and y.
    pub across: [f32; 2],
    /// Step from one row to the next, in x and y.
    pub down: [f32; 2],
    /// Number of rows, and of columns.
    pub side: usize,
}

/// Samples a photo at a grid's points: `[side, side, 3]` values of 8 bits, RGB.
///
/// Interpolates bilinearly between pixels, whose centres lie at whole coordinates. Positions are
/// rounded to 1/32 of a pixel, values to the nearest integer. Coordinates may be any floats; those
/// that are not finite give pixels of no meaning.
pub fn sample(photo: &Photo, grid: &Grid, border: Border) -> Vec<u8> {
    let picture = Picture { pixels: photo.pixels(), width: photo.width(), height: photo.height() };
    let side = grid.side;
    // Bytes stored beyond a batch's colours are overwritten by the next batch.
    let mut samples = vec![0; 3 * side * side + STORED - 3 * LANES];
    let mut batches = vec![Batch::default(); side.div_ceil(LANES)];
    for row in 0..side {
        let line = &mut samples[3 * side * row..];
        // All positions first: computed in turns with the colours, they would wait for each other.
        for (index, batch) in batches.iter_mut().enumerate() {
            *batch = Batch::new(picture, grid, row, index * LANES);
        }
        for (index, batch) in batches.iter().enumerate() {
            let first = 3 * LANES * index;
            match line[first..].first_chunk_mut() {
                Some(colours) if batch.inside => batch.sample_inside(picture, colours),
                _ => batch.sample_edge(picture, border, &mut line[first..3 * side]),
            }
        }
    }
    samples.truncate(3 * side * side);
    samples
}

/// A photo's parts, in registers: `pixels` has `3 * width * height` bytes, and both sides are at
/// least 1.
#[derive(Clone, Copy)]
struct Picture<'a> {
    pixels: &'a [u8],
    width: usize,
    height: usize,
}

/// Positions of [`LANES`] neighbouring points of a grid's row.
#[derive(Clone, Default)]
struct Batch {
    /// Coordinates in units of 1 / [`SUBPIXELS`] pixel.
    x: [i32; LANES],
    y: [i32; LANES],
    /// Offset of the upper left of the four pixels around each point. Valid only if `inside`.
    offsets: [i32; LANES],
    /// True if [`LOADED`] bytes from each offset on, and from the same offset in the next row on,
    /// are pixels of the picture.
    inside: bool,
}

impl Batch {
    /// Computes the positions of a row's points from column `first` on.
    #[inline(always)]
    fn new(
        Picture { pixels, width, height }: Picture,
        grid: &Grid,
        row: usize,
        first: usize,
    ) -> Batch {
        let columns: [f32; LANES] = std::array::from_fn(|i| (first + i) as f32);
        let columns = F32x4::load(&columns);
        let [x, y] = [0, 1].map(|axis| {
            let across = columns.mul(F32x4::splat(grid.across[axis]));
            let down = F32x4::splat(row as f32 * grid.down[axis]);
            let position = F32x4::splat(grid.origin[axis]).add(across).add(down);
            position.mul(F32x4::splat(SUBPIXELS as f32)).nearest()
        });
        let [column, row] = [x, y].map(|position| position.shift_right::<SUBPIXEL_BITS>());
        let stride = 3 * width;
        let offsets = row.mul(I32x4::splat(stride as i32)).add(column.mul(I32x4::splat(3)));
        // Negative for a picture that is too small for the loads, or too large for 32 bits.
        let last = pixels.len() as i64 - (stride + LOADED) as i64;
        let last = I32x4::splat(i32::try_from(last).unwrap_or(-1));
        let [width, height] = [width, height].map(|side| I32x4::splat(side as i32 - 2));
        // Each of these is negative for a point outside. The offset alone would not do: that of a
        // point far away may have wrapped around.
        let checks = [row, width.sub(column), height.sub(row), last.sub(offsets)];
        let inside = !checks.into_iter().fold(column, I32x4::or).any_negative();
        Batch { x: x.to_array(), y: y.to_array(), offsets: offsets.to_array(), inside }
    }

    /// Samples the points of a batch that lies inside.
    #[inline(always)]
    fn sample_inside(&self, Picture { pixels, width, .. }: Picture, colours: &mut [u8; STORED]) {
        let colour = |point: usize| {
            let offset = self.offsets[point] as usize;
            // SAFETY: the batch is inside: `new` has checked for this picture that `LOADED` bytes
            // follow each offset, and the same offset one row below.
            let load = |offset: usize| unsafe { &*pixels.as_ptr().add(offset).cast() };
            let [across, down] =
                [self.x, self.y].map(|position| position[point] as usize % SUBPIXELS as usize);
            interpolate(load(offset), load(offset + 3 * width), across, down)
        };
        I8x16::store_colours([colour(0), colour(1), colour(2), colour(3)], colours);
    }

    /// Samples points anywhere, as many as there is room for.
    #[cold]
    #[inline(never)]
    fn sample_edge(&self, picture: Picture, border: Border, colours: &mut [u8]) {
        let Picture { pixels, width, height } = picture;
        let (width, height) = (width as i32, height as i32);
        let pixel = |x: i32, y: i32| -> [i32; 3] {
            let inside = (0..width).contains(&x) && (0..height).contains(&y);
            if !inside && border == Border::Black {
                return [0; 3];
            }
            let (x, y) = (x.clamp(0, width - 1) as usize, y.clamp(0, height - 1) as usize);
            let offset = 3 * (y * picture.width + x);
            [0, 1, 2].map(|colour| i32::from(pixels[offset + colour]))
        };
        let points = self.x.into_iter().zip(self.y);
        for ((x, y), colours) in points.zip(colours.as_chunks_mut::<3>().0) {
            let (left, top) = (x.div_euclid(SUBPIXELS), y.div_euclid(SUBPIXELS));
            let (x, y) = (x.rem_euclid(SUBPIXELS), y.rem_euclid(SUBPIXELS));
            let corners = [(0, 0), (1, 0), (0, 1), (1, 1)]
                .map(|(right, below)| pixel(left + right, top + below));
            let (x_rest, y_rest) = (SUBPIXELS - x, SUBPIXELS - y);
            let weights = [x_rest * y_rest, x * y_rest, x_rest * y, x * y];
            for (index, colour) in colours.iter_mut().enumerate() {
                let sum = (0..4).map(|i| corners[i][index] * weights[i]).sum::<i32>();
                *colour = ((sum + HALF) >> (2 * SUBPIXEL_BITS)) as u8;
            }
        }
    }
}

/// Weights of the upper and the lower row, by the position between them.
static ROW_WEIGHTS: [[[i16; 8]; 2]; SUBPIXELS as usize] = {
    let mut weights = [[[0; 8]; 2]; SUBPIXELS as usize];
    let mut position = 0;
    while position < SUBPIXELS as usize {
        weights[position] = [[SUBPIXELS as i16 - position as i16; 8], [position as i16; 8]];
        position += 1;
    }
    weights
};

/// Weights of the left and the right pixel, in turns, by the position between them.
static COLUMN_WEIGHTS: [[i16; 8]; SUBPIXELS as usize] = {
    let mut weights = [[0; 8]; SUBPIXELS as usize];
    let mut position = 0;
    while position < SUBPIXELS as usize {
        let (left, right) = (SUBPIXELS as i16 - position as i16, position as i16);
        weights[position] = [left, right, left, right, left, right, left, right];
        position += 1;
    }
    weights
};

/// Returns the colour between four pixels: red, green, blue, and a lane without meaning.
#[inline(always)]
fn interpolate(upper: &[u8; LOADED], lower: &[u8; LOADED], across: usize, down: usize) -> I32x4 {
    let [first, second] = ROW_WEIGHTS[down].each_ref().map(I16x8::load);
    let rows = I16x8::colours(upper).mul(first).add(I16x8::colours(lower).mul(second));
    // 8 bits times 5 bits fit 16; the second product adds 5 more.
    let sums = rows.dot(I16x8::load(&COLUMN_WEIGHTS[across]));
    sums.add(I32x4::splat(HALF)).shift_right::<{ 2 * SUBPIXEL_BITS }>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sampling_equals_plain_integers() {
        let mut random = fastrand::Rng::with_seed(23);
        for _ in 0..40 {
            let (width, height) = (1 + random.usize(..40), 1 + random.usize(..40));
            let pixels: Vec<u8> = (0..3 * width * height).map(|_| random.u8(..)).collect();
            let mut pair = |size: f32| [0, 1].map(|_| size * (2.0 * random.f32() - 1.0));
            let (origin, across, down) = (pair(20.0), pair(1.0), pair(1.0));
            let black = random.bool();
            let grid = Grid { origin, across, down, side: 1 + random.usize(..40) };
            let border = if black { Border::Black } else { Border::Replicate };
            let photo = Photo::from_rgb(width, height, pixels.clone()).expect("a photo");
            let found = sample(&photo, &grid, border);

            let pixel = |x: i32, y: i32, colour: usize| {
                let nearest = [x.clamp(0, width as i32 - 1), y.clamp(0, height as i32 - 1)];
                let [column, row] = nearest.map(|at| at as usize);
                let inside = nearest == [x, y];
                if black && !inside {
                    0
                } else {
                    i32::from(pixels[3 * (row * width + column) + colour])
                }
            };
            let mut expected = Vec::new();
            for row in 0..grid.side {
                for column in 0..grid.side {
                    let [x, y] = [0, 1].map(|axis| {
                        let at =
                            origin[axis] + column as f32 * across[axis] + row as f32 * down[axis];
                        (at * 32.0).round_ties_even() as i32
                    });
                    for colour in 0..3 {
                        let (left, top, right, below) = (x >> 5, y >> 5, x & 31, y & 31);
                        let line = |y: i32| {
                            let (near, far) = (pixel(left, y, colour), pixel(left + 1, y, colour));
                            near * (32 - right) + far * right
                        };
                        let sum = line(top) * (32 - below) + line(top + 1) * below;
                        expected.push(((sum + 512) / 1024) as u8);
                    }
                }
            }
            assert_eq!(found, expected, "{width} × {height}, {grid:?}");
        }
    }
}

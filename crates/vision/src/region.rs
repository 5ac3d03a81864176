//! Regions of interest: where to look in the photo, and the pixels that a model gets to see.
//!
//! Coordinates are in pixels of the upright photo, x to the right, y downwards.

use crate::decode::Photo;
use crate::warp::{self, Grid, Picture};

/// A square of the photo, possibly turned, possibly reaching over the photo's edge.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Region {
    /// The centre's x and y in pixels.
    pub center: [f32; 2],
    /// The length of a side in pixels.
    pub size: f32,
    /// How far the region is turned clockwise against the photo, in radians, −π to π.
    pub rotation: f32,
}

impl Region {
    /// The photo letterboxed: the least upright square around it, larger by `border` (as a part of
    /// the photo's longer side) on each of its sides.
    pub fn letterbox(photo: &Photo, border: f32) -> Region {
        let (width, height) = (photo.width() as f32, photo.height() as f32);
        Region {
            center: [width / 2.0, height / 2.0],
            size: width.max(height) * (1.0 + 2.0 * border),
            rotation: 0.0,
        }
    }

    /// The point of the photo that lies at `(u, v)` of the region: (0, 0) is its upper left
    /// corner, (1, 1) its lower right one.
    pub fn to_photo(&self, [u, v]: [f32; 2]) -> [f32; 2] {
        let (sin, cos) = self.rotation.sin_cos();
        let (x, y) = ((u - 0.5) * self.size, (v - 0.5) * self.size);
        [self.center[0] + cos * x - sin * y, self.center[1] + sin * x + cos * y]
    }

    /// The region that a detection gives: its box, turned so that the line `from` → `to` (wrist →
    /// middle finger base) points up, moved by `shift` and scaled by `scale`, both as parts of the
    /// box's own size, and made square on the longer side.
    ///
    /// MediaPipe's `DetectionsToRects` and `RectTransformation` calculators.
    pub(crate) fn around(
        rectangle: &Rectangle,
        from: [f32; 2],
        to: [f32; 2],
        shift: f32,
        scale: f32,
    ) -> Region {
        let rotation = upright_rotation(from, to);
        let (sin, cos) = rotation.sin_cos();
        let down = rectangle.height * shift;
        Region {
            center: [rectangle.center[0] - down * sin, rectangle.center[1] + down * cos],
            size: rectangle.width.max(rectangle.height) * scale,
            rotation,
        }
    }
}

/// A rectangle in some coordinate system, by its centre and size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rectangle {
    pub center: [f32; 2],
    pub width: f32,
    pub height: f32,
}

/// How far the picture must be seen turned (radians, clockwise) for `from` → `to` to point up.
pub(crate) fn upright_rotation(from: [f32; 2], to: [f32; 2]) -> f32 {
    use std::f32::consts::{FRAC_PI_2, PI};
    let angle = FRAC_PI_2 - (from[1] - to[1]).atan2(to[0] - from[0]);
    angle - 2.0 * PI * ((angle + PI) / (2.0 * PI)).floor()
}

/// What lies beyond the photo's edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Border {
    /// Black. Palm detection was trained with it.
    Black,
    /// The edge's pixels go on. The landmark model gets that.
    Replicate,
}

/// Samples a region into `side × side` RGB values of 8 bits, channels last: a model's input.
///
/// Bilinear, with pixel centres at whole coordinates and the region's corner at the first sample,
/// rounded to 8 bits: what MediaPipe's converter does. `mirror` gives the region as a mirror shows
/// it (left and right swapped).
///
/// Positions are rounded to 1/32 of a pixel, as the converter of MediaPipe does: palm detection is
/// so sensitive that without it the landmarks on the test photos move by 0.3 % (full) and 1.4 %
/// (lite) of the palm length on average, with it by 0.01 %.
pub fn sample(
    photo: &Photo,
    region: &Region,
    side: usize,
    border: Border,
    mirror: bool,
) -> Vec<u8> {
    let step = 1.0 / side as f32;
    let origin = region.to_photo([0.0, 0.0]);
    let to = |[x, y]: [f32; 2]| [x - origin[0], y - origin[1]];
    let across = to(region.to_photo([step, 0.0]));
    let down = to(region.to_photo([0.0, step]));
    let picture = Picture { pixels: photo.pixels(), width: photo.width(), height: photo.height() };
    let grid = Grid { origin, across, down, side, mirror };
    warp::sample(picture, &grid, border == Border::Black)
}

#[cfg(test)]
mod tests {
    use std::f32::consts::{FRAC_PI_2, PI};

    use super::*;

    /// A photo whose red is x and whose green is y.
    fn gradient(width: usize, height: usize) -> Photo {
        let pixels =
            (0..height).flat_map(|y| (0..width).flat_map(move |x| [x as u8, y as u8, 7])).collect();
        Photo::from_rgb(width, height, pixels).expect("a photo")
    }

    #[test]
    fn a_hand_that_points_up_is_not_turned() {
        let near = |a: f32, b: f32| assert!((a - b).abs() < 1e-5, "{a} {b}");
        near(upright_rotation([5.0, 9.0], [5.0, 2.0]), 0.0);
        near(upright_rotation([0.0, 0.0], [3.0, 0.0]), FRAC_PI_2);
        near(upright_rotation([0.0, 0.0], [-3.0, 0.0]), -FRAC_PI_2);
        near(upright_rotation([0.0, 0.0], [0.0, 3.0]).abs(), PI);
    }

    #[test]
    fn a_letterbox_holds_the_whole_photo() {
        let photo = gradient(100, 60);
        let region = Region::letterbox(&photo, 0.0);
        assert_eq!(region.to_photo([0.0, 0.0]), [0.0, -20.0]);
        assert_eq!(region.to_photo([1.0, 1.0]), [100.0, 80.0]);
        let wider = Region::letterbox(&photo, 0.25);
        assert_eq!(wider.to_photo([0.0, 0.5]), [-25.0, 30.0]);
    }

    #[test]
    fn samples_are_the_photo_s_pixels() {
        let photo = gradient(40, 40);
        let region = Region { center: [20.0, 20.0], size: 10.0, rotation: 0.0 };
        let samples = sample(&photo, &region, 10, Border::Black, false);
        let pixel = |row: usize, column: usize| {
            let at = (row * 10 + column) * 3;
            [0, 1, 2].map(|c| samples[at + c])
        };
        assert_eq!(pixel(0, 0), [15, 15, 7]);
        assert_eq!(pixel(3, 8), [23, 18, 7]);
        // Mirrored around the region's middle, x = 20.
        let mirrored = sample(&photo, &region, 10, Border::Black, true);
        assert_eq!(mirrored[3], 24);
    }

    #[test]
    fn beyond_the_edge_lies_black_or_the_edge() {
        let photo = Photo::from_rgb(1, 1, vec![200, 100, 50]).expect("a photo");
        let region = Region { center: [0.0, 0.0], size: 1000.0, rotation: 1.0 };
        let black = sample(&photo, &region, 4, Border::Black, false);
        assert_eq!(&black[..3], &[0; 3]);
        let edge = sample(&photo, &region, 4, Border::Replicate, false);
        assert!(edge.chunks(3).all(|pixel| pixel[0] == 200));
    }

    #[test]
    fn regions_that_make_no_sense_are_sampled_without_a_panic() {
        let photo = gradient(3, 3);
        for size in [0.0, -5.0, 1e30, f32::INFINITY, f32::NAN] {
            let region = Region { center: [f32::MAX, size], size, rotation: size };
            for border in [Border::Black, Border::Replicate] {
                assert_eq!(sample(&photo, &region, 4, border, true).len(), 48);
            }
        }
    }
}

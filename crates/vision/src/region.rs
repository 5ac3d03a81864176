//! Regions: rotated squares of the photo, and the pixels of them that a model sees.
//!
//! Coordinates are in pixels of the upright photo: x to the right, y downwards, (0, 0) in its upper
//! left corner. Angles are in radians, clockwise.

use std::f32::consts::{FRAC_PI_2, PI};

use crate::decode::Photo;
pub use crate::warp::Border;
use crate::warp::{self, Grid};

/// A rotated square in a photo. It may reach beyond the photo's edge.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Region {
    /// x and y of the centre, in pixels.
    pub center: [f32; 2],
    /// Length of a side, in pixels.
    pub size: f32,
    /// Clockwise rotation against the photo, in radians.
    pub rotation: f32,
}

impl Region {
    /// Returns the smallest upright square around the photo, extended on each side by `border`, a
    /// fraction of the photo's longer side.
    pub fn letterbox(photo: &Photo, border: f32) -> Region {
        let (width, height) = (photo.width() as f32, photo.height() as f32);
        Region {
            center: [width / 2.0, height / 2.0],
            size: width.max(height) * (1.0 + 2.0 * border),
            rotation: 0.0,
        }
    }

    /// Returns the upright square around a point whose side is `share` of the photo's longer side. It is moved so
    /// far that it holds as much of the photo as it can.
    pub fn part(photo: &Photo, center: [f32; 2], share: f32) -> Region {
        let sides = [photo.width() as f32, photo.height() as f32];
        let size = sides[0].max(sides[1]) * share;
        let center = [0, 1].map(|axis| {
            let (half, middle) = (size / 2.0, sides[axis] / 2.0);
            if size < sides[axis] { center[axis].clamp(half, sides[axis] - half) } else { middle }
        });
        Region { center, size, rotation: 0.0 }
    }

    /// Maps a point of the region to the photo, in pixels. In the region, (0, 0) is the upper left
    /// corner and (1, 1) the lower right one.
    pub fn to_photo(&self, [u, v]: [f32; 2]) -> [f32; 2] {
        let (sin, cos) = self.rotation.sin_cos();
        let (x, y) = ((u - 0.5) * self.size, (v - 0.5) * self.size);
        [self.center[0] + cos * x - sin * y, self.center[1] + sin * x + cos * y]
    }

    /// Returns the region of a hand from a box around part of it.
    ///
    /// The region is rotated so that `from` → `to`, such as wrist → middle finger base, points up in
    /// it. It is moved down by `shift` times the box's height, made square on the longer side, and
    /// scaled by `scale`.
    ///
    /// Source: MediaPipe's `DetectionsToRectsCalculator` and `RectTransformationCalculator`.
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

/// A rectangle by its centre and size, in the axes of its owner.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rectangle {
    pub center: [f32; 2],
    pub width: f32,
    pub height: f32,
}

/// Returns the clockwise rotation, −π to π, of a region in which `from` → `to` points up.
pub(crate) fn upright_rotation(from: [f32; 2], to: [f32; 2]) -> f32 {
    let angle = FRAC_PI_2 - (from[1] - to[1]).atan2(to[0] - from[0]);
    angle - 2.0 * PI * ((angle + PI) / (2.0 * PI)).floor()
}

/// Samples a region into a model's input: `[side, side, 3]` values of 8 bits, RGB.
///
/// Interpolates as MediaPipe does: bilinear, pixel centres at whole coordinates, the first sample at
/// the region's corner, positions rounded to 1/32 of a pixel.
pub fn sample(photo: &Photo, region: &Region, side: usize, border: Border) -> Vec<u8> {
    let step = 1.0 / side as f32;
    let origin = region.to_photo([0.0, 0.0]);
    let to = |[x, y]: [f32; 2]| [x - origin[0], y - origin[1]];
    let across = to(region.to_photo([step, 0.0]));
    let down = to(region.to_photo([0.0, step]));
    warp::sample(photo, &Grid { origin, across, down, side }, border)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A photo whose red is x and green is y.
    fn gradient(width: usize, height: usize) -> Photo {
        let pixels =
            (0..height).flat_map(|y| (0..width).flat_map(move |x| [x as u8, y as u8, 7])).collect();
        Photo::from_rgb(width, height, pixels).expect("a photo")
    }

    #[test]
    fn upright_rotation_turns_the_direction_up() {
        let near = |a: f32, b: f32| assert!((a - b).abs() < 1e-5, "{a} {b}");
        near(upright_rotation([5.0, 9.0], [5.0, 2.0]), 0.0);
        near(upright_rotation([0.0, 0.0], [3.0, 0.0]), FRAC_PI_2);
        near(upright_rotation([0.0, 0.0], [-3.0, 0.0]), -FRAC_PI_2);
        near(upright_rotation([0.0, 0.0], [0.0, 3.0]).abs(), PI);
    }

    #[test]
    fn letterbox_holds_the_whole_photo() {
        let photo = gradient(100, 60);
        let region = Region::letterbox(&photo, 0.0);
        assert_eq!(region.to_photo([0.0, 0.0]), [0.0, -20.0]);
        assert_eq!(region.to_photo([1.0, 1.0]), [100.0, 80.0]);
        let wider = Region::letterbox(&photo, 0.25);
        assert_eq!(wider.to_photo([0.0, 0.5]), [-25.0, 30.0]);
    }

    #[test]
    fn region_around_a_box_is_shifted_along_its_rotation() {
        let rectangle = Rectangle { center: [50.0, 60.0], width: 10.0, height: 20.0 };
        let upright = Region::around(&rectangle, [0.0, 9.0], [0.0, 0.0], -0.5, 2.0);
        assert_eq!(upright, Region { center: [50.0, 50.0], size: 40.0, rotation: 0.0 });
        // The fingers point right, so "up" in the region is right in the photo.
        let turned = Region::around(&rectangle, [0.0, 0.0], [9.0, 0.0], -0.5, 2.0);
        let Region { center: [x, y], size, rotation } = turned;
        assert!((x - 60.0).abs() < 1e-4 && (y - 60.0).abs() < 1e-4, "{turned:?}");
        assert_eq!((size, rotation), (40.0, FRAC_PI_2));
    }

    #[test]
    fn samples_at_whole_coordinates_are_pixels() {
        let photo = gradient(40, 40);
        let region = Region { center: [20.0, 20.0], size: 10.0, rotation: 0.0 };
        let samples = sample(&photo, &region, 10, Border::Black);
        let pixel = |row: usize, column: usize| {
            let at = (row * 10 + column) * 3;
            [0, 1, 2].map(|c| samples[at + c])
        };
        assert_eq!(pixel(0, 0), [15, 15, 7]);
        assert_eq!(pixel(3, 8), [23, 18, 7]);
    }

    #[test]
    fn border_is_black_or_the_edge() {
        let photo = Photo::from_rgb(1, 1, vec![200, 100, 50]).expect("a photo");
        let region = Region { center: [0.0, 0.0], size: 1000.0, rotation: 1.0 };
        let black = sample(&photo, &region, 4, Border::Black);
        assert_eq!(&black[..3], &[0; 3]);
        let edge = sample(&photo, &region, 4, Border::Replicate);
        assert!(edge.chunks(3).all(|pixel| pixel[0] == 200));
    }

    #[test]
    fn absurd_regions_are_sampled_without_panic() {
        let photo = gradient(3, 3);
        for size in [0.0, -5.0, 1e30, f32::INFINITY, f32::NAN] {
            let region = Region { center: [f32::MAX, size], size, rotation: size };
            for border in [Border::Black, Border::Replicate] {
                assert_eq!(sample(&photo, &region, 4, border).len(), 48);
            }
        }
    }
}

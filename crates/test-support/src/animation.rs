//! An animation of screenshots, as an animated PNG.

use std::time::Duration;

use image::{RgbImage, Rgba, RgbaImage};
use png::{BlendOp, ColorType, Compression, Encoder};

/// Screenshots of one size, each with the time at which it was taken.
#[derive(Debug, Default)]
pub struct Animation {
    frames: Vec<(Duration, RgbImage)>,
}

impl Animation {
    /// Adds a screenshot, a PNG. One that shows no change is left out. Colours keep 32 levels each, which makes
    /// photos less than half as large.
    ///
    /// # Panics
    /// If it is not a PNG.
    pub fn add(&mut self, time: Duration, screenshot: &[u8]) {
        let mut picture = image::load_from_memory(screenshot).expect("a PNG").into_rgb8();
        for colour in picture.iter_mut() {
            *colour = *colour & 0xf8 | *colour >> 5;
        }
        if self.frames.last().is_none_or(|(_, last)| *last != picture) {
            self.frames.push((time, picture));
        }
    }

    /// Returns the animated PNG, which begins anew at `end`. Each frame holds the pixels that change, over the frame
    /// before.
    ///
    /// # Panics
    /// If there is no screenshot, or two have different sizes.
    pub fn encode(&self, end: Duration) -> Vec<u8> {
        let (width, height) = self.frames[0].1.dimensions();
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes, width, height);
        encoder.set_color(ColorType::Rgba);
        encoder.set_compression(Compression::High);
        let count = u32::try_from(self.frames.len()).expect("few frames");
        encoder.set_animated(count, 0).expect("there are frames");
        let mut writer = encoder.write_header().expect("bytes in memory");
        for (number, (time, picture)) in self.frames.iter().enumerate() {
            let last = number.checked_sub(1).map(|last| &self.frames[last].1);
            let (part, [x, y]) = changed(last, picture);
            let until = self.frames.get(number + 1).map_or(end, |(next, _)| *next);
            let shown = until.saturating_sub(*time).as_millis();
            let write = |writer: &mut png::Writer<_>| {
                writer.reset_frame_position()?;
                writer.set_frame_dimension(part.width(), part.height())?;
                writer.set_frame_position(x, y)?;
                writer.set_blend_op(BlendOp::Over)?;
                writer.set_frame_delay(u16::try_from(shown).unwrap_or(u16::MAX), 1000)?;
                writer.write_image_data(&part)
            };
            write(&mut writer).expect("a part of the first frame");
        }
        writer.finish().expect("bytes in memory");
        bytes
    }
}

/// Returns the smallest picture that holds all changes, and its place in the whole: left and top. Pixels without
/// change are transparent.
fn changed(old: Option<&RgbImage>, new: &RgbImage) -> (RgbaImage, [u32; 2]) {
    assert!(old.is_none_or(|old| old.dimensions() == new.dimensions()), "one size for all");
    let has_changed = |x, y| old.is_none_or(|old| old[(x, y)] != new[(x, y)]);
    let (mut from, mut to) = ([u32::MAX; 2], [0; 2]);
    for (x, y, _) in new.enumerate_pixels().filter(|(x, y, _)| has_changed(*x, *y)) {
        from = [from[0].min(x), from[1].min(y)];
        to = [to[0].max(x), to[1].max(y)];
    }
    let part = RgbaImage::from_fn(to[0] + 1 - from[0], to[1] + 1 - from[1], |x, y| {
        let (x, y) = (x + from[0], y + from[1]);
        let [red, green, blue] = new[(x, y)].0;
        if has_changed(x, y) { Rgba([red, green, blue, 255]) } else { Rgba([0; 4]) }
    });
    (part, from)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::codecs::png::PngDecoder;
    use image::{AnimationDecoder, ImageFormat, Rgb};

    use super::*;

    #[test]
    fn frames_are_those_that_were_added() {
        let mut pictures = vec![RgbImage::from_pixel(20, 10, Rgb([0, 8, 255])); 3];
        pictures[1].put_pixel(3, 4, Rgb([206, 0, 0]));
        pictures[1].put_pixel(9, 6, Rgb([0, 206, 0]));
        pictures[2].put_pixel(19, 9, Rgb([0, 0, 206]));
        let mut animation = Animation::default();
        for (number, picture) in pictures.iter().enumerate() {
            let mut screenshot = Cursor::new(Vec::new());
            picture.write_to(&mut screenshot, ImageFormat::Png).expect("a PNG");
            for half in [0, 50] {
                let time = Duration::from_millis(100 * number as u64 + half);
                animation.add(time, screenshot.get_ref());
            }
        }
        let bytes = animation.encode(Duration::from_millis(700));
        let decoder = PngDecoder::new(Cursor::new(bytes)).and_then(PngDecoder::apng);
        let frames = decoder.and_then(|decoder| decoder.into_frames().collect_frames());
        let frames = frames.expect("an animated PNG");
        let delays: Vec<_> = frames.iter().map(|frame| frame.delay().numer_denom_ms()).collect();
        assert_eq!(delays, [(100, 1), (100, 1), (500, 1)]);
        for (frame, picture) in frames.into_iter().zip(&pictures) {
            assert_eq!(image::DynamicImage::from(frame.into_buffer()).to_rgb8(), *picture);
        }
    }
}

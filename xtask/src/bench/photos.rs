//! The photos of the mix: the committed ones as they are, changed in the ways that callers' photos differ,
//! and pictures without a hand; or all photos of a folder.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::root;

/// Photos of one kind.
pub struct Kind {
    pub name: String,
    pub photos: Vec<Photo>,
}

/// A photo, with the letter that it shows where that is known.
pub struct Photo {
    pub bytes: Vec<u8>,
    pub media_type: &'static str,
    pub letter: Option<String>,
}

/// Quality of the JPEG files that are made here.
const QUALITY: u8 = 90;
/// Sides of the scene that a photo is put into, as of a webcam.
const SCENE: (usize, usize) = (800, 600);
/// Longer side of the photo in it: 30 % of the scene's longer side.
const IN_SCENE: usize = 240;
/// Side of the tiles that a photo is cut into to make a picture without a hand.
const TILE: usize = 16;

/// Returns the kinds of the mix, made from the committed photos.
pub fn mix() -> Result<Vec<Kind>> {
    let table = std::fs::read_to_string(root().join("tests/photos/expected.csv"))?;
    let mut kinds =
        ["as they are", "mirrored", "turned by EXIF", "small in a scene", "without a hand"]
            .map(|name| Kind { name: name.to_owned(), photos: Vec::new() });
    for (number, line) in table.lines().skip(1).enumerate() {
        let [file, letter, ..] = line.split(',').collect::<Vec<_>>()[..] else {
            bail!("expected.csv: {line:?} has not the columns file and letter");
        };
        let bytes = std::fs::read(root().join("tests/photos").join(file)).context("a photo")?;
        let picture = Picture::decode(&bytes).with_context(|| file.to_owned())?;
        // The orientations that cameras write besides 1.
        let orientation = [3, 6, 8][number % 3];
        let changed = [
            bytes,
            picture.mirrored().encode(None)?,
            picture.stored_turned(orientation).encode(Some(orientation))?,
            picture.in_a_scene(number).encode(None)?,
            picture.shuffled(number).encode(None)?,
        ];
        for (at, (kind, bytes)) in kinds.iter_mut().zip(changed).enumerate() {
            let letter = (at < 4).then(|| letter.to_owned());
            kind.photos.push(Photo { bytes, media_type: "image/jpeg", letter });
        }
    }
    Ok(kinds.into())
}

/// Returns every n-th photo below a folder, in the order of their paths. The letter is the name of the
/// photo's own folder, if that is a single letter.
pub fn folder(folder: &Path, every: usize) -> Result<Kind> {
    let mut files = Vec::new();
    collect(folder, &mut files).with_context(|| format!("cannot read {}", folder.display()))?;
    files.sort();
    let photos = files.into_iter().step_by(every.max(1)).map(|(path, media_type)| {
        let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
        let parent = path.parent().and_then(Path::file_name).unwrap_or_default();
        let letter = parent.to_string_lossy().to_uppercase();
        let letter = (letter.len() == 1 && letter != "-").then_some(letter);
        Ok(Photo { bytes, media_type, letter })
    });
    let photos = photos.collect::<Result<Vec<_>>>()?;
    if photos.is_empty() {
        bail!("{} holds no .jpg, .jpeg, .png or .webp file", folder.display());
    }
    let name = folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy().into_owned();
    Ok(Kind { name, photos })
}

fn collect(folder: &Path, files: &mut Vec<(PathBuf, &'static str)>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
            continue;
        }
        let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        let media_type = match &*ending {
            "jpg" | "jpeg" => "image/jpeg",
            "png" => "image/png",
            "webp" => "image/webp",
            _ => continue,
        };
        files.push((path, media_type));
    }
    Ok(())
}

/// A picture in RGB.
pub struct Picture {
    width: usize,
    height: usize,
    pixels: Vec<[u8; 3]>,
}

impl Picture {
    fn new(width: usize, height: usize, pixel: impl Fn(usize, usize) -> [u8; 3]) -> Picture {
        let rows = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        Picture { width, height, pixels: rows.map(|(x, y)| pixel(x, y)).collect() }
    }

    /// Decodes a JPEG in RGB or grey.
    pub fn decode(jpeg: &[u8]) -> Result<Picture> {
        let mut decoder = jpeg_decoder::Decoder::new(jpeg);
        let bytes = decoder.decode()?;
        let info = decoder.info().context("a JPEG")?;
        let pixels = match info.pixel_format {
            jpeg_decoder::PixelFormat::RGB24 => bytes.as_chunks().0.to_vec(),
            jpeg_decoder::PixelFormat::L8 => bytes.iter().map(|&grey| [grey; 3]).collect(),
            other => bail!("a JPEG of {other:?}"),
        };
        Ok(Picture { width: info.width.into(), height: info.height.into(), pixels })
    }

    /// Returns it as a JPEG, with an EXIF orientation if one is given.
    pub fn encode(&self, orientation: Option<u8>) -> Result<Vec<u8>> {
        let mut jpeg = Vec::new();
        let mut encoder = jpeg_encoder::Encoder::new(&mut jpeg, QUALITY);
        encoder.set_sampling_factor(jpeg_encoder::SamplingFactor::F_2_2);
        if let Some(orientation) = orientation {
            let mut exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
            exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
            encoder.add_app_segment(1, exif)?;
        }
        let (width, height) = (u16::try_from(self.width)?, u16::try_from(self.height)?);
        let color = jpeg_encoder::ColorType::Rgb;
        encoder.encode(self.pixels.as_flattened(), width, height, color)?;
        Ok(jpeg)
    }

    fn at(&self, x: usize, y: usize) -> [u8; 3] {
        self.pixels[y * self.width + x]
    }

    fn mirrored(&self) -> Picture {
        Picture::new(self.width, self.height, |x, y| self.at(self.width - 1 - x, y))
    }

    /// Returns it as a camera stores it that writes this EXIF orientation: 3 (turned by 180°), 6 (by 90°
    /// to the left) or 8 (by 90° to the right).
    fn stored_turned(&self, orientation: u8) -> Picture {
        let (right, bottom) = (self.width - 1, self.height - 1);
        match orientation {
            3 => Picture::new(self.width, self.height, |x, y| self.at(right - x, bottom - y)),
            6 => Picture::new(self.height, self.width, |x, y| self.at(right - y, x)),
            _ => Picture::new(self.height, self.width, |x, y| self.at(y, bottom - x)),
        }
    }

    /// Returns a scene of soft colours with the picture in it, small, at a place that `number` chooses.
    fn in_a_scene(&self, number: usize) -> Picture {
        let scale = self.width.max(self.height) as f32 / IN_SCENE as f32;
        let side = |side: usize| ((side as f32 / scale) as usize).clamp(1, IN_SCENE);
        let (width, height) = (side(self.width), side(self.height));
        let (free_x, free_y) = (SCENE.0 - width, SCENE.1 - height);
        let (left, top) = (hash(number, 1) % (free_x + 1), hash(number, 2) % (free_y + 1));
        let shade = |x: usize, y: usize, channel: usize| {
            let corner = |x: usize, y: usize| (hash(x + 7 * number, 16 * y + channel) % 160) as f32;
            let (u, v) = (x as f32 / 200.0, y as f32 / 200.0);
            let (i, j, u, v) = (u as usize, v as usize, u.fract(), v.fract());
            let between = |a: f32, b: f32, part: f32| a + (b - a) * part;
            let upper = between(corner(i, j), corner(i + 1, j), u);
            let lower = between(corner(i, j + 1), corner(i + 1, j + 1), u);
            40 + between(upper, lower, v) as u8
        };
        Picture::new(SCENE.0, SCENE.1, |x, y| {
            let inside = x.checked_sub(left).zip(y.checked_sub(top));
            match inside.filter(|&(x, y)| x < width && y < height) {
                Some((x, y)) => self.mean(x, y, scale),
                None => [0, 1, 2].map(|channel| shade(x, y, channel)),
            }
        })
    }

    /// Returns the mean of the square of pixels that becomes one pixel at this scale.
    fn mean(&self, x: usize, y: usize, scale: f32) -> [u8; 3] {
        let range = |at: usize, side: usize| {
            let start = ((at as f32 * scale) as usize).min(side - 1);
            start..(((at + 1) as f32 * scale) as usize).clamp(start + 1, side)
        };
        let (columns, rows) = (range(x, self.width), range(y, self.height));
        let count = columns.len() * rows.len();
        [0, 1, 2].map(|channel| {
            let square = rows.clone().flat_map(|y| columns.clone().map(move |x| (x, y)));
            let sum: usize = square.map(|(x, y)| usize::from(self.at(x, y)[channel])).sum();
            (sum / count) as u8
        })
    }

    /// Returns a picture of the same colours without a hand: its tiles in another order.
    fn shuffled(&self, number: usize) -> Picture {
        let (columns, rows) = (self.width / TILE, self.height / TILE);
        let mut order: Vec<usize> = (0..columns * rows).collect();
        order.sort_by_key(|&tile| hash(tile, number));
        Picture::new(columns * TILE, rows * TILE, |x, y| {
            let tile = order[y / TILE * columns + x / TILE];
            self.at(tile % columns * TILE + x % TILE, tile / columns * TILE + y % TILE)
        })
    }
}

/// A number that looks random and is the same in every run (the finaliser of SplitMix64).
fn hash(a: usize, b: usize) -> usize {
    let mut bits = (a as u64) << 32 ^ (b as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (bits ^ bits >> 31) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three columns and two rows, each pixel of its own colour.
    fn picture() -> Picture {
        Picture::new(3, 2, |x, y| [x as u8, y as u8, 9])
    }

    #[test]
    fn mirrored_picture_has_its_columns_in_reverse() {
        let mirrored = picture().mirrored();
        assert_eq!([mirrored.at(0, 0), mirrored.at(2, 1)], [[2, 0, 9], [0, 1, 9]]);
    }

    #[test]
    fn stored_picture_has_its_upper_left_corner_where_exif_says() {
        // EXIF 2.32, tag Orientation: the sides at which the stored row 0 and column 0 are.
        let (upper_left, upper_right, lower_left, lower_right) =
            ([0, 0, 9], [2, 0, 9], [0, 1, 9], [2, 1, 9]);
        for (orientation, size, corner, right_of_it) in [
            (3, (3, 2), lower_right, [1, 1, 9]),
            // Row 0 is the right side, column 0 the top.
            (6, (2, 3), upper_right, lower_right),
            // Row 0 is the left side, column 0 the bottom.
            (8, (2, 3), lower_left, upper_left),
        ] {
            let stored = picture().stored_turned(orientation);
            assert_eq!((stored.width, stored.height), size, "{orientation}");
            assert_eq!([stored.at(0, 0), stored.at(1, 0)], [corner, right_of_it], "{orientation}");
        }
    }

    #[test]
    fn shuffled_picture_keeps_its_pixels() {
        let picture = Picture::new(2 * TILE, TILE, |x, y| [x as u8, y as u8, 0]);
        let mut shuffled = picture.shuffled(1).pixels;
        shuffled.sort();
        let mut pixels = picture.pixels;
        pixels.sort();
        assert_eq!(shuffled, pixels);
    }

    #[test]
    fn scene_holds_the_whole_photo() {
        let white = Picture::new(480, 240, |_, _| [255; 3]);
        let scene = white.in_a_scene(3);
        let count = scene.pixels.iter().filter(|pixel| **pixel == [255; 3]).count();
        assert_eq!((scene.width, scene.height, count), (800, 600, 240 * 120));
    }
}

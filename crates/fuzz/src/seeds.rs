//! The files that hostile bodies are made from: the photos of the repository, and small pictures in every
//! format, variant and container that the service decodes.

use std::io::{Cursor, Write};

use image::{DynamicImage, ImageFormat};

use crate::root;

/// A well-formed file.
#[derive(Clone, Debug)]
pub struct Seed {
    /// Its name in reports.
    pub name: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// A lossy WebP picture of 16 × 16 pixels without its container: a gradient, by libwebp at quality 20.
const VP8: &[u8] =
    b"\x90\x01\0\x9d\x01\x2a\x10\0\x10\0\x05\x40\x7c\x25\xa4\0\x02\xe6\x8a\x2f\0\0\xfe\
                     \xec\x55\x71\xd2\xe9\xc1\xdd\x74\x48\x20\0\0\0";
/// The sides of [`VP8`].
const SIDE: usize = 16;

/// Width and height of the small pictures. Odd, so that blocks are not full.
const SMALL: (u32, u32) = (61, 43);

/// Returns all seeds, the same in every run.
///
/// # Panics
/// If the repository has no photos.
pub fn all() -> Vec<Seed> {
    let mut seeds = photos();
    let small = small(&seeds[0].bytes);
    let mut add = |name: &str, bytes| seeds.push(Seed { name: name.into(), bytes });
    jpegs(&small, &mut add);
    pngs(&small, &mut add);
    webps(&small, &mut add);
    seeds
}

/// The repository's photos.
fn photos() -> Vec<Seed> {
    let folder = root().join("tests/photos");
    let files = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut photos: Vec<Seed> = files
        .filter_map(|file| {
            let path = file.ok()?.path();
            let name = path.file_name()?.to_str()?.to_owned();
            let bytes = name.ends_with(".jpg").then(|| std::fs::read(&path))?.ok()?;
            Some(Seed { name, bytes })
        })
        .collect();
    assert!(!photos.is_empty(), "{} has no photos", folder.display());
    photos.sort_by(|a, b| a.name.cmp(&b.name));
    photos
}

/// Returns a photo as a small picture.
fn small(jpeg: &[u8]) -> DynamicImage {
    let mut decoder = jpeg_decoder::Decoder::new(jpeg);
    let pixels = decoder.decode().expect("a photo");
    let info = decoder.info().expect("a header");
    let (width, height) = (info.width.into(), info.height.into());
    let photo = image::RgbImage::from_raw(width, height, pixels).expect("three colours");
    DynamicImage::from(photo).thumbnail_exact(SMALL.0, SMALL.1)
}

type Add<'a> = &'a mut dyn FnMut(&str, Vec<u8>);

fn jpegs(small: &DynamicImage, add: Add<'_>) {
    use jpeg_encoder::{ColorType, SamplingFactor};
    let rgb = small.to_rgb8().into_raw();
    let grey = small.to_luma8().into_raw();
    let cmyk: Vec<u8> = rgb.chunks(3).flat_map(|p| [p[0], p[1], p[2], 255]).collect();
    let baseline = jpeg(&rgb, ColorType::Rgb, |_| {});
    add("jpeg-grey", jpeg(&grey, ColorType::Luma, |_| {}));
    add("jpeg-cmyk", jpeg(&cmyk, ColorType::Cmyk, |_| {}));
    add("jpeg-ycck", jpeg(&cmyk, ColorType::CmykAsYcck, |_| {}));
    add("jpeg-progressive", jpeg(&rgb, ColorType::Rgb, |e| e.set_progressive(true)));
    add("jpeg-restart", jpeg(&rgb, ColorType::Rgb, |e| e.set_restart_interval(2)));
    let subsampled = jpeg(&rgb, ColorType::Rgb, |e| e.set_sampling_factor(SamplingFactor::F_2_2));
    add("jpeg-4:2:0", subsampled);
    let with_exif = jpeg(&rgb, ColorType::Rgb, |e| {
        let exif = [&b"Exif\0\0"[..], &tiff(6)].concat();
        e.add_app_segment(1, exif).expect("a short segment");
    });
    add("jpeg-exif", with_exif);
    // Looks like the start of scans.
    let video = [0xff_u8, 0xda, 0, 7].repeat(500);
    let video = [&b"\0\0\0\x18ftypmp42\0\0\0\0isommp42"[..], &video].concat();
    add("jpeg-motion", [&baseline[..], &video].concat());
    add("jpeg-twice", [&baseline[..], &baseline].concat());
    add("jpeg-without-end", baseline[..baseline.len() - 2].to_vec());
    add("jpeg-baseline", baseline);
}

/// Returns a JPEG of [`SMALL`] size.
fn jpeg(
    pixels: &[u8],
    color: jpeg_encoder::ColorType,
    set: fn(&mut jpeg_encoder::Encoder<&mut Vec<u8>>),
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut bytes, 80);
    set(&mut encoder);
    encoder.encode(pixels, SMALL.0 as u16, SMALL.1 as u16, color).expect("an encoder");
    bytes
}

/// Returns EXIF data with an orientation.
fn tiff(orientation: u8) -> Vec<u8> {
    let mut tiff = b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\0\0\0\0\0\0\0".to_vec();
    tiff[19] = orientation;
    tiff
}

fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    picture.write_to(&mut Cursor::new(&mut bytes), format).expect("an encoder");
    bytes
}

fn pngs(small: &DynamicImage, add: Add<'_>) {
    let png = |picture| encoded(&picture, ImageFormat::Png);
    let rgb = png(small.clone());
    add("png-rgba", png(small.to_rgba8().into()));
    add("png-grey", png(small.to_luma8().into()));
    add("png-grey-alpha", png(small.to_luma_alpha8().into()));
    add("png-16-bit", png(small.to_rgb16().into()));

    let (width, height) = (SMALL.0 as usize, SMALL.1 as usize);
    let rows = |bytes_a_row: usize| -> Vec<u8> {
        (0..height).flat_map(|y| std::iter::once(0).chain(vec![y as u8; bytes_a_row])).collect()
    };
    let palette: Vec<u8> = (0..=255).flat_map(|i| [i, 255 - i, i / 2]).collect();
    let transparency: Vec<u8> = (0..=255).collect();
    add(
        "png-palette",
        png_of(
            [8, 3, 0],
            &[(b"PLTE", &palette), (b"tRNS", &transparency), (b"IDAT", &deflated(&rows(width)))],
        ),
    );
    let one_bit = rows(width.div_ceil(8));
    add("png-1-bit", png_of([1, 0, 0], &[(b"IDAT", &deflated(&one_bit))]));
    // Rows of all seven passes are fewer bytes than this; the rest is ignored or an error.
    let interlaced = deflated(&rows(width * 2));
    add("png-interlaced", png_of([8, 0, 1], &[(b"IDAT", &interlaced)]));

    let bomb = deflated(&vec![0; 16 << 20]);
    let with = |kind: &[u8; 4], data: &[u8]| {
        // After the header, which has a fixed length.
        [&rgb[..33], &png_chunk(kind, data), &rgb[33..]].concat()
    };
    add("png-profile", with(b"iCCP", &[&b"icc\0\0"[..], &bomb].concat()));
    add("png-text", with(b"zTXt", &[&b"Comment\0\0"[..], &bomb].concat()));
    add("png-exif", with(b"eXIf", &tiff(8)));
    let control = [&1u32.to_be_bytes()[..], &[0; 4]].concat();
    let frame = [
        &[0; 4][..],
        &SMALL.0.to_be_bytes(),
        &SMALL.1.to_be_bytes(),
        &[0; 8],
        &[0, 1, 0, 10, 0, 0],
    ]
    .concat();
    let animation = [png_chunk(b"acTL", &control), png_chunk(b"fcTL", &frame)].concat();
    add("png-animated", [&rgb[..33], &animation, &rgb[33..]].concat());
    add("png-without-end", rgb[..rgb.len() - 12].to_vec());
    add("png-rgb", rgb);
}

/// Returns a PNG of [`SMALL`] size: bit depth, colour type and interlacing, then its chunks.
fn png_of([depth, color, interlace]: [u8; 3], chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let sides = [SMALL.0.to_be_bytes(), SMALL.1.to_be_bytes()].concat();
    let header = [&sides[..], &[depth, color, 0, 0, interlace]].concat();
    let mut png = [&b"\x89PNG\r\n\x1a\n"[..], &png_chunk(b"IHDR", &header)].concat();
    for (kind, data) in chunks {
        png.extend(png_chunk(kind, data));
    }
    png.extend(png_chunk(b"IEND", b""));
    png
}

fn png_chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u32).to_be_bytes();
    let checked = [&kind[..], data].concat();
    [&length[..], &checked, &crc32fast::hash(&checked).to_be_bytes()].concat()
}

fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory")
}

fn webps(small: &DynamicImage, add: Add<'_>) {
    let lossless = encoded(small, ImageFormat::WebP);
    add("webp-lossless-alpha", encoded(&small.to_rgba8().into(), ImageFormat::WebP));
    let side = SIDE as u32;
    let tiny = DynamicImage::from(small.thumbnail_exact(side, side).to_rgba8());
    let tiny = encoded(&tiny, ImageFormat::WebP);
    // The only chunk of a simple file.
    let vp8l = &tiny[20..];
    add("webp-lossless", lossless);
    add("webp-lossy", riff(&[(b"VP8 ", VP8)]));
    add(
        "webp-exif",
        riff(&[(b"VP8X", &extended(0x08)), (b"VP8 ", VP8), (b"ABCD", b"1"), (b"EXIF", &tiff(6))]),
    );
    // Not compressed, no filter.
    let alpha = [&[0][..], &[128; SIDE * SIDE]].concat();
    // Compressed, without a size: a stream of VP8L, whose header it lacks.
    let packed = [&[1][..], &vp8l[5..]].concat();
    for (name, alpha) in [("alpha", &alpha), ("packed-alpha", &packed)] {
        let header = extended(0x10);
        let still = riff(&[(b"VP8X", &header), (b"ALPH", alpha), (b"VP8 ", VP8)]);
        add(&format!("webp-{name}"), still);
        let frame = frame(&[(b"ALPH", alpha), (b"VP8 ", VP8)]);
        add(&format!("webp-animated-{name}"), animation(&[&frame, &frame]));
    }
    let frames = [frame(&[(b"VP8L", vp8l)]), frame(&[(b"VP8 ", VP8)])];
    add("webp-animated", animation(&[&frames[0], &frames[1]]));
}

/// Returns the header of an extended WebP file (WebP container specification), of [`SIDE`] pixels.
fn extended(flags: u8) -> Vec<u8> {
    let side = (SIDE - 1) as u8;
    vec![flags, 0, 0, 0, side, 0, 0, side, 0, 0]
}

/// Returns a frame of an animation.
fn frame(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let side = (SIDE - 1) as u8;
    let head = [0, 0, 0, 0, 0, 0, side, 0, 0, side, 0, 0, 100, 0, 0, 0];
    [&head[..], &riff(chunks)[12..]].concat()
}

fn animation(frames: &[&[u8]]) -> Vec<u8> {
    let header = extended(0x12);
    let mut chunks: Vec<(&[u8; 4], &[u8])> = vec![(b"VP8X", &header), (b"ANIM", &[0; 6])];
    chunks.extend(frames.iter().map(|frame| (b"ANMF", *frame)));
    riff(&chunks)
}

/// Returns a RIFF file of the kind WebP.
fn riff(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let mut body = b"WEBP".to_vec();
    for (kind, data) in chunks {
        body.extend_from_slice(*kind);
        body.extend((data.len() as u32).to_le_bytes());
        body.extend_from_slice(data);
        // Chunks have an even length.
        body.extend(vec![0; data.len() % 2]);
    }
    [&b"RIFF"[..], &(body.len() as u32).to_le_bytes(), &body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_have_names_of_their_own_and_content() {
        let seeds = all();
        let names: std::collections::BTreeSet<_> = seeds.iter().map(|seed| &seed.name).collect();
        assert_eq!(names.len(), seeds.len());
        assert!(seeds.iter().all(|seed| seed.bytes.len() > 50 && seed.bytes.len() < 1 << 20));
    }

    #[test]
    fn small_pictures_are_well_formed() {
        let decode = |name: &str| {
            let seeds = all();
            let seed = seeds.iter().find(|seed| seed.name == name).expect("a seed");
            let picture = image::load_from_memory(&seed.bytes).map_err(|e| format!("{name}: {e}"));
            picture.map(|picture| (picture.width(), picture.height()))
        };
        for name in [
            "png-palette",
            "png-1-bit",
            "png-animated",
            "png-exif",
            "webp-lossless",
            "webp-lossy",
            "webp-exif",
            "webp-alpha",
            "webp-animated-alpha",
            "webp-animated",
        ] {
            let sides = if name.starts_with("png") || name == "webp-lossless" {
                SMALL
            } else {
                (SIDE as u32, SIDE as u32)
            };
            assert_eq!(decode(name), Ok(sides));
        }
    }
}

//! Photos as phones, libraries and attackers make them: which are decoded, and into what.
//!
//! Each test is a kind of file with its neighbours. Files are made in `files`, from a picture or from
//! the photo of a V.

mod files;

use std::path::Path;
use std::time::{Duration, Instant};

use fastrand::Rng;
use files::worst;
use files::*;
use jpeg_encoder::SamplingFactor;
use vision::decode::{DecodeError, Decoded, Format, Limits, Photo, decode};

fn decoded(file: &[u8]) -> Decoded {
    decode(file, Limits::DEFAULT).unwrap_or_else(|error| panic!("{error}"))
}

fn photo(file: &[u8]) -> Photo {
    decoded(file).photo
}

fn refused(file: &[u8]) -> DecodeError {
    match decode(file, Limits::DEFAULT) {
        Err(error) => error,
        Ok(decoded) => panic!("{:?} is no error", decoded.photo),
    }
}

/// Checks that a file is of a kind that is not supported, and that the error names it.
fn assert_unsupported(file: &[u8], named: &str) {
    match refused(file) {
        DecodeError::Unsupported { feature, .. } => {
            assert!(feature.contains(named), "{feature} is not {named}");
        }
        other => panic!("{other:?} is not {named}"),
    }
}

/// Returns the photo of a V in `tests/photos`.
fn letter_v() -> Vec<u8> {
    let photos = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/photos");
    std::fs::read(photos.join("v.jpg")).expect("the photo")
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut random = Rng::with_seed(seed);
    std::iter::repeat_with(|| random.u8(..)).take(length).collect()
}

/// Returns the largest difference between two photos of one size.
fn difference(one: &Photo, other: &Photo) -> u8 {
    assert_eq!((one.width(), one.height()), (other.width(), other.height()));
    let pairs = one.pixels().iter().zip(other.pixels());
    pairs.map(|(a, b)| a.abs_diff(*b)).max().expect("pixels")
}

/// Checks that a photo is another one without its last rows.
///
/// In JPEG, the last rows that are left have no neighbours below, from which colours would be mixed.
fn assert_first_rows(cut: &Photo, whole: &Photo, mixed_rows: usize) {
    assert_eq!(cut.width(), whole.width());
    assert!(cut.height() <= whole.height() && 8 * cut.height() >= 7 * whole.height(), "{cut:?}");
    let equal = (cut.height() - mixed_rows) * 3 * cut.width();
    assert!(cut.pixels()[..equal] == whole.pixels()[..equal], "{cut:?} differs from {whole:?}");
}

// JPEG: what stands behind the picture

#[test]
fn motion_photo_is_decoded_up_to_the_pictures_end() {
    let video = [b"\0\0\0\x18ftypmp42\0\0\0\0isommp42", &noise(1, 2_000_000)[..]].concat();
    let scan_markers = video.windows(2).filter(|pair| *pair == [0xff, 0xda]).count();
    let end_markers = video.windows(2).filter(|pair| *pair == [0xff, 0xd9]).count();
    // More of them than a picture may have scans is no matter.
    assert!(scan_markers > 10 && end_markers > 10, "{scan_markers} {end_markers}");
    let video = [&video[..], &[0xff, 0xda].repeat(1000)].concat();
    for jpeg in [letter_v(), jpeg(90, 70), jpeg_with(90, 70, |e| e.set_progressive(true))] {
        assert_eq!(photo(&[&jpeg[..], &video].concat()), photo(&jpeg));
    }
}

#[test]
fn second_picture_behind_the_first_is_ignored() {
    let (first, second) = (jpeg(90, 70), grey_jpeg(40, 40));
    assert_eq!(photo(&[&first[..], &second].concat()), photo(&first));
    // A stream without end markers.
    let endless = &first[..first.len() - 2];
    assert_eq!(photo(&[endless, &second].concat()), photo(&first));
}

#[test]
fn bytes_behind_or_before_the_end_marker_are_ignored() {
    for jpeg in [jpeg(90, 70), jpeg_with(90, 70, |e| e.set_progressive(true))] {
        let expected = photo(&jpeg);
        let (body, end) = jpeg.split_at(jpeg.len() - 2);
        for before in [&[0x12, 0x34][..], &[0; 40], &[0xff], &[0xff, 0xff]] {
            assert_eq!(photo(&[body, before, end].concat()), expected, "{before:?} before");
        }
        for behind in [&[0; 4096][..], b"\r\n", &[0xff], &noise(2, 5000)] {
            assert_eq!(photo(&[&jpeg, behind].concat()), expected, "{} behind", behind.len());
        }
    }
}

#[test]
fn text_before_a_jpeg_is_passed_over() {
    let jpeg = jpeg(90, 70);
    for text in [&b"\r\n"[..], b"\n", b"\xef\xbb\xbf", b" \t\n\xef\xbb\xbf"] {
        assert_eq!(photo(&[text, &jpeg].concat()), photo(&jpeg), "{text:?}");
    }
    assert_eq!(refused(&[b"x", &jpeg[..]].concat()), DecodeError::UnknownFormat);
}

#[test]
fn profiles_comments_and_thumbnails_are_passed_over() {
    let plain = jpeg(90, 70);
    let thumbnail = exif_segment(&[exif(1, false, false), jpeg(16, 16)].concat());
    let profile = segment(0xe2, &[b"ICC_PROFILE\0\x01\x01", &noise(3, 65_000)[..]].concat());
    let largest = segment(0xe2, &[0xff; 65_533]);
    let comment = segment(0xfe, b"\xff\xda\xff\xd9");
    let file = with_segments(&plain, &[thumbnail, profile, largest, comment]);
    assert_eq!(photo(&file), photo(&plain));
}

// JPEG: the end is missing

/// JPEGs of all kinds of scans.
fn all_kinds_of_scans() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("V", letter_v()),
        ("one scan", jpeg(160, 200)),
        ("grey", grey_jpeg(160, 200)),
        ("subsampled", jpeg_with(161, 403, |e| e.set_sampling_factor(SamplingFactor::R_4_2_0))),
        ("restarts", jpeg_with(160, 200, |e| e.set_restart_interval(7))),
        // The encoder writes a scan for each component here.
        ("optimised", jpeg_with(160, 200, |e| e.set_optimized_huffman_tables(true))),
        ("three scans", jpeg_with(160, 200, |e| e.set_sampling_factor(SamplingFactor::R_4_1_1))),
        ("progressive", jpeg_with(160, 200, |e| e.set_progressive(true))),
        (
            "progressive, subsampled, restarts",
            jpeg_with(161, 203, |e| {
                e.set_sampling_factor(SamplingFactor::R_4_2_0);
                e.set_progressive(true);
                e.set_restart_interval(5);
            }),
        ),
    ]
}

#[test]
fn jpeg_without_end_marker_is_whole() {
    for (name, jpeg) in all_kinds_of_scans() {
        let expected = photo(&jpeg);
        for missing in [1, 2] {
            let cut = photo(&jpeg[..jpeg.len() - missing]);
            assert!(cut == expected, "{name}, {missing} bytes missing");
        }
        // A marker's first byte is left of it, or zeros were written instead.
        let zeros = [&jpeg[..jpeg.len() - 2], &[0; 100]].concat();
        assert!(photo(&zeros) == expected, "{name}, zeros behind");
    }
}

#[test]
fn jpeg_cut_near_its_end_loses_its_last_rows() {
    for (name, jpeg) in all_kinds_of_scans().into_iter().take(5) {
        let whole = photo(&jpeg);
        let scan = position(&jpeg, &[0xff, 0xda]);
        let mut heights = Vec::new();
        for percent in [99, 97, 95] {
            let cut = &jpeg[..scan + (jpeg.len() - scan) * percent / 100];
            let cut = decode(cut, Limits::DEFAULT)
                .unwrap_or_else(|e| panic!("{name}, {percent}: {e}"))
                .photo;
            assert_first_rows(&cut, &whole, 2);
            heights.push(cut.height());
        }
        assert!(heights.is_sorted_by(|a, b| a >= b), "{name}: {heights:?}");
        assert!(heights[2] < whole.height(), "{name}: {heights:?}");
        assert_eq!(decoded(&jpeg[..jpeg.len() - 60]).source_size, decoded(&jpeg).source_size);
    }
}

#[test]
fn jpeg_cut_in_half_is_incomplete() {
    for (name, jpeg) in all_kinds_of_scans() {
        // Something else than the rest, with what looks like further segments.
        let other = [&jpeg[..jpeg.len() / 2], &[0xff, 0x02, 0xff, 0xfe, 0, 4, 0, 0, 7, 7]].concat();
        assert_eq!(refused(&other), DecodeError::Incomplete { format: Format::Jpeg }, "{name}");
        for part in [jpeg.len() / 2, jpeg.len() * 3 / 4, jpeg.len() / 4, 100, 3] {
            let error = refused(&jpeg[..part]);
            assert_eq!(error, DecodeError::Incomplete { format: Format::Jpeg }, "{name}, {part}");
        }
    }
}

#[test]
fn jpeg_whose_end_is_noise_is_incomplete() {
    for (name, jpeg) in all_kinds_of_scans() {
        for (percent, length) in [(95, 3000), (50, 8000), (99, 1000)] {
            let noise: Vec<u8> = noise(9, length).into_iter().map(|byte| byte & 0x7f).collect();
            let file = [&jpeg[..jpeg.len() * percent / 100], &noise].concat();
            if name.starts_with("progressive") && percent == 95 {
                // The scan that is noise may be one that is needed, or not.
                continue;
            } else if name.starts_with("progressive") && percent == 99 {
                // The last scan is left out.
                assert!(difference(&photo(&file), &photo(&jpeg)) < 60, "{name}, {percent}");
            } else {
                let error = refused(&file);
                assert_eq!(error, DecodeError::Incomplete { format: Format::Jpeg }, "{name}");
            }
        }
    }
}

/// Of a progressive JPEG, only whole scans count.
#[test]
fn progressive_jpeg_without_its_last_scan_is_a_photo() {
    let jpeg = jpeg_with(160, 200, |encoder| encoder.set_progressive(true));
    let last = jpeg.windows(2).rposition(|pair| pair == [0xff, 0xda]).expect("a scan");
    let without = photo(&[&jpeg[..last], &[0xff, 0xd9]].concat());
    for end in [last, last + 1, last + 5, last + 12] {
        assert_eq!(photo(&jpeg[..end]), without, "{end} of {}", jpeg.len());
    }
    assert!(difference(&without, &photo(&jpeg)) < 30);
}

// JPEG: variants

#[test]
fn missing_restart_marker_is_damage() {
    let jpeg = jpeg_with(160, 200, |encoder| encoder.set_restart_interval(7));
    for marker in [0xd0, 0xd3] {
        let at = position(&jpeg, &[0xff, marker]);
        let without = [&jpeg[..at], &jpeg[at + 2..]].concat();
        let error = refused(&without);
        assert!(matches!(error, DecodeError::Broken { .. }), "{error:?}");
        let mut other = jpeg.clone();
        other[at + 1] = 0xd6;
        assert!(matches!(refused(&other), DecodeError::Broken { .. }));
    }
}

#[test]
fn variants_that_are_not_decoded_are_named() {
    let jpeg = jpeg(90, 70);
    let frame = position(&jpeg, &[0xff, 0xc0]);
    let with = |offset: usize, value: u8| {
        let mut file = jpeg.clone();
        file[frame + offset] = value;
        file
    };
    for (marker, named) in [
        (0xc3, "lossless"),
        (0xc5, "hierarchical"),
        (0xc6, "hierarchical"),
        (0xc7, "hierarchical"),
        (0xc9, "arithmetic"),
        (0xca, "arithmetic"),
        (0xcb, "arithmetic"),
        (0xcd, "hierarchical"),
        (0xcf, "hierarchical"),
    ] {
        assert_unsupported(&with(1, marker), named);
    }
    for bits in [12, 16, 2] {
        for marker in [0xc0, 0xc1, 0xc2] {
            let mut file = with(1, marker);
            file[frame + 4] = bits;
            assert_unsupported(&file, &format!("{bits} bits"));
        }
    }
    let mut without_height = jpeg.clone();
    without_height[frame + 5..frame + 7].fill(0);
    assert_unsupported(&without_height, "height");
    // The first component has 3 samples where the second has 2.
    let mut fraction = with(11, 0x31);
    fraction[frame + 14] = 0x21;
    assert_unsupported(&fraction, "fraction");
    let frame_twice = with_segments(&jpeg, &[jpeg[frame..frame + 19].to_vec()]);
    assert_unsupported(&frame_twice, "hierarchical");
    assert_unsupported(&with_segments(&jpeg, &[segment(0xde, &jpeg[frame + 4..])]), "hierarchical");
}

#[test]
fn every_subsampling_is_decoded() {
    let expected = photo(&jpeg_with(160, 200, |e| e.set_sampling_factor(SamplingFactor::R_4_4_4)));
    for (name, factor) in [
        ("4:4:0", SamplingFactor::R_4_4_0),
        ("4:2:2", SamplingFactor::R_4_2_2),
        ("4:2:0", SamplingFactor::R_4_2_0),
        ("4:1:1", SamplingFactor::R_4_1_1),
        ("4:1:0", SamplingFactor::R_4_1_0),
        ("4:4:1", SamplingFactor::R_4_4_1),
        ("4:2:1", SamplingFactor::R_4_2_1),
    ] {
        let photo = photo(&jpeg_with(160, 200, |encoder| encoder.set_sampling_factor(factor)));
        let pairs = photo.pixels().iter().zip(expected.pixels());
        let sum: u32 = pairs.map(|(a, b)| u32::from(a.abs_diff(*b))).sum();
        let mean = f64::from(sum) / photo.pixels().len() as f64;
        assert!(mean < 6.0, "{name}: {mean}");
    }
}

/// With one component, sampling factors mean nothing.
#[test]
fn grey_jpeg_of_any_sampling_factor_is_decoded() {
    let jpeg = grey_jpeg(48, 72);
    let frame = position(&jpeg, &[0xff, 0xc0]);
    for factors in [0x11, 0x12, 0x21, 0x22, 0x31, 0x13, 0x33, 0x41, 0x44] {
        let mut file = jpeg.clone();
        file[frame + 11] = factors;
        assert_eq!(photo(&file), photo(&jpeg), "{factors:x}");
        assert_eq!(photo(&file[..file.len() - 2]), photo(&jpeg), "{factors:x} without end marker");
    }
    let mut file = jpeg.clone();
    for factors in [0x10, 0x01, 0x51, 0x15, 0x00] {
        file[frame + 11] = factors;
        assert!(matches!(refused(&file), DecodeError::Broken { .. }), "{factors:x}");
    }
}

/// Cameras send Motion JPEG without the tables, which the standard has.
#[test]
fn jpeg_without_huffman_tables_has_those_of_the_standard() {
    let jpeg = jpeg(90, 70);
    let mut without = Vec::from(&jpeg[..2]);
    let mut at = 2;
    while jpeg[at + 1] != 0xda {
        let length = 2 + usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]]));
        if jpeg[at + 1] != 0xc4 {
            without.extend(&jpeg[at..at + length]);
        }
        at += length;
    }
    without.extend(&jpeg[at..]);
    assert!(without.len() + 400 < jpeg.len(), "{} of {}", without.len(), jpeg.len());
    assert_eq!(photo(&without), photo(&jpeg));
}

#[test]
fn scans_are_limited_by_number_and_cost() {
    let jpeg = grey_jpeg(16, 16);
    let scan = position(&jpeg, &[0xff, 0xda]);
    let (head, scan) = (&jpeg[..scan], &jpeg[scan..jpeg.len() - 2]);
    let with = |head: &[u8], count: usize| [head, &scan.repeat(count), &[0xff, 0xd9]].concat();
    assert_eq!(photo(&with(head, 100)), photo(&jpeg));
    assert_unsupported(&with(head, 101), "100 scans");
    // 99 scans of 36 megapixels: without data, each decodes zeros for half a second.
    let mut large = head.to_vec();
    let frame = position(&large, &[0xff, 0xc0]);
    large[frame + 5..frame + 9].copy_from_slice(&[0x17, 0x70, 0x17, 0x70]);
    let start = Instant::now();
    match refused(&with(&large, 99)) {
        DecodeError::TooManyPixelsOf { kind, limit, .. } => {
            assert_eq!(kind, "JPEG of 99 scans");
            assert!((100_000..1_000_000).contains(&limit), "{limit}");
        }
        other => panic!("{other:?}"),
    }
    assert!(start.elapsed() < Duration::from_millis(100), "{:?}", start.elapsed());
    let tables = segment(0xdd, &[0, 0]).repeat(1000);
    assert_unsupported(&with_segments(&jpeg, &[tables]), "1000 segments");
}

// EXIF

/// Checks the orientation that is found in files, and that it is applied: the photo is not as wide any
/// more as it is high.
fn assert_orientation(file: &[u8], expected: u8) {
    let decoded = decoded(file);
    assert_eq!(decoded.orientation, expected);
    let (width, height) = decoded.source_size;
    let stored = (width as usize, height as usize);
    let turned = if expected >= 5 { (stored.1, stored.0) } else { stored };
    assert_eq!((decoded.photo.width(), decoded.photo.height()), turned);
}

#[test]
fn orientation_of_a_jpeg_is_found() {
    let jpeg = jpeg(90, 70);
    let xmp = segment(0xe1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>");
    for (long, big_endian) in [(false, false), (false, true), (true, false), (true, true)] {
        for orientation in 1..=8 {
            let exif = exif_segment(&exif(orientation, long, big_endian));
            let [alone, behind] = [vec![exif.clone()], vec![xmp.clone(), exif]];
            assert_orientation(&with_segments(&jpeg, &alone), orientation);
            assert_orientation(&with_segments(&jpeg, &behind), orientation);
        }
        for unknown in [0, 9, 255] {
            let exif = exif_segment(&exif(unknown, long, big_endian));
            assert_orientation(&with_segments(&jpeg, &[exif]), 1);
        }
    }
}

#[test]
fn first_exif_segment_counts() {
    let jpeg = jpeg(90, 70);
    let segments = [6, 1, 3].map(|orientation| exif_segment(&exif(orientation, false, true)));
    assert_orientation(&with_segments(&jpeg, &segments), 6);
    assert_orientation(&with_segments(&jpeg, &[exif_segment(b""), segments[0].clone()]), 1);
    // Behind other segments, and in a file without end marker.
    let scan = position(&jpeg, &[0xff, 0xda]);
    let file = [&jpeg[..scan], &segments.concat(), &jpeg[scan..jpeg.len() - 2]].concat();
    assert_orientation(&file, 6);
}

// PNG

/// The chunks of a small PNG: header, data.
fn small_png() -> [Vec<u8>; 2] {
    let data = zlib(&rows(&picture(90, 70), 3 * 90));
    [png_header(90, 70, 8, 2, false), chunk(b"IDAT", &data)]
}

#[test]
fn orientation_of_a_png_is_found() {
    let [header, data] = small_png();
    for orientation in 1..=8 {
        let exif = exif(orientation, false, true);
        let prefixed = [b"Exif\0\0", &exif[..]].concat();
        for exif in [chunk(b"eXIf", &exif), chunk(b"eXIf", &prefixed)] {
            let before = png(&[header.clone(), exif.clone(), data.clone()]);
            assert_orientation(&before, orientation);
            assert_orientation(&png(&[header.clone(), data.clone(), exif]), orientation);
        }
    }
    let [six, one] = [6, 1].map(|o| chunk(b"eXIf", &exif(o, true, false)));
    assert_orientation(&png(&[header, six, one, data]), 6);
}

#[test]
fn chunks_that_a_picture_does_not_need_are_passed_over() {
    let [header, data] = small_png();
    let expected = photo(&png(&[header.clone(), data.clone()]));
    let bomb = [b"icc\0\0", &zlib_of_zeros(1, 1 << 20, 0)[..]].concat();
    let others: [(&[u8; 4], &[u8]); 9] = [
        (b"tEXt", b"Comment\0hello"),
        (b"iCCP", &bomb),
        (b"zTXt", &bomb),
        (b"iTXt", b"broken"),
        // Here, the crate `png` 0.18.1 would fail.
        (b"cICP", &[1, 13, 9, 1]),
        (b"fcTL", &[0; 26]),
        (b"acTL", &[0; 8]),
        (b"PLTE", &[1, 2, 3]),
        (b"tIME", &[]),
    ];
    for (kind, content) in others {
        let other = chunk(kind, content);
        let before = photo(&png(&[header.clone(), other.clone(), data.clone()]));
        assert_eq!(before, expected, "{kind:?} before");
        assert_eq!(photo(&png(&[header.clone(), data.clone(), other])), expected, "{kind:?} after");
    }
}

/// A profile of 1 MB that inflates to a gigabyte took 4 s and the gigabyte.
#[test]
fn png_with_a_bomb_is_decoded_at_once() {
    let [header, data] = small_png();
    let bomb = zlib_of_zeros(1, 1 << 30, 0);
    assert!((1_000_000..10_000_000).contains(&bomb.len()), "{} bytes", bomb.len());
    for kind in [b"iCCP", b"zTXt"] {
        let bomb = chunk(kind, &[b"icc\0\0", &bomb[..]].concat());
        let file = png(&[header.clone(), bomb, data.clone()]);
        let start = Instant::now();
        assert_eq!(photo(&file), photo(&png(&[header.clone(), data.clone()])));
        assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    }
}

/// Returns a chunk with another checksum.
fn with_wrong_checksum(mut chunk: Vec<u8>) -> Vec<u8> {
    *chunk.last_mut().expect("a checksum") ^= 1;
    chunk
}

#[test]
fn wrong_checksum_of_a_chunk_that_a_picture_does_not_need_is_no_error() {
    let [header, data] = small_png();
    let expected = photo(&png(&[header.clone(), data.clone()]));
    let text = with_wrong_checksum(chunk(b"tEXt", b"Comment\0hello"));
    let transparency = with_wrong_checksum(chunk(b"tRNS", &[0; 6]));
    for other in [text, transparency] {
        assert_eq!(photo(&png(&[header.clone(), other, data.clone()])), expected);
    }
    for chunks in
        [[with_wrong_checksum(header.clone()), data.clone()], [header, with_wrong_checksum(data)]]
    {
        assert!(matches!(refused(&png(&chunks)), DecodeError::Broken { .. }));
    }
}

#[test]
fn data_may_be_in_many_chunks() {
    let [header, data] = small_png();
    let expected = photo(&png(&[header.clone(), data.clone()]));
    let mut chunks = vec![header];
    for piece in data[8..data.len() - 4].chunks(1) {
        chunks.extend([chunk(b"IDAT", piece), chunk(b"IDAT", b"")]);
    }
    chunks.insert(1000, chunk(b"tEXt", b"Comment\0between"));
    assert_eq!(photo(&png(&chunks)), expected);
}

#[test]
fn png_without_end_is_whole() {
    let [header, data] = small_png();
    let file = png(&[header.clone(), data.clone()]);
    // The end chunk, and the checksums before it.
    for missing in [1, 12, 13, 16, 20] {
        assert_eq!(photo(&file[..file.len() - missing]), photo(&file), "{missing} bytes missing");
    }
    // Data that a long run of zeros ends: the decoder has it all, and still owes most of it.
    let zeros = chunk(b"IDAT", &zlib_of_zeros(3000, 1 + 3 * 4000, 2));
    let file = png(&[png_header(4000, 3000, 8, 2, false), zeros]);
    assert_eq!(photo(&file[..file.len() - 12]), photo(&file));
}

#[test]
fn png_cut_near_its_end_loses_its_last_rows() {
    let [header, data] = small_png();
    let file = png(&[header, data]);
    let whole = photo(&file);
    for missing in [300, 1000, 2000] {
        let cut = photo(&file[..file.len() - missing]);
        assert_first_rows(&cut, &whole, 0);
        // The data is not compressed.
        let rows = 70 - (missing - 20usize).div_ceil(271);
        assert!(cut.height().abs_diff(rows) <= 1, "{missing} bytes missing: {cut:?}");
    }
    for length in [file.len() / 2, file.len() * 3 / 4, 60, 33, 20, 9] {
        let error = refused(&file[..length]);
        assert_eq!(error, DecodeError::Incomplete { format: Format::Png }, "{length} bytes");
    }
}

#[test]
fn damaged_png_is_no_incomplete_one() {
    let [header, data] = small_png();
    let damaged = chunk(b"IDAT", &[0xff; 1000]);
    assert!(matches!(refused(&png(&[header.clone(), damaged])), DecodeError::Broken { .. }));
    for only in [&header, &data] {
        let error = refused(&png(std::slice::from_ref(only)));
        assert!(matches!(error, DecodeError::Broken { .. }), "{error:?}");
    }
    let apple = [chunk(b"CgBI", &[0x50, 0, 0x20, 2]), header];
    assert_unsupported(&png(&apple), "Apple");
}

#[test]
fn interlaced_png_equals_one_that_is_not() {
    for (width, height) in [(90, 70), (1, 1), (2, 5), (5, 3), (3, 1), (1, 9), (8, 8), (1500, 1441)]
    {
        let pixels = picture(width, height);
        let file = |interlaced: bool| {
            let rows = match interlaced {
                false => rows(&pixels, 3 * width),
                true => interlaced_rows(&pixels, width, height, 3),
            };
            let header = png_header(width as u32, height as u32, 8, 2, interlaced);
            png(&[header, chunk(b"IDAT", &zlib(&rows))])
        };
        assert!(photo(&file(true)) == photo(&file(false)), "{width} × {height}");
    }
}

#[test]
fn interlaced_png_that_was_cut_is_incomplete() {
    let rows = interlaced_rows(&picture(90, 70), 90, 70, 3);
    let file = png(&[png_header(90, 70, 8, 2, true), chunk(b"IDAT", &zlib(&rows))]);
    assert_eq!(photo(&file[..file.len() - 12]), photo(&file));
    let error = refused(&file[..file.len() - 200]);
    assert_eq!(error, DecodeError::Incomplete { format: Format::Png });
}

#[test]
fn every_kind_of_png_pixels_becomes_rgb() {
    let palette = chunk(b"PLTE", &[0, 0, 0, 200, 100, 50, 9, 9, 9, 255, 255, 255]);
    let see_through = chunk(b"tRNS", &[255, 128]);
    /// Depth and colour type, chunks before the data, a row of two pixels, what becomes of them.
    type Case<'a> = (u8, u8, &'a [&'a [u8]], &'a [u8], [[u8; 3]; 2]);
    let cases: [Case<'_>; 13] = [
        (1, 0, &[], &[0b0100_0000], [[0; 3], [255; 3]]),
        (2, 0, &[], &[0b0111_0000], [[85; 3], [255; 3]]),
        (4, 0, &[], &[0x1f], [[17; 3], [255; 3]]),
        (8, 0, &[], &[7, 70], [[7; 3], [70; 3]]),
        (16, 0, &[], &[7, 255, 70, 0], [[7; 3], [70; 3]]),
        (8, 2, &[], &[1, 2, 3, 4, 5, 6], [[1, 2, 3], [4, 5, 6]]),
        (16, 2, &[], &[1, 0, 2, 0, 3, 9, 4, 0, 5, 0, 6, 9], [[1, 2, 3], [4, 5, 6]]),
        (8, 4, &[], &[100, 255, 100, 51], [[100; 3], [20; 3]]),
        (16, 4, &[], &[100, 0, 255, 0, 100, 0, 51, 0], [[100; 3], [20; 3]]),
        (8, 6, &[], &[10, 20, 30, 255, 10, 20, 30, 0], [[10, 20, 30], [0; 3]]),
        (2, 3, &[&palette], &[0b0111_0000], [[200, 100, 50], [255; 3]]),
        (8, 3, &[&palette, &see_through], &[1, 3], [[100, 50, 25], [255; 3]]),
        // The palette ends before the index.
        (8, 3, &[&palette], &[1, 77], [[200, 100, 50], [0; 3]]),
    ];
    for (depth, color, chunks, row, expected) in cases {
        let data = chunk(b"IDAT", &zlib(&[&[0], row].concat()));
        let header = png_header(2, 1, depth, color, false);
        let file = png(&[header, chunks.concat(), data]);
        assert_eq!(photo(&file).pixels(), expected.concat(), "{depth} bits, type {color}");
    }
    // A colour that stands for transparency.
    for (depth, color, transparent, row) in
        [(8, 0, &[0, 7][..], &[7, 70][..]), (16, 0, &[7, 1], &[7, 1, 70, 0])]
    {
        let chunks = [
            png_header(2, 1, depth, color, false),
            chunk(b"tRNS", transparent),
            chunk(b"IDAT", &zlib(&[&[0], row].concat())),
        ];
        assert_eq!(photo(&png(&chunks)).pixels(), [0, 0, 0, 70, 70, 70], "{depth} bits");
    }
}

#[test]
fn png_of_too_many_bytes_is_refused_by_its_header() {
    for (depth, color, bits) in [(16, 6, 64), (16, 2, 48), (8, 6, 32)] {
        let limit = 147_000_000 * 8 / bits;
        for (height, too_many) in [(limit / 5000, false), (limit / 5000 + 1, true)] {
            let file = png(&[png_header(5000, height, depth, color, false)]);
            match refused(&file) {
                DecodeError::TooManyPixelsOf { kind, limit: found, .. } => {
                    assert!(too_many, "{bits} bits, {height} rows");
                    assert_eq!(kind, format!("PNG of {bits} bits a pixel"));
                    assert_eq!(found, u64::from(limit));
                }
                // It has no data.
                other => assert!(!too_many, "{bits} bits, {height} rows: {other}"),
            }
        }
    }
}

// WebP

/// Returns what `image-webp` makes of a file, on black.
fn by_library(file: &[u8]) -> Vec<u8> {
    let mut decoder = image_webp::WebPDecoder::new(std::io::Cursor::new(file)).expect("a header");
    let mut pixels = vec![0; decoder.output_buffer_size().expect("a size")];
    decoder.read_image(&mut pixels).expect("a picture");
    if !decoder.has_alpha() {
        return pixels;
    }
    let on_black = |pixel: &[u8; 4]| {
        [0, 1, 2].map(|i| (u16::from(pixel[i]) * u16::from(pixel[3]) / 255) as u8)
    };
    pixels.as_chunks::<4>().0.iter().flat_map(on_black).collect()
}

#[test]
fn lossy_webp_has_the_colors_of_the_library() {
    for (width, height) in [(1, 1), (2, 2), (3, 1), (1, 4), (16, 16), (17, 33), (48, 31), (47, 18)]
    {
        let file = webp(&[riff_chunk(b"VP8 ", &vp8_noise(width, height, 20_000))]);
        assert_eq!(photo(&file).pixels(), by_library(&file), "{width} × {height}");
        let simple = webp(&[
            vp8x(0, width.into(), height.into()),
            riff_chunk(b"VP8 ", &vp8_noise(width, height, 20_000)),
        ]);
        assert_eq!(photo(&simple), photo(&file));
    }
}

/// Returns a picture of transparency as a lossless WebP's data without its header.
fn compressed_alpha(values: &[u8], width: u32, height: u32) -> Vec<u8> {
    let pixels: Vec<u8> = values.iter().flat_map(|value| [0, *value, 0]).collect();
    let mut file = Vec::new();
    image_webp::WebPEncoder::new(&mut file)
        .encode(&pixels, width, height, image_webp::ColorType::Rgb8)
        .expect("an encoder");
    // Container, chunk, signature and header.
    file[12 + 8 + 5..].to_vec()
}

#[test]
fn transparency_is_that_of_the_library() {
    for (width, height) in [(1u16, 1u16), (1, 5), (7, 1), (40, 30)] {
        let (w, h) = (u32::from(width), u32::from(height));
        let values = noise(5, usize::from(width) * usize::from(height));
        let picture = riff_chunk(b"VP8 ", &vp8_noise(width, height, 20_000));
        for filter in 0..4u8 {
            for (compression, data) in [(0, values.clone()), (1, compressed_alpha(&values, w, h))] {
                let alpha = [&[filter << 2 | compression], &data[..]].concat();
                let alpha = riff_chunk(b"ALPH", &alpha);
                let file = webp(&[vp8x(ALPHA, w, h), alpha.clone(), picture.clone()]);
                assert_eq!(photo(&file).pixels(), by_library(&file), "{w} × {h}, {filter}");
                // The same in an animation.
                let frame = animation(0, 0, w, h, &[alpha, picture.clone()]);
                let animated = webp(&[vp8x(ALPHA | ANIMATION, w, h), frame]);
                assert_eq!(photo(&animated), photo(&file));
            }
        }
    }
}

#[test]
fn broken_transparency_is_an_error() {
    let picture = riff_chunk(b"VP8 ", &vp8_grey(20, 20));
    let compressed = compressed_alpha(&[9; 400], 20, 20);
    for alpha in [
        &[][..],
        &[0],
        &[&[0], &[1; 399][..]].concat(),
        &[1],
        &[&[1], &compressed[..compressed.len() / 2]].concat(),
        &[&[2], &[1; 400][..]].concat(),
    ] {
        let chunks = [vp8x(ALPHA, 20, 20), riff_chunk(b"ALPH", alpha), picture.clone()];
        let error = refused(&webp(&chunks));
        assert!(matches!(error, DecodeError::Broken { .. }), "{alpha:?}: {error:?}");
    }
}

/// `image-webp` 0.2.4 panics here, at two places.
#[test]
fn frame_of_another_size_than_its_header_is_an_error() {
    let alpha = |width: usize, height: usize| {
        riff_chunk(b"ALPH", &[&[0], &vec![255; width * height][..]].concat())
    };
    let picture = riff_chunk(b"VP8 ", &vp8_grey(64, 64));
    for (width, height) in [(16, 16), (64, 16), (16, 64), (63, 64), (64, 63), (65, 64), (128, 128)]
    {
        let frame = [alpha(width as usize, height as usize), picture.clone()];
        let animated = animation(0, 0, width, height, &frame);
        for chunks in [frame.to_vec(), vec![picture.clone()]] {
            let file = webp(&[vp8x(ALPHA | ANIMATION, 128, 128), animated.clone()]);
            let error = refused(&file);
            assert!(error.to_string().contains("another size"), "{width} × {height}: {error}");
            let still = webp(&[vp8x(ALPHA, width, height), chunks.concat()]);
            assert!(refused(&still).to_string().contains("another size"), "{width} × {height}");
        }
    }
    // The frame itself is right, and outside of the picture.
    let frame = animation(66, 0, 64, 64, &[alpha(64, 64), picture.clone()]);
    let error = refused(&webp(&[vp8x(ALPHA | ANIMATION, 128, 128), frame]));
    assert!(error.to_string().contains("outside"), "{error}");
}

#[test]
fn first_frame_stands_on_its_canvas() {
    let picture = riff_chunk(b"VP8 ", &vp8_noise(40, 30, 20_000));
    let inner = photo(&webp(std::slice::from_ref(&picture)));
    let second = animation(0, 0, 40, 30, &[riff_chunk(b"VP8 ", &vp8_grey(40, 30))]);
    let first = animation(10, 6, 40, 30, &[picture]);
    let whole = photo(&webp(&[vp8x(ANIMATION, 60, 50), first, second]));
    assert_eq!((whole.width(), whole.height()), (60, 50));
    for (i, pixel) in whole.pixels().as_chunks::<3>().0.iter().enumerate() {
        let (x, y) = (i % 60, i / 60);
        let expected = match (x.checked_sub(10), y.checked_sub(6)) {
            (Some(x @ 0..40), Some(y @ 0..30)) => &inner.pixels()[(y * 40 + x) * 3..][..3],
            _ => &[0; 3],
        };
        assert_eq!(pixel, expected, "{x}, {y}");
    }
}

#[test]
fn orientation_of_a_webp_is_found() {
    let picture = riff_chunk(b"VP8 ", &vp8_grey(90, 70));
    for orientation in 1..=8 {
        let data = exif(orientation, false, false);
        let exif = riff_chunk(b"EXIF", &data);
        let prefixed = riff_chunk(b"EXIF", &[b"Exif\0\0", &data[..]].concat());
        let unknown = riff_chunk(b"PSAI", &[0; 79]);
        // Bit 3 announces EXIF.
        for flags in [0, 8] {
            let header = vp8x(flags, 90, 70);
            let file = [header.clone(), picture.clone(), exif.clone()];
            assert_orientation(&webp(&file), orientation);
            let file = [header.clone(), picture.clone(), unknown.clone(), prefixed.clone()];
            assert_orientation(&webp(&file), orientation);
            assert_orientation(&webp(&[header, exif.clone(), picture.clone()]), orientation);
        }
    }
    // EXIF is announced, and not there.
    assert_orientation(&webp(&[vp8x(8, 90, 70), picture]), 1);
}

#[test]
fn lossless_webp_keeps_pixels_and_transparency() {
    let (width, height) = (40, 30);
    let pixels = noise(6, 4 * 1200);
    let mut file = Vec::new();
    image_webp::WebPEncoder::new(&mut file)
        .encode(&pixels, width, height, image_webp::ColorType::Rgba8)
        .expect("an encoder");
    assert_eq!(photo(&file).pixels(), by_library(&file));
    // An extended header without the flag of transparency.
    let picture = riff_chunk(b"VP8L", &file[20..]);
    let opaque = webp(&[vp8x(0, width, height), picture.clone()]);
    assert_eq!(photo(&opaque).pixels(), by_library(&opaque));
    let transparent = webp(&[vp8x(ALPHA, width, height), picture]);
    assert_eq!(photo(&transparent), photo(&file));
}

/// A lossless picture whose codes of green give each sequence of bits two meanings.
fn ambiguous_code() -> Vec<u8> {
    let mut bits = Bits::default();
    bits.number(0, 3);
    let code: Vec<u32> = [1, 1, 1].into_iter().chain(2..=15).chain([15]).collect();
    lengths(&mut bits, &code);
    for symbol in [0, 0, 255, 0] {
        single(&mut bits, symbol);
    }
    bits.bytes.extend([0; 100]);
    vp8l(16, 16, &bits.bytes)
}

/// `image-webp` 0.2.4 panics here.
#[test]
fn ambiguous_code_of_a_lossless_webp_is_an_error() {
    let error = refused(&webp(&[riff_chunk(b"VP8L", &ambiguous_code())]));
    assert!(error.to_string().contains("codes are damaged"), "{error}");
    // As transparency.
    let alpha = [&[1], &ambiguous_code()[5..]].concat();
    let picture = riff_chunk(b"VP8 ", &vp8_grey(16, 16));
    let chunks = [vp8x(ALPHA, 16, 16), riff_chunk(b"ALPH", &alpha), picture];
    let error = refused(&webp(&chunks));
    assert!(error.to_string().contains("codes are damaged"), "{error}");
}

#[test]
fn lossless_webp_of_many_tables_is_refused() {
    assert_unsupported(&worst::lossless_webp_of_many_tables(), "code tables");
}

#[test]
fn webp_that_was_cut_is_incomplete() {
    let lossy = webp(&[riff_chunk(b"VP8 ", &vp8_noise(40, 30, 5000))]);
    let chunks = [
        vp8x(ALPHA, 40, 30),
        riff_chunk(b"ICCP", &[0; 100]),
        riff_chunk(b"VP8 ", &vp8_noise(40, 30, 5000)),
    ];
    let frame = animation(0, 0, 40, 30, &chunks[2..]);
    let animated = webp(&[vp8x(ANIMATION, 40, 30), frame]);
    let mut lossless = Vec::new();
    image_webp::WebPEncoder::new(&mut lossless)
        .encode(&picture(40, 30), 40, 30, image_webp::ColorType::Rgb8)
        .expect("an encoder");
    for file in [lossy, webp(&chunks), animated, lossless] {
        photo(&file);
        for length in [12, 15, 19, 25, file.len() / 2, file.len() - 3] {
            let error = refused(&file[..length]);
            assert_eq!(error, DecodeError::Incomplete { format: Format::WebP }, "{length} bytes");
        }
    }
    // Behind the picture, nothing is needed.
    let chunks = [vp8x(8, 40, 30), riff_chunk(b"VP8 ", &vp8_grey(40, 30))];
    let exif = riff_chunk(b"EXIF", &exif(6, false, false));
    let file = webp(&[chunks.concat(), exif]);
    assert_orientation(&file[..file.len() - 4], 6);
    assert_orientation(&file[..file.len() - 20], 1);
}

#[test]
fn large_webp_is_refused_by_its_header() {
    for (picture, limit) in [
        (webp(&[riff_chunk(b"VP8 ", &vp8(5000, 4000, &[]))]), 12_600_000),
        (webp(&[riff_chunk(b"VP8L", &vp8l(5000, 4000, &[]))]), 8_000_000),
        (
            webp(&[
                vp8x(ALPHA, 5000, 4000),
                riff_chunk(b"ALPH", &[0]),
                riff_chunk(b"VP8 ", &vp8(5000, 4000, &[])),
            ]),
            5_000_000,
        ),
        // The canvas counts.
        (
            webp(&[
                vp8x(ANIMATION, 5000, 4000),
                animation(0, 0, 16, 16, &[riff_chunk(b"VP8 ", &vp8_grey(16, 16))]),
            ]),
            12_600_000,
        ),
    ] {
        match refused(&picture) {
            DecodeError::TooManyPixelsOf { width: 5000, height: 4000, limit: found, .. } => {
                assert_eq!(found, limit);
            }
            other => panic!("{other:?}"),
        }
    }
}

// All formats

#[test]
fn jpeg_of_48_megapixels_is_decoded() {
    let bytes = jpeg_with(8064, 6048, |e| e.set_sampling_factor(SamplingFactor::R_4_2_0));
    let decoded = decoded(&bytes);
    assert_eq!(decoded.source_size, (8064, 6048));
    assert_eq!((decoded.photo.width(), decoded.photo.height()), (1008, 756));
}

/// The decoder would make up values for all of it, which takes a second.
#[test]
fn large_jpeg_without_data_is_incomplete() {
    let file = files::worst::jpeg_of_48_megapixels_without_data();
    assert_eq!(refused(&file), DecodeError::Incomplete { format: Format::Jpeg });
}

/// Rows of one pixel cost as much as long ones: 50 million took 6 s.
#[test]
fn long_strip_is_refused_at_once() {
    let start = Instant::now();
    for (width, height) in [(1, 50_000_000), (50_000_000, 1), (1000, 32_769)] {
        let file = png(&[png_header(width, height, 8, 2, false), chunk(b"IDAT", &[0])]);
        assert!(matches!(refused(&file), DecodeError::TooLong { .. }), "{width} × {height}");
    }
    let file = jpeg_with(5000, 8, |_| {});
    assert!(matches!(refused(&file), DecodeError::TooNarrow { .. }));
    // A panorama, and a small strip.
    assert_eq!(photo(&jpeg(5000, 300)).width(), 5000);
    assert_eq!(photo(&jpeg(3000, 1)).width(), 3000);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

/// Bytes changed anywhere: an answer, whatever it is.
#[test]
fn changed_bytes_never_panic() {
    let lossless = {
        let mut file = Vec::new();
        image_webp::WebPEncoder::new(&mut file)
            .encode(&picture(40, 30), 40, 30, image_webp::ColorType::Rgb8)
            .expect("an encoder");
        file
    };
    let alpha = [&[0b1101], &compressed_alpha(&noise(8, 1200), 40, 30)[..]].concat();
    let chunks = [riff_chunk(b"ALPH", &alpha), riff_chunk(b"VP8 ", &vp8_noise(40, 30, 5000))];
    let interlaced = interlaced_rows(&picture(40, 30), 40, 30, 3);
    let mut files = vec![
        lossless,
        webp(&[vp8x(ALPHA, 40, 30), chunks.concat()]),
        webp(&[vp8x(ALPHA | ANIMATION, 40, 30), animation(0, 0, 40, 30, &chunks)]),
        png(&small_png()),
        png(&[png_header(40, 30, 8, 2, true), chunk(b"IDAT", &zlib(&interlaced))]),
    ];
    files.extend(all_kinds_of_scans().into_iter().map(|(_, file)| file));
    let mut random = Rng::with_seed(17);
    let mut decoded = 0;
    let count = 6000;
    for i in 0..count {
        let mut file = files[i % files.len()].clone();
        for _ in 0..random.usize(1..=6) {
            // Headers more often than data.
            let within = if random.bool() { file.len().min(200) } else { file.len() };
            let at = random.usize(..within);
            file[at] = random.u8(..);
        }
        if random.u8(..) < 30 {
            file.truncate(random.usize(..file.len()));
        }
        // Small pictures: time is for other tests.
        let limits = Limits { max_pixels: 200_000, ..Limits::DEFAULT };
        decoded += usize::from(decode(&file, limits).is_ok());
    }
    // Some still show a picture, and most of the others reach a decoder.
    assert!(decoded > count / 20 && decoded < count, "{decoded} of {count}");
}

// What the libraries do: `docs/library-faults.md`

/// Checks that `image-webp` panics. Its message goes to the test's output.
fn assert_library_panics(file: &[u8]) {
    let result = std::panic::catch_unwind(|| {
        let decoder = image_webp::WebPDecoder::new(std::io::Cursor::new(file));
        let mut decoder = decoder.expect("a header");
        let mut pixels = vec![0; decoder.output_buffer_size().expect("a size")];
        _ = decoder.read_image(&mut pixels);
    });
    assert!(result.is_err(), "it is mended: see docs/library-faults.md");
}

#[test]
fn library_panics_at_frames_of_another_size() {
    let picture = riff_chunk(b"VP8 ", &vp8_grey(64, 64));
    for (width, height) in [(16, 16), (16, 1)] {
        let alpha = [&[0][..], &[255; 256][..width as usize * height as usize]].concat();
        let alpha = riff_chunk(b"ALPH", &alpha);
        let frame = animation(0, 0, width, height, &[alpha, picture.clone()]);
        assert_library_panics(&webp(&[vp8x(ALPHA | ANIMATION, 64, 64), frame]));
    }
}

#[test]
fn library_panics_at_an_ambiguous_code() {
    assert_library_panics(&webp(&[riff_chunk(b"VP8L", &ambiguous_code())]));
}

//! Mutations of files: of any bytes, and of the units that a container consists of.
//!
//! A decoder checks much by lengths and checksums. Flipped bits alone would fail at the first of them, so
//! units are also dropped, doubled, exchanged and cut as wholes, their lengths are overwritten, and
//! checksums are mostly made right again.

use std::ops::Range;

use fastrand::Rng;

/// Longest file that a mutation makes, in bytes: under the service's limit, and quick to send.
const MAX_LENGTH: usize = 2 << 20;

/// Numbers at which programs fail.
const NUMBERS: [u64; 14] = [
    0,
    1,
    2,
    3,
    7,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x0001_0000,
    0x7fff_ffff,
    0xffff_fff0,
    0xffff_ffff,
];

/// Mutates a file in one to four ways. `other` is another file, to splice with.
pub fn mutate(random: &mut Rng, bytes: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..random.usize(1..=4) {
        match random.u8(..12) {
            0 | 1 => flip_bits(random, bytes),
            2 => overwrite_number(random, bytes),
            3 => cut(random, bytes),
            4 => double(random, bytes),
            5 => splice(random, bytes, other),
            6 => insert_noise(random, bytes),
            _ => mutate_units(random, bytes),
        }
        bytes.truncate(MAX_LENGTH);
    }
}

/// Returns a range in bytes, most often a short one.
fn range(random: &mut Rng, length: usize) -> Range<usize> {
    if length == 0 {
        return 0..0;
    }
    let start = random.usize(..length);
    let most = if random.u8(..4) == 0 { length - start } else { (length - start).min(64) };
    start..start + random.usize(..=most)
}

fn flip_bits(random: &mut Rng, bytes: &mut [u8]) {
    if bytes.is_empty() {
        return;
    }
    // Headers are at the start, and short beside the data.
    let end = if random.bool() { bytes.len().min(256) } else { bytes.len() };
    for _ in 0..random.usize(1..=8) {
        bytes[random.usize(..end)] ^= 1 << random.u8(..8);
    }
}

/// Writes a number of one to four bytes over what is there.
fn overwrite_number(random: &mut Rng, bytes: &mut [u8]) {
    if bytes.is_empty() {
        return;
    }
    let end = if random.bool() { bytes.len().min(256) } else { bytes.len() };
    let start = random.usize(..end);
    let width = random.usize(1..=4).min(bytes.len() - start);
    write_number(random, &mut bytes[start..start + width]);
}

/// Writes a number into a field, in either order of bytes.
fn write_number(random: &mut Rng, field: &mut [u8]) {
    let number = NUMBERS[random.usize(..NUMBERS.len())];
    let number = if random.u8(..8) == 0 { random.u64(..) } else { number };
    for (place, byte) in field.iter_mut().enumerate() {
        *byte = (number >> (8 * place).min(56)) as u8;
    }
    if random.bool() {
        field.reverse();
    }
}

fn cut(random: &mut Rng, bytes: &mut Vec<u8>) {
    if random.bool() {
        bytes.truncate(random.usize(..=bytes.len()));
    } else {
        bytes.drain(range(random, bytes.len()));
    }
}

fn double(random: &mut Rng, bytes: &mut Vec<u8>) {
    let part = bytes[range(random, bytes.len())].to_vec();
    let place = random.usize(..=bytes.len());
    bytes.splice(place..place, part);
}

/// Puts the end of another file behind a beginning of this one, or a part of it into this one.
fn splice(random: &mut Rng, bytes: &mut Vec<u8>, other: &[u8]) {
    if random.bool() {
        bytes.truncate(random.usize(..=bytes.len()));
        bytes.extend_from_slice(&other[random.usize(..=other.len())..]);
    } else {
        let part = other[range(random, other.len())].to_vec();
        let place = range(random, bytes.len());
        bytes.splice(place, part);
    }
}

fn insert_noise(random: &mut Rng, bytes: &mut Vec<u8>) {
    let noise: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(64).collect();
    let noise = &noise[..random.usize(1..=64)];
    let place = random.usize(..=bytes.len());
    bytes.splice(place..place, noise.iter().copied());
}

/// A unit of a container: a JPEG's segment, a PNG's or a RIFF's chunk, a line of text.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Unit {
    whole: Range<usize>,
    /// The field that holds its length; empty if there is none.
    length: Range<usize>,
    /// Its content.
    content: Range<usize>,
}

fn mutate_units(random: &mut Rng, bytes: &mut Vec<u8>) {
    let all = units(bytes);
    let Some(unit) = pick(random, &all) else { return flip_bits(random, bytes) };
    let Some(another) = pick(random, &all) else { return };
    match random.u8(..8) {
        0 => _ = bytes.drain(unit.whole),
        1 => {
            let copy = bytes[unit.whole].to_vec();
            bytes.splice(another.whole.start..another.whole.start, copy);
        }
        2 => {
            // The later one first, so that the earlier one stays where it is.
            let (first, second) = match unit.whole.start < another.whole.start {
                true => (unit.whole, another.whole),
                false => (another.whole, unit.whole),
            };
            if first.end <= second.start {
                let (a, b) = (bytes[first.clone()].to_vec(), bytes[second.clone()].to_vec());
                bytes.splice(second, a);
                bytes.splice(first, b);
            }
        }
        3 | 4 => write_number(random, &mut bytes[unit.length]),
        5 => {
            // A part of the content is gone, and the length does not say so.
            let part = range(random, unit.content.len());
            bytes.drain(unit.content.start + part.start..unit.content.start + part.end);
        }
        _ => {
            // The fields at the start of the content: sizes, flags, counts.
            let end = unit.content.len().min(32);
            for _ in 0..random.usize(1..=3) {
                let Some(start) = (end > 0).then(|| random.usize(..end)) else { break };
                let width = random.usize(1..=4).min(end - start);
                let start = unit.content.start + start;
                write_number(random, &mut bytes[start..start + width]);
            }
        }
    }
    if random.u8(..5) > 0 {
        mend_checksums(bytes);
    }
}

fn pick(random: &mut Rng, units: &[Unit]) -> Option<Unit> {
    (!units.is_empty()).then(|| units[random.usize(..units.len())].clone())
}

/// Returns the units of a file, as far as it is well-formed.
fn units(bytes: &[u8]) -> Vec<Unit> {
    let mut units = Vec::new();
    if bytes.starts_with(b"\xff\xd8") {
        segments(bytes, &mut units);
    } else if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        png_chunks(bytes, &mut units);
    } else if bytes.starts_with(b"RIFF") && bytes.len() >= 12 {
        let length = 4..8;
        units.push(Unit { whole: 0..bytes.len(), length, content: 8..bytes.len() });
        riff_chunks(bytes, 12, bytes.len(), &mut units);
    }
    units
}

/// A JPEG's segments up to the first scan, and then what is between markers.
fn segments(bytes: &[u8], units: &mut Vec<Unit>) {
    let mut start = 2;
    while let Some([0xff, marker, high, low]) = bytes.get(start..start + 4) {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let mut end = (start + 2 + length).min(bytes.len());
        let content = (start + 4).min(end)..end;
        if *marker == 0xda {
            // The scan's data, in which 0xff stands before 0 or a restart marker.
            let next = bytes[end..].windows(2).position(|pair| {
                pair[0] == 0xff && pair[1] != 0 && !(0xd0..=0xd7).contains(&pair[1])
            });
            end = next.map_or(bytes.len(), |next| end + next);
        }
        units.push(Unit { whole: start..end, length: start + 2..start + 4, content });
        start = end;
    }
}

fn png_chunks(bytes: &[u8], units: &mut Vec<Unit>) {
    let mut start = 8;
    while let Some(length) = bytes.get(start..start + 4) {
        let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
        let end = start.saturating_add(12).saturating_add(length);
        if end > bytes.len() {
            return;
        }
        let content = start + 8..end - 4;
        units.push(Unit { whole: start..end, length: start..start + 4, content });
        start = end;
    }
}

/// A RIFF file's chunks, and those inside of an animation's frames.
fn riff_chunks(bytes: &[u8], mut start: usize, end: usize, units: &mut Vec<Unit>) {
    while let Some(header) = bytes.get(start..start + 8) {
        let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
        let next = (start + 8).saturating_add(length).saturating_add(length % 2);
        let whole = start..next.min(end);
        if whole.end < start + 8 {
            return;
        }
        let content = start + 8..whole.end;
        if header.starts_with(b"ANMF") && content.len() > 16 {
            riff_chunks(bytes, content.start + 16, content.end, units);
        }
        units.push(Unit { whole, length: start + 4..start + 8, content });
        if next >= end {
            return;
        }
        start = next;
    }
}

/// Makes the checksums of a PNG's chunks right.
fn mend_checksums(bytes: &mut [u8]) {
    if !bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        return;
    }
    let mut chunks = Vec::new();
    png_chunks(bytes, &mut chunks);
    for Unit { whole, content, .. } in chunks {
        let sum = crc32fast::hash(&bytes[whole.start + 4..content.end]);
        bytes[content.end..whole.end].copy_from_slice(&sum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeds;

    fn whole(bytes: &[u8]) -> Vec<Range<usize>> {
        units(bytes).into_iter().map(|unit| unit.whole).collect()
    }

    #[test]
    fn units_of_containers_are_found() {
        let jpeg = b"\xff\xd8\xff\xe0\0\x04ab\xff\xda\0\x03c\x01\xff\0\x02\xff\xd9";
        assert_eq!(whole(jpeg), [2..8, 8..17]);
        let png = b"\x89PNG\r\n\x1a\n\0\0\0\x01IDATxCRC?\0\0\0\0IENDCRC?\0\0\0\x09late";
        assert_eq!(whole(png), [8..21, 21..33]);
        let webp = b"RIFF\x10\0\0\0WEBPVP8X\x01\0\0\0a\0EXIF\0\0\0\0";
        assert_eq!(whole(webp), [0..30, 12..22, 22..30]);
        assert!(whole(b"text").is_empty());
    }

    #[test]
    fn every_seed_is_mutated() {
        let seeds = seeds::all();
        for (number, seed) in seeds.iter().enumerate() {
            let mut random = Rng::with_seed(number as u64);
            let mut bytes = seed.bytes.clone();
            let mut changed = 0;
            for other in seeds.iter().cycle().skip(number).take(60) {
                let before = bytes.clone();
                mutate(&mut random, &mut bytes, &other.bytes);
                changed += usize::from(bytes != before);
                assert!(bytes.len() <= MAX_LENGTH);
            }
            assert!(changed >= 30, "{}: {changed}", seed.name);
        }
    }

    #[test]
    fn checksums_are_mended() {
        let seeds = seeds::all();
        let png = seeds.iter().find(|seed| seed.name == "png-rgb").expect("a seed");
        let mut broken = png.bytes.clone();
        // In the header's checksum.
        broken[30] ^= 1;
        mend_checksums(&mut broken);
        assert_eq!(broken, png.bytes);
    }
}

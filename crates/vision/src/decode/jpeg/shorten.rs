//! Leaves out the codes of a sequential picture that a scaled one does not need.
//!
//! A block scaled to one pixel is its mean alone, one of 2 × 2 pixels takes three further coefficients, and one of
//! 4 × 4 the first 25. To go past a code takes a fraction of the time of decoding it, since several are looked up
//! together. What is left is a scan of its own, with the same pixels.

use super::entropy::{Blocks, Layout, Sink, Stop, Tables};
use super::{DecodeError, Format, Outline, broken};

/// A scan's data without the codes that are not needed.
pub(super) struct Shortened {
    pub(super) data: Vec<u8>,
    /// Blocks whose data is missing: the decoder makes up their values.
    pub(super) missing: u64,
}

/// Returns the last coefficient, in zigzag order, that a picture divided by this needs.
pub(super) fn last_needed(divisor: u32) -> u8 {
    match divisor {
        8.. => 0,
        4 => 4,
        2 => 24,
        _ => 63,
    }
}

/// Shortens the data of a sequential scan.
///
/// `None` if it cannot be done: a table is not there or has no code for a block's end, there is something
/// other than a restart marker where one shall be, or the result would be longer.
///
/// # Errors
/// [`DecodeError::Broken`] where `jpeg-decoder` would fail.
pub(super) fn of(
    outline: &Outline<'_>,
    scan: usize,
    divisor: u32,
) -> Result<Option<Shortened>, DecodeError> {
    let tables = Tables::of(outline, scan);
    let layout = Layout::of(outline, scan, &tables);
    let mut group = Vec::new();
    for (count, dc, ac) in &layout.group {
        let end = ac.and_then(|ac| ac.end_of_block);
        let (Some(_), Some(end)) = (dc, end) else { return Ok(None) };
        group.push((*count, *dc, *ac, end));
    }
    let length = outline.scans[scan].data.len();
    let longest = length + length / 8 + 1024;
    let mut writer = Writer::new(last_needed(divisor).into());
    let mut blocks = Blocks::of(outline, scan);
    let (mut groups, mut passed) = (0, 0);
    for _ in 0..layout.rows {
        if writer.bytes.len() > longest {
            return Ok(None);
        }
        for _ in 0..layout.columns {
            if layout.restart_interval > 0 && groups == layout.restart_interval {
                groups = 0;
                let Some(marker) = blocks.restart() else { return Ok(None) };
                writer.marker(marker);
            }
            groups += 1;
            for (count, dc, ac, (end, end_length)) in &group {
                for _ in 0..*count {
                    match blocks.pass(*dc, *ac, &mut writer) {
                        Ok(()) => {}
                        Err(Stop::Damaged) => {
                            return Err(broken(Format::Jpeg, "a code that its table lacks"));
                        }
                        Err(Stop::Ends) if !blocks.bits.at_end() => return Ok(None),
                        Err(Stop::Ends) => {
                            // What follows for the decoder are zeros, and the beginning of a code is one of
                            // them.
                            match blocks.keeps() {
                                true => {
                                    let (bits, count) = blocks.bits.take_rest();
                                    writer.put(bits, count);
                                }
                                false => writer.put(*end, *end_length),
                            }
                            let missing = layout.blocks() - passed;
                            return Ok(Some(Shortened { data: writer.finish(0), missing }));
                        }
                    }
                    writer.put(*end, *end_length);
                    passed += 1;
                }
            }
        }
    }
    Ok(Some(Shortened { data: writer.finish(0xff), missing: 0 }))
}

/// Writes bits, with a zero behind each 0xff.
struct Writer {
    bytes: Vec<u8>,
    /// Bits that are not written yet, less than 32, from the highest on, then zeros.
    buffer: u64,
    filled: u32,
    last: u32,
}

impl Writer {
    fn new(last: u32) -> Writer {
        Writer { bytes: Vec::new(), buffer: 0, filled: 0, last }
    }

    /// Fills the last byte with these bits.
    fn align(&mut self, padding: u8) {
        let count = self.filled.next_multiple_of(8) - self.filled;
        self.put(u32::from(padding) & ((1 << count) - 1), count);
        for byte in self.buffer.to_be_bytes().into_iter().take(self.filled as usize / 8) {
            self.byte(byte);
        }
        (self.buffer, self.filled) = (0, 0);
    }

    fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
        if byte == 0xff {
            self.bytes.push(0);
        }
    }

    fn marker(&mut self, marker: u8) {
        self.align(0xff);
        self.bytes.extend([0xff, marker]);
    }

    fn finish(mut self, padding: u8) -> Vec<u8> {
        self.align(padding);
        self.bytes
    }
}

impl Sink for Writer {
    fn last(&self) -> u32 {
        self.last
    }

    #[inline]
    fn put(&mut self, bits: u32, count: u32) {
        if count == 0 {
            return;
        }
        self.buffer |= u64::from(bits) << (64 - self.filled - count);
        self.filled += count;
        if self.filled >= 32 {
            let four = ((self.buffer >> 32) as u32).to_be_bytes();
            if four.contains(&0xff) {
                four.into_iter().for_each(|byte| self.byte(byte));
            } else {
                self.bytes.extend(four);
            }
            self.buffer <<= 32;
            self.filled -= 32;
        }
    }
}

#[cfg(test)]
mod tests {
    use jpeg_decoder::Decoder;
    use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

    use super::*;
    use crate::decode::jpeg::SOS;

    /// Returns a JPEG of noise between even parts.
    fn jpeg(change: impl FnOnce(&mut Encoder<&mut Vec<u8>>)) -> Vec<u8> {
        let mut random = fastrand::Rng::with_seed(5);
        let (width, height) = (83, 61);
        let value = |at: usize| {
            if (at / 997).is_multiple_of(2) { random.u8(..) } else { (at / 2500) as u8 }
        };
        let pixels: Vec<u8> = (0..3 * width * height).map(value).collect();
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes, 80);
        change(&mut encoder);
        encoder.encode(&pixels, width as u16, height as u16, ColorType::Rgb).expect("an encoder");
        bytes
    }

    /// Returns a file with its scans shortened. `None` if none could be.
    fn shortened(file: &[u8], divisor: u32) -> Result<Option<Vec<u8>>, DecodeError> {
        let outline = Outline::read(file)?;
        let (mut bytes, mut any, mut scan) = (vec![0xff, 0xd8], false, 0);
        for segment in &outline.segments {
            bytes.extend(segment.whole);
            if segment.marker == SOS {
                if let Some(Shortened { data, .. }) = of(&outline, scan, divisor)? {
                    bytes.truncate(bytes.len() - outline.scans[scan].data.len());
                    bytes.extend(data);
                    any = true;
                }
                scan += 1;
            }
        }
        bytes.extend([0xff, 0xd9]);
        Ok(any.then_some(bytes))
    }

    fn pixels(file: &[u8], divisor: u32) -> Option<Vec<u8>> {
        let mut decoder = Decoder::new(file);
        decoder.read_info().ok()?;
        let info = decoder.info()?;
        let scaled = |side: u16| side.div_ceil(divisor as u16);
        decoder.scale(scaled(info.width), scaled(info.height)).ok()?;
        decoder.decode().ok()
    }

    /// Checks that a shortened file becomes the same pixels as the whole one, or no more than it. Returns true if
    /// it could be shortened.
    fn assert_same_pixels(file: &[u8], divisor: u32, about: &str) -> bool {
        match shortened(file, divisor) {
            Ok(Some(short)) => {
                let same = pixels(&short, divisor) == pixels(file, divisor);
                assert!(same, "{about}, divided by {divisor}");
                true
            }
            Ok(None) => false,
            Err(error) => {
                assert_eq!(pixels(file, divisor), None, "{about}, divided by {divisor}: {error}");
                false
            }
        }
    }

    /// Returns the positions of the first scan's data.
    fn first_scan(file: &[u8]) -> std::ops::Range<usize> {
        let outline = Outline::read(file).expect("a file");
        let data = outline.scans[0].data;
        let start = data.as_ptr().addr() - file.as_ptr().addr();
        start..start + data.len()
    }

    fn variants() -> Vec<Vec<u8>> {
        let samplings = [
            SamplingFactor::R_4_4_4,
            SamplingFactor::R_4_2_0,
            SamplingFactor::R_4_2_2,
            SamplingFactor::R_4_1_1,
        ];
        let mut variants: Vec<Vec<u8>> = samplings
            .into_iter()
            .flat_map(|sampling| [0, 3].map(|restarts| (sampling, restarts)))
            .map(|(sampling, restarts)| {
                jpeg(|encoder| {
                    encoder.set_sampling_factor(sampling);
                    encoder.set_restart_interval(restarts);
                    encoder.set_optimized_huffman_tables(true);
                })
            })
            .collect();
        variants.push(jpeg(|_| {}));
        variants
    }

    #[test]
    fn shortened_scan_has_the_same_pixels() {
        for (number, file) in variants().iter().enumerate() {
            let mut lengths = vec![file.len()];
            for divisor in [2, 4, 8] {
                assert!(assert_same_pixels(file, divisor, &format!("variant {number}")));
                lengths.push(shortened(file, divisor).expect("a file").expect("shorter").len());
            }
            assert!(lengths.is_sorted_by(|longer, shorter| longer > shorter), "{lengths:?}");
        }
    }

    #[test]
    fn scan_cut_anywhere_has_the_same_pixels() {
        for (number, file) in variants().iter().enumerate() {
            let mut shortened = 0;
            for length in (first_scan(file).start..file.len()).step_by(37) {
                let cut = [&file[..length], &[0xff, 0xd9]].concat();
                for divisor in [2, 4, 8] {
                    let about = format!("{length} bytes of variant {number}");
                    shortened += usize::from(assert_same_pixels(&cut, divisor, &about));
                }
            }
            assert!(shortened > 50, "{shortened}");
        }
    }

    #[test]
    fn damaged_scan_has_the_same_pixels() {
        let mut random = fastrand::Rng::with_seed(11);
        let variants = variants();
        let mut shortened = 0;
        for round in 0..2000 {
            let mut file = variants[round % variants.len()].clone();
            let data = first_scan(&file);
            for _ in 0..random.usize(1..4) {
                let at = random.usize(data.clone());
                // No marker comes or goes.
                if file[at] != 0xff && file[at - 1] != 0xff {
                    file[at] = random.u8(..0xff);
                }
            }
            let divisor = [2, 4, 8][round % 3];
            shortened += usize::from(assert_same_pixels(&file, divisor, &format!("round {round}")));
        }
        assert!(shortened > 300, "{shortened}");
    }
}

//! JPEG: the file's structure is read here, and `jpeg-decoder` gets what the picture needs.
//!
//! [`Outline`] ends at the picture's own end marker: phones put videos and further pictures behind it.
//! It leaves out thumbnails, profiles and comments, takes the orientation from the first EXIF segment,
//! as browsers do, and counts the scans that are really in the picture.
//!
//! # A file that ends before its end marker
//!
//! - Sequential: the photo has the rows whose data is there, if an eighth is missing at most. Which
//!   these are is read in the data itself (`extent`), so that no row is invented.
//! - Progressive: each scan refines the whole picture, and a scan that was cut off is left out. The
//!   photo counts if every coefficient of the first component, the brightness, came at least to its
//!   last bit but one.
//!
//! All else is [`DecodeError::Incomplete`].

mod entropy;
mod extent;
mod shorten;

use jpeg_decoder::PixelFormat;

use super::pieces::Pieces;
use super::{
    DecodeError, Format, Limits, Photo, Stored, broken, divisor, exif, memory, nearly_all,
    unsupported,
};

/// Largest number of scans in a JPEG. Progressive photos have about ten.
const MAX_SCANS: usize = 100;

/// Largest number of segments that the decoder gets. Photos have some ten, and two more a scan.
const MAX_SEGMENTS: usize = 1000;

/// Largest length of all segments of Huffman tables, in bytes. Photos have at most one for each component,
/// class and scan, of 276 bytes.
const MAX_TABLES: usize = 256 << 10;

/// Largest cost of all scans, in visits to a coefficient.
///
/// A scan visits every coefficient of its band, in every block, even where the file has no data: a
/// small file of many scans would decode for hours. Progressive photos cost four to six visits a pixel. A
/// visit takes some 10 ns at worst: docs/benchmarks.md, "The photos that cost most".
const MAX_VISITS: u64 = 68_000_000;

/// Largest cost of a sequential picture.
///
/// 50 megapixels in one scan with the usual subsampling, 4:2:0, cost 80 million. Its data is shortened, and of the
/// values that the decoder makes up where data is missing, [`MAX_VISITS`] are allowed.
const MAX_VISITS_OF_DATA: u64 = 80_000_000;

/// Cost from which on the data of a picture is shortened if only its side is halved: most coefficients of a photo
/// are needed then.
const WORTH_SHORTENING: u64 = 20_000_000;

/// Cost of a block in a scan beside its coefficients, in visits to a coefficient. Estimated.
const VISITS_OF_BLOCK: u64 = 4;

/// Coefficients of a block, 8 × 8.
const BLOCK: u64 = 64;

// Markers (ITU-T T.81, table B.1).
const DHT: u8 = 0xc4;
const JPG: u8 = 0xc8;
const DAC: u8 = 0xcc;
const SOI: u8 = 0xd8;
const EOI: u8 = 0xd9;
const SOS: u8 = 0xda;
const DQT: u8 = 0xdb;
const DRI: u8 = 0xdd;
const DHP: u8 = 0xde;
const EXP: u8 = 0xdf;
const APP0: u8 = 0xe0;
const APP1: u8 = 0xe1;
const APP14: u8 = 0xee;

/// The bytes that the decoder reads after the file's last one, again and again.
const END: &[u8] = &[0xff, EOI];

/// A segment that makes `jpeg-decoder` use the tables of T.81, annex K, where the file has none: frames
/// of cameras (Motion JPEG) leave them out.
const MOTION_JPEG: &[u8] = b"\xff\xe0\0\x07AVI1\0";

/// A file's structure, up to the end of its picture.
struct Outline<'a> {
    frame: Frame,
    /// The segments that the decoder needs, in the file's order.
    segments: Vec<Segment<'a>>,
    scans: Vec<Scan<'a>>,
    exif: Option<&'a [u8]>,
    /// True if the end marker was found.
    ended: bool,
}

/// A marker segment.
struct Segment<'a> {
    marker: u8,
    /// All bytes, from the marker on. A scan's data belongs to its header.
    whole: &'a [u8],
    /// The bytes after the length, without a scan's data.
    payload: &'a [u8],
}

/// A frame header (T.81, B.2.2).
struct Frame {
    progressive: bool,
    width: u16,
    height: u16,
    components: Vec<Component>,
}

struct Component {
    id: u8,
    /// Sampling factors, 1 to 4: blocks in each direction of a group of blocks (MCU).
    across: u32,
    down: u32,
}

/// A scan header (T.81, B.2.3) with the scan's data.
struct Scan<'a> {
    /// Index in [`Outline::segments`].
    segment: usize,
    /// Indices in [`Frame::components`], each with the numbers of its DC and AC tables.
    components: Vec<(usize, u8, u8)>,
    /// First and last coefficient.
    band: (u8, u8),
    /// Bits of precision that earlier scans left out; 0 in the first scan of a coefficient.
    high: u8,
    /// Bits of precision that this scan leaves out.
    low: u8,
    data: &'a [u8],
    /// True if the data is followed by a marker.
    followed: bool,
}

/// Decodes a JPEG. A photo of 12 megapixels never exists at full size: the decoder scales.
pub(super) fn decode(bytes: &[u8], limits: Limits) -> Result<Stored, DecodeError> {
    let mut outline = Outline::read(bytes)?;
    let source_size = outline.frame.size();
    limits.check(source_size)?;
    let rows = outline.leave_out_what_was_cut()?;
    let divisor = divisor(source_size);
    outline.leave_out_scans(divisor);
    outline.check_cost(divisor, memory(bytes.len()))?;
    outline.frame.height = rows;
    let shortened = outline.shorten(divisor)?;

    let header_rows = rows.to_be_bytes();
    let mut slices: Vec<&[u8]> = vec![&[0xff, SOI]];
    if !outline.segments.iter().any(|segment| segment.marker == DHT) {
        slices.push(MOTION_JPEG);
    }
    let mut scans = outline.scans.iter().zip(&shortened);
    for Segment { marker, whole, .. } in &outline.segments {
        if *marker == SOS
            && let Some((scan, Some(data))) = scans.next()
        {
            slices.extend([&whole[..whole.len() - scan.data.len()], data]);
            continue;
        }
        match (frame_marker(*marker), whole.split_at_checked(5), whole.get(7..)) {
            // The rows stand after marker, length and precision.
            (true, Some((head, _)), Some(tail)) => slices.extend([head, &header_rows, tail]),
            _ => slices.push(whole),
        }
    }
    let mut decoder = jpeg_decoder::Decoder::new(Pieces::new(slices, END));
    decoder.read_info().map_err(failed)?;
    // A divisor of 1 is not asked for: one row would be scaled by 8, which leaves one row.
    if divisor > 1 {
        let scaled = |side: u16| side.div_ceil(divisor as u16);
        decoder.scale(scaled(outline.frame.width), scaled(rows)).map_err(failed)?;
    }
    let pixels = decoder.decode().map_err(failed)?;
    let info = decoder.info().ok_or_else(|| broken(Format::Jpeg, "no frame header"))?;
    // It holds a progressive photo's coefficients.
    drop(decoder);
    let rgb = rgb(info.pixel_format, pixels)?;
    let photo = Photo::from_rgb(info.width.into(), info.height.into(), rgb)
        .ok_or_else(|| broken(Format::Jpeg, "too few pixels"))?;
    Ok(Stored { photo, source_size, orientation: outline.exif.map_or(1, exif::orientation) })
}

/// Returns decoded pixels as RGB.
fn rgb(format: PixelFormat, pixels: Vec<u8>) -> Result<Vec<u8>, DecodeError> {
    Ok(match format {
        PixelFormat::RGB24 => pixels,
        PixelFormat::L8 => pixels.into_iter().flat_map(|grey| [grey; 3]).collect(),
        // The decoder has undone Adobe's inversion: 0 is no ink.
        PixelFormat::CMYK32 => {
            let (inks, _) = pixels.as_chunks::<4>();
            let paper = |ink: u8| u16::from(255 - ink);
            let color =
                |ink: &[u8; 4]| [0, 1, 2].map(|i| (paper(ink[i]) * paper(ink[3]) / 255) as u8);
            inks.iter().flat_map(color).collect()
        }
        // Lossless photos alone have it.
        PixelFormat::L16 => return Err(unsupported(Format::Jpeg, "16 bits a sample")),
    })
}

fn failed(error: jpeg_decoder::Error) -> DecodeError {
    use jpeg_decoder::UnsupportedFeature::NonIntegerSubsamplingRatio;
    match error {
        jpeg_decoder::Error::Unsupported(NonIntegerSubsamplingRatio) => {
            unsupported(Format::Jpeg, "subsampling by a fraction")
        }
        jpeg_decoder::Error::Unsupported(feature) => {
            unsupported(Format::Jpeg, format!("{feature:?}"))
        }
        error => broken(Format::Jpeg, error),
    }
}

fn incomplete() -> DecodeError {
    DecodeError::Incomplete { format: Format::Jpeg }
}

/// Returns this share of pixels.
fn share(part: u64, of: u64, pixels: u64) -> u64 {
    (part as f64 / of as f64 * pixels as f64) as u64
}

/// True for the marker of a frame header.
fn frame_marker(marker: u8) -> bool {
    matches!(marker, 0xc0..=0xcf) && !matches!(marker, DHT | JPG | DAC)
}

/// Returns the position of the next marker: a byte 0xff before one that is neither 0 nor 0xff.
fn next_marker(bytes: &[u8], from: usize) -> Option<usize> {
    let is_marker = |pair: &[u8]| pair[0] == 0xff && !matches!(pair[1], 0 | 0xff);
    Some(from + bytes.get(from..)?.windows(2).position(is_marker)?)
}

/// Returns the position of the marker that ends a scan's data: any but a restart marker.
fn scan_end(bytes: &[u8], from: usize) -> Option<usize> {
    let is_end = |pair: &[u8]| pair[0] == 0xff && !matches!(pair[1], 0 | 0xd0..=0xd7 | 0xff);
    Some(from + bytes.get(from..)?.windows(2).position(is_end)?)
}

impl<'a> Outline<'a> {
    /// Reads a file that begins with [`SOI`].
    fn read(bytes: &'a [u8]) -> Result<Outline<'a>, DecodeError> {
        let mut frame: Option<Frame> = None;
        let (mut segments, mut scans) = (Vec::new(), Vec::<Scan<'a>>::new());
        let (mut exif, mut ended, mut tables) = (None, false, 0);
        let mut at = 2;
        while let Some(start) = next_marker(bytes, at) {
            let marker = bytes[start + 1];
            at = start + 2;
            match marker {
                EOI => {
                    ended = true;
                    break;
                }
                // The next picture, behind one without an end marker.
                SOI if !scans.is_empty() => break,
                // Markers without a segment, and those that stand for nothing.
                0x01..=0xbf | 0xd0..=SOI => continue,
                _ => {}
            }
            let Some(length) = bytes[at..].first_chunk().copied().map(u16::from_be_bytes) else {
                break;
            };
            let Some(payload) = bytes[at..].get(2..length.into()) else {
                if length < 2 {
                    return Err(broken(Format::Jpeg, "a segment without a length"));
                }
                break;
            };
            at += usize::from(length);
            match marker {
                DHP | EXP => return Err(unsupported(Format::Jpeg, "hierarchical coding")),
                APP1 if exif.is_none() && payload.starts_with(&exif::PREFIX[..5]) => {
                    exif = payload.get(exif::PREFIX.len()..);
                    continue;
                }
                _ if frame_marker(marker) => {
                    let header = Frame::read(marker, payload)?;
                    if frame.replace(header).is_some() {
                        return Err(unsupported(Format::Jpeg, "hierarchical coding"));
                    }
                }
                SOS => {
                    let Some(frame) = &frame else {
                        return Err(broken(Format::Jpeg, "a scan before the frame header"));
                    };
                    let end = scan_end(bytes, at);
                    let data = &bytes[at..end.unwrap_or(bytes.len())];
                    let scan = Scan::read(frame, payload, segments.len(), data, end.is_some())?;
                    scans.push(scan);
                    at += data.len();
                }
                DHT | DQT | DRI | APP0 | APP14 => {}
                _ => continue,
            }
            segments.push(Segment { marker, whole: &bytes[start..at], payload });
            if scans.len() > MAX_SCANS {
                return Err(unsupported(Format::Jpeg, format!("more than {MAX_SCANS} scans")));
            }
            if marker == DHT {
                tables += payload.len();
            }
            if tables > MAX_TABLES {
                let feature = format!("more than {MAX_TABLES} bytes of Huffman tables");
                return Err(unsupported(Format::Jpeg, feature));
            }
            if segments.len() > MAX_SEGMENTS {
                let feature = format!("more than {MAX_SEGMENTS} segments");
                return Err(unsupported(Format::Jpeg, feature));
            }
        }
        match frame {
            Some(frame) if !scans.is_empty() => Ok(Outline { frame, segments, scans, exif, ended }),
            _ if ended => Err(broken(Format::Jpeg, "no picture before its end marker")),
            _ => Err(incomplete()),
        }
    }

    /// Takes the end of a file that was cut off from the segments. Returns the number of rows of the
    /// picture that is left: all of a whole one.
    fn leave_out_what_was_cut(&mut self) -> Result<u16, DecodeError> {
        let height = self.frame.height;
        let last = self.scans.len() - 1;
        if self.ended {
            return Ok(height);
        }
        if self.frame.progressive {
            if !extent::of(self, last).is_some_and(|extent| extent.complete) {
                self.segments.truncate(self.scans[last].segment);
                self.scans.truncate(last);
            }
            return if self.shows_the_picture() { Ok(height) } else { Err(incomplete()) };
        }
        let extent = extent::of(self, last).ok_or_else(incomplete)?;
        let seen = |component| {
            let mut scanned = self.scans.iter().flat_map(|scan| &scan.components);
            scanned.any(|(index, ..)| *index == component)
        };
        let Scan { segment, data, followed, .. } = self.scans[last];
        let lost_its_end = !followed && extent.ends;
        if !(extent.complete || lost_its_end && nearly_all(extent.rows.into(), height.into()))
            || !(0..self.frame.components.len()).all(seen)
        {
            return Err(incomplete());
        }
        let rows = if extent.complete { height } else { extent.rows };
        // Behind the last row, the decoder shall find the end marker.
        let segment = &mut self.segments[segment];
        segment.whole = &segment.whole[..segment.whole.len() - data.len() + extent.bytes];
        self.scans[last].data = &data[..extent.bytes];
        Ok(rows)
    }

    /// Leaves out a progressive picture's scans of coefficients that a scaled one does not need.
    fn leave_out_scans(&mut self, divisor: u32) {
        if !self.frame.progressive {
            return;
        }
        let last = shorten::last_needed(divisor);
        let is_needed = |scan: &Scan<'_>| scan.band.0 <= last;
        let mut scans = self.scans.iter();
        self.segments.retain(|segment| segment.marker != SOS || scans.next().is_none_or(is_needed));
        self.scans.retain(is_needed);
        let places = (0..).zip(&self.segments).filter(|(_, segment)| segment.marker == SOS);
        for (scan, (place, _)) in self.scans.iter_mut().zip(places) {
            scan.segment = place;
        }
    }

    /// Shortens the data of each scan of a sequential picture, where that can be done and is worth it.
    ///
    /// # Errors
    /// Those of [`shorten::of`]. [`DecodeError::Incomplete`] if too many values would be made up, and
    /// [`DecodeError::TooManyPixelsOf`] if there is too much data that could not be shortened.
    fn shorten(&self, divisor: u32) -> Result<Vec<Option<Vec<u8>>>, DecodeError> {
        let costs: Vec<u64> = self.scans.iter().map(|scan| self.frame.visits(scan)).collect();
        let is_worth = divisor >= 4 || divisor == 2 && costs.iter().sum::<u64>() > WORTH_SHORTENING;
        if self.frame.progressive || !is_worth {
            return Ok(Vec::new());
        }
        let (mut whole, mut made_up) = (0, 0);
        let mut all = Vec::new();
        for (scan, cost) in costs.into_iter().enumerate() {
            let shortened = shorten::of(self, scan, divisor)?;
            match &shortened {
                Some(shortened) => made_up += shortened.missing * (BLOCK + VISITS_OF_BLOCK),
                None => whole += cost,
            }
            all.push(shortened.map(|shortened| shortened.data));
        }
        // A value from the data takes more than twice the time of one that is made up.
        let cost = made_up + 5 * whole / 2;
        if cost > MAX_VISITS && whole > 0 {
            let (width, height) = self.frame.size();
            let pixels = u64::from(width) * u64::from(height);
            let limit = share(MAX_VISITS, cost, pixels);
            let kind = "JPEG of unusual data".to_owned();
            return Err(DecodeError::TooManyPixelsOf { kind, width, height, limit });
        }
        if cost > MAX_VISITS {
            return Err(incomplete());
        }
        Ok(all)
    }

    /// True if the scans give a progressive picture: the mean of every block, and all coefficients of
    /// the first component to their last bit but one.
    fn shows_the_picture(&self) -> bool {
        let sent = |component: usize, coefficient: u8| {
            self.scans.iter().any(|scan| {
                scan.low <= 1
                    && (scan.band.0..=scan.band.1).contains(&coefficient)
                    && scan.components.iter().any(|(index, ..)| *index == component)
            })
        };
        (0..BLOCK as u8).all(|coefficient| sent(0, coefficient))
            && (1..self.frame.components.len()).all(|component| sent(component, 0))
    }

    /// Checks the time that decoding takes, and its memory against what is there, in bytes.
    fn check_cost(&self, divisor: u32, memory_there: u64) -> Result<(), DecodeError> {
        let frame = &self.frame;
        let (width, height) = frame.size();
        let pixels = u64::from(width) * u64::from(height);
        let components = frame.components.len() as u64;
        let samples = BLOCK * (0..frame.components.len()).map(|i| frame.blocks(i)).sum::<u64>();
        let mut limit = pixels;

        let visits = self.scans.iter().map(|scan| frame.visits(scan)).sum::<u64>();
        let most = if frame.progressive { MAX_VISITS } else { MAX_VISITS_OF_DATA };
        if visits > most {
            limit = share(MAX_VISITS, visits, pixels);
        }

        // A plane of scaled samples for each component, and a result as large as the planes would be
        // without subsampling; in a progressive photo, also two bytes for each coefficient. In another one,
        // data that is shortened.
        let coefficients = if frame.progressive { 2 * samples } else { 0 };
        let data: usize = self.scans.iter().map(|scan| scan.data.len()).sum();
        let memory = |divisor: u32| {
            let shortened = if frame.progressive || divisor == 1 { 0 } else { data as u64 };
            coefficients + shortened + (samples + components * pixels) / u64::from(divisor.pow(2))
        };
        let mut divisor = divisor;
        while memory(divisor) > memory_there {
            // A photo of so many pixels may be scaled less, and take more memory a pixel.
            limit = limit.min(share(memory_there, memory(divisor), pixels));
            let scale = (limit as f64 / pixels as f64).sqrt();
            let scaled = |side: u32| (f64::from(side) * scale) as u32;
            let smaller = super::divisor((scaled(width), scaled(height)));
            if smaller >= divisor {
                break;
            }
            divisor = smaller;
        }
        if limit == pixels {
            return Ok(());
        }
        let scans = self.scans.len();
        let kind = match frame.progressive {
            true => format!("progressive JPEG of {scans} scans"),
            false if scans > frame.components.len() => format!("JPEG of {scans} scans"),
            false => format!("JPEG of {:.1} samples a pixel", samples as f64 / pixels as f64),
        };
        Err(DecodeError::TooManyPixelsOf { kind, width, height, limit })
    }
}

impl Frame {
    /// Reads a frame header. What `jpeg-decoder` does not decode, or would decode into something else,
    /// is refused.
    fn read(marker: u8, payload: &[u8]) -> Result<Frame, DecodeError> {
        let unsupported = |feature: &str| Err(unsupported(Format::Jpeg, feature));
        let short = || broken(Format::Jpeg, "a frame header of another length");
        let (head, components) = payload.split_first_chunk::<6>().ok_or_else(short)?;
        let &[precision, height_high, height_low, width_high, width_low, count] = head;
        match marker {
            0xc0..=0xc2 => {}
            0xc3 => return unsupported("lossless coding"),
            0xc9..=0xcb => return unsupported("arithmetic coding"),
            _ => return unsupported("hierarchical coding"),
        }
        if precision != 8 {
            return unsupported(&format!("{precision} bits a sample"));
        }
        let (width, height) = (
            u16::from_be_bytes([width_high, width_low]),
            u16::from_be_bytes([height_high, height_low]),
        );
        if height == 0 {
            return unsupported("a height behind the picture");
        }
        if width == 0 {
            return Err(broken(Format::Jpeg, "a width of 0"));
        }
        if !matches!(count, 1 | 3 | 4) {
            return unsupported(&format!("{count} components"));
        }
        let (components, rest) = components.as_chunks::<3>();
        if components.len() != usize::from(count) || !rest.is_empty() {
            return Err(short());
        }
        let components = components.iter().map(|[id, sampling, _]| Component {
            id: *id,
            across: u32::from(sampling >> 4),
            down: u32::from(sampling & 15),
        });
        let components: Vec<Component> = components.collect();
        let valid = |factor: u32| (1..=4).contains(&factor);
        if !components.iter().all(|c| valid(c.across) && valid(c.down)) {
            return Err(broken(Format::Jpeg, "sampling factors that no photo has"));
        }
        Ok(Frame { progressive: marker == 0xc2, width, height, components })
    }

    /// Returns width and height in pixels.
    fn size(&self) -> (u32, u32) {
        (self.width.into(), self.height.into())
    }

    /// Returns the largest sampling factors.
    fn sampling(&self) -> (u32, u32) {
        let components = self.components.iter().map(|c| (c.across, c.down));
        components.fold((1, 1), |most, (across, down)| (most.0.max(across), most.1.max(down)))
    }

    /// Returns the number of groups of blocks (MCUs) in each direction, in a scan of all components.
    fn groups(&self) -> (u32, u32) {
        let ((width, height), (across, down)) = (self.size(), self.sampling());
        (width.div_ceil(8 * across), height.div_ceil(8 * down))
    }

    /// Returns a scan's cost, in visits to a coefficient.
    fn visits(&self, scan: &Scan<'_>) -> u64 {
        let band = u64::from(scan.band.1.saturating_sub(scan.band.0)) + 1;
        let blocks = scan.components.iter().map(|(index, ..)| self.blocks(*index));
        blocks.sum::<u64>() * (band + VISITS_OF_BLOCK)
    }

    /// Returns the number of blocks of a component.
    fn blocks(&self, component: usize) -> u64 {
        let Component { across, down, .. } = self.components[component];
        let (columns, rows) = self.groups();
        u64::from(columns * across) * u64::from(rows * down)
    }
}

impl<'a> Scan<'a> {
    fn read(
        frame: &Frame,
        payload: &[u8],
        segment: usize,
        data: &'a [u8],
        followed: bool,
    ) -> Result<Scan<'a>, DecodeError> {
        let malformed = || broken(Format::Jpeg, "a malformed scan header");
        let (count, rest) = payload.split_first().ok_or_else(malformed)?;
        let (tables, rest) =
            rest.split_at_checked(2 * usize::from(*count)).ok_or_else(malformed)?;
        let &[first, last, bits] = rest else { return Err(malformed()) };
        let component = |[id, tables]: &[u8; 2]| {
            let index = frame.components.iter().position(|component| component.id == *id);
            Some((index?, tables >> 4, tables & 15))
        };
        let components: Option<Vec<_>> = tables.as_chunks::<2>().0.iter().map(component).collect();
        let components = components.filter(|list| !list.is_empty()).ok_or_else(malformed)?;
        // Sequential scans have all coefficients, whatever their header says.
        let (band, high, low) =
            if frame.progressive { ((first, last), bits >> 4, bits & 15) } else { ((0, 63), 0, 0) };
        if band.1 > 63 || band.0 > band.1 {
            return Err(malformed());
        }
        Ok(Scan { segment, components, band, high, low, data, followed })
    }
}

//! How much of a picture the data of its last scan gives, where the file was cut off.
//!
//! `jpeg-decoder` fills what is missing from zero bits, and does not tell. Here the codes are read and
//! their values skipped.

use super::{DHT, DRI, Outline};
use crate::decode::huffman::Code;

/// The part of a picture that a scan's data gives.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// Rows of pixels, from the top.
    pub(super) rows: u16,
    /// True if these are all, and nothing but padding follows.
    pub(super) complete: bool,
    /// True if the next row is missing because the data ends. Otherwise it is damaged.
    pub(super) ends: bool,
    /// Bytes of data that they take.
    pub(super) bytes: usize,
}

/// Returns what a scan's data gives.
///
/// `None` if its tables are missing, or it is one that refines coefficients: how many bits such a scan
/// has depends on all the scans before it.
pub(super) fn of(outline: &Outline<'_>, scan: usize) -> Option<Extent> {
    let frame = &outline.frame;
    let scan = &outline.scans[scan];
    if scan.high > 0 && scan.band.1 > 0 {
        return None;
    }
    let before = &outline.segments[..scan.segment];
    let restarts = before.iter().rev().find(|segment| segment.marker == DRI);
    let restart_interval = match restarts {
        Some(segment) => u16::from_be_bytes(*segment.payload.first_chunk()?),
        None => 0,
    };
    let tables = Tables::read(before.iter().filter(|s| s.marker == DHT).map(|s| s.payload));
    let mut blocks = Blocks {
        bits: Bits { data: scan.data, at: 0, buffer: 0, left: 0 },
        band: scan.band,
        refines: scan.high > 0,
        run: 0,
    };

    // T.81, A.2: a scan of one component has a block at a time, without those that only fill a group.
    let (width, height) = frame.size();
    let (across, down) = frame.sampling();
    let (columns, rows, rows_of_pixels) = match scan.components[..] {
        [(only, ..)] => {
            let component = &frame.components[only];
            let (columns, rows) = frame.groups();
            let columns = (columns * component.across).min(width.div_ceil(8));
            let rows = (rows * component.down).min(height.div_ceil(8));
            (columns, rows, 8 * down / component.down)
        }
        _ => {
            let (columns, rows) = (width.div_ceil(8 * across), height.div_ceil(8 * down));
            (columns, rows, 8 * down)
        }
    };
    let blocks_of_group: Vec<_> = scan
        .components
        .iter()
        .map(|(index, dc, ac)| {
            let component = &frame.components[*index];
            let several = scan.components.len() > 1;
            let count = if several { component.across * component.down } else { 1 };
            (count, tables.dc(*dc), tables.ac(*ac))
        })
        .collect();

    let mut group = 0u32;
    let (mut row, mut bytes) = (0, 0);
    'rows: while row < rows {
        for _ in 0..columns {
            let restart =
                restart_interval > 0 && group > 0 && group.is_multiple_of(restart_interval.into());
            if restart && blocks.restart().is_none() {
                break 'rows;
            }
            group += 1;
            for (count, dc, ac) in &blocks_of_group {
                for _ in 0..*count {
                    if blocks.skip(*dc, *ac).is_none() {
                        break 'rows;
                    }
                }
            }
        }
        row += 1;
        bytes = blocks.bits.position();
    }
    let of_pixels = (row * rows_of_pixels).min(height);
    // Data that goes on is that of another picture, or none.
    let rest = scan.data.get(bytes..).unwrap_or_default();
    let is_padding = |byte: &u8| matches!(byte, 0 | 0xff) || byte.is_ascii_whitespace();
    let complete = row == rows && rest.iter().all(is_padding);
    let ends = row < rows && blocks.bits.at_end();
    Some(Extent { rows: of_pixels as u16, complete, ends, bytes })
}

/// Bits by which a code is looked up. Longer codes are rare.
const LOOKUP: u32 = 8;

/// A Huffman table.
struct Table {
    code: Code,
    /// The symbol of each sequence of [`LOOKUP`] bits that begins with its code, after the code's length; 0 if that
    /// is longer.
    lookup: [(u8, u16); 1 << LOOKUP],
}

impl Table {
    fn new(code: Code) -> Table {
        let mut lookup = [(0, 0); 1 << LOOKUP];
        for (bits, entry) in lookup.iter_mut().enumerate() {
            let mut length = 0;
            let next = || {
                length += 1;
                (length <= LOOKUP).then(|| bits >> (LOOKUP - length) & 1 == 1)
            };
            if let Some(symbol) = code.symbol(next) {
                *entry = (length as u8, symbol);
            }
        }
        Table { code, lookup }
    }
}

/// The Huffman tables in effect, by class (DC, AC) and number.
#[derive(Default)]
struct Tables([[Option<Table>; 4]; 2]);

impl Tables {
    /// Reads the tables of segments (T.81, B.2.4.2), of which later ones replace earlier ones.
    fn read<'a>(segments: impl Iterator<Item = &'a [u8]>) -> Tables {
        let mut tables = Tables::default();
        for mut rest in segments {
            while let Some(([place, counts @ ..], tail)) = rest.split_first_chunk::<17>() {
                let size = counts.iter().map(|count| usize::from(*count)).sum();
                let Some((symbols, tail)) = tail.split_at_checked(size) else { break };
                rest = tail;
                let class = tables.0.get_mut(usize::from(place >> 4));
                if let Some(table) = class.and_then(|class| class.get_mut(usize::from(place & 15)))
                {
                    let symbols = symbols.iter().map(|symbol| u16::from(*symbol)).collect();
                    *table = Some(Table::new(Code::Many(counts.map(u16::from), symbols)));
                }
            }
        }
        tables
    }

    fn dc(&self, number: u8) -> Option<&Table> {
        self.0[0].get(usize::from(number))?.as_ref()
    }

    fn ac(&self, number: u8) -> Option<&Table> {
        self.0[1].get(usize::from(number))?.as_ref()
    }
}

/// The blocks of a scan, one after the other.
struct Blocks<'a> {
    bits: Bits<'a>,
    /// First and last coefficient.
    band: (u8, u8),
    /// True if the scan has one more bit of coefficients that were sent.
    refines: bool,
    /// Blocks without coefficients that follow (T.81, G.1.2.2).
    run: u32,
}

impl Blocks<'_> {
    /// Skips a block. `None` where the data ends before it.
    fn skip(&mut self, dc: Option<&Table>, ac: Option<&Table>) -> Option<()> {
        let (first, last) = (u32::from(self.band.0), u32::from(self.band.1));
        if first == 0 {
            if self.refines {
                self.bits.bit()?;
            } else {
                let length = self.bits.symbol(dc?)?;
                self.bits.skip(length.into())?;
            }
        }
        let mut at = first.max(1);
        if at <= last && self.run > 0 {
            self.run -= 1;
            return Some(());
        }
        while at <= last {
            let symbol = self.bits.symbol(ac?)?;
            let (zeros, length) = (u32::from(symbol) >> 4, u32::from(symbol) & 15);
            match (zeros, length) {
                (15, 0) => at += 16,
                (_, 0) => {
                    // The block ends, and in progressive scans some that follow are empty.
                    self.run = (1 << zeros) - 1 + self.bits.take(zeros)?;
                    break;
                }
                _ => {
                    at += zeros;
                    if at <= last {
                        self.bits.skip(length)?;
                    }
                    at += 1;
                }
            }
        }
        Some(())
    }

    /// Goes behind the restart marker that shall stand here.
    fn restart(&mut self) -> Option<()> {
        self.run = 0;
        self.bits.restart()
    }
}

/// Bits of a scan's data, without the zeros that follow each 0xff. They end at a marker.
struct Bits<'a> {
    data: &'a [u8],
    /// The next byte that is not in the buffer.
    at: usize,
    /// The bits that were read and not taken, the last one lowest.
    buffer: u32,
    left: u32,
}

impl Bits<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.data.get(self.at)?;
        if byte == 0xff {
            if self.data.get(self.at + 1) != Some(&0) {
                return None;
            }
            self.at += 1;
        }
        self.at += 1;
        Some(byte)
    }

    /// Reads as many bits, 16 at most, into the buffer. `None` if there are not so many.
    fn fill(&mut self, count: u32) -> Option<()> {
        while self.left < count {
            self.buffer = self.buffer << 8 | u32::from(self.byte()?);
            self.left += 8;
        }
        Some(())
    }

    /// Returns the next bits, 16 at most, as a number.
    fn take(&mut self, count: u32) -> Option<u32> {
        self.fill(count)?;
        self.left -= count;
        Some(self.buffer >> self.left & ((1 << count) - 1))
    }

    fn bit(&mut self) -> Option<bool> {
        Some(self.take(1)? == 1)
    }

    fn symbol(&mut self, table: &Table) -> Option<u16> {
        if self.fill(LOOKUP).is_some() {
            let bits = self.buffer >> (self.left - LOOKUP) & ((1 << LOOKUP) - 1);
            let (length, symbol) = table.lookup[bits as usize];
            if length > 0 {
                self.left -= u32::from(length);
                return Some(symbol);
            }
        }
        table.code.symbol(|| self.bit())
    }

    fn skip(&mut self, count: u32) -> Option<()> {
        for _ in 0..count / 16 {
            self.take(16)?;
        }
        self.take(count % 16)?;
        Some(())
    }

    /// Returns the position behind the byte of the last bit that was taken.
    fn position(&self) -> usize {
        let mut at = self.at;
        for _ in 0..self.left / 8 {
            at -= if self.data[..at].ends_with(&[0xff, 0]) { 2 } else { 1 };
        }
        at
    }

    /// True if no byte is left, or half a stuffed one.
    fn at_end(&self) -> bool {
        matches!(self.data.get(self.at..), None | Some([] | [0xff]))
    }

    fn restart(&mut self) -> Option<()> {
        self.at = self.position();
        self.left = 0;
        match self.data.get(self.at..)? {
            [0xff, 0xd0..=0xd7, ..] => {
                self.at += 2;
                Some(())
            }
            _ => None,
        }
    }
}

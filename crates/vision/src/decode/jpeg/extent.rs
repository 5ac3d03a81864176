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
        bits: Bits { data: scan.data, at: 0, byte: 0, left: 0 },
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
        bytes = blocks.bits.at;
    }
    let of_pixels = (row * rows_of_pixels).min(height);
    // Data that goes on is that of another picture, or none.
    let rest = scan.data.get(bytes..).unwrap_or_default();
    let is_padding = |byte: &u8| matches!(byte, 0 | 0xff) || byte.is_ascii_whitespace();
    let complete = row == rows && rest.iter().all(is_padding);
    let ends = row < rows && blocks.bits.at_end();
    Some(Extent { rows: of_pixels as u16, complete, ends, bytes })
}

/// The Huffman tables in effect, by class (DC, AC) and number.
#[derive(Default)]
struct Tables([[Option<Code>; 4]; 2]);

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
                    *table = Some(Code::Many(counts.map(u16::from), symbols));
                }
            }
        }
        tables
    }

    fn dc(&self, number: u8) -> Option<&Code> {
        self.0[0].get(usize::from(number))?.as_ref()
    }

    fn ac(&self, number: u8) -> Option<&Code> {
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
    fn skip(&mut self, dc: Option<&Code>, ac: Option<&Code>) -> Option<()> {
        let (first, last) = (u32::from(self.band.0), u32::from(self.band.1));
        if first == 0 {
            if self.refines {
                self.bits.bit()?;
            } else {
                let length = dc?.symbol(|| self.bits.bit())?;
                self.bits.skip(length.into())?;
            }
        }
        let mut at = first.max(1);
        if at <= last && self.run > 0 {
            self.run -= 1;
            return Some(());
        }
        while at <= last {
            let symbol = ac?.symbol(|| self.bits.bit())?;
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
    at: usize,
    byte: u8,
    left: u32,
}

impl Bits<'_> {
    fn bit(&mut self) -> Option<bool> {
        if self.left == 0 {
            self.byte = *self.data.get(self.at)?;
            if self.byte == 0xff {
                if self.data.get(self.at + 1) != Some(&0) {
                    return None;
                }
                self.at += 1;
            }
            self.at += 1;
            self.left = 8;
        }
        self.left -= 1;
        Some(self.byte >> self.left & 1 == 1)
    }

    /// True if no byte is left, or half a stuffed one.
    fn at_end(&self) -> bool {
        matches!(self.data.get(self.at..), None | Some([] | [0xff]))
    }

    /// Returns the next bits as a number.
    fn take(&mut self, count: u32) -> Option<u32> {
        let mut number = 0;
        for _ in 0..count {
            number = 2 * number + u32::from(self.bit()?);
        }
        Some(number)
    }

    fn skip(&mut self, count: u32) -> Option<()> {
        for _ in 0..count {
            self.bit()?;
        }
        Some(())
    }

    fn restart(&mut self) -> Option<()> {
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

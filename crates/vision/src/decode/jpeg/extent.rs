//! The part of a picture that the data of its last scan gives, where the file was cut off.
//!
//! `jpeg-decoder` fills what is missing from zero bits, and does not tell.

use super::entropy::{Blocks, Layout, Stop, Tables};
use super::{Outline, Scan};

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
/// `None` if it is a scan that refines coefficients: how many bits such a scan has depends on all the scans
/// before it.
pub(super) fn of(outline: &Outline<'_>, scan: usize) -> Option<Extent> {
    let Scan { data, band, high, .. } = outline.scans[scan];
    if high > 0 && band.1 > 0 {
        return None;
    }
    let tables = Tables::of(outline, scan);
    let layout = Layout::of(outline, scan, &tables);
    let mut blocks = Blocks::of(outline, scan);
    let mut group = 0u32;
    let (mut row, mut bytes, mut ends) = (0, 0, false);
    'rows: while row < layout.rows {
        for _ in 0..layout.columns {
            let restart = layout.restart_interval > 0 && group == layout.restart_interval;
            if restart {
                group = 0;
                if blocks.restart().is_none() {
                    ends = blocks.bits.at_end();
                    break 'rows;
                }
            }
            group += 1;
            for (count, dc, ac) in &layout.group {
                for _ in 0..*count {
                    if let Err(stop) = blocks.pass(*dc, *ac, &mut ()) {
                        ends = stop == Stop::Ends && blocks.bits.at_end();
                        break 'rows;
                    }
                }
            }
        }
        row += 1;
        bytes = blocks.bits.position();
    }
    let of_pixels = (row * layout.rows_of_pixels).min(outline.frame.height.into());
    // Data that goes on is that of another picture, or none.
    let rest = data.get(bytes..).unwrap_or_default();
    let is_padding = |byte: &u8| matches!(byte, 0 | 0xff) || byte.is_ascii_whitespace();
    let complete = row == layout.rows && rest.iter().all(is_padding);
    Some(Extent { rows: of_pixels as u16, complete, ends, bytes })
}

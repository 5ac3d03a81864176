//! Entropy-coded data (T.81, annex F): codes are read to go past what nobody needs, not to decode it.
//!
//! Errors are those of `jpeg-decoder`, which reads the same data afterwards, or what is left of it. So are
//! its liberties: a sequential scan may have runs of empty blocks, and a run of zeros that leaves its block
//! ends it.

use super::{DHT, DRI, Outline};
use crate::decode::huffman::Code;

/// Why a block cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The data ends, or there is a marker.
    Ends,
    /// A code that the table does not have, or a table that is missing.
    Damaged,
}

/// Bits by which a code is looked up. Longer codes are rare. `jpeg-decoder` has as many.
const LOOKUP: u32 = 8;

/// Bits by which several coefficients are looked up.
const SKIP: u32 = 12;

/// Several coefficients with their codes.
#[derive(Clone, Copy, Default)]
struct Skip {
    /// Their bits; 0 if there is not one whole coefficient.
    bits: u8,
    /// Coefficients, zeros between them counted.
    coefficients: u8,
    /// True if the block ends behind them, which is among the bits.
    ends: bool,
}

/// A Huffman table.
pub(super) struct Table {
    code: Code,
    /// The symbol of each sequence of [`LOOKUP`] bits that begins with its code, after the code's length; 0 if
    /// that is longer.
    lookup: [(u8, u8); 1 << LOOKUP],
    /// For AC: what each sequence of [`SKIP`] bits begins with.
    skips: Vec<Skip>,
    /// The code of a block's end and its length, if there is one.
    pub(super) end_of_block: Option<(u32, u32)>,
}

impl Table {
    fn new(counts: [u8; 16], symbols: &[u8], ac: bool) -> Table {
        let end_of_block = counts_to_codes(&counts).zip(symbols).find(|(_, symbol)| **symbol == 0);
        let symbols = symbols.iter().map(|symbol| u16::from(*symbol)).collect();
        let code = Code::Many(counts.map(u16::from), symbols);
        let mut lookup = [(0, 0); 1 << LOOKUP];
        for (bits, entry) in lookup.iter_mut().enumerate() {
            let mut length = 0;
            let next = || {
                length += 1;
                (length <= LOOKUP).then(|| bits >> (LOOKUP - length) & 1 == 1)
            };
            if let Some(symbol) = code.symbol(next) {
                *entry = (length as u8, symbol as u8);
            }
        }
        let skips =
            if ac { (0..1 << SKIP).map(|bits| skip(&lookup, bits)).collect() } else { Vec::new() };
        Table { code, lookup, skips, end_of_block: end_of_block.map(|(code, _)| code) }
    }
}

/// Returns the codes of a table with their lengths, in the order of its symbols (T.81, C.2).
fn counts_to_codes(counts: &[u8; 16]) -> impl Iterator<Item = (u32, u32)> {
    let mut next = 0u32;
    (1..).zip(counts).flat_map(move |(length, count)| {
        let first = next << 1;
        next = first + u32::from(*count);
        (first..next).map(move |code| (code, length))
    })
}

/// Returns what [`SKIP`] bits begin with.
fn skip(lookup: &[(u8, u8); 1 << LOOKUP], bits: u32) -> Skip {
    let mut skip = Skip::default();
    loop {
        let used = u32::from(skip.bits);
        let next = bits << used & ((1 << SKIP) - 1);
        let (length, symbol) = lookup[(next >> (SKIP - LOOKUP)) as usize];
        let (zeros, size) = (symbol >> 4, symbol & 15);
        let whole = used + u32::from(length + size);
        // A code with all its bits, which is one coefficient, 16 zeros, or the end of the block.
        if length == 0 || whole > SKIP || size == 0 && !matches!(zeros, 0 | 15) {
            return skip;
        }
        skip.bits = whole as u8;
        match (zeros, size) {
            (0, 0) => {
                skip.ends = true;
                return skip;
            }
            _ => skip.coefficients += zeros + 1,
        }
    }
}

/// The Huffman tables in effect, by class (DC, AC) and number.
pub(super) struct Tables([[Option<Table>; 4]; 2]);

impl Tables {
    /// Reads the tables in effect at a scan (T.81, B.2.4.2): later ones replace earlier ones.
    pub(super) fn of(outline: &Outline<'_>, scan: usize) -> Tables {
        let before = &outline.segments[..outline.scans[scan].segment];
        let mut last = [[None; 4]; 2];
        for segment in before.iter().filter(|segment| segment.marker == DHT) {
            let mut rest = segment.payload;
            while let Some(([place, counts @ ..], tail)) = rest.split_first_chunk::<17>() {
                let size = counts.iter().map(|count| usize::from(*count)).sum();
                let Some((symbols, tail)) = tail.split_at_checked(size) else { break };
                rest = tail;
                let class = last.get_mut(usize::from(place >> 4));
                if let Some(table) = class.and_then(|class| class.get_mut(usize::from(place & 15)))
                {
                    *table = Some((*counts, symbols));
                }
            }
        }
        let [dc, ac] = last;
        let table = |ac| move |(counts, symbols)| Table::new(counts, symbols, ac);
        Tables([dc.map(|dc| dc.map(table(false))), ac.map(|ac| ac.map(table(true)))])
    }

    fn dc(&self, number: u8) -> Option<&Table> {
        self.0[0].get(usize::from(number))?.as_ref()
    }

    fn ac(&self, number: u8) -> Option<&Table> {
        self.0[1].get(usize::from(number))?.as_ref()
    }
}

/// The order of a scan's blocks.
pub(super) struct Layout<'t> {
    /// Groups of blocks in a row.
    pub(super) columns: u32,
    /// Rows of groups.
    pub(super) rows: u32,
    /// Rows of pixels in a row of groups.
    pub(super) rows_of_pixels: u32,
    /// A group: the number of blocks of each component, with its tables for DC and AC.
    pub(super) group: Vec<(u32, Option<&'t Table>, Option<&'t Table>)>,
    /// Groups between restart markers; 0 for no restarts.
    pub(super) restart_interval: u32,
}

impl<'t> Layout<'t> {
    pub(super) fn of(outline: &Outline<'_>, scan: usize, tables: &'t Tables) -> Layout<'t> {
        let frame = &outline.frame;
        let scan = &outline.scans[scan];
        let before = &outline.segments[..scan.segment];
        let restarts = before.iter().rev().find(|segment| segment.marker == DRI);
        let restarts = restarts.and_then(|segment| segment.payload.first_chunk().copied());

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
        let group = scan.components.iter().map(|(index, dc, ac)| {
            let component = &frame.components[*index];
            let several = scan.components.len() > 1;
            let count = if several { component.across * component.down } else { 1 };
            (count, tables.dc(*dc), tables.ac(*ac))
        });
        let restart_interval = restarts.map_or(0, u16::from_be_bytes).into();
        Layout { columns, rows, rows_of_pixels, group: group.collect(), restart_interval }
    }

    /// Returns the number of blocks.
    pub(super) fn blocks(&self) -> u64 {
        let group: u32 = self.group.iter().map(|(count, ..)| count).sum();
        u64::from(self.columns) * u64::from(self.rows) * u64::from(group)
    }
}

/// The receiver of the codes that are kept.
pub(super) trait Sink {
    /// The last coefficient that is kept, in zigzag order.
    fn last(&self) -> u32;
    /// Takes bits, 32 at most.
    fn put(&mut self, bits: u32, count: u32);
}

/// Keeps nothing.
impl Sink for () {
    fn last(&self) -> u32 {
        0
    }

    fn put(&mut self, _: u32, _: u32) {}
}

/// The blocks of a scan, one after the other.
pub(super) struct Blocks<'a> {
    pub(super) bits: Bits<'a>,
    /// First coefficient, and the one behind the last.
    band: (u32, u32),
    /// True if the scan has one more bit of coefficients that were sent.
    refines: bool,
    /// Blocks without coefficients that follow (T.81, G.1.2.2).
    run: u32,
    /// True while the coefficients are among those that the sink keeps.
    keeps: bool,
}

impl<'a> Blocks<'a> {
    pub(super) fn of(outline: &Outline<'a>, scan: usize) -> Blocks<'a> {
        let scan = &outline.scans[scan];
        let (first, last) = scan.band;
        Blocks {
            bits: Bits { data: scan.data, at: 0, buffer: 0, left: 0 },
            band: (first.into(), u32::from(last) + 1),
            refines: scan.high > 0,
            run: 0,
            keeps: true,
        }
    }

    /// True if the last block that was not whole stopped among the coefficients that are kept.
    pub(super) fn keeps(&self) -> bool {
        self.keeps
    }

    /// Goes past a block. The sink gets the codes of the coefficients that it keeps, without the block's end.
    #[inline]
    pub(super) fn pass(
        &mut self,
        dc: Option<&Table>,
        ac: Option<&Table>,
        sink: &mut impl Sink,
    ) -> Result<(), Stop> {
        let (first, end) = self.band;
        self.keeps = true;
        if first == 0 {
            if self.refines {
                self.bits.take(1)?;
            } else {
                let (symbol, length) = self.bits.symbol(dc.ok_or(Stop::Damaged)?)?;
                let whole = length + u32::from(symbol);
                if symbol > 11 {
                    return Err(Stop::Damaged);
                }
                sink.put(self.bits.take(whole)?, whole);
            }
        }
        let mut at = first.max(1);
        if at >= end {
            return Ok(());
        }
        if self.run > 0 {
            self.run -= 1;
            return Ok(());
        }
        let ac = ac.ok_or(Stop::Damaged)?;
        while at < end {
            self.keeps &= at <= sink.last();
            if !self.keeps {
                let skip = ac.skips[self.bits.peek(SKIP) as usize];
                let behind = at + u32::from(skip.coefficients);
                // The end of the block is among the bits only if the block goes on until there.
                let fits = if skip.ends { behind < end } else { behind <= end };
                if fits && skip.bits > 0 {
                    self.bits.take(skip.bits.into())?;
                    if skip.ends {
                        return Ok(());
                    }
                    at = behind;
                    continue;
                }
            }
            let (symbol, length) = self.bits.symbol(ac)?;
            let (zeros, size) = (u32::from(symbol >> 4), u32::from(symbol & 15));
            match (zeros, size) {
                (15, 0) => {
                    at += 16;
                    let bits = self.bits.take(length)?;
                    self.keeps &= at <= sink.last();
                    if self.keeps {
                        sink.put(bits, length);
                    }
                }
                (_, 0) => {
                    // The block ends, and in progressive scans some that follow are empty.
                    let bits = self.bits.take(length + zeros)?;
                    self.run = (1 << zeros) - 1 + (bits & ((1 << zeros) - 1));
                    return Ok(());
                }
                _ => {
                    at += zeros;
                    // `jpeg-decoder` takes the value's bits of a coefficient outside of the block together
                    // with a short code only.
                    let whole =
                        if at < end || length + size <= LOOKUP { length + size } else { length };
                    let bits = self.bits.take(whole)?;
                    self.keeps &= at <= sink.last();
                    if self.keeps {
                        sink.put(bits, whole);
                    }
                    at += 1;
                }
            }
        }
        Ok(())
    }

    /// Goes past the restart marker that shall stand here. Returns its second byte.
    pub(super) fn restart(&mut self) -> Option<u8> {
        self.run = 0;
        self.bits.restart()
    }
}

/// Bits of a scan's data, without the zeros that follow each 0xff. They end at a marker.
pub(super) struct Bits<'a> {
    data: &'a [u8],
    /// The next byte that is not in the buffer.
    at: usize,
    /// The bits that were read and not taken, from the highest on, then zeros.
    buffer: u64,
    left: u32,
}

impl Bits<'_> {
    /// Reads as many whole bytes into the buffer as it has room for and there are.
    #[inline]
    fn fill(&mut self) {
        if self.left > 32 {
            return;
        }
        if let Some(four) = self.data.get(self.at..).and_then(|rest| rest.first_chunk()) {
            let four = u32::from_be_bytes(*four);
            // No byte is 0xff: none of the inverted ones is 0.
            if (!four).wrapping_sub(0x0101_0101) & four & 0x8080_8080 == 0 {
                self.buffer |= u64::from(four) << (32 - self.left);
                self.left += 32;
                self.at += 4;
                return;
            }
        }
        self.fill_by_bytes();
    }

    #[cold]
    fn fill_by_bytes(&mut self) {
        while self.left <= 56 {
            let Some(byte) = self.data.get(self.at) else { return };
            if *byte == 0xff {
                if self.data.get(self.at + 1) != Some(&0) {
                    return;
                }
                self.at += 1;
            }
            self.at += 1;
            self.buffer |= u64::from(*byte) << (56 - self.left);
            self.left += 8;
        }
    }

    /// Returns the next bits, 1 to 32, as a number, with zeros for those that are not there.
    #[inline]
    fn peek(&mut self, count: u32) -> u32 {
        self.fill();
        (self.buffer >> (64 - count)) as u32
    }

    /// Takes bits, 32 at most, as a number.
    #[inline]
    pub(super) fn take(&mut self, count: u32) -> Result<u32, Stop> {
        if count == 0 {
            return Ok(0);
        }
        let bits = self.peek(count);
        if count > self.left {
            return Err(Stop::Ends);
        }
        self.left -= count;
        self.buffer <<= count;
        Ok(bits)
    }

    /// Takes what is left: less than a code.
    pub(super) fn take_rest(&mut self) -> (u32, u32) {
        let count = self.left.min(32);
        (self.take(count).unwrap_or_default(), count)
    }

    /// Returns the next symbol and the length of its code, which is not taken.
    #[inline]
    fn symbol(&mut self, table: &Table) -> Result<(u8, u32), Stop> {
        let (length, symbol) = table.lookup[self.peek(LOOKUP) as usize];
        if length > 0 {
            return Ok((symbol, length.into()));
        }
        self.long_symbol(table)
    }

    #[cold]
    fn long_symbol(&mut self, table: &Table) -> Result<(u8, u32), Stop> {
        let (bits, mut length) = (self.peek(16), 0);
        let next = || {
            length += 1;
            (length <= 16).then(|| bits >> (16 - length) & 1 == 1)
        };
        match table.code.symbol(next) {
            Some(symbol) => Ok((symbol as u8, length)),
            // Zeros that were added may have made it a code that there is not.
            None if self.left < 16 => Err(Stop::Ends),
            None => Err(Stop::Damaged),
        }
    }

    /// Returns the position behind the byte of the last bit that was taken.
    pub(super) fn position(&self) -> usize {
        let mut at = self.at;
        for _ in 0..self.left / 8 {
            at -= if self.data[..at].ends_with(&[0xff, 0]) { 2 } else { 1 };
        }
        at
    }

    /// True if no byte is left, or half a stuffed one.
    pub(super) fn at_end(&self) -> bool {
        matches!(self.data.get(self.at..), None | Some([] | [0xff]))
    }

    fn restart(&mut self) -> Option<u8> {
        self.at = self.position();
        (self.buffer, self.left) = (0, 0);
        match self.data.get(self.at..)? {
            [0xff, marker @ 0xd0..=0xd7, ..] => {
                self.at += 2;
                Some(*marker)
            }
            _ => None,
        }
    }
}

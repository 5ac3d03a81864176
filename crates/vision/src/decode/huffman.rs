//! Canonical Huffman codes, as in JPEG and lossless WebP: the codes of one length are consecutive
//! numbers, in the order of their symbols.
//!
//! Read bit by bit: it serves to look at a file before its decoder does, never to decode a picture.

/// Longest code in bits: JPEG's. Those of WebP have 15.
const MAX_LENGTH: usize = 16;

/// A code.
pub(super) enum Code {
    /// The only symbol, whose code has no bits.
    Single(u16),
    /// Number of codes of each length, 1 to 16 bits, and the symbols in the order of their codes.
    Many([u16; MAX_LENGTH], Vec<u16>),
}

impl Code {
    /// Returns the code in which each symbol's code has the given length; 0 for a symbol without code.
    ///
    /// `None` unless every sequence of bits has a meaning and only one (Kraft's sum is 1).
    pub(super) fn of_lengths(lengths: &[u8]) -> Option<Code> {
        let mut counts = [0; MAX_LENGTH];
        for length in lengths.iter().filter(|length| **length > 0) {
            *counts.get_mut(usize::from(*length) - 1)? += 1;
        }
        // Symbols of one length stay in their order.
        let mut symbols: Vec<u16> =
            (0..lengths.len() as u16).filter(|symbol| lengths[usize::from(*symbol)] > 0).collect();
        symbols.sort_by_key(|symbol| lengths[usize::from(*symbol)]);
        if let [only] = symbols[..] {
            return Some(Code::Single(only));
        }
        let mut free = 1i64;
        for count in counts {
            free = 2 * free - i64::from(count);
        }
        (free == 0 && !symbols.is_empty()).then_some(Code::Many(counts, symbols))
    }

    /// Returns the length of the longest code in bits, and the number of codes longer than `length`.
    pub(super) fn longest(&self, length: usize) -> (usize, usize) {
        match self {
            Code::Single(_) => (0, 0),
            Code::Many(counts, _) => {
                let longest = counts.iter().rposition(|count| *count > 0).map_or(0, |at| at + 1);
                let longer = counts.iter().skip(length).map(|count| usize::from(*count)).sum();
                (longest, longer)
            }
        }
    }

    /// Reads a symbol. `None` if there is no further bit, or no such code.
    pub(super) fn symbol(&self, mut bit: impl FnMut() -> Option<bool>) -> Option<u16> {
        let (counts, symbols) = match self {
            Code::Single(symbol) => return Some(*symbol),
            Code::Many(counts, symbols) => (counts, symbols),
        };
        // `first` is the first code of the present length, `before` the number of shorter ones.
        let (mut code, mut first, mut before) = (0u32, 0u32, 0);
        for count in counts {
            code = 2 * code + u32::from(bit()?);
            first *= 2;
            match code.checked_sub(first) {
                Some(offset) if offset < u32::from(*count) => {
                    return symbols.get(before + offset as usize).copied();
                }
                _ => {}
            }
            first += u32::from(*count);
            before += usize::from(*count);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(code: &Code, bits: &str) -> Option<u16> {
        let mut bits = bits.bytes().map(|bit| bit == b'1');
        code.symbol(|| bits.next())
    }

    #[test]
    fn symbols_are_read_by_their_codes() {
        // Codes: B 0, A 10, D 110, E 111.
        let code = Code::of_lengths(&[2, 1, 0, 3, 3]).expect("a complete code");
        for (bits, symbol) in [("0", 1), ("10", 0), ("110", 3), ("111", 4)] {
            assert_eq!(read(&code, bits), Some(symbol), "{bits}");
            assert_eq!(read(&code, &bits[..bits.len() - 1]), None, "{bits} without its end");
        }
        assert_eq!(code.longest(1), (3, 3));
        assert_eq!(code.longest(10), (3, 0));
    }

    #[test]
    fn only_symbol_takes_no_bits() {
        let code = Code::of_lengths(&[0, 0, 7]).expect("a code");
        assert_eq!(read(&code, ""), Some(2));
        assert_eq!(code.longest(0), (0, 0));
    }

    #[test]
    fn incomplete_and_ambiguous_codes_are_refused() {
        for lengths in [&[][..], &[0, 0], &[1, 2], &[1, 1, 1], &[2, 2, 2, 2, 2], &[17, 17]] {
            assert!(Code::of_lengths(lengths).is_none(), "{lengths:?}");
        }
    }

    #[test]
    fn code_of_a_file_may_be_anything() {
        // Three codes of one bit, which JPEG files may claim.
        let mut counts = [0; MAX_LENGTH];
        counts[0] = 3;
        let code = Code::Many(counts, vec![7, 8]);
        assert_eq!(read(&code, "1"), Some(8));
        assert_eq!(read(&code, "0"), Some(7));
        let code = Code::Many([0; MAX_LENGTH], Vec::new());
        assert_eq!(read(&code, "11111111111111111"), None);
    }
}

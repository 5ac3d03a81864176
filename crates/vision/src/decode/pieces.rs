//! Slices of a file read one after the other, so that a decoder sees only what a picture needs.

use std::io::{self, BufRead, Read};

/// A file made of slices, which are not copied.
pub(super) struct Pieces<'a, I> {
    current: &'a [u8],
    rest: I,
    /// Repeated after the last slice. Empty: the file ends there.
    filler: &'static [u8],
}

impl<'a, I: Iterator<Item = &'a [u8]>> Pieces<'a, I> {
    /// Returns a file of these slices. After the last one, `filler` is repeated without end, unless it
    /// is empty.
    pub(super) fn new(
        slices: impl IntoIterator<IntoIter = I>,
        filler: &'static [u8],
    ) -> Pieces<'a, I> {
        Pieces { current: &[], rest: slices.into_iter(), filler }
    }
}

impl<'a, I: Iterator<Item = &'a [u8]>> BufRead for Pieces<'a, I> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() {
            let Some(next) = self.rest.next() else {
                self.current = self.filler;
                break;
            };
            self.current = next;
        }
        Ok(self.current)
    }

    fn consume(&mut self, count: usize) {
        self.current = self.current.get(count..).unwrap_or_default();
    }
}

impl<'a, I: Iterator<Item = &'a [u8]>> Read for Pieces<'a, I> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }

    // `jpeg-decoder` reads byte by byte: the way within a slice is short.
    #[inline]
    fn read_exact(&mut self, mut buffer: &mut [u8]) -> io::Result<()> {
        if let Some((head, tail)) = self.current.split_at_checked(buffer.len()) {
            buffer.copy_from_slice(head);
            self.current = tail;
            return Ok(());
        }
        while !buffer.is_empty() {
            match self.read(buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => buffer = &mut buffer[read..],
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(filler: &'static [u8]) -> Pieces<'static, impl Iterator<Item = &'static [u8]>> {
        let slices: [&[u8]; 4] = [b"ab", b"", b"cde", b""];
        Pieces::new(slices, filler)
    }

    #[test]
    fn slices_are_read_as_one_file() {
        let mut all = Vec::new();
        pieces(b"").read_to_end(&mut all).expect("memory");
        assert_eq!(all, b"abcde");
        let mut pieces = pieces(b"");
        let mut three = [0; 3];
        pieces.read_exact(&mut three).expect("three bytes");
        assert_eq!(&three, b"abc");
        let error = pieces.read_exact(&mut three).expect_err("the end");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn filler_is_repeated_after_the_end() {
        let mut ten = [0; 10];
        pieces(b"xy").read_exact(&mut ten).expect("no end");
        assert_eq!(&ten, b"abcdexyxyx");
    }
}

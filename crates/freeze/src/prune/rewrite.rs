//! Writes a module with the functions and statics that can be reached.

use std::convert::Infallible;
use std::ops::Range;

use wasm_encoder::reencode::{self, Reencode};
use wasm_encoder::{CodeSection, DataSection, FunctionSection, Instruction};
use wasmparser::{
    CodeSectionReader, CustomSectionReader, DataSectionReader, FunctionSectionReader, Parser,
};

use super::error::Result;
use super::module::{Module, Segment};
use super::reach::Reachable;

/// Returns `module`, whose binary is `bytes`, without unreachable functions and without the contents
/// of `dead_statics`.
pub(super) fn rewrite(
    module: &Module,
    bytes: &[u8],
    reachable: &Reachable,
    dead_statics: &[Range<u32>],
) -> Result<wasm_encoder::Module> {
    let mut pruned = wasm_encoder::Module::new();
    let mut rewriter = Rewriter::new(module, reachable, dead_statics);
    rewriter.parse_core_module(&mut pruned, Parser::new(0), bytes)?;
    Ok(pruned)
}

/// The contents of a segment, and the address; none for a passive segment.
type Piece<'a> = (Option<u32>, &'a [u8]);

struct Rewriter<'a> {
    reachable: &'a Reachable,
    /// The new index of each function; none for those that are removed.
    indices: Vec<Option<u32>>,
    /// The number of imported functions.
    imported: usize,
    /// The function that replaces those that are removed.
    trap: u32,
    pieces: Vec<Piece<'a>>,
}

impl<'a> Rewriter<'a> {
    fn new(module: &Module<'a>, reachable: &'a Reachable, dead: &[Range<u32>]) -> Rewriter<'a> {
        let mut count = 0;
        let indices = (0..)
            .zip(&reachable.functions)
            .map(|(index, reached)| {
                let stays =
                    *reached || reachable.retired.contains(&index) || index < module.imported;
                count += u32::from(stays);
                stays.then(|| count - 1)
            })
            .collect();
        Rewriter {
            reachable,
            indices,
            imported: module.imported as usize,
            trap: count,
            pieces: cut_out(&module.segments, dead),
        }
    }

    fn stays(&self, body: usize) -> bool {
        self.indices[self.imported + body].is_some()
    }
}

/// Returns the contents of segments outside of `dead` memory, whose ranges are in order.
fn cut_out<'a>(segments: &[Segment<'a>], dead: &[Range<u32>]) -> Vec<Piece<'a>> {
    let mut pieces = Vec::new();
    for Segment { address, contents, .. } in segments {
        let Some(start) = *address else {
            pieces.push((None, *contents));
            continue;
        };
        let place = |address: u32| (address.max(start) - start) as usize;
        let mut from = 0;
        let first = dead.partition_point(|range| range.end <= start);
        for range in &dead[first..] {
            let to = place(range.start).min(contents.len());
            pieces.push((Some(start + from as u32), &contents[from.min(to)..to]));
            from = place(range.end);
            if from >= contents.len() {
                break;
            }
        }
        let rest = contents.get(from..).unwrap_or_default();
        pieces.push((Some(start + from as u32), rest));
    }
    pieces.retain(|(address, contents)| address.is_none() || !contents.is_empty());
    pieces
}

type Rewritten<T = ()> = Result<T, reencode::Error<Infallible>>;

impl Reencode for Rewriter<'_> {
    type Error = Infallible;

    fn function_index(&mut self, function: u32) -> Rewritten<u32> {
        Ok(self.indices.get(function as usize).copied().flatten().unwrap_or(self.trap))
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: FunctionSectionReader<'_>,
    ) -> Rewritten {
        for (body, ty) in section.into_iter().enumerate() {
            let ty = ty?;
            if self.stays(body) {
                functions.function(ty);
            }
        }
        // The trap has any type: a call by another type traps as well.
        functions.function(0);
        Ok(())
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        section: CodeSectionReader<'_>,
    ) -> Rewritten {
        let mut trap = wasm_encoder::Function::new([]);
        trap.instruction(&Instruction::Unreachable).instruction(&Instruction::End);
        for (body, function) in section.into_iter().enumerate() {
            let function = function?;
            if self.reachable.functions[self.imported + body] {
                self.parse_function_body(code, function)?;
            } else if self.stays(body) {
                code.function(&trap);
            }
        }
        code.function(&trap);
        Ok(())
    }

    fn data_count(&mut self, _: u32) -> Rewritten<u32> {
        Ok(self.pieces.len() as u32)
    }

    fn parse_data_section(
        &mut self,
        data: &mut DataSection,
        _: DataSectionReader<'_>,
    ) -> Rewritten {
        for (address, contents) in &self.pieces {
            let contents = contents.iter().copied();
            match address {
                Some(address) => {
                    let address = wasm_encoder::ConstExpr::i32_const(address.cast_signed());
                    data.active(0, &address, contents);
                }
                None => _ = data.passive(contents),
            }
        }
        Ok(())
    }

    /// Drops custom sections: the linker's refer to functions that are removed.
    fn parse_custom_section(
        &mut self,
        _: &mut wasm_encoder::Module,
        _: CustomSectionReader<'_>,
    ) -> Rewritten {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_out_removes_dead_ranges_from_active_segments() {
        let segment = |address| Segment { address, offset: 0, contents: b"abcdefgh" };
        let pieces = |address, dead: &[Range<u32>]| cut_out(&[segment(address)], dead);
        assert_eq!(pieces(Some(8), &[]), [(Some(8), &b"abcdefgh"[..])]);
        assert_eq!(
            pieces(Some(8), &[0..4, 6..9, 10..12, 14..20, 30..40]),
            [(Some(9), &b"b"[..]), (Some(12), &b"ef"[..])]
        );
        assert!(pieces(Some(8), &[8..12, 12..16]).is_empty());
        assert_eq!(pieces(None, &[0..4, 6..8]), [(None, &b"abcdefgh"[..])]);
    }
}

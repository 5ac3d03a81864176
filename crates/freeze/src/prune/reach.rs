//! Reachability: exact from the exports, conservative from the heap.

use std::ops::Range;

use wasmparser::{Operator, RelocationEntry, RelocationType, SymbolInfo};

use super::error::{PruneError, Result};
use super::module::{Module, Statics};

/// The name of the component's static that lists memory blocks without pointers: pairs of address and
/// size, 32 bits each. Entries of size 0 are free.
pub const POINTER_FREE: &str = "POINTER_FREE";

/// The linker's function that calls all constructors of statics. Every export calls it if none has been
/// called before, and the initialiser was.
const CONSTRUCTORS: &str = "__wasm_call_ctors";

/// A function or a static, by its index.
#[derive(Clone, Copy)]
enum Item {
    Function(u32),
    Static(usize),
}

/// The functions and statics that can be reached.
pub(super) struct Reachable {
    /// True for each function, imported ones first, that may be called again.
    pub(super) functions: Vec<bool>,
    /// True for each static that may be read again.
    pub(super) statics: Vec<bool>,
    /// Functions that are referred to but have been called for the last time.
    pub(super) retired: Vec<u32>,
}

impl Reachable {
    /// Finds what can be reached in `module`, as it was compiled, once its memory is `memory`.
    pub(super) fn find(
        module: &Module,
        statics: &Statics,
        memory: &[u8],
        initializer: &str,
    ) -> Result<Reachable> {
        let of_functions = references_of_functions(module, statics)?;
        let of_statics = references_of_statics(module, statics)?;
        let compiled_memory = module.memory();
        let initializer = module.exports.iter().find(|(name, _)| *name == initializer);
        let constructors = module.symbols.iter().find_map(|symbol| match symbol {
            SymbolInfo::Func { index, name: Some(CONSTRUCTORS), .. } => Some(*index),
            _ => None,
        });
        let retired = initializer.map(|(_, function)| *function).into_iter().chain(constructors);
        let mut reachable = Reachable {
            functions: vec![false; module.functions()],
            statics: vec![false; statics.ranges().len()],
            retired: retired.collect(),
        };

        // The roots: exports, and the heap between the blocks without pointers.
        let exports = module.exports.iter();
        let mut next: Vec<Item> = exports.map(|(_, function)| Item::Function(*function)).collect();
        let words_in =
            |range: Range<u32>| possible_references(module, statics, slice(memory, &range));
        let mut heap = statics.end().next_multiple_of(4);
        let list = pointer_free_list(module);
        for block in pointer_free_blocks(&list, memory)? {
            next.extend(words_in(heap..block.start.max(heap)));
            heap = block.end.next_multiple_of(4).max(heap);
        }
        next.extend(words_in(heap..u32::MAX));

        while let Some(item) = next.pop() {
            let known = match item {
                Item::Function(index) if reachable.retired.contains(&index) => continue,
                Item::Function(index) => &mut reachable.functions[index as usize],
                Item::Static(index) => &mut reachable.statics[index],
            };
            if std::mem::replace(known, true) {
                continue;
            }
            match item {
                Item::Function(index) => next.extend(&of_functions[index as usize]),
                Item::Static(index) => {
                    let range = &statics.ranges()[index];
                    next.extend(&of_statics[index]);
                    // The list of blocks without pointers has sizes, of which some equal the index of a function.
                    if *range != list && slice(memory, range) != slice(&compiled_memory, range) {
                        next.extend(words_in(range.start.next_multiple_of(4)..range.end));
                    }
                }
            }
        }
        Ok(reachable)
    }

    /// Returns the addresses of the statics that cannot be reached.
    pub(super) fn dead_statics(&self, statics: &Statics) -> Vec<Range<u32>> {
        let all = statics.ranges().iter().zip(&self.statics);
        all.filter(|(_, reachable)| !**reachable).map(|(range, _)| range.clone()).collect()
    }
}

/// Returns what each function refers to, imported functions first: by its calls and by relocations.
fn references_of_functions(module: &Module, statics: &Statics) -> Result<Vec<Vec<Item>>> {
    let mut references = vec![Vec::new(); module.functions()];
    let (_, own) = references.split_at_mut(module.imported as usize);
    for (body, references) in module.bodies.iter().zip(&mut *own) {
        for operator in body.get_operators_reader()? {
            match operator? {
                Operator::Call { function_index: function }
                | Operator::ReturnCall { function_index: function }
                | Operator::RefFunc { function_index: function } => {
                    references.push(Item::Function(function));
                }
                _ => {}
            }
        }
    }
    for relocation in &module.code_relocations {
        let place = module.code + relocation.offset as usize;
        let after = module.bodies.partition_point(|body| body.range().start <= place);
        let body =
            after.checked_sub(1).ok_or(PruneError::Relocations("one lies before the code"))?;
        own[body].extend(target(module, statics, relocation)?);
    }
    Ok(references)
}

/// Returns what each static referred to when it was compiled.
fn references_of_statics(module: &Module, statics: &Statics) -> Result<Vec<Vec<Item>>> {
    let mut references = vec![Vec::new(); statics.ranges().len()];
    for relocation in &module.data_relocations {
        let after = module.segments.partition_point(|segment| segment.offset <= relocation.offset);
        let segment =
            after.checked_sub(1).ok_or(PruneError::Relocations("one lies before the data"))?;
        let segment = &module.segments[segment];
        let Some(address) = segment.address else { continue };
        if let Some(index) = statics.at(address + (relocation.offset - segment.offset)) {
            references[index].extend(target(module, statics, relocation)?);
        }
    }
    Ok(references)
}

/// Returns the function or static that a relocation refers to, if it is one.
fn target(
    module: &Module,
    statics: &Statics,
    relocation: &RelocationEntry,
) -> Result<Option<Item>> {
    if relocation.ty == RelocationType::TypeIndexLeb {
        return Ok(None);
    }
    let symbol = module
        .symbols
        .get(relocation.index as usize)
        .ok_or(PruneError::Relocations("one refers to no symbol"))?;
    Ok(match symbol {
        SymbolInfo::Func { index, .. } => Some(Item::Function(*index)),
        symbol => {
            module.static_range(symbol).and_then(|range| statics.at(range.start)).map(Item::Static)
        }
    })
}

/// Returns the part of a range that the memory has.
fn slice<'a>(memory: &'a [u8], range: &Range<u32>) -> &'a [u8] {
    let end = (range.end as usize).min(memory.len());
    memory.get(range.start as usize..end).unwrap_or_default()
}

/// Returns all that the aligned words of some memory may refer to.
fn possible_references<'a>(
    module: &'a Module,
    statics: &'a Statics,
    memory: &'a [u8],
) -> impl Iterator<Item = Item> + 'a {
    let (words, _) = memory.as_chunks::<4>();
    words.iter().filter_map(|word| {
        let word = u32::from_le_bytes(*word);
        let in_table = word.checked_sub(module.table.base);
        match in_table.and_then(|index| module.table.functions.get(index as usize)) {
            Some(function) => Some(Item::Function(*function)),
            None => statics.at(word).map(Item::Static),
        }
    })
}

/// Returns the range of the list of blocks without pointers; an empty one if the component has none.
fn pointer_free_list(module: &Module) -> Range<u32> {
    let list = module
        .symbols
        .iter()
        .find(|symbol| matches!(symbol, SymbolInfo::Data { name, .. } if *name == POINTER_FREE));
    list.and_then(|symbol| module.static_range(symbol)).unwrap_or_default()
}

/// Returns the blocks of the heap that hold no pointers, by address.
fn pointer_free_blocks(list: &Range<u32>, memory: &[u8]) -> Result<Vec<Range<u32>>> {
    let (pairs, _) = slice(memory, list).as_chunks::<8>();
    let blocks = pairs
        .iter()
        .map(|&[a, b, c, d, e, f, g, h]| {
            let start = u32::from_le_bytes([a, b, c, d]);
            start..start.saturating_add(u32::from_le_bytes([e, f, g, h]))
        })
        .filter(|block| !block.is_empty());
    sort_disjoint(blocks.collect())
}

/// Sorts blocks by address. Blocks that overlap were not there at the same time: one of them was freed
/// without a record, and what is there now may hold pointers.
fn sort_disjoint(mut blocks: Vec<Range<u32>>) -> Result<Vec<Range<u32>>> {
    blocks.sort_by_key(|block| block.start);
    for pair in blocks.windows(2) {
        if pair[0].end > pair[1].start {
            return Err(PruneError::OverlappingBlocks([pair[0].clone(), pair[1].clone()]));
        }
    }
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_blocks_are_refused() {
        assert_eq!(sort_disjoint(vec![8..12, 0..8]).expect("disjoint"), [0..8, 8..12]);
        let error = sort_disjoint(vec![8..12, 0..9]).expect_err("they overlap").to_string();
        assert!(error.contains("[0..9, 8..c]"), "{error}");
    }
}

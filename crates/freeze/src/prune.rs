//! Prunes a frozen component: removes the functions and statics that only its initialiser needed.
//!
//! A linker drops what nothing refers to. It has to keep everything that the initialiser refers to,
//! and cannot know that the initialiser never runs again. [`prune`] links once more: it keeps what can
//! be reached from the exports other than the initialiser, and from the memory in the snapshot.
//!
//! # Why it is safe
//!
//! - References from **functions and statics** are known exactly: from calls, and from the linker's own
//!   relocations, one for every other use of an address (`--emit-relocs`).
//! - References from the **heap**, and from statics that have changed, are not recorded. Every aligned
//!   word that could be the address of a static, or the table index of a function, counts as a
//!   reference, as in a conservative garbage collector. A number that happens to look like one keeps
//!   something needlessly; nothing that is needed is lost. Two things keep such numbers few: the
//!   component lists heap blocks without pointers in a static named [`POINTER_FREE`], and its table
//!   begins at an index (`--table-base`) that few other numbers are near to.
//! - The **stack** is not scanned. The initialiser has returned, so nothing on it is alive.
//! - Were all this wrong, a removed function would trap and not compute something else: every place in
//!   the table that loses its function gets one that traps.
//!
//! # Parts
//!
//! `module` parses a core module, `reach` finds what can be reached, `rewrite` writes the module anew.

mod error;
mod module;
mod reach;
mod rewrite;

use std::ops::Range;

use wasm_encoder::RawSection;
use wasmparser::{Parser, Payload, Validator, WasmFeatures};

pub use self::error::PruneError;
use self::error::Result;
use self::module::{Module, Statics, symbols};
pub use self::reach::POINTER_FREE;
use self::reach::Reachable;
use self::rewrite::rewrite;

/// A pruned component.
pub struct Pruned {
    /// The component.
    pub component: Vec<u8>,
    /// The number of functions before and after.
    pub functions: [usize; 2],
}

/// Prunes `frozen`, the snapshot of the component `compiled` after its export `initializer` was called.
/// Returns `None` if the component has no symbols of its linker.
///
/// # Errors
/// Every [`PruneError`].
pub fn prune(
    compiled: &[u8],
    frozen: &[u8],
    initializer: &str,
) -> Result<Option<Pruned>, PruneError> {
    let (Some(compiled_range), Some(range)) = (linked_module(compiled)?, linked_module(frozen)?)
    else {
        return Ok(None);
    };
    let compiled = Module::parse(&compiled[compiled_range])?;
    let module = Module::parse(&frozen[range.clone()])?;
    let statics = Statics::of(&compiled)?;
    let reachable = Reachable::find(&compiled, &statics, &module.memory(), initializer)?;
    let kept = reachable.functions.iter().filter(|reachable| **reachable).count();

    let mut component = wasm_encoder::Component::new();
    for section in sections(frozen)? {
        let bytes = &frozen[section.range.clone()];
        if section.range == range {
            let pruned = rewrite(&module, bytes, &reachable, &reachable.dead_statics(&statics))?;
            component.section(&RawSection { id: section.id, data: pruned.as_slice() });
        } else {
            component.section(&RawSection { id: section.id, data: bytes });
        }
    }
    let component = component.finish();
    Validator::new_with_features(WasmFeatures::all())
        .validate_all(&component)
        .map_err(PruneError::Invalid)?;
    Ok(Some(Pruned { component, functions: [reachable.functions.len(), kept] }))
}

/// Returns where in a component the first core module with the linker's symbols is.
fn linked_module(component: &[u8]) -> Result<Option<Range<usize>>> {
    for section in sections(component)? {
        if section.module && symbols(&component[section.range.clone()])?.is_some() {
            return Ok(Some(section.range));
        }
    }
    Ok(None)
}

/// A section of a component.
struct Section {
    id: u8,
    range: Range<usize>,
    /// True for a core module.
    module: bool,
}

/// Returns the sections of a component, without those inside of its modules and components.
fn sections(component: &[u8]) -> Result<Vec<Section>> {
    let mut sections = Vec::new();
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(component) {
        let payload = payload?;
        if depth == 0
            && let Some((id, range)) = payload.as_section()
        {
            let module = matches!(payload, Payload::ModuleSection { .. });
            sections.push(Section { id, range, module });
        }
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            _ => {}
        }
    }
    Ok(sections)
}

#[cfg(test)]
mod tests {
    use wasm_encoder::{
        CodeSection, Component, CustomSection, DataSection, ElementSection, Elements, ExportKind,
        ExportSection, Function, FunctionSection, Instruction, LinkingSection, MemorySection,
        MemoryType, ModuleSection, RefType, SymbolTable, TableSection, TableType, TypeSection,
    };
    use wasmparser::RelocationType;

    use super::module::Table;
    use super::*;

    /// Functions that the service needs, ...
    const HANDLE: u32 = 0;
    const HELPER: u32 = 1;
    const IN_STATIC: u32 = 2;
    const IN_HEAP: u32 = 3;
    /// ... and those that only the initialiser needs.
    const INITIALIZE: u32 = 4;
    const LOADER: u32 = 5;
    const LIKE_A_WEIGHT: u32 = 6;

    const TABLE: u32 = 80_000;
    /// Addresses: of a static with a pointer to a function, of one that nothing uses, of the list of
    /// blocks without pointers, and of the heap.
    const STATIC: u32 = 1024;
    const UNUSED: u32 = 1028;
    const LIST: u32 = 1032;
    const HEAP: u32 = 2048;

    /// Returns a component as the linker writes it, with these contents of its memory.
    fn component(segments: &[(u32, &[u32])]) -> Vec<u8> {
        let mut types = TypeSection::new();
        types.ty().function([], []);
        let mut functions = FunctionSection::new();
        let mut code = CodeSection::new();
        for function in HANDLE..=LIKE_A_WEIGHT {
            functions.function(0);
            let mut body = Function::new([]);
            match function {
                HANDLE => _ = body.instruction(&Instruction::Call(HELPER)),
                INITIALIZE => _ = body.instruction(&Instruction::Call(LOADER)),
                _ => _ = body.instruction(&Instruction::Nop),
            }
            code.function(body.instruction(&Instruction::End));
        }
        let mut table = TableSection::new();
        table.table(TableType {
            element_type: RefType::FUNCREF,
            table64: false,
            minimum: u64::from(TABLE) + 3,
            maximum: None,
            shared: false,
        });
        let mut memory = MemorySection::new();
        memory.memory(MemoryType {
            minimum: 1,
            maximum: None,
            memory64: false,
            shared: false,
            page_size_log2: None,
        });
        let mut exports = ExportSection::new();
        exports.export("handle", ExportKind::Func, HANDLE);
        exports.export("initialize", ExportKind::Func, INITIALIZE);
        let mut elements = ElementSection::new();
        elements.active(
            None,
            &wasm_encoder::ConstExpr::i32_const(TABLE as i32),
            Elements::Functions([IN_STATIC, IN_HEAP, LIKE_A_WEIGHT].as_slice().into()),
        );
        let mut data = DataSection::new();
        for (address, words) in segments {
            let address = wasm_encoder::ConstExpr::i32_const(*address as i32);
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            data.active(0, &address, bytes);
        }
        let mut symbols = SymbolTable::new();
        symbols.function(0, IN_STATIC, Some("in a static"));
        for (name, address, size) in
            [("used", STATIC, 4), ("unused", UNUSED, 4), (POINTER_FREE, LIST, 8)]
        {
            let (index, offset) = (0, address - STATIC);
            symbols.data(0, name, Some(wasm_encoder::DataSymbolDefinition { index, offset, size }));
        }
        let mut linking = LinkingSection::new();
        linking.symbol_table(&symbols);
        // Section, number of relocations; kind, offset, symbol, addend.
        let in_code = [6, 1, RelocationType::MemoryAddrSleb as u8, 3, 1, 0];
        let in_data = [7, 1, RelocationType::TableIndexI32 as u8, 7, 0];
        let custom = |name: &'static str, data: Vec<u8>| CustomSection {
            name: name.into(),
            data: data.into(),
        };
        let mut module = wasm_encoder::Module::new();
        module
            .section(&types)
            .section(&functions)
            .section(&table)
            .section(&memory)
            .section(&exports)
            .section(&elements)
            .section(&code)
            .section(&data)
            .section(&linking)
            .section(&custom("reloc.CODE", in_code.to_vec()))
            .section(&custom("reloc.DATA", in_data.to_vec()));
        let mut component = Component::new();
        component.section(&ModuleSection(&module));
        component.finish()
    }

    #[test]
    fn prune_frozen_component_removes_what_only_the_initialiser_needs() {
        let at = |function: u32| {
            TABLE
                + [IN_STATIC, IN_HEAP, LIKE_A_WEIGHT].iter().position(|f| *f == function).unwrap()
                    as u32
        };
        let compiled = component(&[(STATIC, &[at(IN_STATIC), 7, 0, 0])]);
        let frozen = component(&[
            (STATIC, &[at(IN_STATIC), 7, HEAP + 4, 4]),
            (HEAP, &[at(IN_HEAP), at(LIKE_A_WEIGHT), 5]),
        ]);
        let pruned = prune(&compiled, &frozen, "initialize").expect("valid").expect("symbols");
        assert_eq!(pruned.functions, [7, 4]);

        let sections = sections(&pruned.component).expect("a component");
        let module = Module::parse(&pruned.component[sections[0].range.clone()]).expect("a module");
        let trap = 5;
        assert_eq!(module.exports, [("handle", HANDLE), ("initialize", INITIALIZE)]);
        let functions = vec![IN_STATIC, IN_HEAP, trap];
        assert_eq!(module.table, Table { base: TABLE, functions });
        assert_eq!(module.bodies.len(), 6);
        let segments = module.segments.iter();
        let places: Vec<_> = segments
            .map(|segment| (segment.address.expect("active"), segment.contents.len()))
            .collect();
        assert_eq!(places, [(STATIC, 4), (HEAP, 12)], "unused statics are gone");
    }

    #[test]
    fn prune_component_without_symbols_returns_none() {
        let mut component = Component::new();
        component.section(&ModuleSection(&wasm_encoder::Module::new()));
        let component = component.finish();
        assert!(prune(&component, &component, "initialize").expect("valid").is_none());
    }
}

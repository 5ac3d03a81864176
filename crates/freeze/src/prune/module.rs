//! A core module as the linker writes it: functions, memory, symbols and relocations.

use std::ops::Range;

use wasmparser::{
    ConstExpr, DataKind, ElementItems, ElementKind, ExternalKind, FunctionBody, KnownCustom,
    Linking, Operator, Parser, Payload, RelocationEntry, SymbolFlags, SymbolInfo, TypeRef,
};

use super::error::{PruneError, Result};

/// The parts of a core module that decide what is reachable.
#[derive(Default)]
pub(super) struct Module<'a> {
    /// The number of imported functions; their indices come first.
    pub(super) imported: u32,
    /// The functions of the module's own.
    pub(super) bodies: Vec<FunctionBody<'a>>,
    /// The offset in the module of the code section's contents.
    pub(super) code: usize,
    /// Exported functions: name and index.
    pub(super) exports: Vec<(&'a str, u32)>,
    pub(super) table: Table,
    pub(super) segments: Vec<Segment<'a>>,
    pub(super) symbols: Vec<SymbolInfo<'a>>,
    /// Uses of symbols in the code section; offsets count from its contents.
    pub(super) code_relocations: Vec<RelocationEntry>,
    /// Uses of symbols in the data section; offsets count from its contents.
    pub(super) data_relocations: Vec<RelocationEntry>,
}

/// The functions that can be called by an index at run time.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    /// The index of the first function.
    pub(super) base: u32,
    /// The functions, side by side.
    pub(super) functions: Vec<u32>,
}

/// A part of the data section.
pub(super) struct Segment<'a> {
    /// The address in memory; none for a passive segment.
    pub(super) address: Option<u32>,
    /// The contents' offset in the data section.
    pub(super) offset: u32,
    pub(super) contents: &'a [u8],
}

impl<'a> Module<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Module<'a>> {
        let unsupported = |what: &str| PruneError::Unsupported(what.to_owned());
        let symbols = symbols(bytes)?.unwrap_or_default();
        let mut module = Module { symbols, ..Module::default() };
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        let function = matches!(import?.ty, TypeRef::Func(_));
                        module.imported += u32::from(function);
                    }
                }
                Payload::ExportSection(exports) => {
                    for export in exports {
                        let export = export?;
                        match export.kind {
                            ExternalKind::Func => module.exports.push((export.name, export.index)),
                            ExternalKind::Table => return Err(unsupported("it exports its table")),
                            _ => {}
                        }
                    }
                }
                Payload::ElementSection(elements) => {
                    for element in elements {
                        let element = element?;
                        let (
                            ElementKind::Active { offset_expr, .. },
                            ElementItems::Functions(functions),
                        ) = (element.kind, element.items)
                        else {
                            return Err(unsupported(
                                "a table is filled by something other than a list of functions",
                            ));
                        };
                        if !module.table.functions.is_empty() {
                            return Err(unsupported("several lists of functions fill tables"));
                        }
                        module.table = Table {
                            base: constant(&offset_expr)?,
                            functions: functions.into_iter().collect::<Result<_, _>>()?,
                        };
                    }
                }
                Payload::CodeSectionStart { range, .. } => module.code = range.start,
                Payload::CodeSectionEntry(body) => module.bodies.push(body),
                Payload::DataSection(segments) => {
                    let section = segments.range().start;
                    for segment in segments {
                        let segment = segment?;
                        let contents = segment.data;
                        let address = match segment.kind {
                            DataKind::Active { offset_expr, .. } => Some(constant(&offset_expr)?),
                            DataKind::Passive => None,
                        };
                        // A section's size has 32 bits.
                        let offset = (segment.range.end - contents.len() - section) as u32;
                        module.segments.push(Segment { address, offset, contents });
                    }
                }
                Payload::CustomSection(custom) => {
                    let relocations = match custom.name() {
                        "reloc.CODE" => &mut module.code_relocations,
                        "reloc.DATA" => &mut module.data_relocations,
                        _ => continue,
                    };
                    if let KnownCustom::Reloc(section) = custom.as_known() {
                        *relocations = section.entries().into_iter().collect::<Result<_, _>>()?;
                    }
                }
                _ => {}
            }
        }
        Ok(module)
    }

    /// Returns the memory that an instance begins with, up to its last byte that a segment writes.
    pub(super) fn memory(&self) -> Vec<u8> {
        let mut memory = Vec::new();
        for Segment { address, contents, .. } in &self.segments {
            let Some(address) = address else { continue };
            let range = *address as usize..*address as usize + contents.len();
            memory.resize(memory.len().max(range.end), 0);
            memory[range].copy_from_slice(contents);
        }
        memory
    }

    /// The number of functions, imported ones included.
    pub(super) fn functions(&self) -> usize {
        self.imported as usize + self.bodies.len()
    }

    /// Returns the addresses of a symbol's static; none for a function, an absolute address, and a
    /// static without a size.
    pub(super) fn static_range(&self, symbol: &SymbolInfo) -> Option<Range<u32>> {
        let SymbolInfo::Data { flags, symbol: Some(symbol), .. } = symbol else { return None };
        if symbol.size == 0 || flags.contains(SymbolFlags::ABSOLUTE) {
            return None;
        }
        let start = self.segments.get(symbol.index as usize)?.address? + symbol.offset;
        Some(start..start + symbol.size)
    }
}

/// Returns the linker's symbols of a core module, if it has kept them.
pub(super) fn symbols(module: &[u8]) -> Result<Option<Vec<SymbolInfo<'_>>>> {
    for payload in Parser::new(0).parse_all(module) {
        let Payload::CustomSection(custom) = payload? else { continue };
        let KnownCustom::Linking(linking) = custom.as_known() else { continue };
        for subsection in linking.subsections() {
            if let Linking::SymbolTable(symbols) = subsection? {
                return Ok(Some(symbols.into_iter().collect::<Result<_, _>>()?));
            }
        }
    }
    Ok(None)
}

fn constant(expression: &ConstExpr<'_>) -> Result<u32> {
    match expression.get_operators_reader().read()? {
        Operator::I32Const { value } => Ok(value.cast_unsigned()),
        other => Err(PruneError::Unsupported(format!("{other:?} instead of a constant offset"))),
    }
}

/// The addresses of the linker's statics, in order and disjoint.
pub(super) struct Statics(Vec<Range<u32>>);

impl Statics {
    pub(super) fn of(module: &Module) -> Result<Statics> {
        let mut ranges = Vec::new();
        for symbol in &module.symbols {
            if let SymbolInfo::Data { name, .. } = symbol
                && name.starts_with("__start_")
            {
                return Err(PruneError::Unsupported(format!(
                    "it is not known which statics belong to {name}"
                )));
            }
            ranges.extend(module.static_range(symbol));
        }
        ranges.sort_by_key(|range| (range.start, range.end));
        let mut merged: Vec<Range<u32>> = Vec::new();
        for range in ranges {
            match merged.last_mut() {
                // One symbol is a part of the other, or another name of it.
                Some(last) if range.start < last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        Ok(Statics(merged))
    }

    /// The addresses of each static.
    pub(super) fn ranges(&self) -> &[Range<u32>] {
        &self.0
    }

    /// Returns the index of the static that an address points to or into.
    pub(super) fn at(&self, address: u32) -> Option<usize> {
        let index = self.0.partition_point(|range| range.start <= address).checked_sub(1)?;
        self.0[index].contains(&address).then_some(index)
    }

    /// The lowest address where the heap may begin.
    pub(super) fn end(&self) -> u32 {
        self.0.last().map_or(0, |range| range.end)
    }
}

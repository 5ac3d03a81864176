//! Removes from a pre-initialised component what only its pre-initialisation needed.
//!
//! A linker leaves out what nothing refers to. It must keep all that the initializer refers to, and
//! can't know that the initializer never runs again. So this does a linker's work once more, after
//! it: what stays is what can be reached from the exports, except the initializer, and from the heap
//! as it is in the snapshot.
//!
//! - What **functions and statics** refer to is known exactly: by calls, and by the linker's own
//!   records of every other use of an address (`--emit-relocs`).
//! - What the **heap** and the statics that have changed refer to is not recorded. Each of their
//!   aligned words that could be the address of a static or a function in the table counts as that, as
//!   in a conservative garbage collector; so that a number which happens to look like an address keeps
//!   something needlessly, but nothing that is needed is lost. The component can tell which blocks of
//!   its heap hold no addresses, by a static named [`POINTER_FREE`]; and its table begins at an index
//!   (`--table-base`) that few other numbers are near to.
//!
//! The stack is not looked at: the initializer has returned, nothing on it is alive.
//!
//! If this were wrong after all, a missing function would be a trap and not another result: each
//! place of the table that loses its function gets one that does nothing but trap.

use std::convert::Infallible;
use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};
use wasm_encoder::reencode::{self, Reencode};
use wasm_encoder::{CodeSection, DataSection, FunctionSection, Instruction, RawSection};
use wasmparser::{
    CodeSectionReader, ConstExpr, CustomSectionReader, DataKind, DataSectionReader, ElementItems,
    ElementKind, ExternalKind, FunctionBody, FunctionSectionReader, KnownCustom, Linking, Operator,
    Parser, Payload, RelocationEntry, RelocationType, SymbolFlags, SymbolInfo, TypeRef, Validator,
    WasmFeatures,
};

/// Name of the component's static that tells blocks of memory without addresses: pairs of address
/// and size, 32 bits each; those of size 0 mean nothing.
pub const POINTER_FREE: &str = "POINTER_FREE";

/// The linker's function that calls all constructors of statics. An export calls it if none has been
/// called before: the initializer was.
const CONSTRUCTORS: &str = "__wasm_call_ctors";

/// A pruned component.
pub struct Pruned {
    pub component: Vec<u8>,
    /// Functions before and after.
    pub functions: [usize; 2],
}

/// Prunes `snapshot`, which is what the component `compiled` became after its export `initializer`
/// was called. `None` if the linker has left no records.
pub fn prune(compiled: &[u8], snapshot: &[u8], initializer: &str) -> Result<Option<Pruned>> {
    let find = |component: &[u8]| -> Result<Option<Range<usize>>> {
        for section in sections(component)? {
            if section.module && linking(&component[section.range.clone()])?.is_some() {
                return Ok(Some(section.range));
            }
        }
        Ok(None)
    };
    let (Some(compiled_module), Some(module)) = (find(compiled)?, find(snapshot)?) else {
        return Ok(None);
    };
    let compiled = Module::parse(&compiled[compiled_module])?;
    let frozen = Module::parse(&snapshot[module.clone()])?;
    let statics = Statics::of(&compiled)?;
    let memory = frozen.memory();
    let alive = Alive::find(&compiled, &statics, &memory, initializer)?;
    let kept = alive.functions.iter().filter(|alive| **alive).count();

    let mut component = wasm_encoder::Component::new();
    for section in sections(snapshot)? {
        let bytes = &snapshot[section.range.clone()];
        if section.range == module {
            let dead = alive.dead_statics(&statics);
            let mut pruned = wasm_encoder::Module::new();
            Rewrite::new(&frozen, &alive, &dead).parse_core_module(
                &mut pruned,
                Parser::new(0),
                bytes,
            )?;
            component.section(&RawSection { id: section.id, data: pruned.as_slice() });
        } else {
            component.section(&RawSection { id: section.id, data: bytes });
        }
    }
    let component = component.finish();
    Validator::new_with_features(WasmFeatures::all())
        .validate_all(&component)
        .context("what is left is not valid")?;
    Ok(Some(Pruned { component, functions: [alive.functions.len(), kept] }))
}

/// A section of a component.
struct Section {
    id: u8,
    range: Range<usize>,
    /// Whether it is a core module.
    module: bool,
}

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

/// The linker's symbols, if the module has them.
fn linking(module: &[u8]) -> Result<Option<Vec<SymbolInfo<'_>>>> {
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

/// What matters of a core module.
#[derive(Default)]
struct Module<'a> {
    /// How many functions are imported; their indices come first.
    imported: u32,
    bodies: Vec<FunctionBody<'a>>,
    /// Where the contents of the code section begin.
    code: usize,
    /// Exported functions.
    exports: Vec<(&'a str, u32)>,
    /// The index of the table's first function, and the functions.
    table: (u32, Vec<u32>),
    /// Address (none if it is put somewhere later) and contents.
    segments: Vec<(Option<u32>, &'a [u8])>,
    /// Where the contents of each begin in the data section.
    segment_starts: Vec<usize>,
    symbols: Vec<SymbolInfo<'a>>,
    /// Uses of symbols in the code, and in the segments.
    uses: [Vec<RelocationEntry>; 2],
}

impl<'a> Module<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Module<'a>> {
        let symbols = linking(bytes)?.unwrap_or_default();
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
                            ExternalKind::Table => bail!("the table is exported"),
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
                            bail!("a table is filled in an unknown way");
                        };
                        ensure!(module.table.1.is_empty(), "there are several tables");
                        module.table = (
                            constant(&offset_expr)?,
                            functions.into_iter().collect::<Result<_, _>>()?,
                        );
                    }
                }
                Payload::CodeSectionStart { range, .. } => module.code = range.start,
                Payload::CodeSectionEntry(body) => module.bodies.push(body),
                Payload::DataSection(segments) => {
                    let section = segments.range().start;
                    for segment in segments {
                        let segment = segment?;
                        let start = segment.range.end - segment.data.len() - section;
                        module.segment_starts.push(start);
                        let address = match segment.kind {
                            DataKind::Active { offset_expr, .. } => Some(constant(&offset_expr)?),
                            DataKind::Passive => None,
                        };
                        module.segments.push((address, segment.data));
                    }
                }
                Payload::CustomSection(custom) => {
                    let uses = match custom.name() {
                        "reloc.CODE" => &mut module.uses[0],
                        "reloc.DATA" => &mut module.uses[1],
                        _ => continue,
                    };
                    if let KnownCustom::Reloc(records) = custom.as_known() {
                        *uses = records.entries().into_iter().collect::<Result<_, _>>()?;
                    }
                }
                _ => {}
            }
        }
        Ok(module)
    }

    /// The memory as an instance begins with.
    fn memory(&self) -> Vec<u8> {
        let mut memory = Vec::new();
        for (address, contents) in &self.segments {
            let Some(address) = address else { continue };
            let range = *address as usize..*address as usize + contents.len();
            memory.resize(memory.len().max(range.end), 0);
            memory[range].copy_from_slice(contents);
        }
        memory
    }

    fn functions(&self) -> usize {
        self.imported as usize + self.bodies.len()
    }
}

fn constant(expression: &ConstExpr<'_>) -> Result<u32> {
    match expression.get_operators_reader().read()? {
        Operator::I32Const { value } => Ok(value.cast_unsigned()),
        other => bail!("{other:?} where a constant is expected"),
    }
}

/// Where the linker has put statics: not overlapping, in the order of their addresses.
struct Statics(Vec<Range<u32>>);

impl Statics {
    fn of(module: &Module) -> Result<Statics> {
        let mut ranges = Vec::new();
        for symbol in &module.symbols {
            if let SymbolInfo::Data { name, .. } = symbol
                && name.starts_with("__start_")
            {
                bail!("it is not known which statics belong to {name}");
            }
            ranges.extend(range(module, symbol));
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

    /// Which static an address points to or into.
    fn at(&self, address: u32) -> Option<usize> {
        let index = self.0.partition_point(|range| range.start <= address).checked_sub(1)?;
        self.0[index].contains(&address).then_some(index)
    }

    /// Where the heap begins, at the earliest.
    fn end(&self) -> u32 {
        self.0.last().map_or(0, |range| range.end)
    }
}

/// Where a symbol's static is, if it is one and has a size.
fn range(module: &Module, symbol: &SymbolInfo) -> Option<Range<u32>> {
    let SymbolInfo::Data { flags, symbol: Some(symbol), .. } = symbol else { return None };
    if symbol.size == 0 || flags.contains(SymbolFlags::ABSOLUTE) {
        return None;
    }
    let start = module.segments.get(symbol.index as usize)?.0? + symbol.offset;
    Some(start..start + symbol.size)
}

/// A function or a static, by its index.
#[derive(Clone, Copy)]
enum Node {
    Function(u32),
    Static(usize),
}

/// What can be reached.
struct Alive {
    functions: Vec<bool>,
    statics: Vec<bool>,
    /// Functions that have been called for the last time, but are referred to.
    over: Vec<u32>,
}

impl Alive {
    fn find(module: &Module, statics: &Statics, memory: &[u8], initializer: &str) -> Result<Alive> {
        let in_code = uses_in_code(module, statics)?;
        let in_statics = uses_in_statics(module, statics)?;
        let before = module.memory();
        let initializer = module.exports.iter().find(|(name, _)| *name == initializer);
        let constructors = module.symbols.iter().find_map(|symbol| match symbol {
            SymbolInfo::Func { index, name: Some(CONSTRUCTORS), .. } => Some(*index),
            _ => None,
        });
        let over = initializer.map(|(_, function)| *function).into_iter().chain(constructors);
        let mut alive = Alive {
            functions: vec![false; module.functions()],
            statics: vec![false; statics.0.len()],
            over: over.collect(),
        };
        let exports = module.exports.iter();
        let mut next: Vec<Node> = exports.map(|(_, function)| Node::Function(*function)).collect();
        let maybe = |range: Range<u32>| maybe_uses(module, statics, part(memory, &range));
        let mut heap = statics.end().next_multiple_of(4);
        for block in pointer_free(module, memory)? {
            next.extend(maybe(heap..block.start.max(heap)));
            heap = block.end.next_multiple_of(4).max(heap);
        }
        next.extend(maybe(heap..u32::MAX));
        while let Some(node) = next.pop() {
            let known = match node {
                Node::Function(index) if alive.over.contains(&index) => continue,
                Node::Function(index) => &mut alive.functions[index as usize],
                Node::Static(index) => &mut alive.statics[index],
            };
            if std::mem::replace(known, true) {
                continue;
            }
            match node {
                Node::Function(index) => next.extend(&in_code[index as usize]),
                Node::Static(index) => {
                    let range = &statics.0[index];
                    next.extend(&in_statics[index]);
                    if part(memory, range) != part(&before, range) {
                        next.extend(maybe(range.start.next_multiple_of(4)..range.end));
                    }
                }
            }
        }
        Ok(alive)
    }

    /// Where statics are that nothing reaches.
    fn dead_statics(&self, statics: &Statics) -> Vec<Range<u32>> {
        let all = statics.0.iter().zip(&self.statics);
        all.filter(|(_, alive)| !**alive).map(|(range, _)| range.clone()).collect()
    }
}

/// What each function refers to, imported ones first.
fn uses_in_code(module: &Module, statics: &Statics) -> Result<Vec<Vec<Node>>> {
    let mut uses = vec![Vec::new(); module.functions()];
    let (_, own) = uses.split_at_mut(module.imported as usize);
    for (body, uses) in module.bodies.iter().zip(&mut *own) {
        for operator in body.get_operators_reader()? {
            match operator? {
                Operator::Call { function_index: function }
                | Operator::ReturnCall { function_index: function }
                | Operator::RefFunc { function_index: function } => {
                    uses.push(Node::Function(function));
                }
                _ => {}
            }
        }
    }
    for record in &module.uses[0] {
        let place = module.code + record.offset as usize;
        let after = module.bodies.partition_point(|body| body.range().start <= place);
        let body = after.checked_sub(1).context("a record of the linker lies before the code")?;
        own[body].extend(used(module, statics, record)?);
    }
    Ok(uses)
}

/// What each static referred to before anything ran.
fn uses_in_statics(module: &Module, statics: &Statics) -> Result<Vec<Vec<Node>>> {
    let mut uses = vec![Vec::new(); statics.0.len()];
    for record in &module.uses[1] {
        let place = record.offset as usize;
        let after = module.segment_starts.partition_point(|start| *start <= place);
        let segment =
            after.checked_sub(1).context("a record of the linker lies before the data")?;
        let Some(address) = module.segments[segment].0 else { continue };
        let address = address + u32::try_from(place - module.segment_starts[segment])?;
        if let Some(at) = statics.at(address) {
            uses[at].extend(used(module, statics, record)?);
        }
    }
    Ok(uses)
}

/// What a record of the linker says is used: a function or a static, if it is one.
fn used(module: &Module, statics: &Statics, record: &RelocationEntry) -> Result<Option<Node>> {
    if record.ty == RelocationType::TypeIndexLeb {
        return Ok(None);
    }
    let symbol = module.symbols.get(record.index as usize);
    Ok(match symbol.context("a record of the linker names no symbol")? {
        SymbolInfo::Func { index, .. } => Some(Node::Function(*index)),
        symbol => range(module, symbol).and_then(|range| statics.at(range.start)).map(Node::Static),
    })
}

/// A part of the memory, as far as the memory goes.
fn part<'a>(memory: &'a [u8], range: &Range<u32>) -> &'a [u8] {
    let end = (range.end as usize).min(memory.len());
    memory.get(range.start as usize..end).unwrap_or_default()
}

/// What the words in a part of the memory might refer to.
fn maybe_uses<'a>(
    module: &'a Module,
    statics: &'a Statics,
    memory: &'a [u8],
) -> impl Iterator<Item = Node> + 'a {
    let (words, _) = memory.as_chunks::<4>();
    words.iter().filter_map(|word| {
        let word = u32::from_le_bytes(*word);
        let (first, functions) = &module.table;
        let function = word.checked_sub(*first).and_then(|index| functions.get(index as usize));
        match function {
            Some(function) => Some(Node::Function(*function)),
            None => statics.at(word).map(Node::Static),
        }
    })
}

/// Blocks of the heap without addresses, in the order of theirs.
fn pointer_free(module: &Module, memory: &[u8]) -> Result<Vec<Range<u32>>> {
    let list = module
        .symbols
        .iter()
        .find(|symbol| matches!(symbol, SymbolInfo::Data { name, .. } if *name == POINTER_FREE));
    let list = list.and_then(|symbol| range(module, symbol)).unwrap_or_default();
    let (pairs, _) = part(memory, &list).as_chunks::<8>();
    let blocks = pairs
        .iter()
        .map(|&[a, b, c, d, e, f, g, h]| {
            let start = u32::from_le_bytes([a, b, c, d]);
            start..start.saturating_add(u32::from_le_bytes([e, f, g, h]))
        })
        .filter(|block| !block.is_empty());
    apart(blocks.collect())
}

/// Blocks in their order. What overlaps is not there at the same time: then one of the blocks was
/// given back without a word, and what is there now may hold addresses.
fn apart(mut blocks: Vec<Range<u32>>) -> Result<Vec<Range<u32>>> {
    blocks.sort_by_key(|block| block.start);
    for pair in blocks.windows(2) {
        ensure!(pair[0].end <= pair[1].start, "{POINTER_FREE} has blocks that overlap: {pair:x?}");
    }
    Ok(blocks)
}

/// Segments without the contents of `dead` memory.
fn cut<'a>(
    segments: &[(Option<u32>, &'a [u8])],
    dead: &[Range<u32>],
) -> Vec<(Option<u32>, &'a [u8])> {
    let mut pieces = Vec::new();
    for (address, contents) in segments {
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

/// Writes a module with the functions that stay only.
struct Rewrite<'a> {
    alive: &'a Alive,
    /// The new index of each function; none for those that go.
    indices: Vec<Option<u32>>,
    /// How many are imported.
    imported: usize,
    /// The function in the place of those that go.
    trap: u32,
    segments: Vec<(Option<u32>, &'a [u8])>,
}

impl<'a> Rewrite<'a> {
    fn new(module: &Module<'a>, alive: &'a Alive, dead: &[Range<u32>]) -> Rewrite<'a> {
        let imported = module.imported as usize;
        let mut count = 0;
        let indices = (0..)
            .zip(&alive.functions)
            .map(|(index, reached)| {
                let stays = *reached || alive.over.contains(&index) || index < module.imported;
                count += u32::from(stays);
                stays.then(|| count - 1)
            })
            .collect();
        let segments = cut(&module.segments, dead);
        Rewrite { alive, indices, imported, trap: count, segments }
    }

    fn stays(&self, body: usize) -> bool {
        self.indices[self.imported + body].is_some()
    }
}

type Rewritten<T = ()> = Result<T, reencode::Error<Infallible>>;

impl Reencode for Rewrite<'_> {
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
        // The trap's type is any: a call by another type traps, too.
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
            if self.alive.functions[self.imported + body] {
                self.parse_function_body(code, function)?;
            } else if self.stays(body) {
                code.function(&trap);
            }
        }
        code.function(&trap);
        Ok(())
    }

    fn data_count(&mut self, _: u32) -> Rewritten<u32> {
        Ok(self.segments.len() as u32)
    }

    fn parse_data_section(
        &mut self,
        data: &mut DataSection,
        _: DataSectionReader<'_>,
    ) -> Rewritten {
        for (address, contents) in &self.segments {
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

    /// The linker's records speak of functions that are gone.
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
    use wasm_encoder::{
        Component, CustomSection, ElementSection, Elements, ExportKind, ExportSection, Function,
        LinkingSection, MemorySection, MemoryType, ModuleSection, RefType, SymbolTable,
        TableSection, TableType, TypeSection,
    };

    /// Functions: what the service needs, ...
    const HANDLE: u32 = 0;
    const HELPER: u32 = 1;
    const IN_STATIC: u32 = 2;
    const IN_HEAP: u32 = 3;
    /// ... and what only the initializer does.
    const INITIALIZE: u32 = 4;
    const LOADER: u32 = 5;
    const LIKE_A_WEIGHT: u32 = 6;

    const TABLE: u32 = 80_000;
    /// Addresses: a static with the address of a function, one that nothing uses, and the list of
    /// blocks without addresses.
    const STATIC: u32 = 1024;
    const UNUSED: u32 = 1028;
    const LIST: u32 = 1032;
    const HEAP: u32 = 2048;

    /// A component as the linker leaves it, with other contents of its memory.
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
        // Section, number of records; kind, offset, symbol, and what is added.
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
    fn what_only_the_initializer_needs_goes() {
        let at = |function: u32| {
            TABLE
                + [IN_STATIC, IN_HEAP, LIKE_A_WEIGHT].iter().position(|f| *f == function).unwrap()
                    as u32
        };
        let compiled = component(&[(STATIC, &[at(IN_STATIC), 7, 0, 0])]);
        let snapshot = component(&[
            (STATIC, &[at(IN_STATIC), 7, HEAP + 4, 4]),
            (HEAP, &[at(IN_HEAP), at(LIKE_A_WEIGHT), 5]),
        ]);
        let pruned = prune(&compiled, &snapshot, "initialize").expect("valid").expect("records");
        assert_eq!(pruned.functions, [7, 4]);

        let sections = sections(&pruned.component).expect("a component");
        let module = Module::parse(&pruned.component[sections[0].range.clone()]).expect("a module");
        let trap = 5;
        assert_eq!(module.exports, [("handle", HANDLE), ("initialize", INITIALIZE)]);
        assert_eq!(module.table, (TABLE, vec![IN_STATIC, IN_HEAP, trap]));
        assert_eq!(module.bodies.len(), 6);
        let places: Vec<_> =
            module.segments.iter().map(|(at, bytes)| (at.expect("active"), bytes.len())).collect();
        assert_eq!(places, [(STATIC, 4), (HEAP, 12)], "unused statics are gone");
    }

    #[test]
    fn blocks_that_overlap_are_refused() {
        assert_eq!(apart(vec![8..12, 0..8]).expect("apart"), [0..8, 8..12]);
        let error = apart(vec![8..12, 0..9]).expect_err("they overlap").to_string();
        assert!(error.contains("[0..9, 8..c]"), "{error}");
    }

    #[test]
    fn without_the_linkers_records_nothing_is_done() {
        let mut component = Component::new();
        component.section(&ModuleSection(&wasm_encoder::Module::new()));
        let component = component.finish();
        assert!(prune(&component, &component, "initialize").expect("valid").is_none());
    }
}

//! The guest half: an allocator, and the call that wraps an initialiser's work.
//!
//! While [`initialize`] runs, the allocator zeroes freed memory, so a snapshot does not store it, and
//! records the blocks that hold no pointers in a static that `freeze::prune` reads. Afterwards
//! [`initialize`] takes all free memory. At run time the allocator is the system's.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// True while the work of [`initialize`] runs.
static FREEZING: AtomicBool = AtomicBool::new(false);

/// Blocks without pointers: address and size, or zeros for a free entry. `freeze::prune` finds the
/// list by its symbol's name.
///
/// More entries than a component with three models needs. Where they do not suffice, the blocks that
/// are not recorded are scanned for pointers, and may keep functions that nothing needs.
#[unsafe(no_mangle)]
static POINTER_FREE: [[AtomicUsize; 2]; ENTRIES] =
    [const { [const { AtomicUsize::new(0) }; 2] }; ENTRIES];

/// Entries of [`POINTER_FREE`].
const ENTRIES: usize = 1024;

/// Bytes of the smallest block that is recorded. Most smaller ones are names, not weights, and there are many.
/// Measured: docs/benchmarks.md.
const MIN_RECORDED: usize = 256;

/// Bytes of the largest hole that [`fill_holes`] looks for. Looking grows the memory by that once.
const MAX_HOLE: usize = 1 << 22;

/// Runs an initialiser's work and leaves memory that is worth freezing.
///
/// The work must ask the host for nothing: the C library frees what a host wrote, without this
/// allocator.
pub fn initialize<T>(work: impl FnOnce() -> T) -> T {
    FREEZING.store(true, Ordering::Relaxed);
    let result = work();
    FREEZING.store(false, Ordering::Relaxed);
    fill_holes();
    result
}

/// Takes every free block of the present memory, for good, so that all later allocations lie behind it,
/// side by side.
///
/// Freed blocks are scattered among the weights; reusing them would dirty copy-on-write pages, and a
/// pool that keeps an ended instance's memory for the next one tracks only a few separate regions.
/// Page faults with and without: docs/benchmarks.md.
fn fill_holes() {
    let end = core::arch::wasm32::memory_size(0) * 65_536;
    // Down to one byte, which takes the smallest block that the system's allocator has.
    let sizes = std::iter::successors(Some(MAX_HOLE), |size| Some(size / 2));
    for size in sizes.take_while(|size| *size > 0) {
        let Ok(layout) = Layout::from_size_align(size, 1) else { return };
        loop {
            // SAFETY: the layout is not empty.
            let block = unsafe { System.alloc(layout) };
            if block.is_null() {
                break;
            }
            if block.addr() + size > end {
                // SAFETY: the block was allocated here with this layout and is not used.
                unsafe { System.dealloc(block, layout) };
                break;
            }
            // The allocator's own notes are left in it: sizes of the blocks that it was, of which one may equal the
            // address of a static.
            // SAFETY: the block was allocated here with this size, and is nobody's.
            unsafe { block.write_bytes(0, size) };
            std::hint::black_box(block);
        }
    }
}

/// True for a block that cannot hold pointers, which are aligned to their four bytes, and is large
/// enough to record.
fn is_pointer_free(layout: Layout) -> bool {
    layout.align() < align_of::<usize>() && layout.size() >= MIN_RECORDED
}

/// Records a new block if it is free of pointers.
fn record(block: *mut u8, layout: Layout) {
    if FREEZING.load(Ordering::Relaxed) && is_pointer_free(layout) && !block.is_null() {
        replace(0, [block.addr(), layout.size()]);
    }
}

/// Replaces the entry of the block at the address `old`; 0 is a free entry.
fn replace(old: usize, new: [usize; 2]) {
    for [address, size] in &POINTER_FREE {
        if address.load(Ordering::Relaxed) == old {
            address.store(new[0], Ordering::Relaxed);
            size.store(new[1], Ordering::Relaxed);
            return;
        }
    }
}

/// The system's allocator. While [`initialize`] runs, it zeroes freed blocks and records blocks
/// without pointers.
#[derive(Debug)]
pub struct Allocator;

// SAFETY: every call passes its arguments on to the system's allocator, which keeps the contract; the
// only other access is to memory that its owner has just given back.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller promises what the system's allocator asks for.
        let block = unsafe { System.alloc(layout) };
        record(block, layout);
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as in `alloc`.
        let block = unsafe { System.alloc_zeroed(layout) };
        record(block, layout);
        block
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the block was allocated here with this layout and nobody uses it any more, so all of
        // it may be written until it is given back.
        unsafe {
            if FREEZING.load(Ordering::Relaxed) {
                pointer.write_bytes(0, layout.size());
                // The compiler may otherwise drop writes to memory that is freed next.
                std::hint::black_box(pointer);
                if is_pointer_free(layout) {
                    replace(pointer.addr(), [0, 0]);
                }
            }
            System.dealloc(pointer, layout);
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if !FREEZING.load(Ordering::Relaxed) {
            // SAFETY: as in `alloc`.
            return unsafe { System.realloc(pointer, layout, new_size) };
        }
        // The system's `realloc` would leave the old block as it is.
        // SAFETY: the caller promises that `new_size` with this alignment is a valid layout and that
        // the old block has `layout`. The two blocks are distinct, so they do not overlap.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(new_size, layout.align()));
            if !new.is_null() {
                new.copy_from_nonoverlapping(pointer, layout.size().min(new_size));
                self.dealloc(pointer, layout);
            }
            new
        }
    }
}

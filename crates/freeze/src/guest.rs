//! Memory that is worth freezing, while the component is pre-initialised.
//!
//! Freed memory is zeroed: the snapshot stores every page that is not zero, and without this, the
//! parsed ONNX files and the optimiser's leavings, long freed, would be a part of the component for
//! ever. And it is written down which blocks hold no addresses, so that the numbers in them keep
//! nothing in the component that could be removed (`host/src/prune.rs`).

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Whether the component is being pre-initialised.
static FREEZING: AtomicBool = AtomicBool::new(false);

/// Blocks without addresses: where each is and how long; 0 and 0 for none.
///
/// Their number is more than the models need. Were they too few, something would stay in the
/// component needlessly.
#[unsafe(no_mangle)]
static POINTER_FREE: [[AtomicUsize; 2]; 512] = [const { [const { AtomicUsize::new(0) }; 2] }; 512];

/// Smaller blocks are not worth writing down.
const LARGE: usize = 1024;

/// Runs the pre-initialisation's work. It must ask the host for nothing: the C library gives back
/// what the host has written by itself.
pub fn without_leavings<T>(work: impl FnOnce() -> T) -> T {
    FREEZING.store(true, Ordering::Relaxed);
    let done = work();
    FREEZING.store(false, Ordering::Relaxed);
    fill_holes();
    done
}

/// Takes every free block of the memory that there is, for ever, so that all that is needed later lies
/// behind it, side by side.
///
/// What was freed lies between what is kept, in pieces. If they were used again, an instance would write
/// to pages of the models that it shares with all others, each of which its host has to copy for it; and
/// to so many places that the host gives up keeping them for the next one. Measured, in an instance's
/// first prediction: 660 page faults in the place of 1,375; 35 in that of 535 where the instance has the
/// place of an ended one (wasmtime 48's pool tells 32 pieces of memory apart).
fn fill_holes() {
    /// No hole is larger; the memory grows by that once.
    const LARGEST: usize = 1 << 22;
    let end = core::arch::wasm32::memory_size(0) * 65_536;
    // Down to a byte: in the least block that there is, whatever its size may be.
    let sizes = std::iter::successors(Some(LARGEST), |size| Some(size / 2));
    for size in sizes.take_while(|size| *size > 0) {
        let Ok(layout) = Layout::from_size_align(size, 1) else { return };
        loop {
            // SAFETY: the layout is not empty.
            let block = unsafe { System.alloc(layout) };
            if block.is_null() {
                break;
            }
            if block.addr() + size > end {
                // SAFETY: it was allocated here with this layout, and nobody has used it.
                unsafe { System.dealloc(block, layout) };
                break;
            }
        }
    }
}

/// Whether a block can't hold addresses, which have four bytes and are aligned to them.
fn pointer_free(layout: Layout) -> bool {
    layout.align() < align_of::<usize>() && layout.size() >= LARGE
}

/// Writes a new block down, if it is one without addresses.
fn write_down(block: *mut u8, layout: Layout) {
    if FREEZING.load(Ordering::Relaxed) && pointer_free(layout) && !block.is_null() {
        replace(0, [block.addr(), layout.size()]);
    }
}

/// Puts a block in the place of the one at an address in the list.
fn replace(old: usize, new: [usize; 2]) {
    for [address, size] in &POINTER_FREE {
        if address.load(Ordering::Relaxed) == old {
            address.store(new[0], Ordering::Relaxed);
            size.store(new[1], Ordering::Relaxed);
            return;
        }
    }
}

/// The system's allocator, with the above if it is told to.
#[derive(Debug)]
pub struct Allocator;

// SAFETY: every call goes to the system's allocator with the arguments as they came, which keeps
// its contract; the only other access is to memory that its owner has just given back.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        let block = unsafe { System.alloc(layout) };
        write_down(block, layout);
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as in `alloc`.
        let block = unsafe { System.alloc_zeroed(layout) };
        write_down(block, layout);
        block
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the block was allocated here with this layout and nobody uses it any more, so
        // that all of it may be written until it is given back.
        unsafe {
            if FREEZING.load(Ordering::Relaxed) {
                pointer.write_bytes(0, layout.size());
                // Else the compiler may leave out what is written right before it is freed.
                std::hint::black_box(pointer);
                if pointer_free(layout) {
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
        // SAFETY: the caller promises that `new_size` with this alignment is a valid layout and
        // that the old block has `layout`; the two blocks are different, so that they can't
        // overlap.
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

//! Memory that is worth freezing: while the component is pre-initialised, freed memory is zeroed.
//!
//! The snapshot stores every page that is not zero. Without this, the parsed ONNX files and the
//! optimiser's leavings, long freed, would be a part of the component for ever.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether freed memory is zeroed: only while the component is pre-initialised.
static ZERO_FREED: AtomicBool = AtomicBool::new(false);

/// Runs the pre-initialisation's work.
pub fn without_leavings<T>(work: impl FnOnce() -> T) -> T {
    ZERO_FREED.store(true, Ordering::Relaxed);
    let done = work();
    ZERO_FREED.store(false, Ordering::Relaxed);
    done
}

/// The system's allocator, which zeroes what is freed if it is told to.
struct Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

// SAFETY: every call goes to the system's allocator with the arguments as they came, which keeps
// its contract; the only other access is to memory that its owner has just given back.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the block was allocated here with this layout and nobody uses it any more, so
        // that all of it may be written until it is given back.
        unsafe {
            if ZERO_FREED.load(Ordering::Relaxed) {
                pointer.write_bytes(0, layout.size());
                // Else the compiler may leave out what is written right before it is freed.
                std::hint::black_box(pointer);
            }
            System.dealloc(pointer, layout);
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if !ZERO_FREED.load(Ordering::Relaxed) {
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

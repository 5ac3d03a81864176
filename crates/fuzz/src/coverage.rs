//! Coverage: which branches of the code an input takes, as LLVM's SanitizerCoverage counts them.
//!
//! `cargo xtask fuzz` compiles the targets with a counter of 8 bits for each edge between blocks of code, and with
//! `--cfg fuzz_coverage`. Rust's stable compiler does that, and what receives the counters is a function below: no
//! libFuzzer, and so no C++ compiler. The standard library has no counters.

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// Numbers of times that count as different: 1, 2, 3, 4 to 7 and so on. A loop that runs once more is rarely news.
const fn class(count: u8) -> u8 {
    match count {
        0 => 0,
        1 => 1,
        2 => 1 << 1,
        3 => 1 << 2,
        4..=7 => 1 << 3,
        8..=15 => 1 << 4,
        16..=31 => 1 << 5,
        32..=127 => 1 << 6,
        _ => 1 << 7,
    }
}

/// All that the inputs so far have done: the classes of each counter.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    classes: Vec<u8>,
    edges: usize,
}

impl Seen {
    /// Adds the counts of a run. Returns true if it did something that no run before it did.
    pub fn add(&mut self, counts: &[u8]) -> bool {
        self.classes.resize(counts.len(), 0);
        let mut news = false;
        // Most counters are 0.
        for (counts, seen) in counts.chunks(16).zip(self.classes.chunks_mut(16)) {
            if counts.iter().all(|count| *count == 0) {
                continue;
            }
            for (count, seen) in counts.iter().zip(seen) {
                let class = class(*count);
                if class & !*seen != 0 {
                    self.edges += usize::from(*seen == 0);
                    *seen |= class;
                    news = true;
                }
            }
        }
        news
    }

    /// Returns the number of edges that some run took.
    pub fn edges(&self) -> usize {
        self.edges
    }
}

/// The counters of this program. Without coverage, there are none.
#[derive(Debug)]
pub struct Counters {
    /// A copy: the code that looks at the counters has counters, too.
    copy: Vec<u8>,
}

impl Counters {
    /// Returns the counters, if the program has any.
    pub fn new() -> Option<Counters> {
        let (_, length) = section();
        (length > 0).then(|| Counters { copy: vec![0; length] })
    }

    /// Sets them to 0.
    pub fn reset(&mut self) {
        let (start, length) = section();
        // SAFETY: the linker made the section, which has this length, for LLVM's code alone. That counts without
        // synchronisation, so at worst a count is lost.
        unsafe { start.write_bytes(0, length) };
    }

    /// Returns the counts since then.
    pub fn counts(&mut self) -> &[u8] {
        let (start, length) = section();
        // SAFETY: as in `reset`; the copy has the same length.
        unsafe { start.copy_to_nonoverlapping(self.copy.as_mut_ptr(), length) };
        &self.copy
    }
}

static START: AtomicPtr<u8> = AtomicPtr::new(ptr::dangling_mut());
static LENGTH: AtomicUsize = AtomicUsize::new(0);

/// Returns the start and the length of the counters.
fn section() -> (*mut u8, usize) {
    (START.load(Ordering::Relaxed), LENGTH.load(Ordering::Relaxed))
}

/// Receives the counters when the program starts: once for each object file, and always all of them.
///
/// # Safety
/// LLVM's code calls it, with the start and the end of the counters.
#[cfg(fuzz_coverage)]
#[unsafe(no_mangle)]
unsafe extern "C" fn __sanitizer_cov_8bit_counters_init(start: *mut u8, end: *mut u8) {
    START.store(start, Ordering::Relaxed);
    LENGTH.store(end.addr() - start.addr(), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_edge_or_many_more_times_is_news() {
        let mut seen = Seen::default();
        let mut counts = [0; 40];
        assert!(!seen.add(&counts));
        counts[33] = 1;
        assert!(seen.add(&counts) && !seen.add(&counts));
        counts[33] = 4;
        assert!(seen.add(&counts));
        counts[33] = 7;
        assert!(!seen.add(&counts));
        counts[0] = 255;
        assert!(seen.add(&counts));
        assert_eq!(seen.edges(), 2);
    }
}

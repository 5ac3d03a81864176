//! Workarounds for the two compilers between this code and the processor.
//!
//! LLVM turns the code into WebAssembly, and Cranelift, the compiler of wasmtime and Spin, turns that
//! into machine code. Neither undoes what the other did. The helpers here change no result; they only
//! decide when and where a value is computed.
//!
//! | compiler | habit | answer |
//! |---|---|---|
//! | Cranelift | sinks computations to where their results are needed, but not loads: a long calculation first loads all that it reads, more than there are registers | [`force_evaluation`], [`volatile_store`] |
//! | Cranelift | at the end of each turn of a loop looks whether it should stop (epoch interruption), and values that live on go through memory | [`unrolled`] |
//! | LLVM | splits the addresses in a loop into what changes and what does not, and so makes more of them than there are registers | [`opaque`] |
//! | LLVM | turns a swizzle with constant indices into a shuffle, which names a second vector even where no byte comes from it and costs Cranelift more instructions | [`volatile_load`] of the indices |
//! | LLVM | turns `f32x4_pmin` and `f32x4_pmax` with a constant into a comparison and a selection | the relaxed minimum and maximum, in `wasm.rs` |
//!
//! Measured: `docs/benchmarks.md#kernels-compiler-workarounds`.

/// Forces values to be computed before anything that follows is loaded.
///
/// A branch that could change the values comes between; it is never taken.
#[inline(always)]
pub fn force_evaluation<T: Copy, const COUNT: usize>(values: &mut [T; COUNT]) {
    static NEVER: u32 = 0;
    // SAFETY: a static can be read at any time.
    if unsafe { std::ptr::read_volatile(&raw const NEVER) } != 0 {
        *values = std::hint::black_box(*values);
    }
}

/// Returns the number unchanged, as one that LLVM cannot see through.
///
/// An opaque offset stays in one register, and constants that are added to it become part of the load
/// instructions. LLVM sees through additions, hence the exclusive or.
#[inline(always)]
pub fn opaque(number: usize) -> usize {
    static ZERO: usize = 0;
    // SAFETY: a static can be read at any time.
    number ^ unsafe { std::ptr::read_volatile(&raw const ZERO) }
}

/// Stores a value in memory. It is computed before anything that follows is loaded.
#[inline(always)]
pub fn volatile_store<T: Copy>(value: T, to: &mut T) {
    // SAFETY: a reference can be written to.
    unsafe { std::ptr::write_volatile(to, value) }
}

/// Loads a value of which LLVM assumes nothing.
#[inline(always)]
pub fn volatile_load<T: Copy>(from: &T) -> T {
    // SAFETY: a reference can be read from.
    unsafe { std::ptr::read_volatile(from) }
}

/// Repeats a block for each of some numbers, without a loop.
macro_rules! unrolled {
    ($name:ident in $($number:literal)* => $block:expr) => {
        $({
            let $name: usize = $number;
            $block
        })*
    };
}
pub(crate) use unrolled;

//! Convolution kernels for small vision models in a WebAssembly sandbox, on std alone.
//!
//! They run MediaPipe's palm detection and hand landmarks, which are MobileNets, one photo at a time on one
//! thread, in WebAssembly with simd128 and relaxed-simd. The same code runs natively, on arrays instead of
//! vectors, for tests.
//!
//! **Method.** *Dynamic quantisation by row, int8 weights by channel* (XNNPACK calls it qd8-f32-qc8w). An
//! operator reads and writes floats. Each pixel's channels, a row of the matrix product, are scaled to
//! integers by their own range when they are read, and weights by their output channel's when they are
//! packed. Models need no calibration. Where int8 is too coarse, the same is done in int16
//! ([`Precision`](pointwise::Precision)).
//!
//! **Layout.** Activations are `height × width × channels` in row-major order (NHWC with N = 1), so that a
//! pixel's channels lie side by side. Within a fused operator they lie in blocks of eight channels
//! (nChw8c).
//!
//! # Parts, bottom up
//!
//! Each knows only those before it.
//!
//! | file | contents |
//! |---|---|
//! | [`simd`] | vectors of 128 bits: `simd/wasm.rs`, `simd/portable.rs`; `simd/cranelift.rs`, the workarounds for the compilers |
//! | [`shape`] | shapes, [`ConvGeometry`](shape::ConvGeometry), and what an operator reads |
//! | `quant` | ranges of rows, and what their integers stand for |
//! | [`activation`] | linear, clamp, PReLU |
//! | `layout` | nChw8c: element types, blocked rows and tiles |
//! | `gemm` | the matrix product: packed weights, epilogue, and the micro-kernels `gemm/int8.rs` and `gemm/int16.rs` |
//! | [`operator`] | the trait of all operators |
//! | [`pointwise`] | 1 × 1 convolution, and the product with a matrix |
//! | [`conv2d`] | a model's first layer, by im2col |
//! | [`depthwise`] | 3 × 3 and 5 × 5 by channel, with its epilogue in `depthwise/epilogue.rs` |
//! | [`inverted_residual`] | expand, depthwise and project as one operator |
//! | [`pool`], [`resize`] | maximum pooling, bilinear upsampling |
//!
//! `tests.rs` compares the operators with the plain loops of `tests/reference.rs` over random shapes,
//! natively (`cargo test -p kernels`) and in the sandbox (`cargo xtask test sandbox`).
//!
//! # How to add a kernel
//!
//! 1. Write the plain loops in `tests/reference.rs`, and in `tests.rs` a comparison over random shapes
//!    that prints the largest error.
//! 2. Write the operator in a file of its own, such as `pool.rs`: a type that packs its weights in `new`,
//!    and returns `None` for what it does not support. Implement [`Operator`](operator::Operator) for it.
//!    Build on `gemm` or `layout` where they fit, on [`simd`] otherwise. A missing instruction goes into
//!    both `simd/wasm.rs` and `simd/portable.rs`, with a test in `simd.rs`.
//! 3. Declare the file in `lib.rs`, and add it to the table above.
//! 4. Match the ONNX nodes that it computes in `crates/vision/src/engine/fusion/patterns.rs`, with a test on
//!    a small graph. `crates/vision/src/engine/op.rs` runs any [`Operator`](operator::Operator).
//! 5. Measure: `cargo xtask operators` prints the time and the GMAC/s of each operator in the sandbox. Set
//!    the test's tolerance by the largest error, and record what a decision was based on in
//!    `docs/benchmarks.md`.

pub mod activation;
pub mod conv2d;
pub mod depthwise;
mod gemm;
pub mod inverted_residual;
mod layout;
pub mod operator;
pub mod pointwise;
pub mod pool;
mod quant;
pub mod resize;
pub mod shape;
pub mod simd;
#[cfg(test)]
mod tests;

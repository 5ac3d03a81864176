//! Memory that decoding takes, of the photos that take most of each kind.
//!
//! `cargo run --release --example worst` prints these figures, and times.

mod files;

use std::ops::RangeInclusive;
use std::sync::{Mutex, PoisonError};

use files::counting::{Counting, most_memory};
use files::worst::{self, Make, Worst};
use vision::decode::{DecodeError, Format, Limits, decode};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The limit in `vision::decode`: what is left of 128 MiB beside the models, a body of 10 MiB and the
/// passes of the models.
const MEMORY: usize = 64 << 20;

const MB: usize = 1_000_000;

/// Tests share the count, so they take turns.
static TURN: Mutex<()> = Mutex::new(());

/// Decodes a photo and checks that memory stays within the limit, and that the photo takes as much as
/// it is there for.
fn assert_takes(make: Make, memory: RangeInclusive<usize>) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let Worst { name, file, whole } = make();
    assert!(file.len() <= 10 << 20, "{name}: a body of {} bytes", file.len());
    let (result, most) = most_memory(|| decode(&file, Limits::DEFAULT));
    println!("{name}: {:.1} MB", most as f64 / 1e6);
    assert!(memory.contains(&most), "{name}: {most} bytes, not {memory:?}");
    if whole {
        result.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

/// Outside of WebAssembly, `jpeg-decoder` hands rows to threads, where they may wait. Measured: 3 MB of
/// them.
const JPEG_LIMIT: usize = if cfg!(target_family = "wasm") { MEMORY } else { 2 * MEMORY };
/// A progressive JPEG without data leaves the memory of a large body.
const PROGRESSIVE_LIMIT: usize = JPEG_LIMIT + (24 << 20);

#[test]
fn sequential_jpeg_without_data_stays_within_the_limit() {
    assert_takes(worst::jpeg_without_data, MB..=JPEG_LIMIT);
}

#[test]
fn sequential_jpeg_full_of_data_stays_within_the_limit() {
    assert_takes(worst::jpeg_full_of_data, MB..=JPEG_LIMIT);
}

#[test]
fn sequential_jpeg_of_short_codes_stays_within_the_limit() {
    assert_takes(worst::jpeg_of_short_codes, MB..=JPEG_LIMIT);
}

#[test]
fn jpeg_of_four_inks_stays_within_the_limit() {
    assert_takes(worst::jpeg_of_four_inks, 40 * MB..=JPEG_LIMIT);
}

#[test]
fn progressive_jpeg_stays_within_the_limit() {
    assert_takes(worst::progressive_jpeg, 70 * MB..=PROGRESSIVE_LIMIT);
}

#[test]
fn progressive_jpeg_of_short_codes_stays_within_the_limit() {
    assert_takes(worst::progressive_jpeg_of_short_codes, 60 * MB..=PROGRESSIVE_LIMIT);
}

#[test]
fn png_of_short_codes_stays_within_the_limit() {
    assert_takes(worst::png_of_short_codes, MB..=MEMORY);
}

#[test]
fn png_of_48_megapixels_stays_within_the_limit() {
    assert_takes(worst::png_of_48_megapixels, MB..=MEMORY);
}

#[test]
fn interlaced_png_stays_within_the_limit() {
    assert_takes(worst::interlaced_png, 50 * MB..=MEMORY);
}

#[test]
fn strip_png_stays_within_the_limit() {
    assert_takes(worst::strip_png, 20 * MB..=MEMORY);
}

#[test]
fn lossy_webp_stays_within_the_limit() {
    assert_takes(worst::lossy_webp, 35 * MB..=MEMORY);
}

#[test]
fn lossy_webp_full_of_data_stays_within_the_limit() {
    assert_takes(worst::lossy_webp_full_of_data, 35 * MB..=MEMORY);
}

#[test]
fn lossless_webp_stays_within_the_limit() {
    assert_takes(worst::lossless_webp, 40 * MB..=MEMORY);
}

#[test]
fn transparent_webp_stays_within_the_limit() {
    assert_takes(worst::transparent_webp, 25 * MB..=MEMORY);
}

/// 5 MB of codes would become 1.3 GB of tables.
#[test]
fn webp_of_many_tables_is_refused_before_they_are_built() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let file = worst::lossless_webp_of_many_tables();
    let (result, most) = most_memory(|| decode(&file, Limits::DEFAULT));
    let error = result.expect_err("too many tables");
    assert!(matches!(error, DecodeError::Unsupported { format: Format::WebP, .. }), "{error}");
    assert!(most < 1 << 20, "{most} bytes");
}

//! Fuzzing: seeds, mutations, and what runs a target with them. For development only.
//!
//! A **target** is a function of bytes that panics if it finds something wrong. Its test runs it on all seeds and
//! on some thousand mutations of them, the same in every run. `cargo xtask fuzz` builds the same tests with
//! counters of coverage, and libFuzzer looks for inputs that reach new code, from the same seeds on.
//!
//! The targets are in `tests/fuzz.rs`. **To add one**, write a test there that calls [`explore`], and list its name
//! in `xtask/src/fuzz.rs`.

#[cfg(not(fuzzing))]
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;

pub mod mutations;
pub mod seeds;

/// Returns the repository's root.
fn root() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", ".."].iter().collect()
}

/// Runs a target on each seed, and on as many mutations of them as `count` says. An input that makes it panic is
/// kept in `folder`.
///
/// # Panics
/// If the target does, or if there are no seeds.
#[cfg(not(fuzzing))]
pub fn explore(name: &str, folder: &str, seeds: &[Vec<u8>], count: u64, target: impl Fn(&[u8])) {
    let run = |about: String, bytes: &[u8]| {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(bytes))) {
            let file = std::path::Path::new(folder).join(format!("{name}-{about}"));
            std::fs::write(&file, bytes).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            eprintln!("the input of {name} that panics: {}", file.display());
            resume_unwind(panic);
        }
    };
    for (number, seed) in seeds.iter().enumerate() {
        run(format!("seed-{number}"), seed);
    }
    for number in 0..count {
        let mut random = fastrand::Rng::with_seed(number);
        let [mut bytes, other] = [(); 2].map(|()| seeds[random.usize(..seeds.len())].clone());
        mutations::mutate(&mut random, &mut bytes, &other);
        run(format!("mutation-{number}"), &bytes);
    }
}

/// Writes the seeds to the corpus and starts libFuzzer, whose arguments `cargo xtask fuzz` has set.
///
/// # Panics
/// If the corpus cannot be written.
#[cfg(fuzzing)]
pub fn explore(name: &str, _folder: &str, seeds: &[Vec<u8>], _count: u64, target: impl Fn(&[u8])) {
    let corpus = std::env::var_os("FUZZ_CORPUS").expect("cargo xtask fuzz sets it");
    for (number, seed) in seeds.iter().enumerate() {
        let file = std::path::Path::new(&corpus).join(format!("{name}-seed-{number}"));
        std::fs::write(&file, seed).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    }
    // The process ends at a panic.
    let target = std::panic::AssertUnwindSafe(target);
    bolero::check!().for_each(|bytes: &[u8]| {
        let target = &target;
        (target.0)(bytes);
    });
}

#[cfg(all(test, not(fuzzing)))]
mod tests {
    use super::*;

    #[test]
    fn input_that_panics_is_kept() {
        let folder = std::env::temp_dir().join(format!("fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let seeds = [vec![b'a'; 100], vec![b'b'; 100]];
        let place = folder.to_str().expect("text");
        explore("quiet", place, &seeds, 100, |_| {});
        assert_eq!(std::fs::read_dir(&folder).expect("a folder").count(), 0);
        let changed = |bytes: &[u8]| assert!(bytes.iter().all(|byte| b"ab".contains(byte)));
        let found = catch_unwind(|| explore("loud", place, &seeds, 100, changed));
        assert!(found.is_err(), "no mutation changed a byte");
        let kept = std::fs::read_dir(&folder).expect("a folder").next().expect("a file");
        let kept = std::fs::read(kept.expect("a file").path()).expect("its bytes");
        assert!(kept.iter().any(|byte| !b"ab".contains(byte)));
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}

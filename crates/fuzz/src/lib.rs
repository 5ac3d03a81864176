//! Fuzzing: seeds, mutations, and what runs a target with them. For development only.
//!
//! A **target** is a function of bytes that panics if it finds something wrong. Its test runs it on all seeds and
//! on some thousand mutations of them, the same in every run. `cargo xtask fuzz` runs the same tests for as long
//! as one likes, each time with other mutations. Mutations know the formats ([`mutations`]), not the code's
//! coverage.
//!
//! The targets are in `tests/fuzz.rs`. **To add one**, write a test there that calls [`explore`], and list its name
//! in `xtask/src/fuzz.rs`.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub mod mutations;
pub mod seeds;

/// Returns the repository's root.
fn root() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", ".."].iter().collect()
}

/// The environment's variables of a long run: how many seconds, and the number of the first mutation.
pub const SECONDS: &str = "FUZZ_SECONDS";
/// See [`SECONDS`].
pub const FIRST: &str = "FUZZ_FIRST";

/// Runs a target on each seed, and on as many mutations of them as `count` says; in a long run, on as many as the
/// time allows. An input that makes it panic is kept in `folder`.
///
/// # Panics
/// If the target does, or if there are no seeds.
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
    let variable = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let (first, seconds) = (variable(FIRST).unwrap_or(0), variable(SECONDS));
    let (start, mut number) = (Instant::now(), first);
    loop {
        let done = match seconds {
            None => number - first >= count,
            Some(seconds) => start.elapsed() >= Duration::from_secs(seconds),
        };
        if done {
            break;
        }
        let mut random = fastrand::Rng::with_seed(number);
        let [mut bytes, other] = [(); 2].map(|()| seeds[random.usize(..seeds.len())].clone());
        mutations::mutate(&mut random, &mut bytes, &other);
        run(format!("mutation-{number}"), &bytes);
        number += 1;
    }
    println!("{name}: {} seeds, mutations {first} to {number}", seeds.len());
}

#[cfg(test)]
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

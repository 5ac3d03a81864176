//! Fuzzing: seeds, mutations, and what runs a target with them. For development only.
//!
//! A **target** is a function of bytes that panics if it finds something wrong. Its test runs it on all seeds and
//! on some thousand mutations of them, the same in every run. Mutations know the formats ([`mutations`]).
//!
//! `cargo xtask fuzz` runs the same tests for as long as one likes, each time with other mutations, and guided by
//! [`coverage`]: an input that takes a branch which none before it took becomes a seed itself. It is kept, so that
//! the next run begins with what the last one found.
//!
//! The targets are in `tests/fuzz.rs`. **To add one**, write a test there that calls [`explore`], and list its name
//! in `xtask/src/fuzz.rs`.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use coverage::{Counters, Seen};

pub mod coverage;
pub mod mutations;
pub mod seeds;

/// Returns the repository's root.
fn root() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", ".."].iter().collect()
}

/// The environment's variables of a long run: how many seconds, the number of the first mutation, and the folder of
/// the inputs that were found by coverage.
pub const SECONDS: &str = "FUZZ_SECONDS";
/// See [`SECONDS`].
pub const FIRST: &str = "FUZZ_FIRST";
/// See [`SECONDS`].
pub const CORPUS: &str = "FUZZ_CORPUS";

/// Longest input that becomes a seed by its coverage, in bytes. Short ones are quick.
const MAX_SEED: usize = 256 << 10;

/// Runs a target on each seed, and on as many mutations of them as `count` says; in a long run, on as many as the
/// time allows. An input that makes it panic is kept in `folder`.
///
/// # Panics
/// If the target does, or if there are no seeds.
pub fn explore(name: &str, folder: &str, seeds: &[Vec<u8>], count: u64, target: impl Fn(&[u8])) {
    let variable = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let (first, seconds) = (variable(FIRST).unwrap_or(0), variable(SECONDS));
    // Only a long run is guided: a short one is the same every time.
    let counters = seconds.and_then(|_| Counters::new());
    let mut seeds = Corpus { inputs: seeds.to_vec(), given: seeds.len(), folder: None };
    let mut guide = counters.map(|counters| (counters, Seen::default()));
    if let (Some(_), Some(place)) = (&guide, std::env::var_os(CORPUS)) {
        seeds.open(&PathBuf::from(place).join(name));
    }
    let mut run = |about: String, bytes: &[u8]| -> bool {
        if let Some((counters, _)) = &mut guide {
            counters.reset();
        }
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(bytes))) {
            let file = Path::new(folder).join(format!("{name}-{about}"));
            std::fs::write(&file, bytes).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            eprintln!("the input of {name} that panics: {}", file.display());
            resume_unwind(panic);
        }
        guide.as_mut().is_some_and(|(counters, seen)| seen.add(counters.counts()))
    };
    for (number, seed) in seeds.inputs.iter().enumerate() {
        run(format!("seed-{number}"), seed);
    }
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
        let [mut bytes, other] = [(); 2].map(|()| seeds.pick(&mut random).clone());
        mutations::mutate(&mut random, &mut bytes, &other);
        if run(format!("mutation-{number}"), &bytes) {
            seeds.add(number, bytes);
        }
        number += 1;
    }
    print!("{name}: {} seeds, mutations {first} to {number}", seeds.given);
    match guide {
        Some((_, seen)) => println!(
            "; {} edges, {} inputs found by coverage",
            seen.edges(),
            seeds.inputs.len() - seeds.given
        ),
        None => println!(),
    }
}

/// The inputs that mutations begin with.
struct Corpus {
    inputs: Vec<Vec<u8>>,
    /// The number of those that a target has by itself; the others were found.
    given: usize,
    folder: Option<PathBuf>,
}

impl Corpus {
    /// Adds the inputs in a folder, and keeps there what is added later.
    fn open(&mut self, folder: &Path) {
        let entries = std::fs::create_dir_all(folder).and_then(|()| std::fs::read_dir(folder));
        let entries = entries.unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        files.sort();
        self.inputs.extend(files.iter().filter_map(|file| std::fs::read(file).ok()));
        self.folder = Some(folder.to_owned());
    }

    /// Picks an input: as often one that was found as one that was there.
    fn pick(&self, random: &mut fastrand::Rng) -> &Vec<u8> {
        let found = self.inputs.len() > self.given && random.bool();
        let range = if found { self.given..self.inputs.len() } else { 0..self.given };
        &self.inputs[random.usize(range)]
    }

    fn add(&mut self, number: u64, bytes: Vec<u8>) {
        if bytes.len() > MAX_SEED {
            return;
        }
        if let Some(folder) = &self.folder {
            let file = folder.join(number.to_string());
            std::fs::write(&file, &bytes).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        }
        self.inputs.push(bytes);
    }
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

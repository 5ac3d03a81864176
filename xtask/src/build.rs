//! `cargo xtask build`: the components, with their models frozen into them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use sha2::{Digest, Sha256};

use crate::{cargo, root, target};

/// The components' compilation target.
pub const TARGET: &str = "wasm32-wasip2";

/// Names of the files that the component reads when it is frozen: `vision::pipeline::files`, which this
/// crate does not depend on.
mod files {
    pub const PALM: &str = "palm.onnx";
    pub const LANDMARKS: &str = "landmarks.onnx";
    pub const LETTERS: &str = "letters.onnx";
    pub const LABELS: &str = "letters.txt";
    pub const VERSION: &str = "model.json";
    pub const ALL: [&str; 5] = [PALM, LANDMARKS, LETTERS, LABELS, VERSION];
}

/// A world that a component is built for: what it imports and exports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum World {
    /// WASI 0.3 and Spin's variables: Spin 4.1 and newer
    #[default]
    Spin,
    /// WASI 0.2 and Spin's variables: Spin 2.6 and newer, SpinKube
    SpinP2,
    /// WASI 0.2 alone: wasmtime, wasmCloud, any host of WASI HTTP
    Wasi,
}

impl World {
    /// Every world.
    pub const ALL: &[World] = &[World::Spin, World::SpinP2, World::Wasi];

    /// Returns the name on the command line, which is that of the cargo target, too.
    pub fn name(self) -> &'static str {
        match self {
            World::Spin => "spin",
            World::SpinP2 => "spin-p2",
            World::Wasi => "wasi",
        }
    }

    /// Returns the path of the finished component: the `source` in the world's manifest.
    pub fn component(self) -> PathBuf {
        root().join(match self {
            World::Spin => "target/hand-gesture-api.wasm",
            World::SpinP2 => "target/hand-gesture-api-p2.wasm",
            World::Wasi => "target/hand-gesture-api-wasi.wasm",
        })
    }

    /// Returns the manifest that serves the world's component.
    ///
    /// A component that imports no variables is served by a manifest of Spin all the same: from it, the
    /// development host passes the variables on as the environment.
    pub fn manifest(self) -> PathBuf {
        root().join(match self {
            World::Spin => "spin.toml",
            World::SpinP2 | World::Wasi => "spin-p2.toml",
        })
    }

    /// Returns the index of the first function in the component's table.
    ///
    /// Few numbers are near to 80,000, so pruning keeps few functions by mistake. But hosts limit a
    /// table: Spin to 100,000 entries, `wasmtime serve` to 20,000 by default, of which the component
    /// needs some 13,000. Functions kept: docs/benchmarks.md.
    fn table_base(self) -> u32 {
        match self {
            World::Spin | World::SpinP2 => 80_000,
            World::Wasi => 6_700,
        }
    }

    /// Returns the path of the compiled component, before the models are frozen into it.
    fn compiled(self) -> PathBuf {
        let file = format!("{}.wasm", self.name().replace('-', "_"));
        target().join(TARGET).join("release/examples").join(file)
    }
}

/// Arguments of `cargo xtask build`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The world to build for, or all: spin for Spin 4.1 and newer (WASI 0.3), spin-p2 for Spin 2.6 and
    /// newer and SpinKube (WASI 0.2), wasi for wasmtime, wasmCloud and others (WASI 0.2)
    #[arg(long = "world", value_name = "WORLD", default_value = "spin", value_parser = worlds())]
    pub worlds: &'static [World],
    /// Leave out the import of Spin's SQLite, for hosts that have none. Corrections are refused then
    #[arg(long)]
    pub without_sqlite: bool,
    #[command(flatten)]
    pub models: Models,
}

fn worlds() -> impl TypedValueParser<Value = &'static [World]> {
    let names = World::ALL.iter().map(|world| world.name()).chain(["all"]);
    PossibleValuesParser::new(names).map(|name| {
        let one = World::ALL.chunks(1).find(|world| world[0].name() == name);
        one.unwrap_or(World::ALL)
    })
}

/// The models of a component.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Models")]
pub struct Models {
    /// Palm detection model
    #[arg(long, value_name = "MODEL", default_value = "tuned")]
    palm: PalmModel,
    /// Size of the hand landmark model
    #[arg(long, value_name = "SIZE", default_value = "full")]
    landmarks: Size,
    /// A letter classifier of your own
    #[arg(long, value_name = "FILE.onnx", requires = "labels")]
    letters: Option<PathBuf>,
    /// The names of its outputs, one a line
    #[arg(long, value_name = "FILE.txt", requires = "letters")]
    labels: Option<PathBuf>,
}

/// The palm detection models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PalmModel {
    /// MediaPipe's lite model, fine-tuned by this project on hands that sign letters
    Tuned,
    /// MediaPipe's lite model; the search and its precision are not made for it
    Lite,
    /// MediaPipe's full model; the search and its precision are not made for it
    Full,
}

impl PalmModel {
    /// Returns the name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            PalmModel::Tuned => "tuned",
            PalmModel::Lite => "lite",
            PalmModel::Full => "full",
        }
    }
}

/// MediaPipe's two sizes of the hand landmark model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Size {
    /// Faster
    Lite,
    /// More accurate
    Full,
}

impl Size {
    /// Returns the name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Size::Lite => "lite",
            Size::Full => "full",
        }
    }
}

impl Default for Models {
    /// The command line's defaults. The model card compares all choices.
    fn default() -> Models {
        Models { palm: PalmModel::Tuned, landmarks: Size::Full, letters: None, labels: None }
    }
}

impl Models {
    /// Returns the palm detection model's file in `models`.
    pub fn palm_file(&self) -> String {
        format!("palm_detection_{}.onnx", self.palm.name())
    }

    /// Returns the landmark model's file in `models`.
    pub fn landmark_file(&self) -> String {
        format!("hand_landmark_{}.onnx", self.landmarks.name())
    }

    /// Returns the options of the command line that choose these models.
    pub fn arguments(&self) -> String {
        format!(" --palm {} --landmarks {}", self.palm.name(), self.landmarks.name())
    }

    /// Copies the model files into a folder, under the names that the component reads. The component
    /// checks that they fit together when it is frozen.
    pub fn stage(&self, folder: &Path) -> Result<()> {
        let models = root().join("models");
        let sources = [
            (files::PALM, models.join(self.palm_file())),
            (files::LANDMARKS, models.join(self.landmark_file())),
            (
                files::LETTERS,
                self.letters.clone().unwrap_or_else(|| {
                    models.join(format!("letters_{}.onnx", self.landmarks.name()))
                }),
            ),
            (files::LABELS, self.labels.clone().unwrap_or_else(|| models.join("letters.txt"))),
        ];
        std::fs::create_dir_all(folder)?;
        let mut digest = Sha256::new();
        for (name, source) in &sources {
            let bytes = std::fs::read(source)
                .with_context(|| format!("cannot read {}", source.display()))?;
            digest.update(&bytes);
            std::fs::write(folder.join(name), bytes)?;
        }
        let name = match &self.letters {
            None => "asl-letters".into(),
            Some(path) => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        };
        let digest = hex(&digest.finalize());
        let version = format!("{}-{}-{}", self.palm.name(), self.landmarks.name(), &digest[..8]);
        let version = serde_json::json!({"name": name, "version": version});
        std::fs::write(folder.join(files::VERSION), version.to_string())?;
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    })
}

/// Builds the components of some worlds and freezes the models into them, unless that is done. Those for Spin
/// import its SQLite or not.
pub fn run(worlds: &[World], models: &Models, sqlite: bool) -> Result<()> {
    ensure_target()?;
    for world in worlds {
        println!(
            "[1/2] Compiling for {TARGET}, world {} (the first time: several minutes)",
            world.name()
        );
        let status = cargo()
            .args(["rustc", "--release", "--target", TARGET, "--package", "hand-gesture-api"])
            .args(["--example", world.name()])
            .args((!sqlite).then_some("--no-default-features"))
            .arg("--")
            // `freeze::prune` follows the linker's relocations, ...
            .arg("-Clink-arg=--emit-relocs")
            // ... and takes numbers in memory for functions if they could be indices in the table.
            .arg(format!("-Clink-arg=--table-base={}", world.table_base()))
            .status()
            .context("cannot run cargo")?;
        if !status.success() {
            bail!("the component does not compile; see above");
        }
        freeze(&world.compiled(), models, &world.component())?;
    }
    Ok(())
}

/// Freezes the models into a compiled component, unless that is done.
fn freeze(compiled: &Path, models: &Models, output: &Path) -> Result<()> {
    let staged = Staged(target().join(format!("models-{}", std::process::id())));
    let folder = &staged.0;
    models.stage(folder)?;
    let wasm =
        std::fs::read(compiled).with_context(|| format!("cannot read {}", compiled.display()))?;

    let mut digest = Sha256::new();
    digest.update(&wasm);
    for name in files::ALL {
        digest.update(std::fs::read(folder.join(name))?);
    }
    let stamp = hex(&digest.finalize());
    let stamp_path = output.with_extension("stamp");
    let fresh = std::fs::read_to_string(&stamp_path).is_ok_and(|old| old == stamp);
    if fresh && output.exists() {
        println!("[2/2] The models are in {} already", short(output));
    } else {
        println!("[2/2] Freezing the models into {} (half a minute)", short(output));
        let start = Instant::now();
        let done = host::freeze_models(&wasm, folder)?;
        let [all, kept] = done
            .functions
            .context("the compiled component lacks the linker's relocation records")?;
        // Cargo may build elsewhere.
        std::fs::create_dir_all(output.parent().unwrap_or(output))?;
        std::fs::write(output, &done.component)?;
        std::fs::write(&stamp_path, &stamp)?;
        println!(
            "      done in {:.1} s; {kept} of {all} functions are kept",
            start.elapsed().as_secs_f64()
        );
    }
    let size = std::fs::metadata(output)?.len() as f64 / 1e6;
    println!("      {} ({size:.1} MB)", short(output));
    Ok(())
}

/// Returns a file's path below the repository's root.
fn short(file: &Path) -> std::path::Display<'_> {
    file.strip_prefix(root()).unwrap_or(file).display()
}

/// A folder of model files, removed when this is dropped. Each process has its own: two builds at once
/// would freeze each other's models.
struct Staged(PathBuf);

impl Drop for Staged {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Installs the standard library for the component's target, unless it is installed.
fn ensure_target() -> Result<()> {
    let sysroot = Command::new("rustc")
        .args(["--print", "sysroot"])
        .output()
        .context("cannot run rustc: install Rust from https://rustup.rs")?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&sysroot.stdout).trim());
    if sysroot.join("lib/rustlib").join(TARGET).join("lib").exists() {
        return Ok(());
    }
    println!("[0/2] Installing Rust's standard library for {TARGET} (rustup target add {TARGET})");
    let by_hand = format!(
        "install Rust's standard library for {TARGET}: `rustup target add {TARGET}` where rustup \
         can reach its server; without rustup from your system's packages (rust-std-{TARGET}, \
         libstd-rust-dev-wasm32 or similar)"
    );
    match Command::new("rustup").args(["target", "add", TARGET]).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => bail!("rustup target add ended with {status}: {by_hand}"),
        Err(error) => bail!("cannot run rustup ({error}): {by_hand}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn staged_files_have_the_names_that_the_component_reads() {
        let folder = target().join("tmp/staged-models");
        Models::default().stage(&folder).expect("staged");
        for name in files::ALL {
            assert!(folder.join(name).is_file(), "{name}");
        }
        let version = std::fs::read_to_string(folder.join(files::VERSION)).expect("a version");
        assert!(version.contains("asl-letters") && version.contains("tuned-full-"), "{version}");
    }

    #[test]
    fn version_changes_with_the_models() {
        let version = |name: &str, models: &Models| {
            let folder = target().join("tmp").join(name);
            models.stage(&folder).expect("staged");
            std::fs::read_to_string(folder.join(files::VERSION)).expect("a version")
        };
        let models = root().join("models");
        let own = Models {
            letters: Some(models.join("letters_full.onnx")),
            labels: Some(models.join("letters.txt")),
            ..Models::default()
        };
        let lite = Models { landmarks: Size::Lite, ..Models::default() };
        let default = version("version-default", &Models::default());
        assert!(version("version-own", &own).contains("letters_full"));
        assert_ne!(version("version-lite", &lite), default);
    }

    #[test]
    fn missing_model_file_is_named() {
        let models = Models {
            letters: Some("none.onnx".into()),
            labels: Some("none.txt".into()),
            ..Models::default()
        };
        let folder = target().join("tmp/missing-model");
        let error = models.stage(&folder).expect_err("a missing file");
        assert!(format!("{error:#}").contains("cannot read none.onnx"), "{error:#}");
    }
}

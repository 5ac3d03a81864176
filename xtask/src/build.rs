//! `cargo xtask build`: the component, with its models frozen into it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use lexopt::prelude::*;
use sha2::{Digest, Sha256};

use crate::{cargo, root};

/// The target that the component is compiled for.
pub const TARGET: &str = "wasm32-wasip2";

/// Names of the files that the component reads while it is frozen: `vision::pipeline::files`.
mod files {
    pub const PALM: &str = "palm.onnx";
    pub const LANDMARKS: &str = "landmarks.onnx";
    pub const LETTERS: &str = "letters.onnx";
    pub const LABELS: &str = "letters.txt";
    pub const VERSION: &str = "model.json";
    pub const ALL: [&str; 5] = [PALM, LANDMARKS, LETTERS, LABELS, VERSION];
}

/// Which models go into the component.
#[derive(Clone, Debug)]
pub struct Models {
    palm: Size,
    landmarks: Size,
    letters: Option<PathBuf>,
    labels: Option<PathBuf>,
}

/// MediaPipe's two sizes of each model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    Lite,
    Full,
}

impl Size {
    pub fn name(self) -> &'static str {
        match self {
            Size::Lite => "lite",
            Size::Full => "full",
        }
    }

    pub fn parse(text: &str) -> Result<Size> {
        match text {
            "lite" => Ok(Size::Lite),
            "full" => Ok(Size::Full),
            _ => bail!("{text:?} is neither lite nor full"),
        }
    }
}

impl Default for Models {
    /// Why these: the table "Which models" in the model card.
    fn default() -> Models {
        Models { palm: Size::Lite, landmarks: Size::Full, letters: None, labels: None }
    }
}

impl Models {
    /// Takes an option from the command line if it is one of the models'.
    pub fn take(&mut self, option: &str, parser: &mut lexopt::Parser) -> Result<bool> {
        match option {
            "palm" => self.palm = Size::parse(&parser.value()?.string()?).context("--palm")?,
            "landmarks" => {
                self.landmarks = Size::parse(&parser.value()?.string()?).context("--landmarks")?;
            }
            "letters" => self.letters = Some(parser.value()?.into()),
            "labels" => self.labels = Some(parser.value()?.into()),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The palm detection model's file in `models`.
    pub fn palm_file(&self) -> String {
        format!("palm_detection_{}.onnx", self.palm.name())
    }

    /// The landmark model's file in `models`.
    pub fn landmark_file(&self) -> String {
        format!("hand_landmark_{}.onnx", self.landmarks.name())
    }

    /// Copies the chosen model files into a folder, under the names that the component reads. The
    /// component checks that they fit together when it is frozen.
    pub fn stage(&self, folder: &Path) -> Result<()> {
        if self.letters.is_some() != self.labels.is_some() {
            bail!("--letters and --labels go together: a classifier and the names of its outputs");
        }
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

/// The finished component: what `spin.toml` names.
pub fn component_path() -> PathBuf {
    root().join("target/hand-gesture-api.wasm")
}

/// Builds the component and freezes the models into it; does nothing twice.
pub fn run(models: &Models) -> Result<PathBuf> {
    ensure_target()?;
    println!("[1/2] Compiling the component for {TARGET} (the first time: several minutes)");
    let status = cargo()
        .args(["build", "--release", "--target", TARGET, "--package", "hand-gesture-api"])
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("the component does not compile; see above");
    }
    let compiled = root().join("target").join(TARGET).join("release/hand_gesture_api.wasm");
    freeze(&compiled, models, &component_path())
}

/// Freezes the models into a compiled component, unless that was done before.
fn freeze(compiled: &Path, models: &Models, output: &Path) -> Result<PathBuf> {
    let folder = root().join("target/models");
    models.stage(&folder)?;
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
        println!("[2/2] The models are in it already");
    } else {
        println!("[2/2] Freezing the models into it (half a minute)");
        let start = Instant::now();
        let done = host::preinitialize(&wasm, &folder)?;
        let [all, kept] = done.functions.context(
            "the compiled component has no records of its linker: build.rs has not asked for them",
        )?;
        std::fs::write(output, &done.component)?;
        std::fs::write(&stamp_path, &stamp)?;
        println!(
            "      done in {:.1} s; {kept} of {all} functions are needed to run them",
            start.elapsed().as_secs_f64()
        );
    }
    let size = std::fs::metadata(output)?.len() as f64 / 1e6;
    println!("      {} ({size:.1} MB)", output.strip_prefix(root()).unwrap_or(output).display());
    Ok(output.to_owned())
}

/// Gets the standard library for the component's target in place.
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
        Ok(_) => bail!("rustup could not do it; {by_hand}"),
        Err(error) => bail!("rustup can't be run ({error}); {by_hand}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stages in a folder of its own; the error as a user sees it, if there is one.
    fn stage(name: &str, models: &Models) -> Option<String> {
        let folder = root().join("target/test-models").join(name);
        models.stage(&folder).err().map(|error| format!("{error:#}"))
    }

    #[test]
    fn all_four_choices_of_sizes_fit_together() {
        for (name, palm, landmarks) in [
            ("lite-lite", Size::Lite, Size::Lite),
            ("lite-full", Size::Lite, Size::Full),
            ("full-lite", Size::Full, Size::Lite),
            ("full-full", Size::Full, Size::Full),
        ] {
            let models = Models { palm, landmarks, ..Models::default() };
            assert_eq!(stage(name, &models), None);
        }
    }

    #[test]
    fn a_classifier_of_ones_own_must_fit() {
        let models = root().join("models");
        let own = |letters: &str, labels: PathBuf| Models {
            letters: Some(models.join(letters)),
            labels: Some(labels),
            ..Models::default()
        };
        let labels = models.join("letters.txt");
        assert_eq!(stage("own", &own("letters_full.onnx", labels.clone())), None);

        let error = stage("features", &own("letters_lite.onnx", labels.clone())).expect("an error");
        assert!(error.contains("[1, 1227]") && error.contains("[1, 747]"), "{error}");
        let error = stage("missing", &own("none.onnx", labels)).expect("an error");
        assert!(error.contains("none.onnx"), "{error}");

        let short = root().join("target/test-models/short.txt");
        std::fs::write(&short, "A\nB\n").expect("a file");
        let error = stage("short", &own("letters_full.onnx", short.clone())).expect("an error");
        assert!(error.contains("2 labels") && error.contains("27 outputs"), "{error}");

        let alone = Models { labels: Some(short), ..Models::default() };
        assert!(stage("alone", &alone).expect("an error").contains("go together"));
    }
}

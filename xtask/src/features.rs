//! `cargo xtask features`: the training data of the letter classifier, from photos.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::build::Size;
use crate::{root, sandbox_example};

/// Arguments of `cargo xtask features`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The folder with the data sets: see the head of models/pack.py
    #[arg(long, value_name = "FOLDER")]
    data: PathBuf,
    /// Files to write, without extension: OUTPUT.csv and OUTPUT.f32
    #[arg(long, value_name = "OUTPUT")]
    output: PathBuf,
    /// Size of the hand landmark model
    #[arg(long, value_enum, default_value_t = Size::Full)]
    landmarks: Size,
    /// Only photos of the sets whose name starts with this
    #[arg(long, value_name = "SET", default_value = "")]
    only: String,
    /// Only every N-th photo, beginning with the I-th: one process for each core
    #[arg(long, value_name = "I/N", default_value = "0/1")]
    share: String,
}

/// Builds the example `features` for the sandbox and runs it there: with the component's own operators, at the
/// component's speed.
pub fn run(arguments: &Arguments) -> Result<()> {
    let file = sandbox_example("features")?;
    let name = arguments.output.file_name().context("--output needs the name of a file")?;
    let folder = arguments.output.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(std::path::Path::new("."));
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let folders = [
        (root().join("models"), "models", false),
        (arguments.data.clone(), "data", false),
        (folder.to_owned(), "output", true),
    ];
    let size = arguments.landmarks.name();
    let output = format!("output/{}", name.to_string_lossy());
    let program = ["features", "--data", "data", "--output", &output, "--landmarks", size];
    let mut program = program.map(String::from).to_vec();
    program.extend([
        "--only".into(),
        arguments.only.clone(),
        "--share".into(),
        arguments.share.clone(),
    ]);
    match host::command::run_command(&file, &program, &folders)? {
        0 => Ok(()),
        code => bail!("the example `features` ended with {code}; see above"),
    }
}

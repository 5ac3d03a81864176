//! `cargo xtask operators`: the time of each operator of the models in the sandbox.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::build::Models;
use crate::figures::{self, Recorded};
use crate::{root, sandbox_example};

/// Arguments of `cargo xtask operators`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Write the figures to a file too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the figures into docs/benchmarks.json and the documents made from it
    #[arg(long)]
    write: bool,
    #[command(flatten)]
    models: Models,
}

/// Builds the example `operators` for the sandbox and runs it there.
pub fn run(arguments: &Arguments) -> Result<()> {
    let program = sandbox_example("operators")?;
    // In a process of its own, whose output can be read.
    let models = [arguments.models.palm_file(), arguments.models.landmark_file()];
    let mut child = Command::new(std::env::current_exe()?)
        .arg("run")
        .arg(program)
        .arg("--json")
        .args(models.map(|file| format!("models/{file}")))
        .current_dir(root())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run this program again")?;
    let mut json = None;
    for line in BufReader::new(child.stdout.take().context("no output")?).lines() {
        let line = line?;
        if line.starts_with('{') {
            json = Some(line);
        } else {
            println!("{line}");
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("the example `operators` ended with {status}");
    }
    let json = json.context("the example `operators` printed no JSON")?;
    let record = || -> Result<Recorded<figures::Operators>> {
        let command = format!("cargo xtask operators{}", arguments.models.arguments());
        Recorded::new(command, serde_json::from_str(&json)?)
    };
    if let Some(path) = &arguments.json {
        record()?.save(path)?;
    }
    if arguments.write {
        figures::write_operators(record()?)?;
    }
    Ok(())
}

//! `cargo xtask operators`: what each operator of the models takes in the sandbox.

use std::path::Path;

use anyhow::{Context, Result, bail};
use host::command::run_command;

use crate::build::{Models, TARGET};
use crate::{cargo, root};

/// Builds the example `operators` for the sandbox and runs it there with the chosen models.
pub fn run(models: &Models) -> Result<()> {
    let status = cargo()
        .args(["build", "--release", "--target", TARGET, "--package", "vision"])
        .args(["--example", "operators"])
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("the example does not compile; see above");
    }
    let program = Path::new("target").join(TARGET).join("release/examples/operators.wasm");
    let mut arguments = vec!["operators".to_owned()];
    for file in [models.palm_file(), models.landmark_file()] {
        arguments.push(format!("models/{file}"));
    }
    std::env::set_current_dir(root())?;
    match run_command(&program, &arguments)? {
        0 => Ok(()),
        code => bail!("the example ended with the code {code}"),
    }
}

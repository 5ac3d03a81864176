//! `cargo xtask tools`: what the tests of `infra/` run besides Rust, at the versions that
//! `infra/tools` pins, built once into `target/tools`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::root;

/// A program that is built from a Go module in `infra/tools`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// Jaeger with all its roles.
    Jaeger,
    /// Deletes Jaeger's old indices.
    IndexCleaner,
    /// Makes and rolls over Jaeger's indices.
    Rollover,
    Helm,
    /// The linter of Terraform modules.
    Tflint,
}

/// All tools; the first ones are needed first.
pub const TOOLS: [Tool; 5] =
    [Tool::Jaeger, Tool::IndexCleaner, Tool::Rollover, Tool::Helm, Tool::Tflint];

impl Tool {
    /// The name of its file in `target/tools`.
    pub fn name(self) -> &'static str {
        match self {
            Tool::Jaeger => "jaeger",
            Tool::IndexCleaner => "es-index-cleaner",
            Tool::Rollover => "es-rollover",
            Tool::Helm => "helm",
            Tool::Tflint => "tflint",
        }
    }

    /// Its Go package.
    fn package(self) -> &'static str {
        match self {
            Tool::Jaeger => "github.com/jaegertracing/jaeger/cmd/jaeger",
            Tool::IndexCleaner => "github.com/jaegertracing/jaeger/cmd/es-index-cleaner",
            Tool::Rollover => "github.com/jaegertracing/jaeger/cmd/es-rollover",
            Tool::Helm => "helm.sh/helm/v4/cmd/helm",
            Tool::Tflint => "github.com/terraform-linters/tflint",
        }
    }

    /// The folder of the go.mod that pins it.
    fn module(self) -> PathBuf {
        let folder = match self {
            Tool::Jaeger | Tool::IndexCleaner | Tool::Rollover => "jaeger",
            Tool::Helm => "helm",
            Tool::Tflint => "tflint",
        };
        root().join("infra/tools").join(folder)
    }

    /// Where it lies once it is built.
    pub fn path(self) -> PathBuf {
        root().join("target/tools").join(self.name())
    }

    /// Builds it if it is not there at the pinned version.
    pub fn build(self) -> Result<PathBuf> {
        let (path, module) = (self.path(), self.module());
        let stamp = path.with_extension("stamp");
        let wanted = digest(&[&module.join("go.mod"), &module.join("go.sum")])?;
        if path.exists() && std::fs::read_to_string(&stamp).is_ok_and(|had| had == wanted) {
            return Ok(path);
        }
        println!("Building {} from Go modules (minutes, once)", self.name());
        let start = Instant::now();
        let status = Command::new("go")
            .args(["build", "-mod=readonly", "-trimpath", "-ldflags=-s -w", "-o"])
            .args([path.as_os_str(), self.package().as_ref()])
            .env("CGO_ENABLED", "0")
            .current_dir(&module)
            .status()
            .context("cannot run go")?;
        if !status.success() {
            bail!("go build of {} ended with {status}", self.package());
        }
        std::fs::write(&stamp, wanted)?;
        println!("Built {} in {:.0} s", path.display(), start.elapsed().as_secs_f64());
        Ok(path)
    }
}

/// What a group of tests needs besides Rust.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A tool, and so Go.
    Tool(Tool),
}

impl Need {
    /// Why this machine can't give it; `None` if it can.
    pub fn lacking(self) -> Option<String> {
        match self {
            Need::Tool(tool) => (!runs("go", &["version"]))
                .then(|| format!("{} is built with Go 1.26 or newer: https://go.dev", tool.name())),
        }
    }

    /// Gets it.
    pub fn prepare(self) -> Result<()> {
        match self {
            Need::Tool(tool) => tool.build().map(drop),
        }
    }
}

/// Builds the tools with the given names, all if there are none.
pub fn run(names: &[String]) -> Result<()> {
    for name in names {
        if TOOLS.iter().all(|tool| tool.name() != name) {
            let known: Vec<&str> = TOOLS.iter().map(|tool| tool.name()).collect();
            bail!("there is no tool {name:?}; there are: {}", known.join(", "));
        }
    }
    for tool in TOOLS {
        if names.is_empty() || names.iter().any(|name| name == tool.name()) {
            if let Some(why) = Need::Tool(tool).lacking() {
                bail!("{why}");
            }
            println!("{}", tool.build()?.display());
        }
    }
    Ok(())
}

/// Whether a program is there.
fn runs(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// One hash of the contents of several files.
fn digest(paths: &[&Path]) -> Result<String> {
    let mut hash = Sha256::new();
    for path in paths {
        hash.update(std::fs::read(path).with_context(|| path.display().to_string())?);
    }
    Ok(format!("{:x}", hash.finalize()))
}

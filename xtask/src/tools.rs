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

/// The storage servers of `infra/tools/storage/pom.xml`.
const SERVERS: [&str; 4] = ["elasticsearch", "opensearch", "kafka", "cassandra"];

/// Fetches the servers' jars by Maven if they are not there as pinned.
fn fetch_servers() -> Result<()> {
    let pom = root().join("infra/tools/storage/pom.xml");
    let folder = root().join("target/tools/storage");
    let (stamp, wanted) = (folder.join("stamp"), digest(&[&pom])?);
    if std::fs::read_to_string(&stamp).is_ok_and(|had| had == wanted) {
        return Ok(());
    }
    for server in SERVERS {
        println!("Fetching {server} by Maven");
        let folder = folder.join(server);
        // Jars of another version would stand beside the new ones.
        _ = std::fs::remove_dir_all(&folder);
        let status = Command::new("mvn")
            .args([
                "--quiet",
                "--batch-mode",
                "dependency:copy-dependencies",
                "-P",
                server,
                "--file",
            ])
            .arg(&pom)
            .arg(format!("-DoutputDirectory={}", folder.display()))
            .status()
            .context("cannot run mvn")?;
        if !status.success() {
            bail!("mvn ended with {status}");
        }
    }
    std::fs::write(&stamp, wanted)?;
    Ok(())
}

/// What a group of tests needs besides Rust.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A tool, and so Go.
    Tool(Tool),
    /// The storage servers, and so Java 17 and Maven.
    Servers,
    /// A program, how to ask for its version, and where it comes from.
    Program(&'static str, &'static str, &'static str),
    /// A Kubernetes that is meant for tests: TEST_KUBECONFIG names its configuration.
    Cluster,
    /// Terraform, and that it can get the providers of `infra/terraform`.
    Providers,
}

/// The variable that says which cluster is meant for tests.
pub const TEST_KUBECONFIG: &str = "TEST_KUBECONFIG";

impl Need {
    /// Why this machine can't give it; `None` if it can.
    pub fn lacking(self) -> Option<String> {
        match self {
            Need::Tool(tool) => (!runs("go", &["version"]))
                .then(|| format!("{} is built with Go 1.26 or newer: https://go.dev", tool.name())),
            Need::Servers if !runs("java", &["-version"]) => {
                Some("the storage servers run on Java 17".to_owned())
            }
            Need::Servers => (!runs("mvn", &["--version"]))
                .then(|| "the storage servers are fetched by Maven (mvn)".to_owned()),
            Need::Program(name, version, source) => {
                (!runs(name, &[version])).then(|| format!("{name} is missing: {source}"))
            }
            Need::Cluster => std::env::var_os(TEST_KUBECONFIG)
                .is_none()
                .then(|| format!("{TEST_KUBECONFIG} names no cluster that is meant for tests")),
            Need::Providers if !runs("terraform", &["version"]) => {
                Some("terraform is missing: https://developer.hashicorp.com/terraform".to_owned())
            }
            Need::Providers => {
                let folder = root().join("infra/terraform");
                let init = format!("-chdir={}", folder.display());
                (!runs("terraform", &[&init, "init", "-backend=false", "-input=false"]))
                    .then(|| "Terraform's providers can't be fetched (terraform init)".to_owned())
            }
        }
    }

    /// Gets it.
    pub fn prepare(self) -> Result<()> {
        match self {
            Need::Tool(tool) => tool.build().map(drop),
            Need::Servers => fetch_servers(),
            Need::Program(..) | Need::Cluster | Need::Providers => Ok(()),
        }
    }
}

/// Builds the tools with the given names, all if there are none.
pub fn run(names: &[String]) -> Result<()> {
    let mut needs: Vec<(&str, Need)> =
        TOOLS.iter().map(|tool| (tool.name(), Need::Tool(*tool))).collect();
    needs.push(("storage", Need::Servers));
    for name in names {
        if needs.iter().all(|(known, _)| known != name) {
            let known: Vec<&str> = needs.iter().map(|(name, _)| *name).collect();
            bail!("there is no tool {name:?}; there are: {}", known.join(", "));
        }
    }
    for (name, need) in needs {
        if names.is_empty() || names.iter().any(|wanted| wanted == name) {
            if let Some(why) = need.lacking() {
                bail!("{why}");
            }
            need.prepare()?;
            println!("{}", root().join("target/tools").join(name).display());
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

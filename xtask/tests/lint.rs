//! What can be said of the scripts and of the Terraform module without running them.

mod support;

use std::process::Command;

use support::{output, root, tool};

#[test]
fn shellcheck_has_nothing_to_say_against_the_scripts() {
    for (shell, file) in [
        ("bash", "infra/common.sh"),
        ("bash", "infra/setup-jaeger.sh"),
        ("bash", "infra/doctor.sh"),
        ("sh", "infra/helm/jaeger/files/send-and-find.sh"),
        ("sh", "infra/helm/jaeger/files/put-policy.sh"),
        ("bash", ".ci/run"),
        ("bash", ".ci/cluster"),
        ("bash", ".ci/check-dependencies"),
    ] {
        let mut command = Command::new("shellcheck");
        command.args(["--external-sources", "--shell", shell, file]).current_dir(root());
        output(&mut command).expect("no mistake");
    }
}

#[test]
fn terraform_files_are_formatted() {
    let mut command = Command::new("terraform");
    command.args(["fmt", "-check", "-recursive", "infra/terraform"]).current_dir(root());
    output(&mut command).expect("formatted: terraform fmt -recursive infra/terraform");
}

#[test]
fn tflint_has_nothing_to_say_against_the_module() {
    let folder = root().join("infra/terraform");
    let config = format!("--config={}", folder.join(".tflint.hcl").display());
    for part in [".", "examples/development", "examples/production"] {
        output(Command::new(tool("tflint")).arg(&config).current_dir(folder.join(part)))
            .unwrap_or_else(|error| panic!("{part}: {error}"));
    }
}

/// tflint finds what it shall find: the test above can fail.
#[test]
fn tflint_finds_an_untyped_variable() {
    let folder = root().join("target/tmp/tflint");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("main.tf"), "variable \"x\" {}\n").expect("written");
    let config = root().join("infra/terraform/.tflint.hcl");
    let mut command = Command::new(tool("tflint"));
    command.arg(format!("--config={}", config.display())).current_dir(folder);
    assert!(output(&mut command).is_err());
}

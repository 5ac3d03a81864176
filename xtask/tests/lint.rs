//! Linters of the scripts, the workflows, the Terraform module and the comments.

use std::process::Command;

use test_support::{folder, output, root, terraform, tool};

#[test]
fn scripts_pass_shellcheck() {
    for (shell, file) in [
        ("bash", "infra/common.sh"),
        ("bash", "infra/setup-jaeger.sh"),
        ("bash", "infra/doctor.sh"),
        ("bash", "infra/publish-charts.sh"),
        ("sh", "infra/helm/jaeger/files/send-and-find.sh"),
        ("sh", "infra/helm/jaeger/files/put-policy.sh"),
        ("bash", ".ci/run"),
        ("bash", ".ci/cluster"),
        ("bash", ".ci/check-dependencies"),
    ] {
        let mut command = Command::new("shellcheck");
        command.args(["--external-sources", "--shell", shell, file]).current_dir(root());
        output(&mut command).expect("no finding");
    }
}

#[test]
fn workflows_pass_actionlint() {
    // Without -pyflakes, and with the shellcheck that the test above needs too.
    let mut command = Command::new(tool("actionlint"));
    output(command.args(["-pyflakes=", "-shellcheck=shellcheck"]).current_dir(root()))
        .expect("no finding");
}

/// The test above can fail.
#[test]
fn actionlint_finds_an_unknown_key_and_an_unquoted_variable() {
    let file = folder("actionlint").join("workflow.yml");
    let workflow = "on: push\njobs:\n  job:\n    runs-on: ubuntu-latest\n    unknown: 1\n    \
                    steps:\n      - run: echo $GITHUB_REF\n";
    std::fs::write(&file, workflow).expect("written");
    let mut command = Command::new(tool("actionlint"));
    command.args(["-pyflakes=", "-shellcheck=shellcheck"]).arg(&file).current_dir(root());
    let findings = output(&mut command).expect_err("findings");
    assert!(findings.contains("unexpected key \"unknown\""), "{findings}");
    assert!(findings.contains("SC2086"), "{findings}");
}

#[test]
fn terraform_files_are_formatted() {
    let mut command = terraform();
    command.args(["fmt", "-check", "-recursive", "infra/terraform"]).current_dir(root());
    output(&mut command).expect("formatted: terraform fmt -recursive infra/terraform");
}

#[test]
fn module_passes_tflint() {
    let folder = root().join("infra/terraform");
    let config = format!("--config={}", folder.join(".tflint.hcl").display());
    for part in [".", "examples/development", "examples/production"] {
        output(Command::new(tool("tflint")).arg(&config).current_dir(folder.join(part)))
            .unwrap_or_else(|error| panic!("{part}: {error}"));
    }
}

/// The test above can fail.
#[test]
fn tflint_finds_an_untyped_variable() {
    let folder = folder("tflint");
    std::fs::write(folder.join("main.tf"), "variable \"x\" {}\n").expect("written");
    let config = root().join("infra/terraform/.tflint.hcl");
    let mut command = Command::new(tool("tflint"));
    command.arg(format!("--config={}", config.display())).current_dir(folder);
    let findings = output(&mut command).expect_err("findings");
    assert!(findings.contains("terraform_typed_variables"), "{findings}");
}

/// Returns the first lines of a file's doc comments that do not name their subject: docs/style.md, rule 1.
fn without_subject(text: &str) -> Vec<&str> {
    const OPENINGS: [&str; 4] = ["What ", "How ", "Whether ", "The same "];
    let mut found = Vec::new();
    for marker in ["/// ", "//! "] {
        let mut inside = false;
        for line in text.lines().map(str::trim_start) {
            let comment = line.strip_prefix(marker);
            let opens = |text: &str| OPENINGS.iter().any(|opening| text.starts_with(opening));
            if !inside && comment.is_some_and(opens) {
                found.push(line);
            }
            inside = line.starts_with(marker.trim_end());
        }
    }
    found
}

#[test]
fn doc_comments_begin_with_their_subject() {
    let mut git = Command::new("git");
    let files = output(git.args(["ls-files", "*.rs"]).current_dir(root())).expect("files");
    assert!(files.lines().count() > 100, "{files}");
    for file in files.lines() {
        let text = std::fs::read_to_string(root().join(file)).expect("the file");
        assert_eq!(without_subject(&text), Vec::<&str>::new(), "{file}");
    }
}

/// The test above can fail.
#[test]
fn doc_comment_without_a_subject_is_found() {
    let text = "//! A crate.\n\n/// What it does.\n/// How, too.\nfn f() {}\n    /// The sum.\n    fn g() {}\n";
    assert_eq!(without_subject(text), ["/// What it does."]);
}

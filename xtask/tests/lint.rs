//! Linters of the scripts, the workflows, the Terraform module and the comments; and no circle of files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
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

/// Returns the files of a crate by their modules, each with the modules that it imports by `crate::`.
fn imports(source: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let mut texts = BTreeMap::new();
    let mut folders = vec![source.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let module = path.strip_prefix(source).expect("below").with_extension("");
            let module = module.to_str().expect("text").replace('/', "::");
            // Programs of their own, each a crate.
            let is_root = ["lib", "main"].contains(&&*module) || module.starts_with("entry");
            if path.extension().is_some_and(|extension| extension == "rs") && !is_root {
                texts.insert(module, std::fs::read_to_string(&path).expect("a file"));
            }
        }
    }
    let modules: BTreeSet<&String> = texts.keys().collect();
    let of = |(module, text): (&String, &String)| {
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
        let code = code.collect::<Vec<_>>().join(" ");
        let found = code.split("crate::").skip(1).flat_map(|rest| {
            let list = rest.strip_prefix('{').and_then(|list| list.split_once('}'));
            let paths = list.map_or_else(|| vec![rest], |(list, _)| list.split(',').collect());
            paths.into_iter().filter_map(|path| imported(path.trim(), &modules))
        });
        (module.clone(), found.filter(|found| found != module).collect())
    };
    texts.iter().map(of).collect()
}

/// Returns the module that a path begins with, as exactly as there are files.
fn imported(path: &str, modules: &BTreeSet<&String>) -> Option<String> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || "_:".contains(letter);
    let end = path.find(|letter| !is_part(letter)).unwrap_or(path.len());
    let parts: Vec<&str> = path[..end].split("::").collect();
    let longest = (1..=parts.len()).rev().map(|count| parts[..count].join("::"));
    longest.into_iter().find(|module| modules.contains(module))
}

/// Returns the files that import each other in a circle, or lead to one.
fn circles(mut imports: BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    // A file that imports nothing that is left is in no circle.
    loop {
        let left: BTreeSet<String> = imports.keys().cloned().collect();
        let before = imports.len();
        imports.retain(|_, of| !of.is_disjoint(&left));
        if imports.len() == before {
            return left.into_iter().collect();
        }
    }
}

#[test]
fn files_of_a_crate_import_each_other_in_no_circle() {
    let crates = ["kernels", "vision", "telemetry", "freeze", "host", "fuzz", "test-support"];
    let crates = crates.map(|name| root().join("crates").join(name).join("src"));
    for source in crates.into_iter().chain([root().join("src"), root().join("xtask/src")]) {
        let imports = imports(&source);
        assert!(imports.len() > 1, "{}", source.display());
        assert_eq!(circles(imports), Vec::<String>::new(), "{}", source.display());
    }
}

/// The test above can fail.
#[test]
fn circle_of_files_is_found() {
    let folder = folder("circle");
    for (file, text) in [
        ("lib.rs", "mod a; mod b; mod c;"),
        ("a.rs", "use crate::{b, c::C}; // crate::d\n"),
        ("b.rs", "use crate::c::C;\n"),
        ("c.rs", "pub struct C(crate::a::A);\n"),
        ("d.rs", "//! Not in it: [`crate::a`].\n#[cfg(test)]\nmod tests { use crate::a; }\n"),
    ] {
        std::fs::write(folder.join(file), text).expect("written");
    }
    assert_eq!(circles(imports(&folder)), ["a", "b", "c"]);
    std::fs::write(folder.join("c.rs"), "use crate::d;\n").expect("written");
    assert_eq!(circles(imports(&folder)), Vec::<String>::new());
}

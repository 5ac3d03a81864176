//! The commands as their users run them.

use std::process::Command;

use test_support::{output, root};

/// Runs `cargo xtask` with arguments in the repository's root.
fn xtask(arguments: &[&str]) -> Result<String, String> {
    output(Command::new(env!("CARGO_BIN_EXE_xtask")).args(arguments).current_dir(root()))
}

#[test]
fn generated_files_are_up_to_date() {
    xtask(&["generate", "--check"]).unwrap_or_else(|error| panic!("{error}"));
}

/// The component itself checks its models when they are frozen into it.
#[test]
fn models_that_do_not_fit_are_refused_with_the_reason() {
    let folder = test_support::folder("unfit-models");
    let short = folder.join("short.txt");
    std::fs::write(&short, "A\nB\n").expect("written");
    let short = short.display().to_string();
    for (letters, labels, reasons) in [
        // For the lite landmark model's features.
        ("models/letters_lite.onnx", "models/letters.txt", ["[1, 1227]", "[1, 747]"]),
        ("models/letters_full.onnx", &short, ["2 labels", "27 outputs"]),
    ] {
        let error = xtask(&["build", "--letters", letters, "--labels", labels]);
        let error = error.expect_err("models that do not fit");
        for reason in reasons {
            assert!(error.contains(reason), "{reason:?} is not in {error}");
        }
    }
}

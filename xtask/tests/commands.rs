//! The commands as their users run them.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;
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

/// The units that a cargo command compiles of a package that is not this workspace's, each with all that
/// makes cargo compile it apart: package, target, features and profile.
fn compiled(arguments: &[&str]) -> BTreeSet<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(arguments).args(["--unit-graph", "-Z", "unstable-options"]).current_dir(root());
    // The graph is an unstable output of every cargo.
    let graph = output(cargo.env("RUSTC_BOOTSTRAP", "1")).unwrap_or_else(|error| panic!("{error}"));
    let graph: Value = serde_json::from_str(&graph).expect("JSON");
    let units = graph["units"].as_array().expect("units");
    let foreign = units
        .iter()
        .filter(|unit| unit["pkg_id"].as_str().is_some_and(|id| id.starts_with("registry")));
    let unit = |unit: &Value| {
        let package =
            unit["pkg_id"].as_str().and_then(|id| id.split_once('#')).expect("a package").1;
        let profile = &unit["profile"];
        let (target, mode) = (&unit["target"]["name"], &unit["mode"]);
        let levels = (&profile["opt_level"], &profile["debuginfo"], &profile["debug_assertions"]);
        format!("{package} {target} {mode} {} {} {levels:?}", unit["features"], unit["platform"])
    };
    foreign.map(unit).collect()
}

/// `cargo xtask up` is the first command on a new machine.
#[test]
fn commands_compile_no_inference_engine() {
    let units = compiled(&["build", "--package", "xtask"]);
    assert!(units.iter().any(|unit| unit.starts_with("wasmtime@")), "{units:#?}");
    let engine: Vec<_> = units.iter().filter(|unit| unit.starts_with("tract")).collect();
    assert!(engine.is_empty(), "{engine:#?}");
}

/// `cargo xtask test` compiles commands, component and tests one after the other. A feature that only one
/// of them turns on would compile wasmtime or tract again.
#[test]
fn commands_and_tests_share_compiled_dependencies() {
    let native = compiled(&["test", "--workspace"]);
    let wasm = ["--release", "--target", "wasm32-wasip2", "--package", "hand-gesture-api"];
    let sandbox =
        ["--package", "kernels", "--package", "vision", "--package", "telemetry", "--lib"];
    let sandbox = compiled(&[&["test"], &wasm[..], &sandbox].concat());
    let operators = ["--package", "vision", "--example", "operators"];
    for (arguments, all) in [
        (&["build", "--package", "xtask"][..], &native),
        (&["build", "--workspace"], &native),
        (&["build", "--workspace", "--example", "describe"], &native),
        (&["build", "--workspace", "--example", "features"], &native),
        (&[&["build"], &wasm[..]].concat(), &sandbox),
        (&[&["build"], &wasm[..], &operators].concat(), &sandbox),
    ] {
        let own = compiled(arguments);
        assert!(own.len() > 100, "{arguments:?} compiles only {}", own.len());
        let again: Vec<_> = own.difference(all).collect();
        assert!(again.is_empty(), "cargo {} compiles again: {again:#?}", arguments.join(" "));
    }
}

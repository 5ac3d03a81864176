//! The Terraform module: valid, and for every choice it gives the charts what they need, with
//! mocked providers.

mod support;

use std::process::Command;

use support::{output, root};

fn terraform(folder: &str, arguments: &[&str]) -> String {
    let mut command = Command::new("terraform");
    command.arg(format!("-chdir={}", root().join("infra/terraform").join(folder).display()));
    command.args(arguments).env("TF_IN_AUTOMATION", "1");
    output(&mut command).unwrap_or_else(|error| panic!("terraform {arguments:?}: {error}"))
}

#[test]
fn every_choice_gives_the_charts_what_they_need() {
    terraform(".", &["init", "-backend=false", "-input=false"]);
    terraform(".", &["validate"]);
    let answer = terraform(".", &["test", "-no-color"]);
    assert!(answer.contains("Success! 19 passed, 0 failed."), "{answer}");
}

#[test]
fn the_examples_are_valid() {
    for example in ["examples/development", "examples/production"] {
        terraform(example, &["init", "-backend=false", "-input=false"]);
        terraform(example, &["validate"]);
    }
}

//! The tests of `models/train.py`, which are written in Python: `models/test_train.py`.

use std::process::Command;

use test_support::{root, tool};

#[test]
fn training_learns_from_corrections() {
    let status = Command::new("python3")
        .args(["-m", "unittest", "discover", "models"])
        .env("PYTHONPATH", tool("training"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(root())
        .status()
        .expect("python3");
    assert!(status.success(), "{status}");
}

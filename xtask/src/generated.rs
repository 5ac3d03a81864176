//! Files that are written from another source: by `generate`, and by `figures`.

use anyhow::{Context, Result};

use crate::root;

/// A file, and the text that it should have.
pub struct Generated {
    /// The path from the repository's root.
    pub path: &'static str,
    pub text: String,
}

/// Reads a file of the repository.
pub fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(root().join(path)).with_context(|| format!("cannot read {path}"))
}

/// Returns a text with the part between two markers replaced. Both stay.
pub fn between(text: &str, start: &str, end: &str, new: &str) -> Result<String> {
    let (before, rest) = text.split_once(start).with_context(|| format!("{start:?} is missing"))?;
    let (_, after) = rest.split_once(end).with_context(|| format!("{end:?} is missing"))?;
    Ok(format!("{before}{start}{new}{end}{after}"))
}

/// Breaks a text at spaces into lines of at most `width` characters.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn part_between_markers_is_replaced() {
        assert_eq!(between("a<b>c", "<", ">", "x").expect("both"), "a<x>c");
        assert!(between("a<b", "<", ">", "x").is_err());
    }

    #[test]
    fn long_text_is_wrapped_at_spaces() {
        assert_eq!(wrap("one two  three", 7), ["one two", "three"]);
        assert_eq!(wrap("longer than that", 3), ["longer", "than", "that"]);
    }
}

//! Expected files: what a test compares with a file in git. `UPDATE_EXPECTED=1` rewrites the files;
//! the difference is then reviewed as any other change.

use std::path::Path;

/// The variable that asks for expected files to be rewritten, if it is set and not empty.
const UPDATE: &str = "UPDATE_EXPECTED";

/// True if expected files are to be rewritten.
pub fn rewrites() -> bool {
    std::env::var_os(UPDATE).is_some_and(|value| !value.is_empty())
}

/// Compares text with a file, or rewrites the file.
///
/// # Errors
/// The file's name with both texts, if they differ.
///
/// # Panics
/// If the file cannot be written.
pub fn compare(path: &Path, found: &str) -> Result<(), String> {
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    if expected == found {
        return Ok(());
    }
    if rewrites() {
        std::fs::write(path, found)
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        println!("rewritten: {}", path.display());
        return Ok(());
    }
    let (line, (before, after)) = first_difference(&expected, found);
    Err(format!(
        "{} differs from line {line} on ({UPDATE}=1 rewrites it).\n- {before}\n+ {after}\n\
         --- expected\n{expected}\n--- found\n{found}",
        path.display()
    ))
}

/// Compares text with a file, or rewrites the file.
///
/// # Panics
/// If they differ.
pub fn assert_expected(path: &Path, found: &str) {
    compare(path, found).unwrap_or_else(|difference| panic!("{difference}"));
}

/// The number of the first line that differs, from 1, and the line in both texts.
fn first_difference<'a>(a: &'a str, b: &'a str) -> (usize, (&'a str, &'a str)) {
    let (mut a, mut b) = (a.lines(), b.lines());
    for number in 1.. {
        match (a.next(), b.next()) {
            (Some(a), Some(b)) if a == b => {}
            (None, None) => return (number, ("", "")),
            (a, b) => return (number, (a.unwrap_or("(end)"), b.unwrap_or("(end)"))),
        }
    }
    unreachable!("texts end")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_difference_is_named() {
        assert_eq!(first_difference("a\nb\n", "a\nc\n"), (2, ("b", "c")));
        assert_eq!(first_difference("a\n", "a\nb\n"), (2, ("(end)", "b")));
    }

    #[test]
    fn different_text_is_an_error() {
        let file = crate::target().join("tmp/expected.txt");
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        std::fs::write(&file, "a\nb\n").expect("written");
        assert_eq!(compare(&file, "a\nb\n"), Ok(()));
        if !rewrites() {
            let error = compare(&file, "a\nc\n").expect_err("different");
            assert!(error.contains("line 2") && error.contains("- b\n+ c\n"), "{error}");
        }
    }
}

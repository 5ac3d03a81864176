//! Versions of other programs. The test finds every other place that names one.

/// The oldest Spin that runs the component for WASI 0.3.0, as major and minor version.
pub const LEAST_SPIN: (u32, u32) = (4, 1);

/// The oldest Spin that runs the component for WASI 0.2: the first one with a wasmtime (21) that takes
/// imports of another patch version.
pub const LEAST_SPIN_P2: (u32, u32) = (2, 6);

/// The Spin that images and releases are built with.
#[cfg(test)]
const INSTALLED_SPIN: &str = "4.2.1";

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use test_support::versions::{JAEGER_DEPLOYED, JAEGER_SYNC, JAEGER_TESTED};

    use super::{INSTALLED_SPIN, LEAST_SPIN, LEAST_SPIN_P2};
    use crate::root;

    /// Files and folders that name versions.
    const PLACES: [&str; 13] = [
        ".ci",
        ".github",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "README.md",
        "crates",
        "docs",
        "infra",
        "spin-p2.toml",
        "spin.toml",
        "src",
        "tests",
        "xtask",
    ];

    /// The text files below a path, with their names. This file is left out, and so are hidden folders,
    /// such as Terraform's.
    fn texts(path: &Path, found: &mut Vec<(PathBuf, String)>) {
        if path.is_dir() {
            for entry in std::fs::read_dir(path).expect("a folder") {
                let entry = entry.expect("an entry");
                let hidden = entry.file_name().to_string_lossy().starts_with('.');
                if !hidden && !entry.path().ends_with(file!()) {
                    texts(&entry.path(), found);
                }
            }
        } else if let Ok(text) = std::fs::read_to_string(path) {
            found.push((path.to_owned(), text));
        }
    }

    /// The number at the start of a text, with up to three parts: `4.1.0`.
    fn version(text: &str) -> Option<&str> {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let version = text[..end].trim_end_matches('.');
        (version.contains('.') && version.starts_with(|c: char| c.is_ascii_digit()))
            .then_some(version)
    }

    /// The versions that follow a phrase in a text, each with the text after it.
    fn versions_after<'a>(text: &'a str, phrase: &str) -> Vec<(&'a str, &'a str)> {
        let after = text.match_indices(phrase).map(|(at, _)| &text[at + phrase.len()..]);
        let split = |rest: &'a str| version(rest).map(|version| (version, &rest[version.len()..]));
        after.filter_map(split).collect()
    }

    /// All mentions in the repository that `of` finds in a file: its name and the version.
    fn mentions(of: impl Fn(&str) -> Vec<String>) -> Vec<(String, String)> {
        let mut files = Vec::new();
        for place in PLACES {
            texts(&root().join(place), &mut files);
        }
        let named = |(path, text): &(PathBuf, String)| {
            // Line breaks and emphasis do not hide a mention.
            let text = text.replace("**", "");
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            let name = path.strip_prefix(root()).unwrap_or(path).display().to_string();
            of(&text).into_iter().map(|version| (name.clone(), version)).collect::<Vec<_>>()
        };
        files.iter().flat_map(named).collect()
    }

    /// Versions that are called the oldest that works.
    fn least_spin(text: &str) -> Vec<String> {
        let or_newer = ["Spin ", "Spin v"].into_iter().flat_map(|name| versions_after(text, name));
        let least = or_newer.filter(|(_, rest)| {
            [" or newer", " and newer", " or later", "+"]
                .iter()
                .any(|words| rest.starts_with(words))
        });
        least.map(|(version, _)| version.to_owned()).collect()
    }

    /// Versions that are installed.
    fn installed_spin(text: &str) -> Vec<String> {
        let names = ["SPIN_VERSION=v", "SPIN_VERSION: v"].into_iter();
        let installed = names.flat_map(|name| versions_after(text, name));
        installed.map(|(version, _)| version.to_owned()).collect()
    }

    /// Versions of Jaeger 2 itself and of its images.
    fn jaeger(text: &str) -> Vec<String> {
        let names = ["Jaeger ", "Jaeger v", "jaegertracing/jaeger:"];
        let found = names.into_iter().flat_map(|name| versions_after(text, name));
        let found = found.map(|(version, _)| version.to_owned());
        found.filter(|version| version.starts_with("2.")).collect()
    }

    fn is_minor(version: &str, of: &str) -> bool {
        of == version || of.rsplit_once('.').is_some_and(|(minor, _)| minor == version)
    }

    #[test]
    fn least_spin_is_the_same_everywhere() {
        let least = [LEAST_SPIN, LEAST_SPIN_P2].map(|(major, minor)| format!("{major}.{minor}.0"));
        let found = mentions(least_spin);
        for (file, version) in &found {
            let known = least.iter().any(|least| is_minor(version, least));
            assert!(known, "{file} names Spin {version}, not one of {least:?}");
        }
        for file in ["spin.toml", "spin-p2.toml", "README.md"] {
            assert!(found.iter().any(|(name, _)| name == file), "{file} names no Spin: {found:?}");
        }
    }

    #[test]
    fn installed_spin_is_the_same_everywhere() {
        let found = mentions(installed_spin);
        for (file, version) in &found {
            assert_eq!(version, INSTALLED_SPIN, "{file}");
        }
        for file in ["infra/Containerfile", ".github/workflows/release.yml"] {
            assert!(found.iter().any(|(name, _)| name == file), "{file} names no Spin: {found:?}");
        }
    }

    #[test]
    fn versions_of_jaeger_are_the_same_everywhere() {
        let found = mentions(jaeger);
        for (file, version) in &found {
            let known = [JAEGER_TESTED, JAEGER_DEPLOYED, JAEGER_SYNC];
            let is_known = known.iter().any(|of| is_minor(version, of));
            assert!(is_known, "{file} names Jaeger {version}, not one of {known:?}");
        }
        assert!(found.iter().any(|(name, _)| name == "infra/README.md"), "{found:?}");
    }

    #[test]
    fn versions_of_jaeger_are_those_that_are_built_and_deployed() {
        let read = |path: &str| std::fs::read_to_string(root().join(path)).expect(path);
        let chart = read("infra/helm/jaeger/Chart.yaml");
        assert_eq!(versions_after(&chart, "\nappVersion: ")[0].0, JAEGER_DEPLOYED);
        let module = read("infra/tools/jaeger/go.mod");
        assert_eq!(versions_after(&module, "// Jaeger ")[0].0, JAEGER_TESTED);
        // The module's own numbers: v1.76.0 is the commit of v2.13.0.
        assert_eq!(versions_after(&module, "github.com/jaegertracing/jaeger v")[0].0, "1.76.0");
        assert!(module.contains(&format!(
            "v1.76.0 of the Go module\n// is the same commit as the release \
                                          v{JAEGER_TESTED}"
        )));
    }

    #[test]
    fn mentions_are_found_in_prose_and_code() {
        let text = "Spin 4.1 or newer; Spin 4.0.1 is old. ARG SPIN_VERSION=v4.1.0 On Spin 3.0+.";
        assert_eq!(least_spin(text), ["4.1", "3.0"]);
        assert_eq!(installed_spin(text), ["4.1.0"]);
        let text =
            "Jaeger 2.13 and jaegertracing/jaeger:2.20.0, not Jaeger 1.76, Jaeger 2. Jaeger 4.5 s";
        assert_eq!(jaeger(text), ["2.13", "2.20.0"]);
        assert!(is_minor("2.13", "2.13.0") && is_minor("2.13.0", "2.13.0"));
        assert!(!is_minor("2.1", "2.13.0") && !is_minor("2.13.1", "2.13.0"));
    }
}

//! The Spin that is installed.

use std::process::Command;

use crate::build::World;
use crate::versions::{LEAST_SPIN, LEAST_SPIN_P2};

/// Spin's program.
pub const PROGRAM: &str = "spin";

/// Returns the oldest Spin that runs a world's component; `None` for WASI alone.
pub const fn least(world: World) -> Option<(u32, u32)> {
    match world {
        World::Spin => Some(LEAST_SPIN),
        World::SpinP2 => Some(LEAST_SPIN_P2),
        // spin-p2.toml names the other component, and this one would not see its variables.
        World::Wasi => None,
    }
}

/// Returns the reason if the Spin that is installed is older than `least`, or none is installed. A remedy
/// follows it.
pub fn lacking(least: (u32, u32)) -> Option<String> {
    let output = match Command::new(PROGRAM).arg("--version").output() {
        Ok(output) => output,
        Err(error) => return Some(format!("cannot run spin ({error}): {}", remedy(least))),
    };
    reason(&String::from_utf8_lossy(&output.stdout), least)
}

fn remedy((major, minor): (u32, u32)) -> String {
    format!("install Spin {major}.{minor} or newer (https://spinframework.dev/install)")
}

/// Returns the reason if the output of `spin --version` names a Spin older than `least`.
fn reason(text: &str, least: (u32, u32)) -> Option<String> {
    let remedy = remedy(least);
    let Some(version) = version(text) else {
        let found = text.trim_end();
        return Some(format!(
            "expected a version from `spin --version`, found {found:?}: {remedy}"
        ));
    };
    let (major, minor) = version;
    let other = if version < LEAST_SPIN_P2 { "" } else { "serve --world spin-p2, or " };
    (version < least).then(|| format!("Spin {major}.{minor} is too old: {other}{remedy}"))
}

/// Returns major and minor version from the output of `spin --version`: `spin 4.1.0 (…)`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split_whitespace().nth(1)?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spin_version_is_parsed() {
        assert_eq!(version("spin 4.1.0 (abc 2026-08-01)\n"), Some((4, 1)));
        assert_eq!(version("spin 4.1.0-pre0 (94a8fc8 2026-08-21)\n"), Some((4, 1)));
        assert_eq!(version("spin 4.10.2-pre0"), Some((4, 10)));
        assert_eq!(version("spin"), None);
        assert_eq!(version("model checker"), None);
    }

    #[test]
    fn older_spin_and_another_program_lack_with_the_remedy() {
        let install = "install Spin 4.1 or newer (https://spinframework.dev/install)";
        for (found, reason) in [
            ("spin 4.1.0-pre0", None),
            ("spin 10.0.0", None),
            (
                "spin 3.6.3 (abc 2026-04-14)",
                Some("Spin 3.6 is too old: serve --world spin-p2, or "),
            ),
            ("spin 2.5.1", Some("Spin 2.5 is too old: ")),
            ("Promela\n", Some("expected a version from `spin --version`, found \"Promela\": ")),
        ] {
            let reason = reason.map(|start| format!("{start}{install}"));
            assert_eq!(super::reason(found, LEAST_SPIN), reason, "{found}");
        }
        assert_eq!(reason("spin 3.6.3", LEAST_SPIN_P2), None);
    }
}

//! Application variables, by Spin's rules: a value from the command line, the environment or the
//! manifest, and `{{ name }}` to pass it on to the component.
//!
//! All values are resolved before the component is compiled, so a mistake stops the start and not the
//! first request. Not supported: required variables, and templates that mix text and names.

use std::collections::BTreeMap;
use std::env::VarError;

/// The prefix of an application variable's environment variable: `otlp_endpoint` is read from
/// `SPIN_VARIABLE_OTLP_ENDPOINT`.
pub const ENVIRONMENT_PREFIX: &str = "SPIN_VARIABLE_";

/// Values by name.
pub type Values = BTreeMap<String, String>;

/// An error in a variable's name, value or use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VariableError {
    /// A name that Spin refuses.
    #[error("{name:?} is not a variable name: {reason}")]
    InvalidName {
        /// The name as it was given.
        name: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// A value for a variable that the manifest does not declare.
    #[error("cannot set the variable `{name}`: declare it in [variables]")]
    Undeclared {
        /// The name as it was given.
        name: String,
    },
    /// A value in the environment that is not UTF-8.
    #[error("cannot read {variable} from the environment: its value is not UTF-8")]
    NotUnicode {
        /// The environment variable.
        variable: String,
    },
    /// A template that cannot be filled.
    #[error("cannot fill {text:?} in {place}: {reason}")]
    Template {
        /// The setting that holds the template.
        place: String,
        /// The template.
        text: String,
        /// The reason, with the remedy.
        reason: &'static str,
    },
    /// A `--variable` argument without `=`.
    #[error("{argument:?} is not of the form name=value")]
    Argument {
        /// The argument as it was given.
        argument: String,
    },
}

/// Checks a name by Spin's rules: lower-case ASCII letters, digits and single underscores, a letter
/// first, no underscore at the end.
///
/// # Errors
///
/// [`VariableError::InvalidName`] with the rule that is broken.
pub fn validate_name(name: &str) -> Result<(), VariableError> {
    let reason = if name.is_empty() {
        "it is empty"
    } else if !name.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '_')) {
        "only lower-case letters, digits and underscores are allowed"
    } else if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        "it must begin with a lower-case letter"
    } else if name.ends_with('_') {
        "it must not end with an underscore"
    } else if name.contains("__") {
        "it must not contain two underscores in a row"
    } else {
        return Ok(());
    };
    Err(VariableError::InvalidName { name: name.to_owned(), reason })
}

/// Parses the argument of `--variable`, `name=value`. The value may be empty and may contain `=`.
///
/// # Errors
///
/// [`VariableError::Argument`] without `=`, [`VariableError::InvalidName`] for the name.
pub fn parse_argument(argument: &str) -> Result<(String, String), VariableError> {
    let Some((name, value)) = argument.split_once('=') else {
        return Err(VariableError::Argument { argument: argument.to_owned() });
    };
    validate_name(name)?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Returns the value of every variable in `defaults`. The last value in `given` takes precedence over
/// the environment, the environment over the default. An empty value is a value.
///
/// `environment` looks up an environment variable; [`std::env::var`] is the real one.
///
/// # Errors
///
/// [`VariableError::Undeclared`] and [`VariableError::NotUnicode`].
pub fn resolve(
    defaults: &Values,
    given: &[(String, String)],
    environment: impl Fn(&str) -> Result<String, VarError>,
) -> Result<Values, VariableError> {
    if let Some((name, _)) = given.iter().find(|(name, _)| !defaults.contains_key(name)) {
        return Err(VariableError::Undeclared { name: name.clone() });
    }
    let mut values = Values::new();
    for (name, default) in defaults {
        let value = if let Some((_, value)) = given.iter().rev().find(|(given, _)| given == name) {
            value.clone()
        } else {
            let variable = format!("{ENVIRONMENT_PREFIX}{}", name.to_ascii_uppercase());
            match environment(&variable) {
                Ok(value) => value,
                Err(VarError::NotPresent) => default.clone(),
                Err(VarError::NotUnicode(_)) => return Err(VariableError::NotUnicode { variable }),
            }
        };
        values.insert(name.clone(), value);
    }
    Ok(values)
}

/// Returns the value of the variable that a template `{{ name }}` names; text without braces is its
/// own value. `place` is the setting that holds the template.
///
/// # Errors
///
/// [`VariableError::Template`] for a name that is not among `values`, and for any other template.
pub fn fill<'a>(text: &'a str, values: &'a Values, place: &str) -> Result<&'a str, VariableError> {
    if !is_template(text) {
        return Ok(text);
    }
    let name = text
        .strip_prefix("{{")
        .and_then(|rest| rest.strip_suffix("}}"))
        .map(str::trim)
        .filter(|name| !name.contains(['{', '}']));
    let reason = match name {
        Some(name) => match values.get(name) {
            Some(value) => return Ok(value),
            None => "declare the variable in [variables]",
        },
        None => "this host supports only a single `{{ name }}`",
    };
    Err(VariableError::Template { place: place.to_owned(), text: text.to_owned(), reason })
}

/// True for text that [`fill`] does not return as it is.
pub fn is_template(text: &str) -> bool {
    text.contains("{{")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing(_: &str) -> Result<String, VarError> {
        Err(VarError::NotPresent)
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    fn declared() -> Values {
        Values::from([pair("greeting", "default"), pair("api_key", "")])
    }

    #[test]
    fn validate_name_follows_spins_rules() {
        for good in ["a", "a1", "a_b", "otlp_endpoint2"] {
            assert_eq!(validate_name(good), Ok(()), "{good}");
        }
        for bad in ["", "A", "a-b", "1a", "_a", "a_", "a__b", "ä"] {
            assert!(validate_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn parse_argument_splits_at_first_equals_sign() {
        assert_eq!(parse_argument("a=b=c"), Ok(pair("a", "b=c")));
        assert_eq!(parse_argument("a="), Ok(pair("a", "")));
        assert!(matches!(parse_argument("a"), Err(VariableError::Argument { .. })));
        assert!(matches!(parse_argument("A=b"), Err(VariableError::InvalidName { .. })));
    }

    #[test]
    fn resolve_prefers_command_line_to_environment_to_default() {
        let environment = |name: &str| match name {
            "SPIN_VARIABLE_GREETING" => Ok("environment".to_owned()),
            _ => Err(VarError::NotPresent),
        };
        let greeting = |given: &[(String, String)]| {
            resolve(&declared(), given, environment).unwrap()["greeting"].clone()
        };
        assert_eq!(greeting(&[pair("greeting", "first"), pair("greeting", "last")]), "last");
        assert_eq!(greeting(&[pair("greeting", "")]), "");
        assert_eq!(greeting(&[]), "environment");
        let values = resolve(&declared(), &[pair("api_key", "k")], nothing).unwrap();
        assert_eq!(values["greeting"], "default");
        assert_eq!(values["api_key"], "k");
    }

    #[test]
    fn resolve_undeclared_variable_is_refused() {
        assert_eq!(
            resolve(&declared(), &[pair("greting", "x")], nothing),
            Err(VariableError::Undeclared { name: "greting".to_owned() })
        );
    }

    #[test]
    fn resolve_value_that_is_not_utf8_is_refused() {
        let environment = |_: &str| Err(VarError::NotUnicode("x".into()));
        let error = resolve(&declared(), &[], environment).unwrap_err();
        assert_eq!(
            error,
            VariableError::NotUnicode { variable: "SPIN_VARIABLE_API_KEY".to_owned() }
        );
    }

    #[test]
    fn fill_template_returns_the_variables_value() {
        let values = Values::from([pair("host", "jaeger"), pair("empty", "")]);
        let fill = |text| fill(text, &values, "here");
        assert_eq!(fill("plain"), Ok("plain"));
        assert_eq!(fill(""), Ok(""));
        assert_eq!(fill("{{host}}"), Ok("jaeger"));
        assert_eq!(fill("{{ empty }}"), Ok(""));
        assert_eq!(
            fill("{{ nobody }}").unwrap_err().to_string(),
            "cannot fill \"{{ nobody }}\" in here: declare the variable in [variables]"
        );
        for other in ["http://{{ host }}", "{{ host }}{{ host }}", "a {{ host", "{{ host }}/x"] {
            let message = fill(other).unwrap_err().to_string();
            assert!(message.ends_with("supports only a single `{{ name }}`"), "{message}");
        }
    }
}

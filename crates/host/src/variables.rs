//! Variables as Spin has them: application variables with a value from the command line, the
//! environment or a default, and templates (`"{{ name }}"`) over them for the component.
//!
//! Everything is resolved once, before the component is compiled, so that a missing value stops
//! the start and not the first request.

use std::collections::BTreeMap;
use std::env::VarError;

/// What the environment variable of an application variable begins with: the variable
/// `otlp_endpoint` is read from `SPIN_VARIABLE_OTLP_ENDPOINT`.
pub const ENVIRONMENT_PREFIX: &str = "SPIN_VARIABLE_";

/// Names and their values, in the order of the names.
pub type Values = BTreeMap<String, String>;

/// One `[variables]` entry of the manifest. Exactly one of `default` and `required` is set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Variable {
    /// The value if nothing else gives one.
    pub default: Option<String>,
    /// Whether a value must be given from outside.
    pub required: bool,
    /// Whether the value must never be shown. This host shows no values at all.
    pub secret: bool,
}

/// Why variables could not be resolved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VariableError {
    /// A name that Spin would not accept.
    #[error("{name:?} is not a variable name: {reason}")]
    InvalidName {
        /// The name as it was given.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A required variable without a value.
    #[error(
        "the required variable `{name}` has no value: give it with `--variable {name}=…` or in \
         the environment as {}",
        environment_name(name)
    )]
    Missing {
        /// The variable.
        name: String,
    },
    /// A value was given for a variable that the manifest does not declare.
    #[error("a value was given for the variable `{name}`, but [variables] does not declare it")]
    Undeclared {
        /// The name as it was given.
        name: String,
    },
    /// The value in the environment is not UTF-8.
    #[error("the value of {variable} in the environment is not valid UTF-8")]
    NotUnicode {
        /// The environment variable.
        variable: String,
    },
    /// A template that cannot be read, or that names an undeclared variable.
    #[error("in {place}: {reason}")]
    Template {
        /// The setting that holds the template.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A `--variable` argument without `=`.
    #[error("{argument:?} is not of the form name=value")]
    Argument {
        /// The argument as it was given.
        argument: String,
    },
}

/// The environment variable that gives the value of an application variable.
pub fn environment_name(name: &str) -> String {
    format!("{ENVIRONMENT_PREFIX}{}", name.to_ascii_uppercase())
}

/// Checks a name by Spin's rules: lower-case ASCII letters, digits and single underscores, a
/// letter first, no underscore at the end.
///
/// # Errors
///
/// [`VariableError::InvalidName`] with the rule that was broken.
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

/// Splits the argument of `--variable`, `name=value`, and checks the name. The value may be
/// empty and may contain `=`.
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

/// Gives every declared variable its value: from `given` (the last one of a name wins), else
/// from the environment, else the default. An empty value is a value.
///
/// `environment` looks up one environment variable; [`std::env::var`] is the real one.
///
/// # Errors
///
/// The first variable that is required and missing, given but undeclared, or not UTF-8.
pub fn resolve(
    declared: &BTreeMap<String, Variable>,
    given: &[(String, String)],
    environment: impl Fn(&str) -> Result<String, VarError>,
) -> Result<Values, VariableError> {
    if let Some((name, _)) = given.iter().find(|(name, _)| !declared.contains_key(name)) {
        return Err(VariableError::Undeclared { name: name.clone() });
    }
    let mut values = Values::new();
    for (name, variable) in declared {
        let value = if let Some((_, value)) = given.iter().rev().find(|(given, _)| given == name) {
            value.clone()
        } else {
            let from_environment = environment_name(name);
            match (environment(&from_environment), &variable.default) {
                (Ok(value), _) => value,
                (Err(VarError::NotUnicode(_)), _) => {
                    return Err(VariableError::NotUnicode { variable: from_environment });
                }
                (Err(VarError::NotPresent), Some(default)) => default.clone(),
                (Err(VarError::NotPresent), None) => {
                    return Err(VariableError::Missing { name: name.clone() });
                }
            }
        };
        values.insert(name.clone(), value);
    }
    Ok(values)
}

/// A text with `{{ name }}` expressions in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Variable(String),
}

impl Template {
    /// Reads a template. `place` names the setting in errors.
    ///
    /// # Errors
    ///
    /// [`VariableError::Template`] when `{{` is not closed.
    pub fn parse(text: &str, place: &str) -> Result<Self, VariableError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((literal, after)) = rest.split_once("{{") {
            let Some((name, after)) = after.split_once("}}") else {
                return Err(VariableError::Template {
                    place: place.to_owned(),
                    reason: "`{{` without `}}`".to_owned(),
                });
            };
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.to_owned()));
            }
            parts.push(Part::Variable(name.trim().to_owned()));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        Ok(Self { parts })
    }

    /// Whether the text contains no expression.
    pub fn is_literal(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Literal(_)))
    }

    /// Fills in the values. `place` names the setting in errors.
    ///
    /// # Errors
    ///
    /// [`VariableError::Template`] when a variable is not among `values`.
    pub fn fill(&self, values: &Values, place: &str) -> Result<String, VariableError> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Variable(name) => {
                    let value = values.get(name).ok_or_else(|| VariableError::Template {
                        place: place.to_owned(),
                        reason: format!("the variable `{name}` is not declared in [variables]"),
                    })?;
                    text.push_str(value);
                }
            }
        }
        Ok(text)
    }
}

/// Fills in the templates of `[component.X.variables]`. `place` names that table in errors.
///
/// # Errors
///
/// The first template that cannot be read or names an undeclared variable.
pub fn resolve_component(
    templates: &BTreeMap<String, String>,
    values: &Values,
    place: &str,
) -> Result<Values, VariableError> {
    templates
        .iter()
        .map(|(name, text)| {
            let place = format!("{place}.{name}");
            let value = Template::parse(text, &place)?.fill(values, &place)?;
            Ok((name.clone(), value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing(_: &str) -> Result<String, VarError> {
        Err(VarError::NotPresent)
    }

    fn declared() -> BTreeMap<String, Variable> {
        let optional = Variable { default: Some("default".to_owned()), ..Variable::default() };
        let required = Variable { required: true, secret: true, ..Variable::default() };
        BTreeMap::from([("greeting".to_owned(), optional), ("api_key".to_owned(), required)])
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn names_are_checked_as_spin_does() {
        for good in ["a", "a1", "a_b", "otlp_endpoint2"] {
            assert_eq!(validate_name(good), Ok(()), "{good}");
        }
        for bad in ["", "A", "a-b", "1a", "_a", "a_", "a__b", "ä"] {
            assert!(validate_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn arguments_are_split_at_the_first_equals_sign() {
        assert_eq!(parse_argument("a=b=c"), Ok(pair("a", "b=c")));
        assert_eq!(parse_argument("a="), Ok(pair("a", "")));
        assert!(matches!(parse_argument("a"), Err(VariableError::Argument { .. })));
        assert!(matches!(parse_argument("A=b"), Err(VariableError::InvalidName { .. })));
    }

    #[test]
    fn the_command_line_beats_the_environment_beats_the_default() {
        let environment = |name: &str| match name {
            "SPIN_VARIABLE_GREETING" => Ok("environment".to_owned()),
            "SPIN_VARIABLE_API_KEY" => Ok(String::new()),
            _ => Err(VarError::NotPresent),
        };
        let greeting = |given: &[(String, String)]| {
            resolve(&declared(), given, environment).unwrap()["greeting"].clone()
        };
        assert_eq!(greeting(&[pair("greeting", "first"), pair("greeting", "last")]), "last");
        assert_eq!(greeting(&[]), "environment");
        let values = resolve(&declared(), &[pair("api_key", "k")], nothing).unwrap();
        assert_eq!(values["greeting"], "default");
        assert_eq!(values["api_key"], "k");
    }

    #[test]
    fn a_missing_required_variable_names_both_ways_to_set_it() {
        let message = resolve(&declared(), &[], nothing).unwrap_err().to_string();
        assert!(message.contains("`api_key`"), "{message}");
        assert!(message.contains("--variable api_key="), "{message}");
        assert!(message.contains("SPIN_VARIABLE_API_KEY"), "{message}");
    }

    #[test]
    fn an_undeclared_variable_is_refused() {
        assert_eq!(
            resolve(&declared(), &[pair("greting", "x")], nothing),
            Err(VariableError::Undeclared { name: "greting".to_owned() })
        );
    }

    #[test]
    fn templates_are_filled() {
        let values = Values::from([pair("host", "jaeger"), pair("port", "4318")]);
        let fill = |text: &str| Template::parse(text, "here").and_then(|t| t.fill(&values, "here"));
        assert_eq!(fill("plain").unwrap(), "plain");
        assert_eq!(fill("").unwrap(), "");
        assert_eq!(fill("{{host}}").unwrap(), "jaeger");
        assert_eq!(fill("http://{{ host }}:{{ port }}/x").unwrap(), "http://jaeger:4318/x");
        assert_eq!(
            fill("{{ nobody }}").unwrap_err().to_string(),
            "in here: the variable `nobody` is not declared in [variables]"
        );
        assert_eq!(fill("a {{ host").unwrap_err().to_string(), "in here: `{{` without `}}`");
        assert!(Template::parse("plain", "here").unwrap().is_literal());
        assert!(!Template::parse("{{ a }}", "here").unwrap().is_literal());
    }

    #[test]
    fn component_variables_name_their_place_in_errors() {
        let templates = BTreeMap::from([pair("endpoint", "{{ nobody }}")]);
        let error = resolve_component(&templates, &Values::new(), "[component.api.variables]");
        assert!(
            error.unwrap_err().to_string().starts_with("in [component.api.variables].endpoint:")
        );
    }
}

//! The values of settings: read one after the other, while what is wrong with them is collected.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// The values of settings by their names. An empty value is an unset one.
pub struct Values<L> {
    lookup: L,
    complaints: Vec<String>,
}

impl<L: Fn(&str) -> Option<String>> Values<L> {
    /// The values that `lookup` finds.
    pub fn new(lookup: L) -> Self {
        Values { lookup, complaints: Vec::new() }
    }

    /// A sentence about each setting that is invalid.
    pub fn into_complaints(self) -> Vec<String> {
        self.complaints
    }

    /// The value of a setting, if it is set.
    pub fn value(&self, name: &str) -> Option<String> {
        (self.lookup)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// Takes down what is wrong with a setting.
    pub fn complain(&mut self, name: &str, reason: impl Display) {
        self.complaints.push(format!("setting {name}: {reason}"));
    }

    /// A number of a range, else the default.
    pub fn number(&mut self, name: &str, default: f64, range: RangeInclusive<f64>) -> f64 {
        self.within(name, "number", default, range)
    }

    /// A whole number of a range, else the default.
    pub fn whole(
        &mut self,
        name: &str,
        default: usize,
        range: RangeInclusive<usize>,
    ) -> usize {
        self.within(name, "whole number", default, range)
    }

    fn within<N: FromStr + PartialOrd + Display>(
        &mut self,
        name: &str,
        kind: &str,
        default: N,
        range: RangeInclusive<N>,
    ) -> N {
        let Some(value) = self.value(name) else { return default };
        match value.parse() {
            Ok(number) if range.contains(&number) => number,
            _ => {
                let (least, most) = (range.start(), range.end());
                let reason = format!(
                    "{value:?} is not a {kind} from {least} to {most}; the default {default} is \
                     used"
                );
                self.complain(name, reason);
                default
            }
        }
    }

    /// `true` or `false` in any case. OpenTelemetry takes everything else for false, silently.
    pub fn boolean(&mut self, name: &str) -> Option<bool> {
        let value = self.value(name)?;
        let boolean = bool::from_str(&value.to_ascii_lowercase()).ok();
        if boolean.is_none() {
            self.complain(name, format!("{value:?} is neither true nor false; it is ignored"));
        }
        boolean
    }
}

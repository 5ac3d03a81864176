//! A setting as data: declared once, with everything that the code and the documentation need.
//!
//! A declaration is a constant [`Setting`] whose [kind](Kind) holds default and limits. [`Values`]
//! reads settings by their declarations, so a default or a limit stands nowhere else. A table of
//! [`Setting::any`] lists settings of all kinds, for documentation and manifests.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Longest part of a value that a warning repeats, in characters: enough to find it by.
const MAX_SHOWN: usize = 100;
/// Largest whole number below which an f64 is exact.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// The declaration of a setting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Setting<K = Kind> {
    /// The name, in lower case with underscores: `otel_service_name`.
    pub name: &'static str,
    /// The type, with default and limits.
    pub kind: K,
    /// The heading under which it is documented.
    pub group: &'static str,
    /// Its effect: sentences in Markdown.
    pub help: &'static str,
    /// True if the value is secret: it is never shown.
    pub secret: bool,
    /// Its relation to another setting.
    pub relation: Relation,
    /// The value that a manifest declares. Empty, so that an environment variable counts too, unless
    /// it is the host that reads the setting.
    pub declared: &'static str,
}

/// The relation of a setting to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// There is none.
    None,
    /// It is for traces alone, and takes precedence over the setting of this name.
    Overrides(&'static str),
    /// It is an old name without effect. The setting of this name replaced it.
    ReplacedBy(&'static str),
}

/// The type of a setting, with its default and limits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// `true` or `false`.
    Flag(Flag),
    /// A number.
    Number(Number),
    /// A whole number.
    Whole(Whole),
    /// One of a few words.
    Choice(Choice),
    /// A comma-separated list of a few words.
    Choices(Choices),
    /// Text.
    Text(Text),
}

/// `true` or `false`, in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flag {
    /// The value that an unset flag amounts to, in Markdown.
    pub unset: &'static str,
}

/// A number, such as `0.5`, `.5` or `2e6`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Number {
    /// The value if it is unset or invalid.
    pub default: f64,
    /// The lowest value.
    pub min: f64,
    /// The highest value.
    pub max: f64,
    /// The unit; empty for none.
    pub unit: &'static str,
}

/// A whole number, such as `1000` or `1e3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whole {
    /// The value if it is unset or invalid.
    pub default: usize,
    /// The lowest value.
    pub min: usize,
    /// The highest value.
    pub max: usize,
    /// The unit; empty for none.
    pub unit: &'static str,
}

/// One of a few words, in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The words.
    pub choices: &'static [&'static str],
    /// The word if it is unset or invalid, one of the choices.
    pub default: &'static str,
}

/// A comma-separated list of a few words, in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choices {
    /// The words.
    pub choices: &'static [&'static str],
    /// The list if it is unset, or if none of its words is a choice.
    pub default: &'static str,
}

/// Text of some form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text {
    /// The form.
    pub form: Form,
    /// The value that an unset text amounts to, in Markdown; empty for none.
    pub unset: &'static str,
}

/// The form of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Any text.
    Any,
    /// A URL that begins with `http://` or `https://`.
    Url,
    /// A host's name or address.
    Host,
    /// `scheme://host:port` without a path.
    Origin,
    /// Likewise, without a port if it is the scheme's own.
    Place,
    /// The name of a header.
    Header,
    /// A comma-separated list.
    List,
    /// `key=value,key=value`, values percent-encoded.
    Pairs,
}

impl<K: Copy> Setting<K> {
    /// Declares a setting.
    pub const fn new(
        name: &'static str,
        kind: K,
        group: &'static str,
        help: &'static str,
    ) -> Setting<K> {
        let relation = Relation::None;
        Setting { name, kind, group, help, secret: false, relation, declared: "" }
    }

    /// Marks the value as secret.
    pub const fn secret(self) -> Setting<K> {
        Setting { secret: true, ..self }
    }

    /// Sets the relation to another setting.
    pub const fn relation(self, relation: Relation) -> Setting<K> {
        Setting { relation, ..self }
    }

    /// Sets the value that a manifest declares.
    pub const fn declared(self, declared: &'static str) -> Setting<K> {
        Setting { declared, ..self }
    }

    /// Declares the variant of this setting for traces alone, which takes precedence.
    pub const fn for_traces(self, name: &'static str, help: &'static str) -> Setting<K> {
        Setting { name, help, relation: Relation::Overrides(self.name), ..self }
    }

    /// Returns the name as an environment variable: in capitals.
    pub fn environment_name(&self) -> String {
        self.name.to_ascii_uppercase()
    }
}

impl<K> Setting<K> {
    /// Returns a value of this setting as a warning may repeat it: in quotes, and cut. A secret one is
    /// not repeated.
    pub(crate) fn shown(&self, value: &str) -> String {
        if self.secret {
            return "something else".to_owned();
        }
        let start: String = value.chars().take(MAX_SHOWN).collect();
        let rest = if start.len() < value.len() { "…" } else { "" };
        format!("{start:?}{rest}")
    }
}

macro_rules! any {
    ($($kind:ident),*) => {$(
        impl Setting<$kind> {
            /// Returns the declaration as a row of a table of all kinds.
            pub const fn any(self) -> Setting {
                let Setting { name, kind, group, help, secret, relation, declared } = self;
                let kind = Kind::$kind(kind);
                Setting { name, kind, group, help, secret, relation, declared }
            }
        }
    )*};
}

any!(Flag, Number, Whole, Choice, Choices, Text);

/// Returns the names of a table's settings, in its order.
pub const fn names<const N: usize>(table: &[Setting; N]) -> [&'static str; N] {
    let mut names = [""; N];
    let mut row = 0;
    while row < N {
        names[row] = table[row].name;
        row += 1;
    }
    names
}

impl Kind {
    /// Returns the type's name.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Flag(_) => "boolean",
            Kind::Number(_) => "number",
            Kind::Whole(_) => "integer",
            Kind::Choice(_) => "choice",
            Kind::Choices(_) => "choices",
            Kind::Text(text) => match text.form {
                Form::Any => "text",
                Form::Url => "url",
                Form::Host => "host",
                Form::Origin => "origin",
                Form::Place => "place",
                Form::Header => "header",
                Form::List => "list",
                Form::Pairs => "pairs",
            },
        }
    }

    /// Returns the default value as it would be written, or `None` if no value means the same as
    /// leaving the setting out.
    pub fn default(&self) -> Option<String> {
        match self {
            Kind::Number(number) => Some(number.default.to_string()),
            Kind::Whole(whole) => Some(whole.default.to_string()),
            Kind::Choice(choice) => Some(choice.default.to_owned()),
            Kind::Choices(choices) => Some(choices.default.to_owned()),
            Kind::Flag(_) | Kind::Text(_) => None,
        }
    }

    /// Returns the value that an unset flag or text amounts to, in Markdown; empty for none.
    pub fn unset(&self) -> &'static str {
        match self {
            Kind::Flag(flag) => flag.unset,
            Kind::Text(text) => text.unset,
            _ => "",
        }
    }

    /// Returns the unit; empty for none.
    pub fn unit(&self) -> &'static str {
        match self {
            Kind::Number(number) => number.unit,
            Kind::Whole(whole) => whole.unit,
            _ => "",
        }
    }

    /// Returns the lowest and the highest value of a number.
    pub fn range(&self) -> Option<RangeInclusive<f64>> {
        match self {
            Kind::Number(number) => Some(number.min..=number.max),
            Kind::Whole(whole) => Some(whole.min as f64..=whole.max as f64),
            _ => None,
        }
    }

    /// Returns the words to choose from.
    pub fn choices(&self) -> Option<&'static [&'static str]> {
        match self {
            Kind::Choice(choice) => Some(choice.choices),
            Kind::Choices(choices) => Some(choices.choices),
            _ => None,
        }
    }
}

/// Reads the values of settings, and collects a warning for each invalid one.
///
/// Values come from a lookup by name, not from `std::env`: in a component, the environment that
/// `std` sees is the one that was cached when the component was frozen.
///
/// An empty value counts as unset. Space around a value does not count, nor do quotes around all of it,
/// which some tools take over from a file of environment variables.
pub struct Values<L> {
    lookup: L,
    warnings: Vec<String>,
}

impl<L: Fn(&str) -> Option<String>> Values<L> {
    /// Returns a reader of what `lookup` finds.
    pub fn new(lookup: L) -> Self {
        Values { lookup, warnings: Vec::new() }
    }

    /// Returns a sentence for each invalid setting.
    pub fn into_warnings(self) -> Vec<String> {
        self.warnings
    }

    /// Adds a warning about a setting.
    pub fn warn<K>(&mut self, setting: &Setting<K>, reason: impl Display) {
        self.warnings.push(format!("setting {}: {reason}", setting.name));
    }

    /// Returns the value of a setting as text, if it is set.
    pub fn text<K>(&self, setting: &Setting<K>) -> Option<String> {
        let value = (self.lookup)(setting.name)?;
        Some(unquoted(value.trim()).to_owned()).filter(|value| !value.is_empty())
    }

    /// Returns the first of two settings that is set.
    pub fn first_set<K>(&self, settings: [&'static Setting<K>; 2]) -> Option<&'static Setting<K>> {
        settings.into_iter().find(|setting| self.text(setting).is_some())
    }

    /// Returns the value of a number, or its default.
    pub fn number(&mut self, setting: &Setting<Number>) -> f64 {
        let Number { default, min, max, .. } = setting.kind;
        // Adding zero makes 0 of -0.
        let parse = |value: &str| value.parse().ok().map(|number: f64| number + 0.0);
        self.within(setting, "number", default, min..=max, parse)
    }

    /// Returns the value of a whole number, or its default.
    pub fn whole(&mut self, setting: &Setting<Whole>) -> usize {
        let Whole { default, min, max, .. } = setting.kind;
        self.within(setting, "whole number", default, min..=max, whole)
    }

    fn within<K, N: PartialOrd + Display>(
        &mut self,
        setting: &Setting<K>,
        kind: &str,
        default: N,
        range: RangeInclusive<N>,
        parse: impl Fn(&str) -> Option<N>,
    ) -> N {
        let Some(value) = self.text(setting) else { return default };
        match parse(&value) {
            Some(number) if range.contains(&number) => number,
            _ => {
                let (min, max) = range.into_inner();
                let found = setting.shown(&value);
                let reason = format!(
                    "expected a {kind} from {min} to {max}, found {found}; the default {default} \
                     is used"
                );
                self.warn(setting, reason);
                default
            }
        }
    }

    /// Returns the value of a flag, if it is set. Unlike OpenTelemetry, which silently takes every
    /// other value for `false`, this warns.
    pub fn flag(&mut self, setting: &Setting<Flag>) -> Option<bool> {
        let value = self.text(setting)?;
        let flag = bool::from_str(&value.to_ascii_lowercase()).ok();
        if flag.is_none() {
            let found = setting.shown(&value);
            self.warn(setting, format!("expected true or false, found {found}; it is ignored"));
        }
        flag
    }

    /// Returns the value of a choice, or its default.
    pub fn choice(&mut self, setting: &Setting<Choice>) -> &'static str {
        let Choice { choices, default } = setting.kind;
        let Some(value) = self.text(setting) else { return default };
        let is_value = |choice: &&str| choice.eq_ignore_ascii_case(&value);
        choices.iter().copied().find(is_value).unwrap_or_else(|| {
            let (expected, found) = (choices.join(", "), setting.shown(&value));
            let reason = format!("expected {expected}, found {found}; {default} is used");
            self.warn(setting, reason);
            default
        })
    }

    /// Returns the words of a list. Those that are no choices are left out; one warning names them
    /// all. If no other is left, the default counts.
    pub fn choices(&mut self, setting: &Setting<Choices>) -> Vec<&'static str> {
        let Choices { choices, default } = setting.kind;
        let choice = |word: &String| {
            choices.iter().copied().find(|choice| choice.eq_ignore_ascii_case(word))
        };
        let words = list(&self.text(setting).unwrap_or_default());
        let mut chosen: Vec<&str> = words.iter().filter_map(choice).collect();
        let unknown: Vec<_> = words.iter().filter(|word| choice(word).is_none()).collect();
        let defaults = chosen.is_empty();
        if defaults {
            chosen = list(default).iter().filter_map(choice).collect();
        }
        if !unknown.is_empty() {
            let found: Vec<_> = unknown.iter().map(|word| setting.shown(word)).collect();
            let (expected, found) = (choices.join(", "), found.join(", "));
            let effect = match unknown.len() {
                _ if defaults => format!("{default} is used"),
                1 => "it is ignored".to_owned(),
                _ => "they are ignored".to_owned(),
            };
            self.warn(setting, format!("expected {expected}, found {found}; {effect}"));
        }
        chosen
    }

    /// Returns the parts of a comma-separated list.
    pub fn list(&self, setting: &Setting<Text>) -> Vec<String> {
        list(&self.text(setting).unwrap_or_default())
    }
}

/// Returns a text without the quotes around all of it, if there are any.
pub(crate) fn unquoted(text: &str) -> &str {
    let inside = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    // With more of them inside, the outer two may not belong together.
    let whole = ['"', '\'']
        .into_iter()
        .find_map(|quote| inside(quote).filter(|text| !text.contains(quote)));
    whole.map_or(text, str::trim)
}

/// Parses a whole number. Templates write large ones as floating-point numbers: Helm makes `1e+06` of
/// a million.
fn whole(text: &str) -> Option<usize> {
    text.parse().ok().or_else(|| {
        let number: f64 = text.parse().ok()?;
        let is_whole = number.fract() == 0.0 && (0.0..MAX_EXACT).contains(&number);
        is_whole.then_some(number as usize)
    })
}

/// Returns the parts of a comma-separated list, without empty ones.
pub(crate) fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATIO: Setting<Number> = Setting::new(
        "ratio",
        Number { default: 0.5, min: 0.0, max: 1.0, unit: "" },
        "Tests",
        "A ratio.",
    );
    const SIZE: Setting<Whole> = Setting::new(
        "size",
        Whole { default: 7, min: 1, max: 9, unit: "bytes" },
        "Tests",
        "A size.",
    );
    const FLAG: Setting<Flag> = Setting::new("flag", Flag { unset: "false" }, "Tests", "A flag.");
    const WORD: Setting<Choice> = Setting::new(
        "word",
        Choice { choices: &["one", "two"], default: "one" },
        "Tests",
        "A word.",
    );
    const WORDS: Setting<Choices> = Setting::new(
        "words",
        Choices { choices: &["one", "two"], default: "one,two" },
        "Tests",
        "Words.",
    );

    /// Reads from a reader in which every setting has the same value, and returns the warnings too.
    fn with<T>(
        value: &str,
        read: impl Fn(&mut Values<&dyn Fn(&str) -> Option<String>>) -> T,
    ) -> (T, Vec<String>) {
        let lookup = |_: &str| Some(value.to_owned());
        let mut values = Values::new(&lookup as &dyn Fn(&str) -> Option<String>);
        let found = read(&mut values);
        (found, values.into_warnings())
    }

    #[test]
    fn valid_values_are_read() {
        assert_eq!(with(" 0.25 ", |values| values.number(&RATIO)), (0.25, vec![]));
        assert_eq!(with("1e-1", |values| values.number(&RATIO)), (0.1, vec![]));
        assert_eq!(with("9", |values| values.whole(&SIZE)), (9, vec![]));
        assert_eq!(with("TRUE", |values| values.flag(&FLAG)), (Some(true), vec![]));
        assert_eq!(with("two", |values| values.choice(&WORD)), ("two", vec![]));
        assert_eq!(
            with("two, ,one", |values| values.choices(&WORDS)),
            (vec!["two", "one"], vec![])
        );
    }

    #[test]
    fn numbers_are_read_in_all_usual_forms() {
        let number = |text: &str| with(text, |values| values.number(&RATIO));
        for (text, value) in
            [(".25", 0.25), ("1.", 1.0), ("+0.25", 0.25), ("2.5E-1", 0.25), ("1e0", 1.0)]
        {
            assert_eq!(number(text), (value, vec![]), "{text}");
        }
        let (zero, warnings) = number("-0");
        assert_eq!((zero.to_bits(), warnings.len()), (0, 0), "-0 is 0");
        for text in ["10%", "0,5", "1/2", "0.5s", "-.1", "inf", "NaN", "1e400", "0x1", "1_0", "½"]
        {
            let (value, warnings) = number(text);
            assert_eq!((value, warnings.len()), (0.5, 1), "{text}");
        }
        let whole = |text: &str| with(text, |values| values.whole(&SIZE));
        for (text, value) in
            [("+5", 5), ("005", 5), ("5.0", 5), ("9e0", 9), ("1e+00", 1), ("0.9e1", 9)]
        {
            assert_eq!(whole(text), (value, vec![]), "{text}");
        }
        for text in [
            "0",
            "10",
            "-1",
            "1.5",
            ".1",
            "5s",
            "5 s",
            "1_0",
            "5,0",
            "inf",
            "-inf",
            "NaN",
            "1e300",
            "18446744073709551615",
            "18446744073709551616",
            "９",
        ] {
            let (value, warnings) = whole(text);
            assert_eq!((value, warnings.len()), (7, 1), "{text}");
        }
    }

    #[test]
    fn words_are_read_in_any_case_and_in_quotes() {
        for text in ["two", "TWO", " Two ", "\"two\"", "'tWo'", "\" two \""] {
            assert_eq!(with(text, |values| values.choice(&WORD)), ("two", vec![]), "{text}");
        }
        for text in ["two,one", "TWO,One", " Two , ONE ,", "\"two,one\""] {
            let words = with(text, |values| values.choices(&WORDS));
            assert_eq!(words, (vec!["two", "one"], vec![]), "{text}");
        }
        for text in ["true", "TRUE", "\tTrue\n", "\"true\"", "'TRUE'"] {
            assert_eq!(with(text, |values| values.flag(&FLAG)), (Some(true), vec![]), "{text}");
        }
        // As OpenTelemetry has it: no other word is true.
        for text in ["1", "yes", "on", "t", "truee", "wahr"] {
            let (flag, warnings) = with(text, |values| values.flag(&FLAG));
            assert_eq!((flag, warnings.len()), (None, 1), "{text}");
        }
        for (text, inside) in
            [("\"", "\""), ("\"a", "\"a"), ("\"a'", "\"a'"), ("\"a\",\"b\"", "\"a\",\"b\"")]
        {
            assert_eq!(unquoted(text), inside);
        }
        assert_eq!(with("\"\"", |values| values.text(&FLAG)), (None, vec![]));
    }

    #[test]
    fn one_warning_names_all_unknown_words() {
        let warning = |text: &str| vec![text.to_owned()];
        let expected =
            "setting words: expected one, two, found \"six\", \"seven\"; they are ignored";
        let read = |text: &str| with(text, |values| values.choices(&WORDS));
        assert_eq!(read("six,ONE,seven"), (vec!["one"], warning(expected)));
        let expected = "setting words: expected one, two, found \"six\"; one,two is used";
        assert_eq!(read("six"), (vec!["one", "two"], warning(expected)));
    }

    #[test]
    fn warning_is_short_and_repeats_no_secret() {
        let long = "é".repeat(MAX_SHOWN + 1);
        let (_, warnings) = with(&long, |values| values.whole(&SIZE));
        let shown = format!("found \"{}\"…; ", "é".repeat(MAX_SHOWN));
        assert!(warnings[0].contains(&shown), "{warnings:?}");
        for (_, warnings) in [
            with("hunter2", |values| _ = values.whole(&SIZE.secret())),
            with("hunter2", |values| _ = values.number(&RATIO.secret())),
            with("hunter2", |values| _ = values.flag(&FLAG.secret())),
            with("hunter2", |values| _ = values.choice(&WORD.secret())),
            with("hunter2,one", |values| _ = values.choices(&WORDS.secret())),
        ] {
            assert_eq!(warnings.len(), 1);
            assert!(!warnings[0].contains("hunter2"), "{warnings:?}");
        }
    }

    #[test]
    fn empty_value_counts_as_unset() {
        assert_eq!(with("", |values| values.number(&RATIO)), (0.5, vec![]));
        assert_eq!(with(" ", |values| values.whole(&SIZE)), (7, vec![]));
        assert_eq!(with("", |values| values.flag(&FLAG)), (None, vec![]));
        assert_eq!(with("\t", |values| values.choice(&WORD)), ("one", vec![]));
        assert_eq!(with("", |values| values.choices(&WORDS)), (vec!["one", "two"], vec![]));
    }

    #[test]
    fn invalid_value_falls_back_to_default_with_a_warning() {
        let warning = |text: &str| vec![text.to_owned()];
        let expected = "setting ratio: expected a number from 0 to 1, found \"1.5\"; the default \
                        0.5 is used";
        assert_eq!(with("1.5", |values| values.number(&RATIO)), (0.5, warning(expected)));
        let (ratio, warnings) = with("NaN", |values| values.number(&RATIO));
        assert_eq!((ratio, warnings.len()), (0.5, 1));
        let expected = "setting size: expected a whole number from 1 to 9, found \"1.5\"; the \
                        default 7 is used";
        assert_eq!(with("1.5", |values| values.whole(&SIZE)), (7, warning(expected)));
        let expected = "setting flag: expected true or false, found \"1\"; it is ignored";
        assert_eq!(with("1", |values| values.flag(&FLAG)), (None, warning(expected)));
        let expected = "setting word: expected one, two, found \"six\"; one is used";
        assert_eq!(with("six", |values| values.choice(&WORD)), ("one", warning(expected)));
        let expected = "setting words: expected one, two, found \"six\"; it is ignored";
        assert_eq!(
            with("two,six", |values| values.choices(&WORDS)),
            (vec!["two"], warning(expected))
        );
    }

    #[test]
    fn table_keeps_what_its_rows_declare() {
        let secret = FLAG.secret().declared("true");
        let table = [
            RATIO.any(),
            SIZE.for_traces("traces_size", "Likewise.").any(),
            WORD.relation(Relation::ReplacedBy("ratio")).any(),
            secret.any(),
        ];
        assert_eq!(names(&table), ["ratio", "traces_size", "word", "flag"]);
        assert_eq!(table[0].kind.range(), Some(0.0..=1.0));
        assert_eq!(table[1].relation, Relation::Overrides("size"));
        assert_eq!((table[1].kind.name(), table[1].kind.unit()), ("integer", "bytes"));
        assert_eq!(table[1].kind.default().as_deref(), Some("7"));
        assert_eq!(table[2].kind.choices(), Some(&["one", "two"][..]));
        assert_eq!((table[3].secret, table[3].declared, table[3].kind.unset()), {
            (true, "true", "false")
        });
        assert_eq!(table[3].environment_name(), "FLAG");
    }
}

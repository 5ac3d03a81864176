//! The service's settings: Spin variables with defaults. Those of tracing are in
//! [`telemetry::settings`].

use http::{HeaderMap, HeaderName};

use telemetry::values::Values;

/// What the application had that this one follows.
const LOW_CONFIDENCE_THRESHOLD: f64 = 0.7;

/// The settings, all valid.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `low_confidence_threshold`: a prediction with less confidence is marked as
    /// `low_confidence`. 0 to 1.
    pub low_confidence_threshold: f32,
    /// `max_body_bytes`: a larger body is refused.
    pub max_body_bytes: u64,
    /// `max_pixels`: a photo with more pixels is refused before it is decoded.
    pub max_pixels: u64,
    /// `cors_allowed_origins`: pages of these origins may use the service from a browser.
    pub cors_allowed_origins: Origins,
    /// `user_id_header`: the request header that says who asks, for the trace. Personal data.
    pub user_id_header: Option<HeaderName>,
}

/// Which origins' pages a browser lets use the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// All of them: `*`.
    Any,
    /// These, such as `https://example.org`; none by default.
    These(Vec<String>),
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            low_confidence_threshold: LOW_CONFIDENCE_THRESHOLD as f32,
            max_body_bytes: 10 * 1024 * 1024,
            // The photos of 48-megapixel phones: 8064 × 6048 is 48.8 million.
            max_pixels: 50_000_000,
            cors_allowed_origins: Origins::These(Vec::new()),
            user_id_header: None,
        }
    }
}

/// The names of all settings, as Spin variables.
pub const NAMES: [&str; 5] = [
    "low_confidence_threshold",
    "max_body_bytes",
    "max_pixels",
    "cors_allowed_origins",
    "user_id_header",
];
/// A longer user's id is cut, in characters: it is kept with every span that waits.
const LONGEST_USER_ID: usize = 256;

impl Settings {
    /// Reads the settings. An unset or empty one has its default; an invalid one too, and a
    /// sentence about it is returned beside the settings.
    pub fn read(lookup: impl Fn(&str) -> Option<String>) -> (Settings, Vec<String>) {
        let mut values = Values::new(lookup);
        let default = Settings::default();
        // An instance has 4 GiB at most; a growing body needs twice its size for a moment, a pixel
        // of a 16-bit PNG with transparency 8 bytes.
        let (most_bytes, most_pixels) = (512.0 * 1024.0 * 1024.0, 250e6);
        let settings = Settings {
            low_confidence_threshold: values.number(
                "low_confidence_threshold",
                LOW_CONFIDENCE_THRESHOLD,
                0.0..=1.0,
            ) as f32,
            max_body_bytes: values.number(
                "max_body_bytes",
                default.max_body_bytes as f64,
                1.0..=most_bytes,
            ) as u64,
            max_pixels: values.number("max_pixels", default.max_pixels as f64, 1.0..=most_pixels)
                as u64,
            cors_allowed_origins: match values.value("cors_allowed_origins") {
                None => default.cors_allowed_origins,
                Some(all) if all == "*" => Origins::Any,
                Some(list) => Origins::These(
                    list.split(',').map(|o| o.trim().trim_end_matches('/').to_owned()).collect(),
                ),
            },
            user_id_header: user_id_header(&mut values),
        };
        (settings, values.into_complaints())
    }

    /// Who asks, if that is to be recorded and the request says so.
    pub fn user_id(&self, headers: &HeaderMap) -> Option<String> {
        let value = headers.get(self.user_id_header.as_ref()?)?.to_str().ok()?;
        Some(value.chars().take(LONGEST_USER_ID).collect())
    }
}

fn user_id_header<L: Fn(&str) -> Option<String>>(values: &mut Values<L>) -> Option<HeaderName> {
    let value = values.value("user_id_header")?;
    let name = HeaderName::try_from(&value).ok();
    if name.is_none() {
        let reason = format!("{value:?} is not the name of a header; it is ignored");
        values.complain("user_id_header", reason);
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[(&str, &str)]) -> (Settings, Vec<String>) {
        Settings::read(|name| {
            assert!(NAMES.contains(&name), "{name} is no setting");
            values.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into())
        })
    }

    #[test]
    fn what_is_unset_or_empty_has_its_default() {
        assert_eq!(read(&[]), (Settings::default(), vec![]));
        assert_eq!(
            read(&[("max_pixels", " "), ("cors_allowed_origins", "")]).0,
            Settings::default()
        );
    }

    #[test]
    fn what_is_set_counts() {
        let (settings, complaints) = read(&[
            ("low_confidence_threshold", "0.5"),
            ("max_body_bytes", "1000"),
            ("max_pixels", "2e6"),
            ("cors_allowed_origins", "https://a.example/, https://b.example"),
        ]);
        assert_eq!(complaints, Vec::<String>::new());
        assert_eq!(settings.low_confidence_threshold, 0.5);
        assert_eq!((settings.max_body_bytes, settings.max_pixels), (1000, 2_000_000));
        let origins = ["https://a.example".into(), "https://b.example".into()];
        assert_eq!(settings.cors_allowed_origins, Origins::These(origins.into()));
        assert_eq!(read(&[("cors_allowed_origins", "*")]).0.cors_allowed_origins, Origins::Any);
    }

    #[test]
    fn what_cannot_be_is_reported_and_has_its_default() {
        for (name, value) in [
            ("low_confidence_threshold", "1.5"),
            ("low_confidence_threshold", "NaN"),
            ("max_body_bytes", "-1"),
            ("max_pixels", "many"),
            ("max_pixels", "4e9"),
            ("user_id_header", "not a name"),
        ] {
            let (settings, complaints) = read(&[(name, value)]);
            assert_eq!(settings, Settings::default(), "{name}={value}");
            assert_eq!(complaints.len(), 1);
            assert!(
                complaints[0].contains(name) && complaints[0].contains(value),
                "{complaints:?}"
            );
        }
    }
}

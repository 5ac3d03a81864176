//! The service's settings: their table, and [`Settings`] made of it. Those of tracing are in
//! [`telemetry::settings`].
//!
//! To add a setting: declare it as a constant, list it in [`TABLE`], read it in [`Settings::read`],
//! and run `cargo xtask generate`, which writes it into the manifest, the chart and the documentation.

use std::fmt;
use std::time::Duration;

use http::{HeaderMap, HeaderName, Uri};

use telemetry::setting::{Flag, Form, Number, Setting, Text, Values, Whole, names};
use vision::decode::Limits;

use crate::photo_url::AllowedHost;

const GROUP: &str = "Service";
const PHOTO_URL: &str = "Photos by URL";
const CORRECTIONS: &str = "Corrections";

/// The default is that of the application whose place this one takes.
const LOW_CONFIDENCE_THRESHOLD: Setting<Number> = Setting::new(
    "low_confidence_threshold",
    Number { default: 0.7, min: 0.0, max: 1.0, unit: "" },
    GROUP,
    "A prediction with less confidence has `\"low_confidence\": true`.",
);
/// An instance has 4 GiB at most, and a growing body needs twice its size for a moment: hence 512 MiB.
const MAX_BODY_BYTES: Setting<Number> = Setting::new(
    "max_body_bytes",
    Number { default: 10.0 * MIB, min: 1.0, max: 512.0 * MIB, unit: "bytes" },
    GROUP,
    "A larger body is refused with status 413 while it is read.",
);
/// The default admits 8064 × 6048 pixels. Memory is bounded without it; time is what it is for.
const MAX_PIXELS: Setting<Number> = Setting::new(
    "max_pixels",
    Number { default: Limits::DEFAULT.max_pixels as f64, min: 1.0, max: 250e6, unit: "pixels" },
    GROUP,
    "A photo with more pixels is refused with status 422 before it is decoded. The default admits \
     the photos of 48-megapixel phones. Progressive JPEG, PNG of many bits a pixel, and WebP have \
     lower limits, which are fixed.",
);
/// Sides of JPEG have 16 bits; those of PNG 31, and each row of a PNG costs time.
const MAX_SIDE: Setting<Whole> = Setting::new(
    "max_side",
    Whole { default: Limits::DEFAULT.max_side as usize, min: 1, max: 65_535, unit: "pixels" },
    GROUP,
    "A photo with a longer side is refused with status 422 before it is decoded. The default admits \
     panoramas.",
);
const MAX_RATIO: Setting<Whole> = Setting::new(
    "max_ratio",
    Whole { default: Limits::DEFAULT.max_ratio as usize, min: 1, max: 65_535, unit: "" },
    GROUP,
    "A photo whose longer side is more than so many times the shorter one, and longer than 4096 \
     pixels, is refused with status 422 before it is decoded.",
);
const CORS_ALLOWED_ORIGINS: Setting<Text> = Setting::new(
    "cors_allowed_origins",
    Text { form: Form::List, unset: "" },
    GROUP,
    "Origins whose pages may use the service, such as `https://example.org`. `*` allows all.",
);
const USER_ID_HEADER: Setting<Text> = Setting::new(
    "user_id_header",
    Text { form: Form::Header, unset: "" },
    GROUP,
    "The request header whose value traces record as `prediction.user_id`. Personal data.",
);
const PAGE: Setting<Flag> = Setting::new(
    "page",
    Flag { unset: "`true`" },
    GROUP,
    "`false` turns the pages off: `GET /` answers browsers with JSON, too, and there is no `/docs`.",
);
const JAEGER_UI_URL: Setting<Text> = Setting::new(
    "jaeger_ui_url",
    Text { form: Form::Url, unset: "" },
    GROUP,
    "Where people reach Jaeger's UI, such as `http://localhost:16686`. The page then links each \
     answer to its trace.",
);

/// Each host has a setting of its own, since Spin's `allowed_outbound_hosts` takes one host for a variable.
const PHOTO_URL_ALLOWED_HOST: Setting<Text> = Setting::new(
    "photo_url_allowed_host",
    Text { form: Form::Place, unset: "" },
    PHOTO_URL,
    "Where photos may be fetched from: `https://photos.example`, with a port if it is not the scheme's own. \
     `https://*.photos.example` allows all hosts below a domain, `https://*` all hosts. By default, no photo is \
     fetched: below `.invalid` there is no host.",
)
.declared("https://off.invalid");
const PHOTO_URL_SECOND_ALLOWED_HOST: Setting<Text> = Setting {
    name: "photo_url_second_allowed_host",
    help: "Likewise: another host, such as one that the first one redirects to.",
    ..PHOTO_URL_ALLOWED_HOST
};
const PHOTO_URL_THIRD_ALLOWED_HOST: Setting<Text> =
    Setting { name: "photo_url_third_allowed_host", help: "Likewise.", ..PHOTO_URL_ALLOWED_HOST };
const PHOTO_URL_ALLOW_PRIVATE: Setting<Flag> = Setting::new(
    "photo_url_allow_private",
    Flag { unset: "`false`" },
    PHOTO_URL,
    "`true` admits photos from private, loopback and link-local addresses, and from names of a local network, \
     as far as the settings before allow them. A public name that leads to such an address is for the host to \
     refuse.",
);
/// As long as a person waits for a page.
const PHOTO_URL_TIMEOUT: Setting<Whole> = Setting::new(
    "photo_url_timeout",
    Whole { default: 10_000, min: 1, max: 600_000, unit: "ms" },
    PHOTO_URL,
    "Time in which a photo has to be there, redirections included. A later one is answered with status 504.",
);

const FEEDBACK: Setting<Flag> = Setting::new(
    "feedback",
    Flag { unset: "`false`" },
    CORRECTIONS,
    "`true` lets callers say which letter a hand really shows: `POST /feedback` stores the hand's landmarks with it \
     in SQLite, never the photo. Needs a component for Spin.",
);
const FEEDBACK_TOKEN: Setting<Text> = Setting::new(
    "feedback_token",
    Text { form: Form::Any, unset: "" },
    CORRECTIONS,
    "The token with which `GET /feedback/export` gives all corrections, 16 characters or more. Without one, it gives \
     none.",
)
.secret();
const FEEDBACK_RETENTION_DAYS: Setting<Whole> = Setting::new(
    "feedback_retention_days",
    Whole { default: 365, min: 1, max: 36_500, unit: "days" },
    CORRECTIONS,
    "Age at which a correction is deleted, with the next correction or export.",
);
/// An export is made in memory, a kilobyte for each correction.
const FEEDBACK_MAX_ROWS: Setting<Whole> = Setting::new(
    "feedback_max_rows",
    Whole { default: 10_000, min: 1, max: 100_000, unit: "" },
    CORRECTIONS,
    "Most corrections that are stored. Further ones are refused with status 507.",
);

/// All settings of the service.
pub const TABLE: [Setting; 18] = [
    LOW_CONFIDENCE_THRESHOLD.any(),
    MAX_BODY_BYTES.any(),
    MAX_PIXELS.any(),
    MAX_SIDE.any(),
    MAX_RATIO.any(),
    CORS_ALLOWED_ORIGINS.any(),
    USER_ID_HEADER.any(),
    PAGE.any(),
    JAEGER_UI_URL.any(),
    PHOTO_URL_ALLOWED_HOST.any(),
    PHOTO_URL_SECOND_ALLOWED_HOST.any(),
    PHOTO_URL_THIRD_ALLOWED_HOST.any(),
    PHOTO_URL_ALLOW_PRIVATE.any(),
    PHOTO_URL_TIMEOUT.any(),
    FEEDBACK.any(),
    FEEDBACK_TOKEN.any(),
    FEEDBACK_RETENTION_DAYS.any(),
    FEEDBACK_MAX_ROWS.any(),
];

/// The names of all settings of the service.
pub const NAMES: [&str; TABLE.len()] = names(&TABLE);

const MIB: f64 = 1024.0 * 1024.0;
/// Longest user id that is recorded, in characters: it is kept with every span that waits.
const MAX_USER_ID: usize = 256;
/// Shortest token, in bytes: a shorter one could be tried out.
const MIN_TOKEN: usize = 16;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The settings, all valid.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Confidence below which a prediction is marked as `low_confidence`, 0 to 1.
    pub low_confidence_threshold: f32,
    /// Largest body of a request, in bytes.
    pub max_body_bytes: u64,
    /// Largest number of pixels of a photo.
    pub max_pixels: u64,
    /// Longest side of a photo, in pixels.
    pub max_side: u32,
    /// Largest ratio of a photo's sides.
    pub max_ratio: u32,
    /// Origins whose pages may use the service from a browser.
    pub cors_allowed_origins: Origins,
    /// The request header that names the user, for traces. Personal data.
    pub user_id_header: Option<HeaderName>,
    /// True if browsers get pages.
    pub page: bool,
    /// The URL of Jaeger's UI, without a slash at its end.
    pub jaeger_ui_url: Option<String>,
    /// Where photos may be fetched from. Without any, none is fetched.
    pub photo_url_allowed_hosts: Vec<AllowedHost>,
    /// True if photos may come from private addresses.
    pub photo_url_allow_private: bool,
    /// Longest time of fetching a photo.
    pub photo_url_timeout: Duration,
    /// True if corrections are stored.
    pub feedback: bool,
    /// The token for the export of corrections.
    pub feedback_token: Option<Secret>,
    /// Age at which a correction is deleted.
    pub feedback_retention: Duration,
    /// Most corrections that are stored.
    pub feedback_max_rows: usize,
}

/// A secret, which is not shown when it is printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Returns the secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The origins whose pages a browser lets use the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// All origins: `*`.
    Any,
    /// These origins, such as `https://example.org`; none by default.
    These(Vec<String>),
}

impl Default for Settings {
    fn default() -> Settings {
        Settings::read(|_| None).0
    }
}

impl Settings {
    /// Reads the settings, and returns a warning for each invalid one. An unset, empty or invalid
    /// setting has its default.
    pub fn read(lookup: impl Fn(&str) -> Option<String>) -> (Settings, Vec<String>) {
        let mut values = Values::new(lookup);
        let settings = Settings {
            low_confidence_threshold: values.number(&LOW_CONFIDENCE_THRESHOLD) as f32,
            max_body_bytes: values.number(&MAX_BODY_BYTES) as u64,
            max_pixels: values.number(&MAX_PIXELS) as u64,
            max_side: values.whole(&MAX_SIDE) as u32,
            max_ratio: values.whole(&MAX_RATIO) as u32,
            cors_allowed_origins: cors_allowed_origins(&mut values),
            user_id_header: user_id_header(&mut values),
            page: values.flag(&PAGE).unwrap_or(true),
            jaeger_ui_url: jaeger_ui_url(&mut values),
            photo_url_allowed_hosts: photo_url_allowed_hosts(&mut values),
            photo_url_allow_private: values.flag(&PHOTO_URL_ALLOW_PRIVATE).unwrap_or(false),
            photo_url_timeout: Duration::from_millis(values.whole(&PHOTO_URL_TIMEOUT) as u64),
            feedback: values.flag(&FEEDBACK).unwrap_or(false),
            feedback_token: feedback_token(&mut values),
            feedback_retention: DAY * values.whole(&FEEDBACK_RETENTION_DAYS) as u32,
            feedback_max_rows: values.whole(&FEEDBACK_MAX_ROWS),
        };
        (settings, values.into_warnings())
    }

    /// Returns the limits of a photo.
    pub fn limits(&self) -> Limits {
        let Settings { max_pixels, max_side, max_ratio, .. } = *self;
        Limits { max_pixels, max_side, max_ratio }
    }

    /// Returns the user's id, if the setting asks for it and the request has it.
    pub fn user_id(&self, headers: &HeaderMap) -> Option<String> {
        let value = headers.get(self.user_id_header.as_ref()?)?.to_str().ok()?;
        Some(value.chars().take(MAX_USER_ID).collect())
    }
}

fn cors_allowed_origins<L: Fn(&str) -> Option<String>>(values: &mut Values<L>) -> Origins {
    let mut origins = Vec::new();
    let mut unknown = Vec::new();
    for text in values.list(&CORS_ALLOWED_ORIGINS) {
        match origin(&text) {
            _ if text == "*" => return Origins::Any,
            Some(origin) => origins.push(origin),
            // What stands before an @ may be a password.
            None => unknown.push(text.rsplit('@').next().unwrap_or_default().to_owned()),
        }
    }
    if !unknown.is_empty() {
        let reason = format!(
            "expected origins such as https://example.org with commas between, or * for all, found \
             {:?}; it is ignored",
            unknown.join(", ")
        );
        values.warn(&CORS_ALLOWED_ORIGINS, reason);
    }
    Origins::These(origins)
}

/// Returns an origin as browsers send it (Fetch standard): in lower case, without the scheme's own port.
/// `None` for what no browser sends.
fn origin(text: &str) -> Option<String> {
    let text = text.trim_end_matches('/').to_ascii_lowercase();
    if text == "null" {
        // Pages from files and in sandboxes.
        return Some(text);
    }
    // Extensions and apps have schemes of their own.
    let (scheme, host) = text.split_once("://")?;
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"/?#@*\\".contains(&byte);
    if scheme.is_empty() || host.is_empty() || !text.replacen("://", "", 1).bytes().all(is_plain) {
        return None;
    }
    let own_port = match scheme {
        "https" => ":443",
        "http" => ":80",
        _ => "",
    };
    Some(text.strip_suffix(own_port).unwrap_or(&text).to_owned())
}

fn user_id_header<L: Fn(&str) -> Option<String>>(values: &mut Values<L>) -> Option<HeaderName> {
    let value = values.text(&USER_ID_HEADER)?;
    let name = HeaderName::try_from(&value).ok();
    if name.is_none() {
        let reason = format!("expected the name of a header, found {value:?}; it is ignored");
        values.warn(&USER_ID_HEADER, reason);
    }
    name
}

/// Returns the URL, which becomes a link: only `http` and `https` are taken.
fn jaeger_ui_url<L: Fn(&str) -> Option<String>>(values: &mut Values<L>) -> Option<String> {
    let value = values.text(&JAEGER_UI_URL)?;
    let is_url = value.parse::<Uri>().is_ok_and(|uri| {
        let is_web = |scheme: &str| ["http", "https"].contains(&scheme);
        uri.scheme_str().is_some_and(is_web) && uri.query().is_none()
    });
    if !is_url {
        // It may hold a password.
        let reason =
            "expected a URL such as http://localhost:16686, without a query; it is ignored";
        values.warn(&JAEGER_UI_URL, reason);
        return None;
    }
    Some(value.trim_end_matches('/').to_owned())
}

fn feedback_token<L: Fn(&str) -> Option<String>>(values: &mut Values<L>) -> Option<Secret> {
    let token = values.text(&FEEDBACK_TOKEN)?;
    if token.len() < MIN_TOKEN {
        let reason = format!("expected {MIN_TOKEN} characters or more; it is ignored");
        values.warn(&FEEDBACK_TOKEN, reason);
        return None;
    }
    Some(Secret(token))
}

fn photo_url_allowed_hosts<L: Fn(&str) -> Option<String>>(
    values: &mut Values<L>,
) -> Vec<AllowedHost> {
    let mut hosts = Vec::new();
    for setting in
        [PHOTO_URL_ALLOWED_HOST, PHOTO_URL_SECOND_ALLOWED_HOST, PHOTO_URL_THIRD_ALLOWED_HOST]
    {
        let Some(value) = values.text(&setting) else { continue };
        match AllowedHost::parse(&value) {
            Ok(host) => hosts.extend(host),
            // It may hold a password.
            Err(reason) => values.warn(&setting, format!("{reason}; it is ignored")),
        }
    }
    hosts
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
    fn unset_or_empty_setting_has_its_default() {
        let default = Settings {
            low_confidence_threshold: 0.7,
            max_body_bytes: 10_485_760,
            max_pixels: 50_000_000,
            max_side: 32_768,
            max_ratio: 20,
            cors_allowed_origins: Origins::These(Vec::new()),
            user_id_header: None,
            page: true,
            jaeger_ui_url: None,
            photo_url_allowed_hosts: Vec::new(),
            photo_url_allow_private: false,
            photo_url_timeout: Duration::from_secs(10),
            feedback: false,
            feedback_token: None,
            feedback_retention: Duration::from_secs(365 * 86_400),
            feedback_max_rows: 10_000,
        };
        assert_eq!(read(&[]), (default, vec![]));
        assert_eq!(
            read(&[("max_pixels", " "), ("cors_allowed_origins", "")]).0,
            Settings::default()
        );
    }

    #[test]
    fn valid_setting_counts() {
        let (settings, warnings) = read(&[
            ("low_confidence_threshold", "0.5"),
            ("max_body_bytes", "1000"),
            ("max_pixels", "2e6"),
            ("max_side", "3000"),
            ("max_ratio", "5"),
            ("cors_allowed_origins", "https://a.example/, https://b.example"),
        ]);
        assert_eq!(warnings, Vec::<String>::new());
        assert_eq!(settings.low_confidence_threshold, 0.5);
        assert_eq!((settings.max_body_bytes, settings.max_pixels), (1000, 2_000_000));
        let limits = Limits { max_pixels: 2_000_000, max_side: 3000, max_ratio: 5 };
        assert_eq!(settings.limits(), limits);
        let origins = ["https://a.example".into(), "https://b.example".into()];
        assert_eq!(settings.cors_allowed_origins, Origins::These(origins.into()));
    }

    #[test]
    fn token_is_long_and_shown_nowhere() {
        let (settings, warnings) = read(&[("feedback_token", "0123456789abcdef")]);
        assert_eq!(warnings, Vec::<String>::new());
        let token = settings.feedback_token.as_ref().map(Secret::expose);
        assert_eq!(token, Some("0123456789abcdef"));
        assert!(!format!("{settings:?}").contains("0123456789abcdef"), "{settings:?}");
        let (settings, warnings) = read(&[("feedback_token", "0123456789abcde")]);
        assert_eq!(settings.feedback_token, None);
        let [warning] = warnings.try_into().expect("one warning");
        assert!(warning.starts_with("setting feedback_token: expected 16 "), "{warning}");
        assert!(!warning.contains("0123456789"), "{warning}");
    }

    #[test]
    fn origins_are_those_that_browsers_send() {
        let origins = |list: &str| {
            let (settings, warnings) = read(&[("cors_allowed_origins", list)]);
            assert_eq!(warnings, Vec::<String>::new(), "{list}");
            settings.cors_allowed_origins
        };
        for list in ["*", " * ", "https://a.example, *"] {
            assert_eq!(origins(list), Origins::Any, "{list}");
        }
        for (written, sent) in [
            ("https://a.example", "https://a.example"),
            ("https://a.example/", "https://a.example"),
            ("HTTPS://A.Example:443", "https://a.example"),
            ("http://localhost:80", "http://localhost"),
            ("http://localhost:5173", "http://localhost:5173"),
            ("https://a.example:80", "https://a.example:80"),
            ("http://[::1]:3000", "http://[::1]:3000"),
            ("http://[::80]", "http://[::80]"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
            ("null", "null"),
            ("https://a.example,, ", "https://a.example"),
        ] {
            assert_eq!(origins(written), Origins::These(vec![sent.into()]), "{written}");
        }
    }

    #[test]
    fn origin_that_no_browser_sends_is_reported_and_ignored() {
        for unknown in [
            "a.example",
            "https://",
            "https://a.example/page",
            "https://*.a.example",
            "https://münchen.example",
            "://a.example",
        ] {
            let list = format!("{unknown}, https://b.example");
            let (settings, warnings) = read(&[("cors_allowed_origins", &list)]);
            let [warning] = warnings.try_into().expect("one warning");
            assert!(warning.contains(unknown) && !warning.contains("b.example"), "{warning}");
            let left = Origins::These(vec!["https://b.example".into()]);
            assert_eq!(settings.cors_allowed_origins, left, "{unknown}");
        }
        let (_, warnings) = read(&[("cors_allowed_origins", "https://ada:hunter2@a.example")]);
        assert!(warnings[0].contains("\"a.example\""), "{warnings:?}");
        assert!(!warnings[0].contains("hunter2"), "{warnings:?}");
    }

    #[test]
    fn invalid_setting_falls_back_to_default() {
        for (name, value) in [
            ("low_confidence_threshold", "1.5"),
            ("low_confidence_threshold", "NaN"),
            ("max_body_bytes", "-1"),
            ("max_pixels", "many"),
            ("max_pixels", "4e9"),
            ("max_side", "0"),
            ("max_ratio", "1.5"),
            ("user_id_header", "not a name"),
            ("page", "perhaps"),
        ] {
            let (settings, warnings) = read(&[(name, value)]);
            assert_eq!(settings, Settings::default(), "{name}={value}");
            assert_eq!(warnings.len(), 1);
            assert!(warnings[0].contains(name) && warnings[0].contains(value), "{warnings:?}");
        }
    }

    #[test]
    fn page_is_on_unless_it_is_turned_off() {
        let page = |value: &str| read(&[("page", value)]).0.page;
        assert!(page("") && page("true") && page("TRUE") && !page("false"));
    }

    #[test]
    fn link_to_jaeger_is_a_url_of_the_web() {
        for (url, kept) in [
            ("http://localhost:16686", "http://localhost:16686"),
            ("https://jaeger.example/ui/", "https://jaeger.example/ui"),
            ("HTTPS://Jaeger.Example", "HTTPS://Jaeger.Example"),
        ] {
            let (settings, warnings) = read(&[("jaeger_ui_url", url)]);
            assert_eq!(settings.jaeger_ui_url.as_deref(), Some(kept), "{url}");
            assert_eq!(warnings, Vec::<String>::new());
        }
        for url in
            ["localhost:16686", "javascript:alert(1)", "ftp://a", "/jaeger", "http://a?b=hunter2"]
        {
            let (settings, warnings) = read(&[("jaeger_ui_url", url)]);
            assert_eq!(settings.jaeger_ui_url, None, "{url}");
            let [warning] = warnings.try_into().expect("one warning");
            assert!(warning.contains("jaeger_ui_url") && !warning.contains("hunter2"), "{warning}");
        }
    }

    #[test]
    fn photos_are_fetched_from_up_to_three_hosts() {
        let (settings, warnings) = read(&[
            ("photo_url_allowed_host", "https://a.example"),
            ("photo_url_second_allowed_host", " \"https://*.b.example:8443\" "),
            ("photo_url_third_allowed_host", "https://off.invalid"),
            ("photo_url_allow_private", "true"),
            ("photo_url_timeout", "500"),
        ]);
        assert_eq!(warnings, Vec::<String>::new());
        let hosts = ["https://a.example", "https://*.b.example:8443"];
        let hosts = hosts.map(|text| AllowedHost::parse(text).expect("a host").expect("a host"));
        assert_eq!(settings.photo_url_allowed_hosts, hosts);
        assert!(settings.photo_url_allow_private);
        assert_eq!(settings.photo_url_timeout, Duration::from_millis(500));
        // As manifests declare it.
        let declared = PHOTO_URL_ALLOWED_HOST.declared;
        assert_eq!(read(&[("photo_url_allowed_host", declared)]).0, Settings::default());
        for value in ["a.example", "https://ada:hunter2@a.example", "https://a.example/hunter2"] {
            let (settings, warnings) = read(&[("photo_url_third_allowed_host", value)]);
            assert_eq!(settings, Settings::default(), "{value}");
            let [warning] = warnings.try_into().expect("one warning");
            assert!(warning.starts_with("setting photo_url_third_allowed_host: expected "));
            assert!(!warning.contains("hunter2"), "{warning}");
        }
    }

    #[test]
    fn user_id_is_read_from_the_header_of_the_setting() {
        let (settings, _) = read(&[("user_id_header", "X-User")]);
        let mut headers = HeaderMap::new();
        assert_eq!(settings.user_id(&headers), None);
        headers.insert("x-user", "ada".parse().expect("a value"));
        assert_eq!(settings.user_id(&headers).as_deref(), Some("ada"));
        assert_eq!(Settings::default().user_id(&headers), None);
        headers.insert("x-user", "a".repeat(MAX_USER_ID + 1).parse().expect("a value"));
        assert_eq!(settings.user_id(&headers).map(|id| id.len()), Some(MAX_USER_ID));
    }
}

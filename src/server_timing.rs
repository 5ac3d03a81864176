//! The `Server-Timing` header (<https://www.w3.org/TR/server-timing/>): each stage's time, for the client. A
//! browser shows it beside the request.

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};

/// The stages of a prediction with their durations in milliseconds.
#[derive(Clone, Debug, Default)]
pub struct ServerTiming(Vec<(&'static str, f64)>);

impl ServerTiming {
    /// Adds a stage and its duration in milliseconds.
    pub fn add(&mut self, stage: &'static str, milliseconds: f64) {
        self.0.push((stage, milliseconds));
    }

    /// Writes the header, if there is any stage.
    pub fn write(&self, headers: &mut HeaderMap) {
        let stages: Vec<String> =
            self.0.iter().map(|(stage, ms)| format!("{stage};dur={ms:.2}")).collect();
        if let Ok(value) = HeaderValue::try_from(stages.join(", "))
            && !value.is_empty()
        {
            headers.insert(HeaderName::from_static("server-timing"), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_timing_lists_the_stages() {
        let mut timing = ServerTiming::default();
        let mut headers = HeaderMap::new();
        timing.write(&mut headers);
        assert!(headers.is_empty());
        timing.add("decode", 1.2345);
        timing.add("find", 30.0);
        timing.write(&mut headers);
        assert_eq!(headers["server-timing"], "decode;dur=1.23, find;dur=30.00");
    }
}

//! The `Server-Timing` header (<https://www.w3.org/TR/server-timing/>): each stage's time, for the client. A
//! browser shows it beside the request.

use std::time::Duration;

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};

/// The stages of a prediction with their durations.
#[derive(Clone, Debug, Default)]
pub struct ServerTiming(Vec<(&'static str, Duration)>);

impl ServerTiming {
    /// Adds a stage and its duration.
    pub fn add(&mut self, stage: &'static str, duration: Duration) {
        self.0.push((stage, duration));
    }

    /// Writes the header, if there is any stage.
    pub fn write(&self, headers: &mut HeaderMap) {
        let stage = |(stage, duration): &(&str, Duration)| {
            format!("{stage};dur={:.2}", duration.as_secs_f64() * 1000.0)
        };
        let stages: Vec<String> = self.0.iter().map(stage).collect();
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
        timing.add("decode", Duration::from_nanos(1_234_500));
        timing.add("find", Duration::from_millis(30));
        timing.write(&mut headers);
        assert_eq!(headers["server-timing"], "decode;dur=1.23, find;dur=30.00");
    }
}

//! Requests to any server, with text as their bodies.

use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};

/// A server that does not answer within this time is broken.
const TIMEOUT: Duration = Duration::from_secs(20);

fn agent() -> ureq::Agent {
    host::client::agent(TIMEOUT)
}

/// Returns the value of `Authorization` for a login.
pub fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{name}:{password}")))
}

/// Sends a GET request, with a login's name and password if given. Returns status and body.
///
/// # Errors
/// The reason, if there is no response.
pub fn get(url: &str, login: Option<(&str, &str)>) -> Result<(u16, String), String> {
    let mut request = agent().get(url);
    if let Some((name, password)) = login {
        request = request.header("authorization", basic(name, password));
    }
    let mut response = request.call().map_err(|error| format!("{url}: {error}"))?;
    let body = response.body_mut().read_to_string().map_err(|error| error.to_string())?;
    Ok((response.status().as_u16(), body))
}

/// Posts JSON. Returns status and body; status 0 and the reason if there is no response.
pub fn post(url: &str, body: &str) -> (u16, String) {
    post_as(url, "application/json", body.as_bytes())
}

/// Posts a body of any media type. Returns status and body; status 0 and the reason if there is no
/// response.
pub fn post_as(url: &str, media_type: &str, body: &[u8]) -> (u16, String) {
    match agent().post(url).header("content-type", media_type).send(body) {
        Ok(mut response) => {
            let body = response.body_mut().read_to_string().unwrap_or_default();
            (response.status().as_u16(), body)
        }
        Err(error) => (0, error.to_string()),
    }
}

/// Returns the sum of a Prometheus metric over its labels. Names may end in `_total` or not: that
/// differs by the server's version.
///
/// # Panics
/// If `/metrics` does not answer.
pub fn metric(url: &str, name: &str) -> f64 {
    let (_, text) = get(&format!("{url}/metrics"), None).expect("metrics");
    let lines = text.lines().filter(|line| line.starts_with(name));
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

/// Percent-encodes every byte of a query's value.
pub fn encode(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

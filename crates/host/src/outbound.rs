//! `allowed_outbound_hosts`: the hosts that the component may send requests to, by Spin's rules.
//!
//! An entry is `scheme://host[:port]`:
//!
//! - the scheme is `http`, `https` or `*`;
//! - the host is a name, an IP address, `*.domain` (any host below the domain, not the domain itself) or
//!   `*`; an IPv6 address may lack its brackets here, where Spin needs them;
//! - the port is a number or `*`; without one, 80 for `http` and 443 for `https`.
//!
//! A path is refused, a single `/` at the end is not. Templates (`"{{ otlp_endpoint }}"`) are filled
//! first. An entry whose template is empty, `http://` or `https://` is ignored, so an optional endpoint
//! can be left empty; Spin 4 does the same. A literal empty entry is an error there and here.
//!
//! Not supported, and refused: other schemes, networks (`10.0.0.0/8`), ranges of ports and `self`.

use std::net::IpAddr;

use url::Host;

use crate::variables::{Values, VariableError, fill, is_template};

/// An error in `allowed_outbound_hosts`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutboundError {
    /// An entry that does not follow the format, or that only Spin supports.
    #[error("cannot allow {entry:?} in {SETTING}: {reason}")]
    Invalid {
        /// The entry, filled.
        entry: String,
        /// The reason.
        reason: String,
    },
    /// A template that cannot be filled.
    #[error(transparent)]
    Template(#[from] VariableError),
}

/// The setting's name.
pub const SETTING: &str = "allowed_outbound_hosts";

/// The hosts that a component may reach. The default allows none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedHosts {
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    /// None for any.
    scheme: Option<String>,
    host: HostRule,
    /// None for any.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum HostRule {
    Any,
    /// Any host that ends with this; it begins with a dot.
    Below(String),
    Exactly(Host),
}

impl AllowedHosts {
    /// Parses entries, with their templates filled by `values`.
    ///
    /// # Errors
    ///
    /// The first entry that cannot be filled or parsed.
    pub fn parse(entries: &[String], values: &Values) -> Result<Self, OutboundError> {
        let mut allowed = Vec::new();
        for text in entries {
            let entry = fill(text, values, SETTING)?;
            if is_template(text) && matches!(entry, "" | "http://" | "https://") {
                continue;
            }
            let parsed = Entry::parse(entry)
                .map_err(|reason| OutboundError::Invalid { entry: entry.to_owned(), reason })?;
            allowed.push(parsed);
        }
        Ok(Self { entries: allowed })
    }

    /// True if a request to this scheme, host and port is allowed. Without a port, the scheme's default
    /// is meant. Neither scheme nor host is case-sensitive. IPv6 addresses may lack their brackets.
    pub fn allows(&self, scheme: &str, host: &str, port: Option<u16>) -> bool {
        let scheme = scheme.to_ascii_lowercase();
        let (Ok(host), Some(port)) = (parse_host(host), port.or(default_port(&scheme))) else {
            return false;
        };
        self.entries.iter().any(|entry| {
            entry.scheme.as_ref().is_none_or(|allowed| *allowed == scheme)
                && entry.host.allows(&host)
                && entry.port.is_none_or(|allowed| allowed == port)
        })
    }
}

impl Entry {
    fn parse(entry: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = entry.trim().split_once("://") else {
            return Err("it must be of the form scheme://host[:port]".to_owned());
        };
        let scheme = scheme.to_ascii_lowercase();
        if !matches!(&*scheme, "http" | "https" | "*") {
            return Err(format!("this host supports only http, https and `*`, not {scheme:?}"));
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if let Some((host, _)) = rest.split_once('/') {
            return Err(match host.parse::<IpAddr>() {
                Ok(_) => "this host supports no networks".to_owned(),
                Err(_) => "it must not have a path".to_owned(),
            });
        }
        // An IPv6 address contains colons, too. Without brackets, what could be a port is one.
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') && !host.ends_with(':') => {
                (host, Some(port))
            }
            _ => (rest, None),
        };
        let port = match port {
            Some("*") => None,
            Some(port) => Some(port.parse().map_err(|_| {
                format!("{port:?} is not a port; this host supports a number or `*`")
            })?),
            None => Some(
                default_port(&scheme)
                    .ok_or_else(|| "`*://` has no default port: name one".to_owned())?,
            ),
        };
        Ok(Self { scheme: (scheme != "*").then_some(scheme), host: HostRule::parse(host)?, port })
    }
}

impl HostRule {
    fn parse(host: &str) -> Result<Self, String> {
        match host {
            "*" => return Ok(Self::Any),
            "self" | "self.alt" => {
                return Err("this host supports no requests to the application itself".to_owned());
            }
            _ => {}
        }
        let name = host.strip_prefix("*.").unwrap_or(host);
        if name.contains('*') {
            return Err("`*` stands for a whole host or for all that precedes a domain".to_owned());
        }
        match (parse_host(name), host == name) {
            (Ok(host), true) => Ok(Self::Exactly(host)),
            (Ok(Host::Domain(domain)), false) => Ok(Self::Below(format!(".{domain}"))),
            (Ok(_), false) => Err("only a domain can follow `*.`".to_owned()),
            (Err(error), _) => Err(format!("{name:?} is not a host: {error}")),
        }
    }

    fn allows(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Any, _) => true,
            (Self::Below(suffix), Host::Domain(domain)) => domain.ends_with(suffix),
            (Self::Below(_), _) => false,
            (Self::Exactly(allowed), host) => allowed == host,
        }
    }
}

/// Parses a host. One with a colon and without brackets gets brackets.
fn parse_host(host: &str) -> Result<Host, url::ParseError> {
    if host.contains(':') && !host.starts_with('[') {
        return Host::parse(&format!("[{host}]"));
    }
    Host::parse(host)
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(entries: &[&str]) -> AllowedHosts {
        parse(entries).unwrap()
    }

    fn parse(entries: &[&str]) -> Result<AllowedHosts, OutboundError> {
        let entries: Vec<String> = entries.iter().map(|&entry| entry.to_owned()).collect();
        let values = Values::from([
            ("empty".to_owned(), String::new()),
            ("no_host".to_owned(), "https://".to_owned()),
            ("endpoint".to_owned(), "http://jaeger:4318".to_owned()),
        ]);
        AllowedHosts::parse(&entries, &values)
    }

    #[test]
    fn allows_nothing_by_default() {
        assert!(!AllowedHosts::default().allows("http", "localhost", Some(80)));
    }

    #[test]
    fn port_defaults_by_scheme() {
        let hosts = allowed(&["http://a.test", "https://b.test/", "https://c.test:8443/"]);
        assert!(hosts.allows("http", "a.test", None));
        assert!(hosts.allows("http", "A.test", Some(80)));
        assert!(!hosts.allows("http", "a.test", Some(8080)));
        assert!(!hosts.allows("https", "a.test", None));
        assert!(hosts.allows("https", "b.test", None));
        assert!(hosts.allows("https", "c.test", Some(8443)));
        assert!(!hosts.allows("https", "c.test", None));
        assert!(parse(&["*://a.test"]).is_err());
    }

    #[test]
    fn wildcard_matches_hosts_schemes_and_ports() {
        let hosts = allowed(&["*://*.example.com:*", "http://localhost:*", "http://*:4318"]);
        assert!(hosts.allows("https", "a.b.example.com", Some(1)));
        assert!(!hosts.allows("https", "example.com", Some(1)));
        assert!(!hosts.allows("https", "badexample.com", Some(1)));
        assert!(hosts.allows("http", "localhost", Some(9)));
        assert!(hosts.allows("http", "anything", Some(4318)));
        assert!(!hosts.allows("http", "anything", Some(4317)));
        assert!(!hosts.allows("https", "anything", Some(4318)));
        assert!(allowed(&["*://*:*"]).allows("http", "anything", None));
        assert!(parse(&["http://a*.test"]).is_err());
        assert!(parse(&["http://*.*.test"]).is_err());
    }

    #[test]
    fn addresses_match_themselves() {
        let hosts = allowed(&["http://127.0.0.1:4318", "http://[::1]:4318"]);
        assert!(hosts.allows("http", "127.0.0.1", Some(4318)));
        assert!(!hosts.allows("http", "127.0.0.2", Some(4318)));
        assert!(hosts.allows("http", "[::1]", Some(4318)));
        assert!(allowed(&["http://[::1]"]).allows("http", "[::1]", None));
    }

    #[test]
    fn ipv6_address_may_lack_its_brackets() {
        let hosts = allowed(&["http://::1:4318", "https://2001:db8::7:4318"]);
        assert!(hosts.allows("http", "[::1]", Some(4318)));
        assert!(hosts.allows("http", "::1", Some(4318)));
        assert!(!hosts.allows("http", "::1", None));
        assert!(hosts.allows("https", "[2001:DB8::7]", Some(4318)));
        assert!(allowed(&["http://::1"]).allows("http", "[::1]", None));
        assert!(allowed(&["http://2001:db8::"]).allows("http", "2001:db8::", None));
        for entry in ["http://a:b:4318", "http://:::4318", "http://[::1:4318", "http://::1]:4318"] {
            assert!(parse(&[entry]).is_err(), "{entry}");
        }
    }

    #[test]
    fn scheme_and_host_are_not_case_sensitive() {
        let hosts = allowed(&["HTTP://Collector:4318", "Https://B.test"]);
        assert!(hosts.allows("http", "collector", Some(4318)));
        assert!(hosts.allows("HTTP", "COLLECTOR", Some(4318)));
        assert!(hosts.allows("HTTPS", "b.test", None));
    }

    #[test]
    fn malformed_entry_is_named() {
        for entry in [
            "",
            "*",
            "localhost",
            "localhost:80",
            "http://a.test/path",
            "http://a.test:80/path",
            "http://a.test:port",
            "ht-tp://a.test",
            "://a.test",
            "http://",
        ] {
            let message = parse(&[entry]).expect_err(entry).to_string();
            assert!(message.contains(&format!("{entry:?}")), "{message}");
            assert!(message.contains("allowed_outbound_hosts"), "{message}");
        }
        let message = parse(&["http://a.test/path"]).unwrap_err().to_string();
        assert!(message.ends_with("it must not have a path"), "{message}");
    }

    #[test]
    fn entry_that_only_spin_supports_is_refused() {
        for entry in [
            "redis://a.test:6379",
            "http://10.0.0.0/8:80",
            "http://a.test:8000..9000",
            "http://self",
            "http://self.alt",
        ] {
            let message = parse(&[entry]).expect_err(entry).to_string();
            assert!(message.contains("this host supports"), "{message}");
        }
    }

    #[test]
    fn templates_are_filled_and_empty_ones_ignored() {
        let hosts = allowed(&["{{ endpoint }}", "{{ empty }}", "{{ no_host }}"]);
        assert!(hosts.allows("http", "jaeger", Some(4318)));
        assert_eq!(hosts.entries.len(), 1);
        assert!(matches!(parse(&["{{ nobody }}"]), Err(OutboundError::Template(_))));
    }
}

//! `allowed_outbound_hosts`: which hosts the component may send requests to, by Spin's rules.
//!
//! An entry is `scheme://host[:port]`:
//!
//! * the scheme is a word or `*`; without a port, `http` means 80 and `https` 443, and a scheme
//!   without a well-known port needs one;
//! * the host is a name, an IP address, a network (`10.0.0.0/8`), `*`, `*.domain` (any host
//!   below the domain, not the domain itself), or `self` for the application itself, which the
//!   component reaches as `http://self.alt/…`;
//! * the port is a number, a range (`8000..9000`, the end excluded) or `*`;
//! * a path is refused, a single `/` at the end is not.
//!
//! Templates (`"{{ otlp_endpoint }}"`) are filled first. Where a **template** comes out as the
//! empty string, `http://` or `https://`, the entry is ignored, so that an optional endpoint can
//! be left empty; Spin 4 does the same. A literal empty entry is an error there and here.

use crate::variables::{Template, Values, VariableError};
use std::fmt;
use std::net::IpAddr;
use std::ops::Range;
use url::Host;

/// The host name under which a component reaches its own application.
pub const SELF_HOST: &str = "self.alt";

/// Why an entry of `allowed_outbound_hosts` was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutboundError {
    /// The entry does not follow the format.
    #[error("{entry:?} in {place} is no allowed host: {reason}")]
    Invalid {
        /// The entry, with its templates filled.
        entry: String,
        /// The setting that holds it.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A template in the entry could not be filled.
    #[error(transparent)]
    Template(#[from] VariableError),
}

/// The hosts that a component may reach. The default allows none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedHosts {
    entries: Vec<AllowedHost>,
}

impl AllowedHosts {
    /// Fills the templates of the entries and reads them. `place` names the setting in errors.
    ///
    /// # Errors
    ///
    /// The first entry that cannot be filled or read.
    pub fn parse(
        entries: &[String],
        variables: &Values,
        place: &str,
    ) -> Result<Self, OutboundError> {
        let mut allowed = Vec::new();
        for text in entries {
            let template = Template::parse(text, place)?;
            let entry = template.fill(variables, place)?;
            if !template.is_literal() && matches!(&*entry, "" | "http://" | "https://") {
                continue;
            }
            let parsed = AllowedHost::parse(&entry).map_err(|reason| OutboundError::Invalid {
                entry,
                place: place.to_owned(),
                reason,
            })?;
            allowed.push(parsed);
        }
        Ok(Self { entries: allowed })
    }

    /// Whether a request to this scheme, host and port is allowed. Without a port, the
    /// well-known one of the scheme is meant. IPv6 addresses are in brackets.
    pub fn allows(&self, scheme: &str, host: &str, port: Option<u16>) -> bool {
        let (Ok(host), Some(port)) = (Host::parse(host), port.or(well_known_port(scheme))) else {
            return false;
        };
        self.entries.iter().any(|entry| {
            entry.allows_scheme(scheme) && entry.host.allows(&host) && entry.ports.allows(port)
        })
    }

    /// Whether the component may send requests to its own application.
    pub fn allows_self(&self) -> bool {
        self.entries.iter().any(|entry| {
            matches!(entry.host, HostRule::Any | HostRule::Itself)
                && (entry.allows_scheme("http") || entry.allows_scheme("https"))
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct AllowedHost {
    /// `None` is any scheme.
    scheme: Option<String>,
    host: HostRule,
    ports: Ports,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum HostRule {
    Any,
    /// Any host that ends with this; it begins with a dot.
    Below(String),
    Itself,
    Exactly(Host),
    /// The address and how many of its leading bits count.
    Network(IpAddr, u8),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Ports {
    Any,
    One(u16),
    Range(Range<u16>),
}

impl AllowedHost {
    fn parse(entry: &str) -> Result<Self, String> {
        let entry = entry.trim();
        let Some((scheme, rest)) = entry.split_once("://") else {
            return Err(
                "it must be of the form scheme://host[:port], where `*` stands for any".to_owned()
            );
        };
        if scheme != "*" && (scheme.is_empty() || !scheme.chars().all(char::is_alphabetic)) {
            return Err(format!("the scheme {scheme:?} is not a word or `*`"));
        }
        // An IPv6 address or network without a port contains colons too.
        let (host, port) = match rest.rsplit_once(':') {
            Some((_, port)) if !port.is_empty() && HostRule::parse(rest).is_ok() => (rest, ""),
            Some((host, port)) => (host, port),
            None => (rest, ""),
        };
        let port = match port.split_once('/') {
            Some((port, "")) => port,
            Some(_) => return Err("it must not have a path".to_owned()),
            None => port,
        };
        Ok(Self {
            host: HostRule::parse(host)?,
            ports: Ports::parse(port, scheme)?,
            scheme: (scheme != "*").then(|| scheme.to_owned()),
        })
    }

    fn allows_scheme(&self, scheme: &str) -> bool {
        self.scheme.as_ref().is_none_or(|allowed| allowed == scheme)
    }
}

impl HostRule {
    fn parse(host: &str) -> Result<Self, String> {
        let host = host.trim();
        match host {
            "*" => return Ok(Self::Any),
            "self" | SELF_HOST => return Ok(Self::Itself),
            _ => {}
        }
        if let Some((address, bits)) = host.split_once('/')
            && let (Ok(address), Ok(bits)) = (address.parse::<IpAddr>(), bits.parse::<u8>())
        {
            let most = if address.is_ipv4() { 32 } else { 128 };
            if bits > most {
                return Err(format!("a network has at most {most} bits"));
            }
            return Ok(Self::Network(address, bits));
        }
        let host = host.strip_suffix('/').unwrap_or(host);
        if host.contains('/') {
            return Err("it must not have a path".to_owned());
        }
        let name = host.strip_prefix("*.").unwrap_or(host);
        if name.contains('*') {
            return Err("`*` stands for a whole host or for all that precedes a domain".to_owned());
        }
        if let Ok(address) = name.parse() {
            return Ok(Self::Exactly(match address {
                IpAddr::V4(address) => Host::Ipv4(address),
                IpAddr::V6(address) => Host::Ipv6(address),
            }));
        }
        match (Host::parse(name), host == name) {
            (Ok(host), true) => Ok(Self::Exactly(host)),
            (Ok(Host::Domain(domain)), false) => Ok(Self::Below(format!(".{domain}"))),
            (Ok(_), false) => Err("only a domain can follow `*.`".to_owned()),
            (Err(error), _) => Err(format!("{name:?} is no host: {error}")),
        }
    }

    fn allows(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Any, _) => true,
            (Self::Below(suffix), Host::Domain(domain)) => domain.ends_with(suffix),
            (Self::Exactly(allowed), host) => allowed == host,
            (Self::Network(IpAddr::V4(network), bits), Host::Ipv4(address)) => {
                let differing = network.to_bits() ^ address.to_bits();
                differing.leading_zeros() >= u32::from(*bits)
            }
            (Self::Network(IpAddr::V6(network), bits), Host::Ipv6(address)) => {
                let differing = network.to_bits() ^ address.to_bits();
                differing.leading_zeros() >= u32::from(*bits)
            }
            (Self::Below(_) | Self::Itself | Self::Network(..), _) => false,
        }
    }
}

impl Ports {
    fn parse(port: &str, scheme: &str) -> Result<Self, String> {
        let number =
            |text: &str| text.parse().map_err(|_| format!("{text:?} is not a port number"));
        if port.is_empty() {
            well_known_port(scheme)
                .map(Self::One)
                .ok_or_else(|| format!("the scheme {scheme:?} has no well-known port: name one"))
        } else if port == "*" {
            Ok(Self::Any)
        } else if let Some((first, end)) = port.split_once("..") {
            Ok(Self::Range(number(first)?..number(end)?))
        } else {
            Ok(Self::One(number(port)?))
        }
    }

    fn allows(&self, port: u16) -> bool {
        match self {
            Self::Any => true,
            Self::One(allowed) => *allowed == port,
            Self::Range(allowed) => allowed.contains(&port),
        }
    }
}

fn well_known_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        "mqtt" => Some(1883),
        "mysql" => Some(3306),
        "postgres" => Some(5432),
        "redis" => Some(6379),
        _ => None,
    }
}

/// A destination as `allowed_outbound_hosts` would name it, for log lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination<'a> {
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The host; IPv6 addresses are in brackets.
    pub host: &'a str,
    /// The port if the request names one.
    pub port: Option<u16>,
}

impl fmt::Display for Destination<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
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
        let variables = Values::from([
            ("empty".to_owned(), String::new()),
            ("endpoint".to_owned(), "http://jaeger:4318".to_owned()),
        ]);
        AllowedHosts::parse(&entries, &variables, "[component.api].allowed_outbound_hosts")
    }

    #[test]
    fn nothing_is_allowed_by_default() {
        assert!(!AllowedHosts::default().allows("http", "localhost", Some(80)));
        assert!(!AllowedHosts::default().allows_self());
    }

    #[test]
    fn the_port_defaults_by_scheme() {
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
    fn wildcards() {
        let hosts = allowed(&["*://*.example.com:*", "http://localhost:*", "http://x:10..20"]);
        assert!(hosts.allows("https", "a.b.example.com", Some(1)));
        assert!(!hosts.allows("https", "example.com", Some(1)));
        assert!(!hosts.allows("https", "badexample.com", Some(1)));
        assert!(hosts.allows("http", "localhost", Some(4318)));
        assert!(hosts.allows("http", "x", Some(10)));
        assert!(!hosts.allows("http", "x", Some(20)));
        let all = allowed(&["*://*:*"]);
        assert!(all.allows("http", "anything", None));
        assert!(all.allows_self());
        assert!(parse(&["http://a*.test"]).is_err());
        assert!(parse(&["http://*.*.test"]).is_err());
    }

    #[test]
    fn addresses_and_networks() {
        let hosts = allowed(&["http://127.0.0.1:4318", "http://[::1]:4318", "*://10.0.0.0/8:*"]);
        assert!(hosts.allows("http", "127.0.0.1", Some(4318)));
        assert!(hosts.allows("http", "[::1]", Some(4318)));
        assert!(hosts.allows("https", "10.255.0.1", None));
        assert!(!hosts.allows("https", "11.0.0.1", None));
        assert!(!hosts.allows("https", "ten.test", None));
        assert!(allowed(&["http://[::1]"]).allows("http", "[::1]", None));
        let network = allowed(&["*://fd00::/8:80"]);
        assert!(network.allows("http", "[fd12::1]", None));
        assert!(!network.allows("http", "[fe80::1]", None));
        assert!(parse(&["*://10.0.0.0/33:80"]).is_err());
    }

    #[test]
    fn the_application_itself() {
        assert!(allowed(&["http://self"]).allows_self());
        assert!(allowed(&["http://self.alt"]).allows_self());
        assert!(!allowed(&["http://self"]).allows("http", "self", None));
        assert!(!allowed(&["redis://self"]).allows_self());
    }

    #[test]
    fn malformed_entries_are_named() {
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
        assert!(
            parse(&["http://a.test/path"])
                .unwrap_err()
                .to_string()
                .ends_with("it must not have a path")
        );
    }

    #[test]
    fn templates_are_filled_and_empty_ones_ignored() {
        let hosts = allowed(&["{{ endpoint }}", "{{ empty }}", "https://{{ empty }}"]);
        assert!(hosts.allows("http", "jaeger", Some(4318)));
        assert_eq!(hosts.entries.len(), 1);
        assert!(matches!(parse(&["{{ nobody }}"]), Err(OutboundError::Template(_))));
    }
}

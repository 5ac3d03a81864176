//! W3C Baggage.

use http::header::{HeaderMap, HeaderValue};
use opentelemetry::Context;
use opentelemetry::baggage::{BaggageExt, KeyValueMetadata};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use super::{SPACE, members as list};

/// Most members that are kept, and the longest list of them in bytes: as much as everyone has to pass
/// on.
const MAX_MEMBERS: usize = 64;
const MAX_LENGTH: usize = 8192;
/// Characters that a value may not have as they are, beside those that are not ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%').add(b',').add(b';').add(b'\\');

/// Returns the members of `baggage`, whole ones only. A member that does not fit any more is left out.
pub(super) fn members(headers: &HeaderMap) -> Vec<KeyValueMetadata> {
    let (mut kept, mut length) = (Vec::new(), 0);
    for text in list(headers, "baggage") {
        if kept.len() == MAX_MEMBERS {
            break;
        }
        let comma = usize::from(!kept.is_empty());
        if length + comma + text.len() <= MAX_LENGTH
            && let Some(member) = member(text)
        {
            length += comma + text.len();
            kept.push(member);
        }
    }
    kept
}

/// Writes a context's baggage, in the order of its keys. A member that does not fit any more is left out.
pub(super) fn write(context: &Context, headers: &mut HeaderMap) {
    let mut members: Vec<_> = context.baggage().iter().collect();
    members.sort_unstable_by_key(|(key, _)| key.as_str());
    let mut list = String::new();
    for (key, (value, properties)) in members {
        let value = utf8_percent_encode(value.as_str(), ENCODED);
        let properties = match properties.as_str() {
            "" => String::new(),
            properties => format!(";{properties}"),
        };
        let comma = if list.is_empty() { "" } else { "," };
        let member = format!("{comma}{key}={value}{properties}");
        if list.len() + member.len() <= MAX_LENGTH {
            list += &member;
        }
    }
    if let Ok(value) = HeaderValue::try_from(list)
        && !value.is_empty()
    {
        headers.insert("baggage", value);
    }
}

/// Returns a member with its properties, which stay as they are.
fn member(text: &str) -> Option<KeyValueMetadata> {
    let mut parts = text.split(';').map(|part| part.trim_matches(SPACE));
    let (key, value) = pair(parts.next()?)?;
    let properties: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    let is_property =
        |part: &&str| if part.contains('=') { pair(part).is_some() } else { is_token(part) };
    if !properties.iter().all(is_property) {
        return None;
    }
    // Bytes that are no UTF-8 become replacement characters.
    let value = percent_decode_str(value).decode_utf8_lossy().into_owned();
    Some(KeyValueMetadata::new(key.to_owned(), value, properties.join(";")))
}

/// Returns a key and its value, still encoded.
fn pair(text: &str) -> Option<(&str, &str)> {
    let (key, value) = text.split_once('=')?;
    let (key, value) = (key.trim_matches(SPACE), value.trim_matches(SPACE));
    let is_value = |byte: u8| (b'!'..=b'~').contains(&byte) && !b"\",;\\".contains(&byte);
    (is_token(key) && value.bytes().all(is_value)).then_some((key, value))
}

/// True for a `token` (RFC 9110).
fn is_token(text: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_token)
}

#[cfg(test)]
mod tests {
    use super::super::tests::parent;
    use super::*;

    /// Reads baggage that comes in several headers: keys, values and properties, sorted.
    fn read(values: &[&str]) -> Vec<[String; 3]> {
        let headers: Vec<_> = values.iter().map(|value| ("baggage", *value)).collect();
        let context = parent(&headers);
        let members = context.baggage().iter();
        let text = members.map(|(key, (value, properties))| {
            [key.as_str(), value.as_str(), properties.as_str()].map(str::to_owned)
        });
        let mut members: Vec<_> = text.collect();
        members.sort();
        members
    }

    #[test]
    fn members_are_read_with_their_properties() {
        let both = &[["k1", "v1", "p1;p2"], ["k2", "v2", "p=q"]][..];
        for (values, expected) in [
            (&["SomeKey=SomeValue"][..], &[["SomeKey", "SomeValue", ""]][..]),
            (&["k1=v1;p1;p2,k2=v2;p=q"], both),
            (&["k1=v1;p1;p2", "k2=v2;p=q"], both),
            (&["k1 \t = \t v1 \t ; \t p1 \t ;p2 , \t k2 \t = \t v2 \t ; \t p=q \t "], both),
            (&["", "k1=v1;p1;p2,,", " , k2=v2;p=q;"], both),
            (&["k=v=equals=="], &[["k", "v=equals==", ""]]),
            (&["k="], &[["k", "", ""]]),
            (
                &["k=%09%20%22%27%3B%3Dasdf%21%40%23%24%25%5E%26%2A%28%29"],
                &[["k", "\t \"';=asdf!@#$%^&*()", ""]],
            ),
            (&["k=gr%C3%BCn;p=%C3%BC"], &[["k", "grün", "p=%C3%BC"]]),
            (&["k=%FF%zz%4"], &[["k", "\u{fffd}%zz%4", ""]]),
            (&["!#$%&'*+-.^_`|~=1"], &[["!#$%&'*+-.^_`|~", "1", ""]]),
            // Of a key that comes twice, the later one counts.
            (&["k=1;p,k=2"], &[["k", "2", ""]]),
            // A malformed member goes alone.
            (&["k,a=b"], &[["a", "b", ""]]),
            (&["=v,a=b"], &[["a", "b", ""]]),
            (&["k k=v,a=b"], &[["a", "b", ""]]),
            (&["k=v v,a=b"], &[["a", "b", ""]]),
            (&["k=\"v\",a=b"], &[["a", "b", ""]]),
            (&["k=\\,a=b"], &[["a", "b", ""]]),
            (&["k=ü,a=b"], &[["a", "b", ""]]),
            (&["ü=k,a=b"], &[["a", "b", ""]]),
            (&["k=v;p p,a=b"], &[["a", "b", ""]]),
            (&["k=v;=q,a=b"], &[["a", "b", ""]]),
            (&["k=v;p=\"q\",a=b"], &[["a", "b", ""]]),
        ] {
            let expected: Vec<_> =
                expected.iter().map(|member| member.map(str::to_owned)).collect();
            assert_eq!(read(values), expected, "{values:?}");
        }
    }

    #[test]
    fn limits_leave_out_whole_members() {
        let numbered = |count: usize| -> String {
            (0..count).map(|number| format!("key{number:03}=value,")).collect()
        };
        assert_eq!(read(&[&numbered(64)]).len(), 64);
        assert_eq!(read(&[&numbered(65)]).len(), 64);
        assert_eq!(read(&[&numbered(65), "last=1"]).len(), 64);
        let longest = format!("a={}", "0123456789".repeat(819));
        assert_eq!(longest.len(), MAX_LENGTH);
        let long = |value: &str| read(&[value])[0][1].len();
        assert_eq!(long(&longest), 8190);
        assert!(read(&[&format!("{longest}x")]).is_empty());
        // Others that fit stay.
        assert_eq!(read(&[&format!("b=1,{longest},c=2")]).len(), 2);
        let half = "x".repeat(4000);
        let members = read(&[&format!("a={half}"), &format!("b={half},c={half}"), "d=1"]);
        let keys: Vec<&str> = members.iter().map(|[key, ..]| key.as_str()).collect();
        assert_eq!(keys, ["a", "b", "d"]);
    }
}

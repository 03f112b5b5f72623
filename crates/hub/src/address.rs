//! Web addresses: their parts, and what may be said of them.

use ureq::http::Uri;

/// Where requests go: scheme, host and port. A token belongs to one origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

impl Origin {
    /// The origin of an address; none without a host, or of another scheme than http and https.
    pub(crate) fn of(address: &Uri) -> Option<Self> {
        let scheme = address.scheme_str()?.to_ascii_lowercase();
        let default = match scheme.as_str() {
            "https" => 443,
            "http" => 80,
            _ => return None,
        };
        let host = address.host()?.to_ascii_lowercase();
        (!host.is_empty()).then(|| Self { scheme, host, port: address.port_u16().unwrap_or(default) })
    }

    /// Its host, in small letters.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Whether what is sent could be read on the way: not encrypted, and to another machine.
    pub(crate) fn is_exposed(&self) -> bool {
        self.scheme == "http" && !self.is_loopback()
    }

    fn is_loopback(&self) -> bool {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        let usual = [("https", 443), ("http", 80)].contains(&(self.scheme.as_str(), self.port));
        write!(out, "{}://{}", self.scheme, self.host)?;
        if usual { Ok(()) } else { write!(out, ":{}", self.port) }
    }
}

/// The address without what may be secret: name and password, and the query, in which servers sign.
pub(crate) fn shown(address: &str) -> String {
    let address = address.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    format!("{scheme}://{}{path}", host.rsplit('@').next().unwrap_or_default())
}

/// Where `location`, in an answer of `base`, leads to.
pub(crate) fn join(base: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next()?;
    if location.contains("://") {
        return location.parse().ok();
    }
    let (scheme, authority) = (base.scheme_str()?, base.authority()?);
    let joined = match location.strip_prefix("//") {
        Some(_) => format!("{scheme}:{location}"),
        None if location.starts_with('/') => format!("{scheme}://{authority}{location}"),
        None if location.starts_with('?') => format!("{scheme}://{authority}{}{location}", base.path()),
        None => {
            let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{scheme}://{authority}{folder}/{location}")
        }
    };
    joined.parse().ok()
}

/// Text as part of an address: everything but letters, digits and `-._~` as `%XX`, and `/` where `slashes` are kept.
pub(crate) fn encoded(text: &str, slashes: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            b'/' if slashes => out.push('/'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Text with `%XX` replaced; none if this is not UTF-8.
pub(crate) fn decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        let digits = after.get(..2).filter(|digits| *byte == b'%' && digits.iter().all(u8::is_ascii_hexdigit));
        let value = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        out.push(value.unwrap_or(*byte));
        rest = if value.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(address: &str) -> Option<Origin> {
        Origin::of(&address.parse().unwrap())
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        assert_eq!(origin("https://Hub.example/a"), origin("https://hub.example:443/b?c"));
        for other in ["http://hub.example/", "https://hub.example:8443/", "https://cdn.hub.example/"] {
            assert_ne!(origin("https://hub.example/"), origin(other), "{other}");
        }
        assert_eq!(origin("http://h:8080/x").unwrap().to_string(), "http://h:8080");
        assert_eq!(origin("https://h:443/x").unwrap().to_string(), "https://h");
        assert!(origin("ftp://h/x").is_none() && origin("/x").is_none());
    }

    #[test]
    fn plain_http_is_exposed_but_to_this_machine() {
        for (address, exposed) in [
            ("http://127.0.0.1:80/", false),
            ("http://localhost/", false),
            ("http://[::1]:1/", false),
            ("http://127.0.0.1.example/", true),
            ("http://10.0.0.1/", true),
            ("https://example/", false),
        ] {
            assert_eq!(origin(address).unwrap().is_exposed(), exposed, "{address}");
        }
    }

    #[test]
    fn nothing_secret_of_an_address_is_shown() {
        assert_eq!(shown("https://user:secret@h:1/p/q?Signature=secret#x"), "https://h:1/p/q");
        assert_eq!(shown("https://h"), "https://h");
        assert_eq!(shown("https://h/a@b"), "https://h/a@b");
    }

    #[test]
    fn redirects_may_be_whole_or_parts_of_addresses() {
        let base = "https://h:1/a/b?c".parse().unwrap();
        for (location, expected) in [
            ("http://i/x#y", "http://i/x"),
            ("//i/x", "https://i/x"),
            ("/x?y", "https://h:1/x?y"),
            ("x", "https://h:1/a/x"),
            ("?y", "https://h:1/a/b?y"),
        ] {
            assert_eq!(join(&base, location).unwrap().to_string(), expected);
        }
        assert!(join(&base, "/with blank").is_none());
    }

    #[test]
    fn names_pass_through_addresses_unchanged() {
        for text in ["a b/ü%?#@+", "plain-._~"] {
            assert_eq!(decoded(&encoded(text, true)).unwrap(), text);
            assert_eq!(decoded(&encoded(text, false)).unwrap(), text);
        }
        assert_eq!(encoded("refs/pr/1", false), "refs%2Fpr%2F1");
        assert_eq!(decoded("100%").unwrap(), "100%");
        assert!(decoded("%ff").is_none());
    }
}

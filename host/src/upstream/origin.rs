//! Where a credential may go: a base URL and its origin, in one canonical form each.
//!
//! What is checked is what is dialled. Text that `url` would have to mend is refused, so two parsers can never read two
//! hosts out of it.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use super::{
    network::{Denied, NetworkPolicy},
    path::check_path,
};

/// The longest base URL, in bytes.
const BYTES_MAX: usize = 2048;

/// How a connection is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// In clear text.
    Http,
    /// With TLS.
    Https,
}

impl Scheme {
    const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// A host in canonical form: a lower-case name of letters, digits and hyphens, or an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Host {
    Name(String),
    Address(IpAddr),
}

impl Host {
    /// True for the names and addresses that can only mean this machine.
    pub(super) fn is_loopback(&self) -> bool {
        match self {
            Self::Name(name) => name == "localhost",
            Self::Address(address) => address.is_loopback(),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// Scheme, host and port. Two are equal exactly when a browser would call them the same origin.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    scheme: Scheme,
    host: Host,
    port: u16,
}

impl Origin {
    /// How a connection to it is made.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    pub(super) const fn host(&self) -> &Host {
        &self.host
    }

    /// The origin of a URL that was built from a base.
    pub(super) fn of(url: &url::Url) -> Option<Self> {
        let scheme = match url.scheme() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return None,
        };
        let host = match url.host()? {
            url::Host::Domain(name) => Host::Name(name.to_owned()),
            url::Host::Ipv4(address) => Host::Address(address.into()),
            url::Host::Ipv6(address) => Host::Address(address.into()),
        };
        Some(Self { scheme, host, port: url.port_or_known_default()? })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port == self.scheme.default_port() { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a runtime's paths are relative to: an origin and a path prefix without a slash at its end.
///
/// It prints as it parses. Whether requests may go there is for [`NetworkPolicy::admits`] to say.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct BaseUrl {
    origin: Origin,
    /// Empty, or `/` and more.
    prefix: String,
}

/// Why a text is not a base URL, or not one that requests may go to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BaseUrlError {
    /// Not the text of a URL.
    #[error("not a URL: write it as https://host/path, in ASCII and without spaces or backslashes")]
    Syntax,
    /// Neither `http` nor `https`.
    #[error("the URL must start with https://")]
    Scheme,
    /// A user name or password stands before the host.
    #[error("the URL must not hold a user name or password")]
    UserInfo,
    /// It has a query or a fragment.
    #[error("the URL must end before any `?` or `#`")]
    Query,
    /// The host is neither a name of letters, digits and hyphens nor an address in its usual form.
    #[error("the host must be a name of letters, digits, hyphens and dots, or an IP address in its usual form")]
    Host,
    /// Port 0.
    #[error("the port must be from 1 to 65535")]
    Port,
    /// The path has empty or dot segments, or characters that do not belong into one.
    #[error("the path of the URL is not in its plain form")]
    Path,
    /// `http` to another machine.
    #[error("{0} is clear text, and would show the credential to the network: use https, or allow this origin by name")]
    CleartextRefused(Origin),
    /// The address is in a network where requests do not go.
    #[error(transparent)]
    Denied(#[from] Denied),
}

impl BaseUrl {
    /// Parses what an operator wrote, and asks whether requests may go there.
    ///
    /// # Errors
    /// With the reason, when the text is no base URL or the policy does not admit it.
    pub fn parse(text: &str, policy: &NetworkPolicy) -> Result<Self, BaseUrlError> {
        let base: Self = text.parse()?;
        policy.admits(&base)?;
        Ok(base)
    }

    /// Where the credential that goes with this URL may go.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin.clone()
    }

    /// What stands before every path: empty, or `/` and more, without a slash at its end.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }
}

impl FromStr for BaseUrl {
    type Err = BaseUrlError;

    fn from_str(text: &str) -> Result<Self, BaseUrlError> {
        let text = text.trim();
        if text.len() > BYTES_MAX || text.contains('\\') || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(BaseUrlError::Syntax);
        }
        let (scheme, rest) = text.split_once("://").ok_or(BaseUrlError::Scheme)?;
        if !scheme.eq_ignore_ascii_case("https") && !scheme.eq_ignore_ascii_case("http") {
            return Err(BaseUrlError::Scheme);
        }
        if rest.contains(['?', '#']) {
            return Err(BaseUrlError::Query);
        }
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        if authority.contains('@') {
            return Err(BaseUrlError::UserInfo);
        }
        if authority.is_empty() || authority.contains('%') {
            return Err(BaseUrlError::Host);
        }
        let url = url::Url::parse(text).map_err(|error| match error {
            url::ParseError::InvalidPort => BaseUrlError::Port,
            _ => BaseUrlError::Host,
        })?;
        let origin = Origin::of(&url).ok_or(BaseUrlError::Host)?;
        check_host(&origin.host, authority)?;
        if origin.port == 0 {
            return Err(BaseUrlError::Port);
        }
        let prefix = path.strip_suffix('/').unwrap_or(path);
        if !prefix.is_empty() && (check_path(prefix).is_err() || prefix.ends_with('/')) {
            return Err(BaseUrlError::Path);
        }
        Ok(Self { origin, prefix: prefix.to_owned() })
    }
}

/// Accepts a host that was written in the form that `url` made of it, letter case aside.
fn check_host(host: &Host, authority: &str) -> Result<(), BaseUrlError> {
    let label = |label: &str| {
        let plain = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        (1..=63).contains(&label.len()) && plain && !label.starts_with('-') && !label.ends_with('-')
    };
    let written_alike = |canonical: &str| {
        let port = authority.get(canonical.len()..).filter(|rest| rest.is_empty() || rest.starts_with(':'));
        port.is_some() && authority[..canonical.len()].eq_ignore_ascii_case(canonical)
    };
    let fine = match host {
        Host::Name(name) => name.len() <= 253 && name.split('.').all(label) && written_alike(name),
        // Decimal, octal and hexadecimal spellings of an address serve only to hide it.
        Host::Address(IpAddr::V4(address)) => written_alike(&address.to_string()),
        Host::Address(IpAddr::V6(_)) => true,
    };
    if fine { Ok(()) } else { Err(BaseUrlError::Host) }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.prefix)
    }
}

impl fmt::Debug for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The IPv4 address inside an IPv6 one: mapped, compatible, NAT64, 6to4.
pub(super) fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match address.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            Some(v4(high, low))
        }
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, BaseUrlError> {
        BaseUrl::parse(text, &NetworkPolicy::default()).map(|base| base.to_string())
    }

    #[test]
    fn a_base_url_has_one_spelling() {
        let table = [
            ("https://api.anthropic.com", "https://api.anthropic.com"),
            (" https://api.anthropic.com/\n", "https://api.anthropic.com"),
            ("HTTPS://API.Anthropic.COM:443/v1/", "https://api.anthropic.com/v1"),
            ("https://api.example.com:8443/a/b", "https://api.example.com:8443/a/b"),
            ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
            ("https://8.8.8.8", "https://8.8.8.8"),
            ("https://[2606:4700:0:0:0:0:0:1111]:444", "https://[2606:4700::1111]:444"),
            ("http://localhost:4000", "http://localhost:4000"),
            ("http://127.0.0.1:80", "http://127.0.0.1"),
            ("http://127.9.9.9/v1", "http://127.9.9.9/v1"),
            ("http://[::1]:8080", "http://[::1]:8080"),
        ];
        for (text, canonical) in table {
            assert_eq!(read(text).as_deref(), Ok(canonical), "{text}");
            assert_eq!(read(canonical).as_deref(), Ok(canonical));
        }
    }

    #[test]
    fn text_that_hides_its_host_is_refused() {
        use BaseUrlError::{Host, Path, Port, Query, Scheme, Syntax, UserInfo};
        let table = [
            (
                Syntax,
                &[
                    "https://a b",
                    "https://a\tb.com",
                    "https://a.com\\@evil.com",
                    "https:\\\\a.com",
                    "https://bücher.example",
                    "https://ⓛocalhost",
                    "https://１２７.0.0.1",
                    "https://a\0.com",
                    "https://api。com",
                ][..],
            ),
            (
                Scheme,
                &[
                    "",
                    "api.example.com",
                    "//api.example.com",
                    "ftp://a.com",
                    "file:///etc/passwd",
                    "https:a.com",
                    "https:/a.com",
                    "javascript://a.com",
                    "ws://a.com",
                ],
            ),
            (UserInfo, &["https://user@a.com", "https://user:pass@a.com", "https://a.com@evil.com", "https://@a.com"]),
            (Query, &["https://a.com?x", "https://a.com/?key=1", "https://a.com/#f", "https://a.com#@evil.com"]),
            (
                Host,
                &[
                    "https://",
                    "https:///a.com",
                    "https:////a.com",
                    "https://:443",
                    "https://a..com",
                    "https://.a.com",
                    "https://a.com.",
                    "https://-a.com",
                    "https://a-.com",
                    "https://a_b.com",
                    "https://a!b.com",
                    "https://*.a.com",
                    "https://a%2ecom",
                    "https://%6c%6f%63alhost",
                    "https://2130706433",
                    "https://0x7f000001",
                    "https://0x7f.1",
                    "https://0177.0.0.1",
                    "https://127.1",
                    "https://127.0.1",
                    "https://017700000001",
                    "https://1.2.3.4.5",
                    "https://256.0.0.1",
                    "https://1.2.3.4.",
                    "https://[::1",
                    "https://::1",
                    "https://[fe80::1%25eth0]",
                    "https://[g::1]",
                ],
            ),
            (Port, &["https://a.com:0", "https://a.com:65536", "https://a.com:x", "https://a.com:-1"]),
            (
                Path,
                &[
                    "https://a.com//",
                    "https://a.com/a/../b",
                    "https://a.com/./a",
                    "https://a.com/%2e%2e",
                    "https://a.com/a%2fb",
                    "https://a.com/a%",
                    "https://a.com/<",
                ],
            ),
        ];
        for (expected, texts) in table {
            for text in texts {
                assert_eq!(read(text), Err(expected.clone()), "{text}");
            }
        }
    }

    #[test]
    fn clear_text_goes_to_this_machine_alone() {
        for text in ["http://api.example.com", "http://localhost.example.com", "http://8.8.8.8", "http://foo.localhost"]
        {
            assert!(matches!(read(text), Err(BaseUrlError::CleartextRefused(_))), "{text}");
        }
        let policy = NetworkPolicy::parse(["http://gateway.example.com:8080"]).unwrap();
        assert!(BaseUrl::parse("http://gateway.example.com:8080/v1", &policy).is_ok());
        let elsewhere = BaseUrl::parse("http://gateway.example.com", &policy);
        assert!(matches!(elsewhere, Err(BaseUrlError::CleartextRefused(_))), "another port");
    }
}

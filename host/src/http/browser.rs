//! What a browser adds to a request by itself: the cookie of who has signed in, and where the request comes from.
//!
//! A browser sends the cookie with whatever any page makes it ask for. `SameSite=Strict` keeps those of other sites out; that a
//! change was asked for by this host's own page is checked once more here, and that the host was called by a name of its
//! own: a stranger's name that leads here (DNS rebinding) would make a stranger's page one of this host's.

use std::{net::IpAddr, sync::Arc};

use http::{HeaderMap, HeaderValue, Method, StatusCode, header, uri::Authority};
use url::Url;

use super::error::Error;
use crate::vault::SIGN_IN_FOR;

const COOKIE: &str = "lap_session";

/// The names by which browsers may call the host, beside addresses and the names of this machine itself.
#[derive(Debug, Clone, Default)]
pub struct ConsoleHosts(Arc<[String]>);

impl ConsoleHosts {
    /// Names in lower case.
    #[must_use]
    pub fn new(names: Vec<String>) -> Self {
        Self(names.into())
    }

    fn has(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(&name);
        // An address is nobody's name, so nobody can have made it lead here.
        bare.parse::<IpAddr>().is_ok() || name == "localhost" || name.ends_with(".localhost") || self.0.contains(&name)
    }

    /// Refuses a browser that was led here by a name that is none of the host's.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), Error> {
        if authority(headers).is_some_and(|authority| self.has(authority.host())) {
            return Ok(());
        }
        let message = "browsers must call this host by its address or a name that it knows: the operator adds one with \
                       --console-host";
        Err(Error::new(StatusCode::MISDIRECTED_REQUEST, "host_refused", message))
    }
}

/// What a request says that it was sent to.
fn authority(headers: &HeaderMap) -> Option<Authority> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().filter(|_| hosts.next().is_none())?;
    let authority: Authority = host.to_str().ok()?.parse().ok()?;
    (!authority.as_str().contains('@')).then_some(authority)
}

/// Refuses what changes something and was not asked for by a page of this host.
pub(super) fn check_origin(method: &Method, headers: &HeaderMap) -> Result<(), Error> {
    if matches!(*method, Method::GET | Method::HEAD) || is_from_here(headers) {
        return Ok(());
    }
    let message = "with the cookie of the console a change must come from a page of this host (its `Origin`); programs send a \
                   key instead";
    Err(Error::new(StatusCode::FORBIDDEN, "origin_refused", message))
}

fn is_from_here(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("not text"));
    // Pages that tell nobody where they are have the origin `null`; then the browser's own word counts.
    match text("origin").filter(|origin| *origin != "null") {
        Some(origin) => authority(headers).is_some_and(|host| is_same(origin, &host)),
        None => text("sec-fetch-site") == Some("same-origin"),
    }
}

/// True when an origin is this host. The scheme is the proxy's business, and tells the port that a name has without one.
fn is_same(origin: &str, host: &Authority) -> bool {
    let Ok(origin) = Url::parse(origin) else { return false };
    let usual = if origin.scheme() == "https" { 443 } else { 80 };
    let same_name = origin.host_str().is_some_and(|name| name.eq_ignore_ascii_case(host.host()));
    same_name && origin.port_or_known_default() == Some(host.port_u16().unwrap_or(usual))
}

/// What a browser shows that has signed in.
pub(super) fn pass(headers: &HeaderMap) -> Option<&str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(name, _)| *name == COOKIE).map(|(_, value)| value).next()
}

/// The header that gives a browser its pass, or takes it away.
pub(super) fn give(pass: Option<&str>, asked: &HeaderMap) -> Option<HeaderValue> {
    let (pass, seconds) = pass.map_or(("", 0), |pass| (pass, SIGN_IN_FOR.as_secs()));
    let encrypted = asked.get("x-forwarded-proto").is_some_and(|proto| proto.as_bytes().eq_ignore_ascii_case(b"https"));
    let secure = if encrypted { "; Secure" } else { "" };
    // Hex digits and words of our own.
    let mut value = HeaderValue::from_str(&format!(
        "{COOKIE}={pass}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"
    ))
    .ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_browser_calls_the_host_by_its_address_or_a_name_of_its_own() {
        let hosts = ConsoleHosts::new(vec!["lap.example".to_owned()]);
        let passes = |host: &str| hosts.check(&headers(&[("host", host)])).is_ok();
        for host in [
            "127.0.0.1:4000",
            "[::1]:4000",
            "10.1.2.3",
            "localhost",
            "LOCALHOST:4000",
            "a.localhost",
            "lap.example:8443",
        ] {
            assert!(passes(host), "{host}");
        }
        for host in [
            "evil.example",
            "evil.lap.example",
            "lap.example.evil",
            "localhost.evil",
            "127.0.0.1.evil",
            "x@localhost",
            "",
        ] {
            assert!(!passes(host), "{host}");
        }
        assert!(
            hosts.check(&headers(&[])).is_err()
                && hosts.check(&headers(&[("host", "localhost"), ("host", "evil")])).is_err()
        );
    }

    #[test]
    fn a_change_comes_from_a_page_of_this_host() {
        let passes = |pairs: &[(&'static str, &str)]| check_origin(&Method::POST, &headers(pairs)).is_ok();
        let host = ("host", "lap.example:4000");
        assert!(passes(&[host, ("origin", "http://lap.example:4000")]));
        assert!(passes(&[host, ("origin", "null"), ("sec-fetch-site", "same-origin")]));
        assert!(passes(&[("host", "lap.example"), ("origin", "https://LAP.example")]), "behind a proxy");
        assert!(passes(&[("host", "[::1]:80"), ("origin", "http://[::1]")]));
        for pairs in [
            &[host][..],
            &[host, ("origin", "null")],
            &[host, ("origin", "http://lap.example")],
            &[host, ("origin", "http://lap.example:4001")],
            &[host, ("origin", "http://evil.example:4000"), ("sec-fetch-site", "same-origin")],
            &[host, ("origin", "lap.example:4000")],
            &[host, ("sec-fetch-site", "same-site")],
            &[host, ("sec-fetch-site", "none")],
            &[("origin", "http://lap.example")],
        ] {
            assert!(!passes(pairs), "{pairs:?}");
        }
        assert!(check_origin(&Method::GET, &headers(&[host])).is_ok());
    }

    #[test]
    fn a_pass_is_read_as_it_was_given() {
        assert_eq!(pass(&headers(&[("cookie", "a=b; lap_session=0f; c=d")])), Some("0f"));
        assert_eq!(pass(&headers(&[("cookie", "a=b"), ("cookie", "lap_session=0f")])), Some("0f"));
        assert_eq!(pass(&headers(&[("cookie", "lap_sessions=0f; xlap_session=1")])), None);
        let given = |pairs: &[(&'static str, &str)]| give(Some("0f"), &headers(pairs)).unwrap();
        assert_eq!(given(&[]), "lap_session=0f; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict");
        assert!(given(&[("x-forwarded-proto", "https")]).to_str().unwrap().ends_with("; Secure"));
        assert!(give(None, &HeaderMap::new()).unwrap().to_str().unwrap().contains("=; Path=/; Max-Age=0"));
    }
}

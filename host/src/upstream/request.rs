//! A guest's request, checked and turned into what goes on the wire.
//!
//! The guest says what; the host says where, as whom and how framed. Whatever could change one of these is refused, not
//! mended: a guest that sends it is broken or hostile, and both should hear of it.

use http::{
    HeaderMap,
    header::{HeaderName, HeaderValue},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{
    origin::{BaseUrl, Origin},
    path::{PathFault, check_path},
};

/// The longest path, and the longest query once encoded, in bytes.
const TARGET_BYTES_MAX: usize = 8 * 1024;
const HEADERS_MAX: usize = 32;
const HEADER_NAME_BYTES_MAX: usize = 64;
const HEADER_VALUE_BYTES_MAX: usize = 8 * 1024;
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// All but the unreserved characters of RFC 3986.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Headers that frame a message, name its target or its sender, or carry state: the host's alone.
const HOST_HEADERS: &[&str] = &[
    "accept-encoding",
    "alt-used",
    "authority",
    "client-ip",
    "connection",
    "content-length",
    "cookie",
    "cookie2",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "max-forwards",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "true-client-ip",
    "upgrade",
    "via",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-host",
    "x-original-url",
    "x-real-ip",
    "x-rewrite-url",
];
const HOST_HEADER_PREFIXES: &[&str] = &["proxy-", "x-forwarded-"];

/// Headers that vendors take credentials from. A guest has none to put there.
const CREDENTIAL_HEADERS: &[&str] = &["api-key", "authorization", "x-api-key", "x-auth-token", "x-goog-api-key"];

/// What is asked of the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// `GET`
    Get,
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `PATCH`
    Patch,
    /// `DELETE`
    Delete,
}

impl Method {
    /// The method of this name, which is in capitals.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Get, Self::Post, Self::Put, Self::Patch, Self::Delete].into_iter().find(|method| method.as_str() == name)
    }

    /// The method as it stands on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

impl From<Method> for http::Method {
    fn from(method: Method) -> Self {
        match method {
            Method::Get => Self::GET,
            Method::Post => Self::POST,
            Method::Put => Self::PUT,
            Method::Patch => Self::PATCH,
            Method::Delete => Self::DELETE,
        }
    }
}

/// A request as a guest gives it. Nothing in it is trusted.
#[derive(Debug, Clone)]
pub struct Request {
    /// What is asked.
    pub method: Method,
    /// Relative to the base URL: starts with `/`, without query.
    pub path: String,
    /// Names and values, not yet encoded.
    pub query: Vec<(String, String)>,
    /// Lower-case names, at most 32.
    pub headers: Vec<(String, String)>,
    /// At most 4 MiB.
    pub body: Option<String>,
}

/// Why a request was not sent. The texts are for the author of the guest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The path is not relative to the base, or could be read as another one.
    #[error("the path {0}")]
    Path(PathFault),
    /// Path or query are too long.
    #[error("path and query may have {TARGET_BYTES_MAX} bytes each")]
    TargetTooLong,
    /// Too many headers.
    #[error("a request may have {HEADERS_MAX} headers")]
    TooManyHeaders,
    /// A header's name is not `[a-z0-9-]`, 1 to 64 bytes. It may be anything, so its position is given, from 0.
    #[error("the name of header {0} is not [a-z0-9-], 1 to 64 bytes")]
    HeaderName(usize),
    /// A header's value has other characters than visible ASCII and inner spaces, or is too long.
    #[error("the value of header {0} is not visible ASCII, at most {HEADER_VALUE_BYTES_MAX} bytes")]
    HeaderValue(String),
    /// The header is the host's.
    #[error("the header {0} is set by the host alone")]
    HostHeader(String),
    /// The body is too long.
    #[error("a body may have {BODY_BYTES_MAX} bytes")]
    BodyTooLong,
    /// What was built does not lead where it should. No request is known that comes this far.
    #[error("the request does not stay within its base URL")]
    Astray,
}

/// The request header that carries the credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    pub(super) header: HeaderName,
    /// What stands before the credential, such as `Bearer`; empty for nothing.
    pub(super) scheme: String,
}

/// Why a credential cannot be attached as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    /// Not a header's name, or one that frames the message.
    #[error("{0:?} is not a header that can carry a credential")]
    Header(String),
    /// Not a word such as `Bearer`.
    #[error("{0:?} is not an authorization scheme")]
    Scheme(String),
}

impl Slot {
    /// A header, in lower case, and the scheme before the credential, such as `Bearer`, or an empty text.
    ///
    /// # Errors
    /// When one of them is not that.
    pub fn new(header: &str, scheme: &str) -> Result<Self, SlotError> {
        let refuse = || SlotError::Header(header.to_owned());
        if !is_header_name(header) || is_host_header(header) {
            return Err(refuse());
        }
        let word = scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        if scheme.len() > 32 || !word {
            return Err(SlotError::Scheme(scheme.to_owned()));
        }
        let header = HeaderName::from_bytes(header.as_bytes()).map_err(|_| refuse())?;
        Ok(Self { header, scheme: scheme.to_owned() })
    }
}

/// What goes on the wire, but for the credential.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) method: http::Method,
    pub(super) url: url::Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<String>,
}

impl Request {
    /// Checks the request and builds what is sent to `base`.
    pub(super) fn into_wire(self, base: &BaseUrl, slot: &Slot) -> Result<Wire, Refusal> {
        check_path(&self.path).map_err(Refusal::Path)?;
        if self.body.as_ref().is_some_and(|body| body.len() > BODY_BYTES_MAX) {
            return Err(Refusal::BodyTooLong);
        }
        let headers = headers(self.headers, slot)?;
        let query = encode_query(&self.query);
        if self.path.len() > TARGET_BYTES_MAX || query.len() > TARGET_BYTES_MAX {
            return Err(Refusal::TargetTooLong);
        }
        let path = format!("{}{}", base.prefix(), self.path);
        let mut url = url::Url::parse(&format!("{}{path}", base.origin())).map_err(|_| Refusal::Astray)?;
        if !query.is_empty() {
            url.set_query(Some(&query));
        }
        // The rules above leave nothing that `url` could read differently. That it does not is asked of `url` itself.
        let same_query = url.query().unwrap_or_default() == query;
        if Origin::of(&url) != Some(base.origin()) || url.path() != path || !same_query || url.fragment().is_some() {
            return Err(Refusal::Astray);
        }
        Ok(Wire { method: self.method.into(), url, headers, body: self.body })
    }
}

impl Request {
    /// Whether the request would be sent; for upstreams that are played.
    ///
    /// # Errors
    /// When it breaks a rule.
    pub fn check(&self, base: &BaseUrl, slot: &Slot) -> Result<(), Refusal> {
        self.clone().into_wire(base, slot).map(|_| ())
    }
}

#[cfg(any(test, feature = "fuzz"))]
impl Request {
    /// Where the request would go.
    pub(crate) fn url(self, base: &BaseUrl, slot: &Slot) -> Result<url::Url, Refusal> {
        self.into_wire(base, slot).map(|wire| wire.url)
    }
}

fn encode_query(query: &[(String, String)]) -> String {
    let mut encoded = String::new();
    for (name, value) in query {
        if !encoded.is_empty() {
            encoded.push('&');
        }
        encoded.extend(utf8_percent_encode(name, QUERY));
        encoded.push('=');
        encoded.extend(utf8_percent_encode(value, QUERY));
    }
    encoded
}

fn headers(given: Vec<(String, String)>, slot: &Slot) -> Result<HeaderMap, Refusal> {
    if given.len() > HEADERS_MAX {
        return Err(Refusal::TooManyHeaders);
    }
    let mut headers = HeaderMap::with_capacity(given.len() + 4);
    for (position, (name, value)) in given.into_iter().enumerate() {
        // Servers that take `_` for `-` cannot be fooled: no name with `_` passes.
        if !is_header_name(&name) {
            return Err(Refusal::HeaderName(position));
        }
        if is_host_header(&name) || CREDENTIAL_HEADERS.contains(&name.as_str()) || name == slot.header.as_str() {
            return Err(Refusal::HostHeader(name));
        }
        let fine = value.len() <= HEADER_VALUE_BYTES_MAX
            && value.bytes().all(|byte| matches!(byte, b' '..=b'~'))
            && value.trim().len() == value.len();
        let value = fine.then(|| HeaderValue::from_str(&value).ok()).flatten();
        let (Ok(key), Some(value)) = (HeaderName::from_bytes(name.as_bytes()), value) else {
            return Err(Refusal::HeaderValue(name));
        };
        headers.append(key, value);
    }
    Ok(headers)
}

fn is_header_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=HEADER_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(plain)
}

fn is_host_header(name: &str) -> bool {
    HOST_HEADERS.contains(&name) || HOST_HEADER_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn get(path: &str) -> Request {
        let (query, headers) = (Vec::new(), Vec::new());
        Request { method: Method::Get, path: path.to_owned(), query, headers, body: None }
    }

    fn build(request: Request) -> Result<Wire, Refusal> {
        let base = "https://api.example.com/v1".parse().unwrap();
        request.into_wire(&base, &Slot::new("x-vendor-key", "").unwrap())
    }

    fn with_header(name: &str, value: &str) -> Result<Wire, Refusal> {
        build(Request { headers: vec![(name.to_owned(), value.to_owned())], ..get("/a") })
    }

    #[test]
    fn a_plain_path_stays_below_the_base() {
        for path in [
            "/",
            "/sessions",
            "/a/b/",
            "/a//b",
            "/files/a.txt",
            "/a:b@c",
            "/%20x",
            "/...",
            "/.well-known",
            "/a;v=1",
            "/~u/$x,(y)",
        ] {
            assert_eq!(build(get(path)).unwrap().url.as_str(), format!("https://api.example.com/v1{path}"));
        }
    }

    #[test]
    fn a_query_cannot_become_anything_else() {
        let pairs = [("a", "1"), ("b c", "&d=#?"), ("ä", "%41+/\r\n"), ("", "")];
        let query = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let wire = build(Request { query, ..get("/a") }).unwrap();
        assert_eq!(wire.url.query(), Some("a=1&b%20c=%26d%3D%23%3F&%C3%A4=%2541%2B%2F%0D%0A&="));
        assert_eq!((wire.url.path(), wire.url.fragment()), ("/v1/a", None));
    }

    #[test]
    fn the_hosts_headers_are_the_hosts_alone() {
        let mut names: Vec<String> =
            HOST_HEADERS.iter().chain(CREDENTIAL_HEADERS).map(|&name| name.to_owned()).collect();
        names.extend(
            ["x-vendor-key", "proxy-authorization", "proxy-x", "x-forwarded-for", "x-forwarded-x"].map(str::to_owned),
        );
        for name in names {
            assert_eq!(with_header(&name, "x").map(|_| ()), Err(Refusal::HostHeader(name.clone())), "{name}");
            for spelling in [
                name.to_uppercase(),
                name.replace('-', "_") + "_",
                format!(" {name}"),
                format!("{name}:"),
                format!("{name}\r\nx"),
            ] {
                assert_eq!(with_header(&spelling, "x").map(|_| ()), Err(Refusal::HeaderName(0)), "{spelling:?}");
            }
        }
        assert_eq!(with_header("x_vendor_key", "x").map(|_| ()), Err(Refusal::HeaderName(0)));
        assert_eq!(with_header(":authority", "x").map(|_| ()), Err(Refusal::HeaderName(0)));
        assert_eq!(with_header("", "x").map(|_| ()), Err(Refusal::HeaderName(0)));
        assert_eq!(with_header(&"a".repeat(65), "x").map(|_| ()), Err(Refusal::HeaderName(0)));
    }

    #[test]
    fn a_value_is_one_line_of_visible_ascii() {
        for value in ["", "a", "application/json; charset=utf-8", "a b~!", &"v".repeat(8192)] {
            assert_eq!(with_header("x-a", value).unwrap().headers["x-a"], value);
        }
        for value in ["a\r\nb: c", "a\nb", "\0", "a\tb", "ä", " a", "a ", "\u{7f}", &"v".repeat(8193)] {
            assert_eq!(with_header("x-a", value).map(|_| ()), Err(Refusal::HeaderValue("x-a".to_owned())), "{value:?}");
        }
    }

    #[test]
    fn sizes_end_where_the_contract_says() {
        let header = |number: usize| (format!("x-{number}"), "v".to_owned());
        assert!(build(Request { headers: (0..32).map(header).collect(), ..get("/a") }).is_ok());
        let many = build(Request { headers: (0..33).map(header).collect(), ..get("/a") });
        assert_eq!(many.map(|_| ()), Err(Refusal::TooManyHeaders));
        assert!(build(Request { body: Some("b".repeat(BODY_BYTES_MAX)), ..get("/a") }).is_ok());
        let large = build(Request { body: Some("b".repeat(BODY_BYTES_MAX + 1)), ..get("/a") });
        assert_eq!(large.map(|_| ()), Err(Refusal::BodyTooLong));
        let long = build(get(&format!("/{}", "a".repeat(TARGET_BYTES_MAX))));
        assert_eq!(long.map(|_| ()), Err(Refusal::TargetTooLong));
        let query = vec![("q".to_owned(), " ".repeat(TARGET_BYTES_MAX / 3 + 1))];
        assert_eq!(build(Request { query, ..get("/a") }).map(|_| ()), Err(Refusal::TargetTooLong));
    }

    #[test]
    fn a_slot_is_a_header_that_does_not_frame() {
        for (header, scheme) in [("authorization", "Bearer"), ("x-api-key", ""), ("x-goog-api-key", "")] {
            assert!(Slot::new(header, scheme).is_ok());
        }
        for header in
            ["", "Authorization", "host", "cookie", "proxy-authorization", "x_api_key", "content-length", "a\r\n"]
        {
            assert_eq!(Slot::new(header, ""), Err(SlotError::Header(header.to_owned())));
        }
        assert_eq!(Slot::new("authorization", "a b"), Err(SlotError::Scheme("a b".to_owned())));
    }
}

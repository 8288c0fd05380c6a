//! `runtime.toml`, the authority over what a runtime may do. It stands beside the component, outside of the guest.

use std::str::FromStr;

use serde::Deserialize;

use super::{Description, component::CONTRACT};
use crate::{id::RuntimeId, upstream::Method};

/// What a runtime may do, as its manifest grants it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The runtime's name in URLs and agents.
    pub id: RuntimeId,
    /// The version of the contract that the component is built for.
    pub contract: String,
    /// Where the credential goes.
    pub auth: Auth,
    /// The requests that the runtime may send; any other is refused before it reaches the network.
    pub allow: Vec<Rule>,
    /// The requests of clients that the host hands on to the upstream as they are, past the runtime.
    #[serde(default)]
    pub forward: Vec<Rule>,
}

/// The slot of the credential in a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// The request header, in lower case.
    pub header: String,
    /// What stands before the credential, such as `Bearer`.
    #[serde(default)]
    pub scheme: String,
}

/// One kind of request.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Written")]
pub struct Rule {
    methods: Vec<Method>,
    /// Its path, or the beginning of its path up to a `/`.
    path: String,
}

/// A rule as it stands in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    methods: Vec<String>,
    path: String,
}

const METHODS: [Method; 5] = [Method::Get, Method::Post, Method::Put, Method::Patch, Method::Delete];

impl TryFrom<Written> for Rule {
    type Error = String;

    /// A rule that covers everything or nothing is a mistake of its writer's.
    fn try_from(written: Written) -> Result<Self, String> {
        let Written { methods, path } = written;
        let named = |name: &String| Method::named(name).ok_or_else(|| format!("there is no method {name:?}"));
        let methods = methods.iter().map(named).collect::<Result<Vec<_>, _>>()?;
        let mut segments = path.split('/');
        let rooted = segments.next() == Some("") && !path.is_empty();
        if methods.is_empty() || !rooted || segments.any(|segment| matches!(segment, "" | "." | "..")) {
            return Err(format!(
                "a rule has at least one method, and a path of whole segments such as `/v1/files`, not {path:?}"
            ));
        }
        Ok(Self { methods, path })
    }
}

impl Rule {
    /// The methods.
    #[must_use]
    pub fn methods(&self) -> &[Method] {
        &self.methods
    }

    /// The path that it covers, with what is beneath it.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    fn covers(&self, method: Method, path: &str) -> bool {
        let beneath = path.strip_prefix(self.path.as_str());
        beneath.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) && self.methods.contains(&method)
    }
}

/// A manifest that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the manifest cannot be read: {0}")]
pub struct Invalid(#[from] toml::de::Error);

impl FromStr for Manifest {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Ok(toml::from_str(text)?)
    }
}

impl Manifest {
    /// All that a component can ask for: for trials without a host, in which no request leaves the process.
    #[must_use]
    pub(super) fn granting_all(id: RuntimeId, auth: Auth) -> Self {
        let everything = Rule { methods: METHODS.to_vec(), path: String::new() };
        Self { id, contract: CONTRACT.to_owned(), auth, allow: vec![everything], forward: Vec::new() }
    }

    /// Where a component claims what this manifest does not grant, each in words; nothing when they fit.
    #[must_use]
    pub fn mismatches(&self, description: &Description) -> Vec<String> {
        let claims = [
            ("id", description.id.as_str(), self.id.as_str()),
            ("auth header", &description.auth_header, &self.auth.header),
            ("auth scheme", &description.auth_scheme, &self.auth.scheme),
        ];
        let differs = claims.into_iter().filter(|(_, claimed, granted)| claimed != granted);
        let says =
            |(what, claimed, granted)| format!("{what}: the component says {claimed:?}, the manifest {granted:?}");
        differs.map(says).collect()
    }

    /// True when the runtime may send such a request.
    #[must_use]
    pub fn allows(&self, method: Method, path: &str) -> bool {
        self.allow.iter().any(|rule| rule.covers(method, path))
    }

    /// True when such a request of a client's goes on to the upstream. In the path of what belongs to a session
    /// `{session}` stands for its id, which no client can spell: a path has no braces.
    #[must_use]
    pub fn forwards(&self, method: Method, path: &str) -> bool {
        self.forward.iter().any(|rule| rule.covers(method, path))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        id = "sample"
        contract = "0.1"
        auth = { header = "x-api-key" }
        allow = [{ methods = ["GET", "POST"], path = "/v1/agents" }]
    "#;

    #[test]
    fn a_rule_covers_its_path_and_what_is_beneath_it() {
        let manifest: Manifest = TEXT.parse().unwrap();
        for (method, path, allowed) in [
            (Method::Get, "/v1/agents", true),
            (Method::Post, "/v1/agents/a/archive", true),
            (Method::Delete, "/v1/agents", false),
            (Method::Get, "/v1/agents_of_others", false),
            (Method::Get, "/v1/organizations/api_keys", false),
        ] {
            assert_eq!(manifest.allows(method, path), allowed, "{method:?} {path}");
        }
    }

    #[test]
    fn what_is_allowed_to_the_runtime_is_not_forwarded_for_clients_nor_the_other_way_round() {
        let more = r#"
            [[forward]]
            methods = ["GET", "DELETE"]
            path = "/v1/files"
            [[forward]]
            methods = ["GET"]
            path = "/v1/sessions/{session}/threads"
        "#;
        let manifest: Manifest = format!("{TEXT}{more}").parse().unwrap();
        for (method, path, forwarded) in [
            (Method::Get, "/v1/files", true),
            (Method::Delete, "/v1/files/f/content", true),
            (Method::Post, "/v1/files", false),
            (Method::Get, "/v1/files_of_others", false),
            (Method::Get, "/v1/agents", false),
            (Method::Get, "/v1/sessions/{session}/threads/t/events", true),
            (Method::Get, "/v1/sessions/{session}", false),
            (Method::Get, "/v1/sessions/s/threads", false),
        ] {
            assert_eq!(manifest.forwards(method, path), forwarded, "{method:?} {path}");
        }
        assert!(!manifest.allows(Method::Get, "/v1/files"));
        let none: Manifest = TEXT.parse().unwrap();
        assert!(!none.forwards(Method::Get, "/v1/agents") && none.allows(Method::Get, "/v1/agents"));
    }

    #[test]
    fn a_rule_that_covers_everything_or_nothing_is_refused() {
        for (methods, path) in [
            (r#"["GET"]"#, ""),
            (r#"["GET"]"#, "/"),
            (r#"["GET"]"#, "v1"),
            (r#"["GET"]"#, "/v1/"),
            (r#"["GET"]"#, "/v1//files"),
            (r#"["GET"]"#, "/v1/../files"),
            (r#"["get"]"#, "/v1"),
            ("[]", "/v1"),
        ] {
            let more = format!("[[forward]]\nmethods = {methods}\npath = \"{path}\"\n");
            let error = format!("{TEXT}\n{more}").parse::<Manifest>().unwrap_err();
            assert!(error.to_string().contains("method"), "{path:?}: {error}");
        }
    }

    #[test]
    fn an_unknown_field_is_refused() {
        let error = format!("{TEXT}\nallowed = []").parse::<Manifest>().unwrap_err();
        assert!(error.to_string().contains("allowed"), "{error}");
    }
}

//! `runtime.toml`, the authority over what a runtime may do. It stands beside the component, outside of the guest.

use std::str::FromStr;

use serde::Deserialize;

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
    pub allow: Vec<Allow>,
}

/// The slot of the credential in a request.
#[derive(Debug, Clone, Deserialize)]
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
#[serde(deny_unknown_fields)]
pub struct Allow {
    /// Its methods.
    pub methods: Vec<String>,
    /// Its path, or the beginning of its path up to a `/`.
    pub path: String,
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
    /// True when the runtime may send such a request.
    #[must_use]
    pub fn allows(&self, method: Method, path: &str) -> bool {
        self.allow.iter().any(|rule| {
            let beneath =
                path.strip_prefix(rule.path.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            beneath && rule.methods.iter().any(|allowed| allowed == method.as_str())
        })
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
    fn an_unknown_field_is_refused() {
        let error = format!("{TEXT}\nallowed = []").parse::<Manifest>().unwrap_err();
        assert!(error.to_string().contains("allowed"), "{error}");
    }
}

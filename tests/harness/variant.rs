//! Components for tests: the bundled runtime for Claude under another name, in as many versions as a test needs.
//!
//! A version is told apart upstream by the header `anthropic-version` of its requests, which is a text in the component.

use lap::id::ComponentDigest;
use serde_json::{Value, json};

use super::{Answer, Client};

/// As long as the name in the component.
pub const ID: &str = "managed_agents_copy_1";
const BUNDLED_ID: &str = "claude_managed_agents";
const BUNDLED_VERSION: &str = "2023-06-01";

pub struct Variant {
    pub manifest: String,
    pub component: Vec<u8>,
    /// What its requests say.
    pub version: String,
}

impl Variant {
    /// The version of a day of December 2023.
    pub fn of(day: u8) -> Self {
        let (manifest, component) = lap::bundled()[0];
        let version = format!("2023-12-{day:02}");
        let renamed = replaced(component, BUNDLED_ID, ID);
        let component = replaced(&renamed, BUNDLED_VERSION, &version);
        Self { manifest: manifest.replace(BUNDLED_ID, ID), component, version }
    }

    pub fn digest(&self) -> String {
        digest(&self.component)
    }

    pub async fn upload(&self, client: &Client) -> Answer {
        upload(client, &self.digest(), self.component.clone()).await
    }

    /// Asks for it to be added, once it was uploaded.
    pub async fn ask(&self, client: &Client, grant: Option<&str>) -> Answer {
        let body = json!({"component": self.digest(), "manifest": self.manifest, "grant": grant});
        client.post("/api/agent-runtimes", &body).await
    }

    /// Uploads and adds it, as an operator does who agrees to everything.
    pub async fn add(&self, client: &Client) -> Value {
        let uploaded = self.upload(client).await;
        assert_eq!(uploaded.status, 201, "{}", uploaded.text);
        let asked = self.ask(client, None).await;
        assert_eq!((asked.status.as_u16(), asked.code().as_str()), (409, "grant_required"), "{}", asked.text);
        let added = self.ask(client, asked.json()["error"]["details"]["grant"].as_str()).await;
        assert_eq!(added.status, 201, "{}", added.text);
        added.json()
    }
}

pub fn digest(bytes: &[u8]) -> String {
    ComponentDigest::of(bytes).to_string()
}

pub async fn upload(client: &Client, digest: &str, bytes: Vec<u8>) -> Answer {
    client.put_bytes(&format!("/api/components/{digest}"), bytes).await
}

/// Other text of the same length, wherever it stands.
fn replaced(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let (mut bytes, mut found) = (bytes.to_vec(), 0);
    for at in 0..bytes.len().saturating_sub(from.len()) {
        if bytes[at..].starts_with(from.as_bytes()) {
            bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
            found += 1;
        }
    }
    assert_ne!(found, 0, "there is no {from} in the component");
    bytes
}

//! What the API tells, as far as pages show it. A field that a host of this version always gives is required: a page that
//! does not understand its own API says so.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, value::RawValue};

#[derive(Deserialize)]
pub(super) struct Runtimes {
    pub(super) runtimes: Vec<Runtime>,
}

/// A runtime, with the credential that is stored for it.
#[derive(Deserialize)]
pub(super) struct Runtime {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) default_api_base: String,
    pub(super) credential_provider_name: String,
    pub(super) api_base: Option<String>,
    pub(super) masked_api_key: Option<String>,
    /// `bundled`, `added` or `alias`.
    pub(super) source: String,
    /// The runtime that an alias stands for.
    #[serde(default)]
    pub(super) alias_of: Option<String>,
    /// What new sessions get; nothing where that cannot be read.
    pub(super) component: Option<String>,
    /// `loaded`, `unloaded` or `failed`.
    pub(super) state: String,
    pub(super) failure: Option<String>,
    pub(super) health: Option<Health>,
    /// The last time that somebody asked the upstream whether it takes the credential.
    #[serde(default)]
    pub(super) probe: Option<Probe>,
}

/// How a component fares, over all sessions.
#[derive(Deserialize)]
pub(super) struct Health {
    /// `well`, `quarantined` or `probing`.
    pub(super) state: String,
    pub(super) crashes: u64,
    pub(super) retry_after_ms: Option<u64>,
}

/// A runtime with all that its operator wants to know of it.
#[derive(Deserialize)]
pub(super) struct RuntimeDetail {
    #[serde(flatten)]
    pub(super) runtime: Runtime,
    /// Nothing where the current version cannot be read.
    #[serde(flatten)]
    pub(super) authority: Option<Authority>,
    /// The latest added first.
    pub(super) versions: Vec<Version>,
}

/// What a manifest grants.
#[derive(Deserialize)]
pub(super) struct Authority {
    pub(super) contract: String,
    pub(super) auth: String,
    pub(super) allow: Vec<String>,
    pub(super) forward: Vec<String>,
}

#[derive(Deserialize)]
pub(super) struct Version {
    pub(super) component: String,
    pub(super) bytes: u64,
    pub(super) imports: Vec<String>,
    pub(super) current: bool,
    /// By RFC 3339.
    pub(super) added_at: String,
    pub(super) state: String,
    pub(super) failure: Option<String>,
    #[serde(flatten)]
    pub(super) authority: Authority,
    pub(super) manifest: String,
}

impl Runtime {
    /// True when a credential is stored, whether it works or not.
    pub(super) const fn has_credential(&self) -> bool {
        self.masked_api_key.is_some()
    }

    /// True for another name of a runtime, also where it cannot be told of which.
    pub(super) fn is_alias(&self) -> bool {
        self.source == "alias"
    }
}

#[derive(Deserialize)]
pub(super) struct Probe {
    /// Nothing where the runtime has no way to find out.
    pub(super) ok: Option<bool>,
    /// In milliseconds since the epoch.
    pub(super) at: u64,
    pub(super) code: Option<String>,
    pub(super) message: Option<String>,
    pub(super) models: Option<u64>,
}

#[derive(Deserialize)]
pub(super) struct Agents {
    pub(super) agents: Vec<Agent>,
}

#[derive(Deserialize)]
pub(super) struct Agent {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) owner_id: String,
    /// `active` or `paused`.
    pub(super) status: String,
    pub(super) model: String,
    pub(super) system: String,
    pub(super) description: Option<String>,
    pub(super) tools: Option<Box<RawValue>>,
    pub(super) config: BTreeMap<String, Box<RawValue>>,
    /// In milliseconds since the epoch.
    pub(super) created_at: u64,
}

impl Agent {
    /// The runtime that its sessions run on.
    pub(super) fn runtime(&self) -> Option<String> {
        self.text("runtime")
    }

    /// The model that its sessions use: `config` has the last word.
    pub(super) fn model(&self) -> String {
        self.text("model").filter(|model| !model.trim().is_empty()).unwrap_or_else(|| self.model.clone())
    }

    /// What its runtime is told beside that, as its owner wrote it; empty for nothing.
    pub(super) fn more(&self) -> String {
        let others: BTreeMap<_, _> =
            self.config.iter().filter(|(key, _)| !["runtime", "model"].contains(&&***key)).collect();
        if others.is_empty() { String::new() } else { serde_json::to_string_pretty(&others).unwrap_or_default() }
    }

    pub(super) fn is_paused(&self) -> bool {
        self.status == "paused"
    }

    fn text(&self, key: &str) -> Option<String> {
        // What is no text names nothing.
        serde_json::from_str(self.config.get(key)?.get()).ok()
    }
}

#[derive(Deserialize)]
pub(super) struct Session {
    pub(super) id: String,
    pub(super) title: String,
    pub(super) agent_id: String,
    pub(super) runtime: String,
    /// The version of the runtime that it is on.
    #[serde(default)]
    pub(super) component: Option<String>,
    pub(super) status: String,
    /// How many messages wait; absent for none.
    #[serde(default)]
    pub(super) queued: u64,
    #[serde(default)]
    pub(super) usage: Option<Usage>,
    pub(super) time: Time,
}

/// What a session has used, as far as anybody tells.
#[derive(Deserialize)]
pub(super) struct Usage {
    #[serde(flatten)]
    counted: Sum,
    #[serde(default)]
    pub(super) active_ms: Option<u64>,
    /// The runtime's own sum, in a form of its own.
    #[serde(default)]
    reported: Value,
}

#[derive(Deserialize)]
struct Sum {
    #[serde(default)]
    input_tokens: Option<u64>,
    #[serde(default)]
    output_tokens: u64,
    #[serde(default)]
    cache_creation_input_tokens: u64,
    #[serde(default)]
    cache_read_input_tokens: u64,
}

/// Tokens of all model requests.
pub(super) struct Tokens {
    input: u64,
    cache_creation: u64,
    pub(super) cache_read: u64,
    pub(super) output: u64,
}

impl Tokens {
    /// What was read, from a cache or not.
    pub(super) const fn read(&self) -> u64 {
        self.input.saturating_add(self.cache_creation).saturating_add(self.cache_read)
    }
}

impl Sum {
    fn tokens(&self) -> Option<Tokens> {
        let Self { input_tokens, output_tokens, cache_creation_input_tokens, cache_read_input_tokens } = *self;
        Some(Tokens {
            input: input_tokens?,
            cache_creation: cache_creation_input_tokens,
            cache_read: cache_read_input_tokens,
            output: output_tokens,
        })
    }
}

impl Usage {
    /// The sum that counts: the runtime's own beats the host's. Nothing where nobody tells.
    pub(super) fn tokens(&self) -> Option<Tokens> {
        // An array would pass for a struct whose fields it lists.
        let own = Some(&self.reported).filter(|reported| reported.is_object());
        let own = own.and_then(|reported| Sum::deserialize(reported).ok());
        own.and_then(|sum| sum.tokens()).or_else(|| self.counted.tokens())
    }

    /// What the runtime says that it has cost. Nothing is reckoned from tokens.
    pub(super) fn cost_usd(&self) -> Option<f64> {
        self.reported["cost_usd"].as_f64()
    }
}

#[derive(Deserialize)]
pub(super) struct Time {
    /// In milliseconds since the epoch.
    pub(super) created: u64,
    pub(super) updated: u64,
}

/// How the host is.
#[derive(Deserialize)]
pub(super) struct Status {
    pub(super) version: String,
    /// In milliseconds since the epoch.
    pub(super) started_at: u64,
    pub(super) sessions: Counts,
    pub(super) store: Store,
    pub(super) vault: Vault,
    pub(super) default_runtime: String,
}

#[derive(Deserialize)]
pub(super) struct Counts {
    /// Those that have something to do.
    pub(super) live: u64,
    pub(super) stored: u64,
}

#[derive(Deserialize)]
pub(super) struct Store {
    pub(super) bytes: u64,
    /// True when the log takes no more writes.
    pub(super) fenced: bool,
}

#[derive(Deserialize)]
pub(super) struct Vault {
    pub(super) key_id: String,
    pub(super) bytes: u64,
}

#[derive(Deserialize)]
pub(super) struct Keys {
    pub(super) keys: Vec<Key>,
}

/// A key of the API. Its times are in seconds since the epoch.
#[derive(Deserialize)]
pub(super) struct Key {
    pub(super) id: String,
    pub(super) label: Option<String>,
    /// `reader`, `member` or `admin`.
    pub(super) role: String,
    pub(super) owner_id: Option<String>,
    pub(super) created_at: u64,
    pub(super) last_used_at: Option<u64>,
    pub(super) expires_at: Option<u64>,
}

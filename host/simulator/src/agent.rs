//! Agents: what a client defines, resolved as the service resolves it, and the versions of that.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    clock::Moment,
    patch::{self, Unfit},
};

/// What a client can define; what it leaves out has the service's default.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Definition {
    name: String,
    model: Model,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    system: Option<String>,
    #[serde(default)]
    tools: Vec<Tool>,
    #[serde(default)]
    mcp_servers: Vec<Value>,
    #[serde(default)]
    skills: Vec<Value>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    #[serde(default)]
    multiagent: Option<Value>,
    #[serde(default = "service_account")]
    execution_identity: Value,
}

fn service_account() -> Value {
    json!({"type": "service_account"})
}

/// Sent as text or as an object, shown as an object.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "ModelParam")]
struct Model {
    id: String,
    effort: Value,
    speed: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    inference_geo: Option<Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ModelParam {
    Id(String),
    Config { id: String, effort: Option<Value>, speed: Option<Value>, inference_geo: Option<Value> },
}

impl From<ModelParam> for Model {
    fn from(param: ModelParam) -> Self {
        let (id, effort, speed, inference_geo) = match param {
            ModelParam::Id(id) => (id, None, None, None),
            ModelParam::Config { id, effort, speed, inference_geo } => (id, effort, speed, inference_geo),
        };
        let effort = match effort {
            None => json!({"type": "high"}),
            Some(Value::String(level)) => json!({"type": level}),
            Some(object) => object,
        };
        Self { id, effort, speed: speed.unwrap_or_else(|| "standard".into()), inference_geo }
    }
}

/// A tool, with every choice that the client left open made.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Value")]
struct Tool(Value);

impl From<Value> for Tool {
    fn from(tool: Value) -> Self {
        const TOOLSET: [&str; 8] = ["bash", "edit", "read", "write", "glob", "grep", "web_fetch", "web_search"];
        let default = resolved(&tool["default_config"], &json!({}));
        let given = tool["configs"].as_array().map(Vec::as_slice).unwrap_or_default();
        let kind = tool["type"].as_str().unwrap_or_default();
        match kind {
            "agent_toolset_20260401" => {
                let config = |name| {
                    let given = given.iter().find(|config| config["name"] == name).unwrap_or(&Value::Null);
                    with(resolved(given, &default), &[("name", name), ("type", name)])
                };
                let configs: Vec<_> = TOOLSET.into_iter().map(config).collect();
                Self(json!({"type": kind, "configs": configs, "default_config": default}))
            }
            "mcp_toolset" => {
                let configs: Vec<_> = given.iter().map(|config| resolved(config, &default)).collect();
                let server = &tool["mcp_server_name"];
                Self(json!({"type": kind, "mcp_server_name": server, "configs": configs, "default_config": default}))
            }
            _ => Self(tool),
        }
    }
}

/// A tool's settings, with what is left open taken from `default` or else from the service.
fn resolved(given: &Value, default: &Value) -> Value {
    let mut config = if given.is_object() { given.clone() } else { json!({}) };
    for (key, service) in [("enabled", json!(true)), ("permission_policy", json!({"type": "always_allow"}))] {
        if config.get(key).is_none_or(Value::is_null) {
            config[key] = default.get(key).cloned().unwrap_or(service);
        }
    }
    config
}

fn with(mut config: Value, fields: &[(&str, &str)]) -> Value {
    for (key, value) in fields {
        config[*key] = (*value).into();
    }
    config
}

/// One version of an agent, as it is shown.
#[derive(Clone, Serialize)]
pub(crate) struct Version {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    definition: Definition,
    version: u32,
    created_at: Moment,
    updated_at: Moment,
    archived_at: Option<Moment>,
    /// What sessions without wishes of their own keep, shared by all of them.
    #[serde(skip)]
    snapshot: OnceLock<Arc<Map<String, Value>>>,
}

/// An agent: all its versions, by number.
pub(crate) struct Agent {
    pub(crate) versions: BTreeMap<u32, Version>,
    latest: u32,
}

/// Why an agent is not changed.
pub(crate) enum NotUpdated {
    /// The client does not know the latest version.
    Stale,
    Unfit(Unfit),
}

impl Agent {
    pub(crate) fn create(id: String, definition: Map<String, Value>) -> Result<Self, Unfit> {
        let definition = patch::build(definition)?;
        let now = Moment::now();
        let version = Version {
            id,
            kind: "agent",
            definition,
            version: 1,
            created_at: now,
            updated_at: now,
            archived_at: None,
            snapshot: OnceLock::new(),
        };
        Ok(Self { versions: BTreeMap::from([(1, version)]), latest: 1 })
    }

    pub(crate) fn latest(&self) -> &Version {
        &self.versions[&self.latest]
    }

    /// Makes a new version, unless nothing changes.
    pub(crate) fn update(&mut self, mut changes: Map<String, Value>) -> Result<&Version, NotUpdated> {
        let expected = changes.remove("version").filter(|version| !version.is_null());
        if expected.is_some_and(|version| version != self.latest) {
            return Err(NotUpdated::Stale);
        }
        let definition = patch::apply(&self.latest().definition, changes).map_err(NotUpdated::Unfit)?;
        if definition != self.latest().definition {
            let version = self.latest + 1;
            let (updated_at, snapshot) = (Moment::now(), OnceLock::new());
            let updated = Version { definition, version, updated_at, snapshot, ..self.latest().clone() };
            self.versions.insert(version, updated);
            self.latest = version;
        }
        Ok(self.latest())
    }

    pub(crate) fn archive(&mut self) -> &Version {
        let now = Moment::now();
        for version in self.versions.values_mut() {
            version.archived_at.get_or_insert(now);
        }
        self.latest()
    }
}

impl Version {
    pub(crate) const fn created_at(&self) -> Moment {
        self.created_at
    }

    pub(crate) const fn is_archived(&self) -> bool {
        self.archived_at.is_some()
    }

    /// The agent as a session keeps it, with the session's own wishes in place of what they name.
    pub(crate) fn snapshot(&self, overrides: Map<String, Value>) -> Result<Arc<Map<String, Value>>, Unfit> {
        if overrides.is_empty() {
            return Ok(Arc::clone(self.snapshot.get_or_init(|| Arc::new(self.shown(&self.definition)))));
        }
        let definition = patch::apply(&self.definition, overrides)?;
        Ok(Arc::new(self.shown(&definition)))
    }

    fn shown(&self, definition: &Definition) -> Map<String, Value> {
        let mut agent = patch::shown(definition);
        agent.remove("metadata");
        agent.insert("id".to_owned(), self.id.as_str().into());
        agent.insert("type".to_owned(), self.kind.into());
        agent.insert("version".to_owned(), self.version.into());
        agent
    }
}

/// A session's agent with other `tools` or `mcp_servers`: all that can change while the session lives.
pub(crate) fn equipped(agent: &Map<String, Value>, changes: Map<String, Value>) -> Result<Map<String, Value>, Unfit> {
    let mut agent = agent.clone();
    for (key, change) in changes {
        let list = match change {
            Value::Null => Vec::new(),
            Value::Array(list) => list,
            _ => return Err(Unfit(format!("agent.{key}: Input should be a valid list"))),
        };
        let list = match key.as_str() {
            "tools" => list.into_iter().map(|tool| Tool::from(tool).0).collect(),
            "mcp_servers" => list,
            _ => return Err(Unfit(format!("agent.{key}: Extra inputs are not permitted"))),
        };
        agent.insert(key, Value::Array(list));
    }
    Ok(agent)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_is_left_out_is_resolved() {
        let tools = json!([{"type": "agent_toolset_20260401", "configs": [{"name": "bash", "enabled": false}]}]);
        let agent = Agent::create("agent_1".to_owned(), object(json!({"name": "a", "model": "m", "tools": tools})));
        let shown = serde_json::to_value(agent.unwrap_or_else(|_| unreachable!()).latest()).unwrap();
        assert_eq!(shown["model"], json!({"id": "m", "effort": {"type": "high"}, "speed": "standard"}));
        let allow = json!({"type": "always_allow"});
        let configs = &shown["tools"][0]["configs"];
        assert_eq!(configs[0], json!({"name": "bash", "type": "bash", "enabled": false, "permission_policy": allow}));
        assert_eq!((&configs[7]["name"], &configs[7]["enabled"]), (&json!("web_search"), &json!(true)));
        assert_eq!(shown["tools"][0]["default_config"], json!({"enabled": true, "permission_policy": allow}));
        assert_eq!((&shown["description"], &shown["archived_at"]), (&Value::Null, &Value::Null));
        assert_eq!(shown["execution_identity"], json!({"type": "service_account"}));
    }

    #[test]
    fn versions_go_up_with_changes_only() {
        let mut agent = Agent::create("agent_1".to_owned(), object(json!({"name": "a", "model": "m"}))).ok().unwrap();
        let mut update = |changes| agent.update(object(changes)).map(|version| version.version).ok();
        assert_eq!(update(json!({"name": "a"})), Some(1));
        assert_eq!(update(json!({"system": "s", "version": 1})), Some(2));
        assert_eq!(update(json!({"system": null, "version": 1})), None);
        assert_eq!(update(json!({"system": null})), Some(3));
        assert_eq!(update(json!({"name": null})), None);
        assert_eq!(update(json!({"colour": "red"})), None);
    }
}

//! Environments. Nothing runs in them here; they are kept and shown.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    clock::Moment,
    patch::{self, Unfit},
};

/// What a client can define.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Definition {
    name: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    config: Config,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
}

/// Sent in part, shown in full.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Value")]
struct Config(Value);

impl Default for Config {
    fn default() -> Self {
        json!({"type": "cloud"}).into()
    }
}

impl From<Value> for Config {
    fn from(mut config: Value) -> Self {
        if config["type"] == "cloud" {
            fill(&mut config, "networking", json!({"type": "unrestricted"}));
            fill(&mut config, "packages", json!({}));
            for manager in ["apt", "cargo", "gem", "go", "npm", "pip"] {
                fill(&mut config["packages"], manager, json!([]));
            }
            if config["networking"]["type"] == "limited" {
                fill(&mut config["networking"], "allowed_hosts", json!([]));
                fill(&mut config["networking"], "allow_mcp_servers", json!(false));
                fill(&mut config["networking"], "allow_package_managers", json!(false));
            }
        }
        Self(config)
    }
}

fn fill(object: &mut Value, key: &str, default: Value) {
    if let Some(fields) = object.as_object_mut()
        && fields.get(key).is_none_or(Value::is_null)
    {
        fields.insert(key.to_owned(), default);
    }
}

/// An environment, as it is shown.
#[derive(Clone, Serialize)]
pub(crate) struct Environment {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    definition: Definition,
    created_at: Moment,
    updated_at: Moment,
    archived_at: Option<Moment>,
}

impl Environment {
    pub(crate) fn create(id: String, definition: Map<String, Value>) -> Result<Self, Unfit> {
        let definition = patch::build(definition)?;
        let now = Moment::now();
        Ok(Self { id, kind: "environment", definition, created_at: now, updated_at: now, archived_at: None })
    }

    pub(crate) fn update(&mut self, changes: Map<String, Value>) -> Result<(), Unfit> {
        let definition = patch::apply(&self.definition, changes)?;
        if definition != self.definition {
            self.definition = definition;
            self.updated_at = Moment::now();
        }
        Ok(())
    }

    pub(crate) fn archive(&mut self) {
        self.archived_at.get_or_insert_with(Moment::now);
    }

    pub(crate) const fn is_archived(&self) -> bool {
        self.archived_at.is_some()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn a_config_is_shown_in_full() {
        let definition = json!({"name": "e", "config": {"type": "cloud", "networking": {"type": "limited"}}});
        let environment = Environment::create("env_1".to_owned(), definition.as_object().unwrap().clone()).unwrap();
        let shown = serde_json::to_value(environment).unwrap();
        let limited = json!({"type": "limited", "allowed_hosts": [], "allow_mcp_servers": false, "allow_package_managers": false});
        assert_eq!(shown["config"]["networking"], limited);
        assert_eq!(shown["config"]["packages"]["npm"], json!([]));
        assert_eq!(
            serde_json::to_value(Config(json!({"type": "self_hosted"}))).unwrap(),
            json!({"type": "self_hosted"})
        );
    }
}

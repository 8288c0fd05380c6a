//! An agent's tools as this dialect shows them: with every choice made that their owner left open.

use serde_json::{Map, Value, json, value::RawValue};

use crate::runtime::Profile;

const TOOLSET: &str = "agent_toolset_20260401";
const MCP_TOOLSET: &str = "mcp_toolset";

/// The tools of that set. A runtime has these or some of them.
const BUILT_IN: [&str; 8] = ["bash", "edit", "read", "write", "glob", "grep", "web_fetch", "web_search"];

/// The tools of an agent, in the form of this dialect. `given` is what its owner wrote, in either dialect: nothing means
/// all that the runtime has.
pub(super) fn resolved(given: Option<&RawValue>, runtime: Option<&Profile>) -> Vec<Value> {
    let Some(given) = given else { return vec![toolset(&json!({}), runtime)] };
    // What is no list was refused when it was given.
    let given: Vec<Value> = serde_json::from_str(given.get()).unwrap_or_default();
    let (typed, named): (Vec<_>, Vec<_>) = given.into_iter().partition(|tool| tool["type"].is_string());
    let switches: Vec<Value> = named.iter().filter_map(|tool| switch(tool, runtime)).collect();
    let mut tools = Vec::new();
    if !switches.is_empty() {
        // A list that only switches off leaves the others as they are.
        let chosen = switches.iter().any(|switch| switch["enabled"] == true);
        let default = if chosen { json!({"enabled": false}) } else { json!({}) };
        tools.push(toolset(&json!({"default_config": default, "configs": switches}), runtime));
    }
    tools.extend(typed.into_iter().map(|tool| match tool["type"].as_str() {
        Some(TOOLSET) => toolset(&tool, runtime),
        Some(MCP_TOOLSET) => mcp_toolset(&tool),
        _ => tool,
    }));
    tools
}

/// A tool that the platform's own dialect chooses: a name, or an object with one.
fn switch(tool: &Value, runtime: Option<&Profile>) -> Option<Value> {
    let name = tool.as_str().or_else(|| tool["id"].as_str()).or_else(|| tool["name"].as_str())?;
    let known = runtime.map(|runtime| runtime.description().tools.as_slice()).unwrap_or_default();
    let id = known.iter().find(|tool| tool.name == name).map_or(name, |tool| tool.id.as_str());
    Some(json!({"name": id, "enabled": tool["enabled"].as_bool().unwrap_or(true)}))
}

fn toolset(given: &Value, runtime: Option<&Profile>) -> Value {
    let default = config(&given["default_config"], &allowed("always_allow"));
    let configs = given["configs"].as_array().map(Vec::as_slice).unwrap_or_default();
    let has = |name: &str| runtime.is_none_or(|runtime| runtime.description().tools.iter().any(|tool| tool.id == name));
    let configs: Vec<Value> = BUILT_IN
        .into_iter()
        .filter(|name| has(name))
        .map(|name| {
            let given = configs.iter().find(|config| config["name"] == name).unwrap_or(&Value::Null);
            let mut config = config(given, &default);
            config["name"] = name.into();
            config["type"] = name.into();
            if name == "web_fetch" && config.get("url_sources").is_none() {
                config["url_sources"] = Value::Null;
            }
            config
        })
        .collect();
    json!({"type": TOOLSET, "configs": configs, "default_config": default})
}

fn mcp_toolset(given: &Value) -> Value {
    let default = config(&given["default_config"], &allowed("always_ask"));
    let configs = given["configs"].as_array().map(Vec::as_slice).unwrap_or_default();
    let configs: Vec<Value> = configs.iter().map(|given| config(given, &default)).collect();
    json!({
        "type": MCP_TOOLSET,
        "mcp_server_name": given["mcp_server_name"],
        "configs": configs,
        "default_config": default,
    })
}

/// What holds for a tool of which its owner says nothing.
fn allowed(policy: &str) -> Value {
    json!({"enabled": true, "permission_policy": {"type": policy}})
}

/// A tool's settings, with what is left open taken from `default`.
fn config(given: &Value, default: &Value) -> Value {
    let mut config = given.as_object().cloned().unwrap_or_else(Map::new);
    for key in ["enabled", "permission_policy"] {
        if config.get(key).is_none_or(Value::is_null) {
            config.insert(key.to_owned(), default[key].clone());
        }
    }
    Value::Object(config)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn shown(given: &str) -> Vec<Value> {
        resolved(Some(&RawValue::from_string(given.to_owned()).unwrap()), None)
    }

    fn enabled(toolset: &Value) -> Vec<&str> {
        let configs = toolset["configs"].as_array().unwrap();
        configs
            .iter()
            .filter(|config| config["enabled"] == true)
            .map(|config| config["name"].as_str().unwrap())
            .collect()
    }

    #[test]
    fn a_toolset_shows_each_of_its_tools() {
        let tools = shown(r#"[{"type":"agent_toolset_20260401","configs":[{"name":"bash","enabled":false}]}]"#);
        let allow = json!({"type": "always_allow"});
        assert_eq!(enabled(&tools[0]), &BUILT_IN[1..]);
        let bash = json!({"name": "bash", "type": "bash", "enabled": false, "permission_policy": allow});
        assert_eq!(tools[0]["configs"][0], bash);
        let fetch = json!({"name": "web_fetch", "type": "web_fetch", "enabled": true, "permission_policy": allow, "url_sources": null});
        assert_eq!(tools[0]["configs"][6], fetch);
        assert_eq!(tools[0]["default_config"], json!({"enabled": true, "permission_policy": allow}));
        assert_eq!(resolved(None, None), shown(r#"[{"type":"agent_toolset_20260401"}]"#));
    }

    #[test]
    fn the_platforms_names_choose_among_them() {
        assert_eq!(enabled(&shown(r#"["bash",{"id":"read"},{"name":"grep","enabled":false}]"#)[0]), ["bash", "read"]);
        assert_eq!(enabled(&shown(r#"[{"id":"bash","enabled":false}]"#)[0]), &BUILT_IN[1..]);
        assert!(shown("[]").is_empty());
    }

    #[test]
    fn other_tools_ask_or_stay_as_they_are() {
        let custom = json!({"type": "custom", "name": "f", "description": "d", "input_schema": {"type": "object"}});
        let given = json!([{"type": "mcp_toolset", "mcp_server_name": "docs", "configs": [{"name": "a"}]}, custom]);
        let ask = json!({"enabled": true, "permission_policy": {"type": "always_ask"}});
        let config = json!({"name": "a", "enabled": true, "permission_policy": {"type": "always_ask"}});
        let mcp = json!({"type": "mcp_toolset", "mcp_server_name": "docs", "configs": [config], "default_config": ask});
        assert_eq!(shown(&given.to_string()), [mcp, custom]);
    }
}

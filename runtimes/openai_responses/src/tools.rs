//! An agent's tools as the Responses API names them.

use std::collections::BTreeMap;

use lap_runtime_sdk::{Error, ErrorKind, Tool};
use serde_json::{Value, json};

/// A tool that OpenAI runs itself.
pub(crate) struct BuiltIn {
    id: &'static str,
    name: &'static str,
    description: &'static str,
    default: bool,
}

pub(crate) const BUILT_IN: [BuiltIn; 2] = [
    BuiltIn { id: "web_search", name: "Web search", description: "Searches the web.", default: true },
    BuiltIn { id: "code_interpreter", name: "Python", description: "Runs Python in a container.", default: false },
];

impl From<&BuiltIn> for Tool {
    fn from(tool: &BuiltIn) -> Self {
        Self {
            id: tool.id.to_owned(),
            name: tool.name.to_owned(),
            description: tool.description.to_owned(),
            enabled_by_default: tool.default,
        }
    }
}

fn built_in(name: &str) -> Option<Value> {
    let tool = BUILT_IN.iter().find(|tool| tool.id == name || tool.name == name)?;
    Some(match tool.id {
        "code_interpreter" => json!({"type": tool.id, "container": {"type": "auto"}}),
        id => json!({"type": id}),
    })
}

/// The tools of an agent: nothing given means those that are there by default.
///
/// # Errors
/// Names the tool that this API does not have.
pub(crate) fn of(tools: Option<&str>, config: &str) -> Result<Vec<Value>, Error> {
    let refuse = |message: String| Error::new(ErrorKind::BadRequest, message);
    let Some(tools) = tools else {
        return Ok(BUILT_IN.iter().filter(|tool| tool.default).filter_map(|tool| built_in(tool.id)).collect());
    };
    let tools: Vec<Value> =
        serde_json::from_str(tools).map_err(|error| refuse(format!("the agent's tools cannot be used: {error}")))?;
    let mut named = Vec::new();
    for tool in &tools {
        match tool["type"].as_str() {
            Some("custom") => named.push(json!({
                "type": "function", "name": tool["name"], "description": tool["description"],
                "parameters": tool["input_schema"], "strict": false,
            })),
            Some("mcp_toolset") => named.push(mcp(tool, config)?),
            // Of that set only the search is here; the others need a machine.
            Some("agent_toolset_20260401") if searches(tool) => named.extend(built_in("web_search")),
            Some("agent_toolset_20260401") => {}
            Some(_) => named.push(tool.clone()),
            None => {
                let name = tool.as_str().or_else(|| tool["id"].as_str()).or_else(|| tool["name"].as_str());
                if tool["enabled"] == false {
                    continue;
                }
                let known = name.and_then(built_in);
                named.push(known.ok_or_else(|| refuse(format!("there is no tool {:?}", name.unwrap_or_default())))?);
            }
        }
    }
    Ok(named)
}

fn searches(toolset: &Value) -> bool {
    let configs = toolset["configs"].as_array().map(Vec::as_slice).unwrap_or_default();
    let own = configs.iter().find(|config| config["name"] == "web_search").map(|config| &config["enabled"]);
    let enabled = own.filter(|enabled| enabled.is_boolean()).unwrap_or(&toolset["default_config"]["enabled"]);
    *enabled != false
}

fn mcp(toolset: &Value, config: &str) -> Result<Value, Error> {
    let config: BTreeMap<String, Value> = serde_json::from_str(config).unwrap_or_default();
    let name = toolset["mcp_server_name"].as_str().unwrap_or_default();
    let url = match config.get("mcp_servers") {
        Some(Value::Array(servers)) => {
            servers.iter().find(|server| server["name"] == name).map(|server| &server["url"])
        }
        Some(Value::Object(servers)) => servers.get(name).map(|server| &server["url"]),
        _ => None,
    };
    let missing = || Error::new(ErrorKind::BadRequest, format!("the agent has no MCP server {name:?}"));
    let approval = match toolset["default_config"]["permission_policy"]["type"].as_str() {
        Some("always_allow") => "never",
        _ => "always",
    };
    let url = url.ok_or_else(missing)?;
    Ok(json!({"type": "mcp", "server_label": name, "server_url": url, "require_approval": approval}))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn tools_of_each_form_are_named() {
        let config = r#"{"mcp_servers":[{"name":"docs","url":"https://mcp.example/sse"}]}"#;
        for (given, expected) in [
            (None, json!([{"type": "web_search"}])),
            (
                Some(r#"["Python",{"id":"web_search"}]"#),
                json!([{"type": "code_interpreter", "container": {"type": "auto"}}, {"type": "web_search"}]),
            ),
            (
                Some(r#"[{"type":"custom","name":"f","description":"d","input_schema":{"type":"object"}}]"#),
                json!([{"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": false}]),
            ),
            (
                Some(r#"[{"type":"mcp_toolset","mcp_server_name":"docs"}]"#),
                json!([{"type": "mcp", "server_label": "docs", "server_url": "https://mcp.example/sse", "require_approval": "always"}]),
            ),
            (Some(r#"[{"type":"agent_toolset_20260401"}]"#), json!([{"type": "web_search"}])),
            (
                Some(
                    r#"[{"type":"agent_toolset_20260401","default_config":{"enabled":false},"configs":[{"name":"bash","enabled":true}]}]"#,
                ),
                json!([]),
            ),
        ] {
            assert_eq!(json!(of(given, config).unwrap()), expected, "{given:?}");
        }
        for bad in [r#"["bash"]"#, r#"[{"type":"mcp_toolset","mcp_server_name":"none"}]"#, "{}"] {
            assert_eq!(of(Some(bad), config).unwrap_err().kind, ErrorKind::BadRequest, "{bad}");
        }
    }
}

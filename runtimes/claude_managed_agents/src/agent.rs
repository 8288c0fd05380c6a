//! What all sessions of an agent share upstream: an agent and an environment.

use std::collections::BTreeMap;

use lap_runtime_sdk::{AgentSpec, Error, ErrorKind, Response, Tool, Upstream};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::post;

/// One of the tools that Anthropic runs in the environment.
pub(crate) struct BuiltIn {
    id: &'static str,
    name: &'static str,
    description: &'static str,
}

/// The tools of `agent_toolset_20260401`.
pub(crate) const TOOLS: [BuiltIn; 8] = [
    BuiltIn { id: "bash", name: "Shell", description: "Runs shell commands in the environment." },
    BuiltIn { id: "read", name: "Read", description: "Reads files of the environment." },
    BuiltIn { id: "write", name: "Write", description: "Creates files, and replaces their whole content." },
    BuiltIn { id: "edit", name: "Edit", description: "Replaces passages within files." },
    BuiltIn { id: "glob", name: "Find files", description: "Finds files by patterns of their names." },
    BuiltIn { id: "grep", name: "Search files", description: "Finds lines of files by regular expressions." },
    BuiltIn { id: "web_fetch", name: "Fetch", description: "Reads a web page whose address is known." },
    BuiltIn { id: "web_search", name: "Web search", description: "Searches the web." },
];

const TOOLSET: &str = "agent_toolset_20260401";

impl From<&BuiltIn> for Tool {
    fn from(tool: &BuiltIn) -> Self {
        Self {
            id: tool.id.to_owned(),
            name: tool.name.to_owned(),
            description: tool.description.to_owned(),
            enabled_by_default: true,
        }
    }
}

/// What `provision` tells `open`, as JSON.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Provision {
    /// The upstream's agent.
    pub(crate) agent: String,
    /// The version that this agent got, where it can be asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<u32>,
    /// The upstream's environment.
    pub(crate) environment: String,
}

#[derive(Serialize)]
struct NewAgent<'a> {
    name: &'a str,
    model: Model<'a>,
    #[serde(skip_serializing_if = "str::is_empty")]
    system: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    tools: Vec<NewTool<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mcp_servers: Vec<McpServer>,
    metadata: Metadata<'a>,
}

#[derive(Serialize)]
struct Model<'a> {
    id: &'a str,
}

#[derive(Serialize)]
struct Metadata<'a> {
    local_agent_id: &'a str,
    source: &'static str,
}

#[derive(Serialize)]
struct McpServer {
    r#type: &'static str,
    name: String,
    url: String,
}

#[derive(Serialize)]
struct NewEnvironment<'a> {
    name: &'a str,
    config: &'a RawValue,
}

#[derive(Serialize)]
#[serde(untagged)]
enum NewTool<'a> {
    /// As the agent's owner wrote it.
    Given(&'a RawValue),
    Chosen(Toolset),
}

#[derive(Serialize)]
struct Toolset {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_config: Option<Switch>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    configs: Vec<ToolSwitch>,
}

#[derive(Serialize)]
struct Switch {
    enabled: bool,
}

#[derive(Serialize)]
struct ToolSwitch {
    name: &'static str,
    enabled: bool,
}

/// The parts of an agent's `config` that this runtime reads.
#[derive(Deserialize)]
struct Config<'a> {
    #[serde(borrow, default)]
    mcp_servers: Option<&'a RawValue>,
    #[serde(borrow, default)]
    environment: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Created {
    id: String,
    /// A number; harnesses may give anything.
    version: Option<Box<RawValue>>,
}

impl Created {
    /// What is provisioned is kept and used for every session of the agent: a name that is none would be for good.
    fn read(response: &Response) -> Result<Self, Error> {
        let created: Self = response.json()?;
        if created.id.is_empty() {
            return Err(Error::not_understood(response, "its id is empty"));
        }
        Ok(created)
    }
}

pub(crate) fn provision(upstream: &mut dyn Upstream, agent: &AgentSpec) -> Result<String, Error> {
    let config: Config<'_> = written_by_owner("config", &agent.config)?;
    let new = NewAgent {
        name: &agent.name,
        model: Model { id: &agent.model },
        system: &agent.system,
        description: agent.description.as_deref().filter(|text| !text.is_empty()),
        tools: tools(agent.tools.as_deref())?,
        mcp_servers: mcp_servers(config.mcp_servers)?,
        metadata: Metadata { local_agent_id: &agent.id, source: "lap" },
    };
    let created = Created::read(&upstream.call(post("/v1/agents", &new)?)?)?;
    let default = serde_json::from_str(r#"{"type":"cloud","networking":{"type":"unrestricted"}}"#);
    let default: &RawValue = default.map_err(|error| Error::new(ErrorKind::Internal, error.to_string()))?;
    let new = NewEnvironment {
        name: &format!("{} environment", agent.name),
        config: config.environment.filter(|config| config.get().starts_with('{')).unwrap_or(default),
    };
    let environment = Created::read(&upstream.call(post("/v1/environments", &new)?)?)?;
    // Harnesses answer a version as well, and take an agent's bare id only; Anthropic's ids begin like this.
    let version = created.version.filter(|_| created.id.starts_with("agent_"));
    let version = version.and_then(|version| version.get().parse().ok());
    let provision = Provision { agent: created.id, version, environment: environment.id };
    serde_json::to_string(&provision).map_err(|error| Error::new(ErrorKind::Internal, error.to_string()))
}

/// Reads what the agent's owner wrote, which is not the upstream's fault when it makes no sense.
fn written_by_owner<'a, T: Deserialize<'a>>(what: &str, json: &'a str) -> Result<T, Error> {
    serde_json::from_str(json)
        .map_err(|error| Error::new(ErrorKind::BadRequest, format!("the agent's {what} cannot be used: {error}")))
}

/// The agent's tools in Anthropic's form. A list of names switches these on and all others off.
fn tools(tools: Option<&str>) -> Result<Vec<NewTool<'_>>, Error> {
    let Some(tools) = tools else {
        return Ok(vec![NewTool::Chosen(Toolset { r#type: TOOLSET, default_config: None, configs: Vec::new() })]);
    };
    let entries: Vec<&RawValue> = written_by_owner("tools", tools)?;
    let mut new = Vec::with_capacity(entries.len());
    let mut configs = Vec::new();
    for entry in entries {
        let Chosen { r#type, id, name, enabled } = if entry.get().starts_with('"') {
            Chosen { id: Some(written_by_owner("tools", entry.get())?), ..Chosen::default() }
        } else {
            written_by_owner("tools", entry.get())?
        };
        match id.or(name) {
            _ if r#type.is_some() => new.push(NewTool::Given(entry)),
            Some(tool) => configs.push(switch(&tool, enabled.unwrap_or(true))?),
            None => return Err(Error::new(ErrorKind::BadRequest, "a tool of the agent has neither a type nor an id")),
        }
    }
    if !configs.is_empty() {
        // A list that only switches off leaves the others as they are.
        let default_config = configs.iter().any(|config| config.enabled).then_some(Switch { enabled: false });
        new.insert(0, NewTool::Chosen(Toolset { r#type: TOOLSET, default_config, configs }));
    }
    Ok(new)
}

/// A tool as the owner of an agent chooses it. One with a `type` is a tool in Anthropic's form.
#[derive(Deserialize, Default)]
struct Chosen {
    r#type: Option<String>,
    id: Option<String>,
    name: Option<String>,
    enabled: Option<bool>,
}

fn switch(name: &str, enabled: bool) -> Result<ToolSwitch, Error> {
    let tool = TOOLS.iter().find(|tool| tool.id == name || tool.name == name).ok_or_else(|| {
        let known = TOOLS.map(|tool| tool.id).join(", ");
        Error::new(ErrorKind::BadRequest, format!("there is no tool {name:?}; there are {known}"))
    })?;
    Ok(ToolSwitch { name: tool.id, enabled })
}

/// A list of servers, or an object of them by their names; what else is said about one stays here, since the upstream
/// refuses fields that it does not know.
fn mcp_servers(servers: Option<&RawValue>) -> Result<Vec<McpServer>, Error> {
    #[derive(Deserialize)]
    struct Given {
        name: Option<String>,
        url: String,
    }
    let Some(servers) = servers else { return Ok(Vec::new()) };
    let server = |name, url| McpServer { r#type: "url", name, url };
    if servers.get().starts_with('{') {
        let servers: BTreeMap<String, Given> = written_by_owner("mcp_servers", servers.get())?;
        return Ok(servers.into_iter().map(|(name, given)| server(name, given.url)).collect());
    }
    let servers: Vec<Given> = written_by_owner("mcp_servers", servers.get())?;
    let nameless = || Error::new(ErrorKind::BadRequest, "an MCP server of the agent has no name");
    servers.into_iter().map(|given| Ok(server(given.name.ok_or_else(nameless)?, given.url))).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use lap_runtime_sdk::{Script, SendError};

    use super::*;

    const CREATED: [(u32, &str); 2] = [
        (200, r#"{"id":"agent_01","type":"agent","version":1,"model":{"id":"m"}}"#),
        (200, r#"{"id":"env_01","type":"environment"}"#),
    ];

    fn spec() -> AgentSpec {
        AgentSpec {
            id: "agent_local".to_owned(),
            name: "Ada".to_owned(),
            model: "claude-opus-4-5".to_owned(),
            system: "You are \"Ada\".".to_owned(),
            description: Some("Counts".to_owned()),
            tools: None,
            config: "{}".to_owned(),
        }
    }

    /// The two bodies that are sent to provision an agent.
    fn bodies(agent: &AgentSpec) -> [String; 2] {
        let mut script = Script::new(CREATED);
        provision(&mut script, agent).unwrap();
        let paths: Vec<_> = script.requests.iter().map(|request| request.path.as_str()).collect();
        assert_eq!(paths, ["/v1/agents", "/v1/environments"]);
        let mut bodies = script.requests.into_iter().filter_map(|request| request.body);
        [bodies.next().unwrap(), bodies.next().unwrap()]
    }

    fn sent_tools(tools: &str) -> String {
        let [agent, _] = bodies(&AgentSpec { tools: Some(tools.to_owned()), ..spec() });
        let (_, tools) = agent.split_once(r#""tools":"#).unwrap();
        let (tools, _) = tools.split_once(r#","metadata""#).unwrap();
        tools.to_owned()
    }

    #[test]
    fn an_agent_and_its_environment_are_created() {
        let [agent, environment] = bodies(&spec());
        assert_eq!(
            agent,
            r#"{"name":"Ada","model":{"id":"claude-opus-4-5"},"system":"You are \"Ada\".","description":"Counts","tools":[{"type":"agent_toolset_20260401"}],"metadata":{"local_agent_id":"agent_local","source":"lap"}}"#
        );
        assert_eq!(
            environment,
            r#"{"name":"Ada environment","config":{"type":"cloud","networking":{"type":"unrestricted"}}}"#
        );
    }

    #[test]
    fn what_is_empty_is_not_sent() {
        let [agent, _] = bodies(&AgentSpec { system: String::new(), description: Some(String::new()), ..spec() });
        assert_eq!(
            agent,
            r#"{"name":"Ada","model":{"id":"claude-opus-4-5"},"tools":[{"type":"agent_toolset_20260401"}],"metadata":{"local_agent_id":"agent_local","source":"lap"}}"#
        );
    }

    #[test]
    fn the_config_says_environment_and_mcp_servers() {
        let with = |config: &str| bodies(&AgentSpec { config: config.to_owned(), ..spec() });
        let servers = r#""mcp_servers":[{"type":"url","name":"docs","url":"https://mcp.example/sse"}],"metadata""#;
        for config in [
            r#"{"runtime":"claude_managed_agents","mcp_servers":[{"name":"docs","url":"https://mcp.example/sse","x":1}]}"#,
            r#"{"mcp_servers":{"docs":{"url":"https://mcp.example/sse"}}}"#,
        ] {
            let [agent, _] = with(config);
            assert!(agent.contains(servers), "{agent}");
        }
        let [_, environment] = with(r#"{"environment":{"type":"self_hosted"}}"#);
        assert_eq!(environment, r#"{"name":"Ada environment","config":{"type":"self_hosted"}}"#);
        let [agent, environment] = with(r#"{"environment":"of another kind","mcp_servers":null}"#);
        assert!(environment.contains(r#""type":"cloud""#) && !agent.contains("mcp_servers"));
    }

    #[test]
    fn tools_in_anthropics_form_pass_and_names_choose_among_the_built_in_ones() {
        for (given, sent) in [
            ("[]", "[]"),
            (
                r#"[{"type":"agent_toolset_20260401","configs":[]}, {"type":"custom","name":"f"}]"#,
                r#"[{"type":"agent_toolset_20260401","configs":[]},{"type":"custom","name":"f"}]"#,
            ),
            (
                r#"["bash","Web search"]"#,
                r#"[{"type":"agent_toolset_20260401","default_config":{"enabled":false},"configs":[{"name":"bash","enabled":true},{"name":"web_search","enabled":true}]}]"#,
            ),
            (
                r#"[{"id":"read"},{"name":"bash","enabled":false}]"#,
                r#"[{"type":"agent_toolset_20260401","default_config":{"enabled":false},"configs":[{"name":"read","enabled":true},{"name":"bash","enabled":false}]}]"#,
            ),
            (
                r#"[{"id":"bash","name":"Shell","enabled_by_default":true}]"#,
                r#"[{"type":"agent_toolset_20260401","default_config":{"enabled":false},"configs":[{"name":"bash","enabled":true}]}]"#,
            ),
            (
                r#"[{"id":"bash","enabled":false}]"#,
                r#"[{"type":"agent_toolset_20260401","configs":[{"name":"bash","enabled":false}]}]"#,
            ),
            (
                r#"[{"type":"mcp_toolset","mcp_server_name":"docs"},"glob"]"#,
                r#"[{"type":"agent_toolset_20260401","default_config":{"enabled":false},"configs":[{"name":"glob","enabled":true}]},{"type":"mcp_toolset","mcp_server_name":"docs"}]"#,
            ),
        ] {
            assert_eq!(sent_tools(given), sent, "{given}");
        }
    }

    #[test]
    fn what_the_owner_wrote_wrongly_is_refused_before_anything_is_sent() {
        let refused = |agent: &AgentSpec| {
            let mut script = Script::new(CREATED);
            let error = provision(&mut script, agent).unwrap_err();
            assert_eq!((error.kind, script.requests.len()), (ErrorKind::BadRequest, 0));
            error.message
        };
        for tools in ["{}", "[7]", r#"["quantum"]"#, r#"[{"enabled":true}]"#, "not json"] {
            refused(&AgentSpec { tools: Some(tools.to_owned()), ..spec() });
        }
        for config in ["7", r#"{"mcp_servers":[{"url":"https://mcp.example"}]}"#, r#"{"mcp_servers":[{"name":"a"}]}"#] {
            refused(&AgentSpec { config: config.to_owned(), ..spec() });
        }
        let message = refused(&AgentSpec { tools: Some(r#"["quantum"]"#.to_owned()), ..spec() });
        assert!(message.starts_with("there is no tool \"quantum\"; there are bash, read"), "{message}");
    }

    #[test]
    fn only_a_version_that_can_be_asked_for_is_kept() {
        let answer = |agent| provision(&mut Script::new([(200, agent), CREATED[1]]), &spec()).unwrap();
        let harness = r#"{"id":"agt_01","version":1,"model":{"id":"m"}}"#;
        let unversioned = r#"{"id":"agent_01","version":"latest"}"#;
        assert_eq!(answer(CREATED[0].1), r#"{"agent":"agent_01","version":1,"environment":"env_01"}"#);
        assert_eq!(answer(harness), r#"{"agent":"agt_01","environment":"env_01"}"#);
        assert_eq!(answer(unversioned), r#"{"agent":"agent_01","environment":"env_01"}"#);
    }

    #[test]
    fn what_the_upstream_refuses_is_told() {
        let invalid = r#"{"type":"error","error":{"type":"invalid_request_error","message":"model: unknown"}}"#;
        let error = provision(&mut Script::new([(400, invalid)]), &spec()).unwrap_err();
        assert_eq!(error, Error { status: Some(400), ..Error::new(ErrorKind::BadRequest, "model: unknown") });
        for body in ["<html>", "", r#"{"id":"agent_0"#, "{}", "null", r#"{"id":""}"#, r#"{"id":7}"#] {
            for answers in [vec![(200, body)], vec![CREATED[0], (200, body)]] {
                let error = provision(&mut Script::new(answers), &spec()).unwrap_err();
                assert_eq!((error.kind, error.status), (ErrorKind::Upstream, Some(200)), "{body}");
            }
        }
        let lost: Result<Response, _> = Err(SendError::Interrupted("the connection broke".to_owned()));
        let error = provision(&mut Script::default().then(lost), &spec()).unwrap_err();
        assert_eq!(error, Error::new(ErrorKind::Upstream, "the connection broke"));
    }
}

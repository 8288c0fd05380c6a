//! The calls that the simulator knows, as data: method, path, name.

use http::Method;
use serde::{Deserialize, Serialize};

/// A call of the API; in scripts it has the name of the SDK's method, e.g. `sessions.events.send`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Endpoint {
    /// `POST /v1/agents`
    #[serde(rename = "agents.create")]
    AgentsCreate,
    /// `GET /v1/agents/{id}`
    #[serde(rename = "agents.retrieve")]
    AgentsRetrieve,
    /// `POST /v1/agents/{id}`
    #[serde(rename = "agents.update")]
    AgentsUpdate,
    /// `GET /v1/agents`
    #[serde(rename = "agents.list")]
    AgentsList,
    /// `POST /v1/agents/{id}/archive`
    #[serde(rename = "agents.archive")]
    AgentsArchive,
    /// `GET /v1/agents/{id}/versions`
    #[serde(rename = "agents.versions.list")]
    AgentsVersionsList,
    /// `POST /v1/environments`
    #[serde(rename = "environments.create")]
    EnvironmentsCreate,
    /// `GET /v1/environments/{id}`
    #[serde(rename = "environments.retrieve")]
    EnvironmentsRetrieve,
    /// `POST /v1/environments/{id}`
    #[serde(rename = "environments.update")]
    EnvironmentsUpdate,
    /// `GET /v1/environments`
    #[serde(rename = "environments.list")]
    EnvironmentsList,
    /// `DELETE /v1/environments/{id}`
    #[serde(rename = "environments.delete")]
    EnvironmentsDelete,
    /// `POST /v1/environments/{id}/archive`
    #[serde(rename = "environments.archive")]
    EnvironmentsArchive,
    /// `POST /v1/sessions`
    #[serde(rename = "sessions.create")]
    SessionsCreate,
    /// `GET /v1/sessions/{id}`
    #[serde(rename = "sessions.retrieve")]
    SessionsRetrieve,
    /// `POST /v1/sessions/{id}`
    #[serde(rename = "sessions.update")]
    SessionsUpdate,
    /// `GET /v1/sessions`
    #[serde(rename = "sessions.list")]
    SessionsList,
    /// `DELETE /v1/sessions/{id}`
    #[serde(rename = "sessions.delete")]
    SessionsDelete,
    /// `POST /v1/sessions/{id}/archive`
    #[serde(rename = "sessions.archive")]
    SessionsArchive,
    /// `POST /v1/sessions/{id}/events`
    #[serde(rename = "sessions.events.send")]
    EventsSend,
    /// `GET /v1/sessions/{id}/events`
    #[serde(rename = "sessions.events.list")]
    EventsList,
    /// `GET /v1/sessions/{id}/events/stream`
    #[serde(rename = "sessions.events.stream")]
    EventsStream,
    /// `GET /v1/models`
    #[serde(rename = "models.list")]
    ModelsList,
}

/// The route table; `*` stands for one id.
const ROUTES: [(Method, &[&str], Endpoint); Endpoint::COUNT] = [
    (Method::POST, &["agents"], Endpoint::AgentsCreate),
    (Method::GET, &["agents", "*"], Endpoint::AgentsRetrieve),
    (Method::POST, &["agents", "*"], Endpoint::AgentsUpdate),
    (Method::GET, &["agents"], Endpoint::AgentsList),
    (Method::POST, &["agents", "*", "archive"], Endpoint::AgentsArchive),
    (Method::GET, &["agents", "*", "versions"], Endpoint::AgentsVersionsList),
    (Method::POST, &["environments"], Endpoint::EnvironmentsCreate),
    (Method::GET, &["environments", "*"], Endpoint::EnvironmentsRetrieve),
    (Method::POST, &["environments", "*"], Endpoint::EnvironmentsUpdate),
    (Method::GET, &["environments"], Endpoint::EnvironmentsList),
    (Method::DELETE, &["environments", "*"], Endpoint::EnvironmentsDelete),
    (Method::POST, &["environments", "*", "archive"], Endpoint::EnvironmentsArchive),
    (Method::POST, &["sessions"], Endpoint::SessionsCreate),
    (Method::GET, &["sessions", "*"], Endpoint::SessionsRetrieve),
    (Method::POST, &["sessions", "*"], Endpoint::SessionsUpdate),
    (Method::GET, &["sessions"], Endpoint::SessionsList),
    (Method::DELETE, &["sessions", "*"], Endpoint::SessionsDelete),
    (Method::POST, &["sessions", "*", "archive"], Endpoint::SessionsArchive),
    (Method::POST, &["sessions", "*", "events"], Endpoint::EventsSend),
    (Method::GET, &["sessions", "*", "events"], Endpoint::EventsList),
    (Method::GET, &["sessions", "*", "events", "stream"], Endpoint::EventsStream),
    (Method::GET, &["models"], Endpoint::ModelsList),
];

impl Endpoint {
    /// How many there are.
    pub const COUNT: usize = Self::ModelsList as usize + 1;

    /// The endpoint of a request, and the id in its path, which is empty where the path has none.
    pub(crate) fn of<'a>(method: &Method, path: &'a str) -> Option<(Self, &'a str)> {
        let mut parts = [""; 5];
        let mut count = 0;
        for part in path.strip_prefix("/v1/")?.split('/') {
            *parts.get_mut(count)? = part;
            count += 1;
        }
        let parts = &parts[..count];
        let matches = |pattern: &[&str]| {
            pattern.len() == count && pattern.iter().zip(parts).all(|(name, part)| name == part || is_id(name, part))
        };
        let (_, _, endpoint) = ROUTES.iter().find(|(of, pattern, _)| of == method && matches(pattern))?;
        Some((*endpoint, parts.get(1).copied().unwrap_or_default()))
    }

    /// Whether the call needs the beta header of managed agents.
    pub(crate) const fn is_beta(self) -> bool {
        !matches!(self, Self::ModelsList)
    }
}

fn is_id(name: &str, part: &str) -> bool {
    name == "*" && !part.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_endpoint_has_one_route() {
        for (index, (method, pattern, endpoint)) in ROUTES.iter().enumerate() {
            assert_eq!(*endpoint as usize, index);
            let path = format!("/v1/{}", pattern.join("/").replace('*', "x_1"));
            let id = if pattern.contains(&"*") { "x_1" } else { "" };
            assert_eq!(Endpoint::of(method, &path), Some((*endpoint, id)));
        }
    }

    #[test]
    fn other_paths_are_unknown() {
        let unknown =
            ["/", "/v1/", "/v1/agents/", "/v2/agents", "/v1/sessions/s/events/stream/x", "/v1/agents/a/b/c/d"];
        for path in unknown {
            assert_eq!(Endpoint::of(&Method::GET, path), None, "{path}");
        }
        assert_eq!(Endpoint::of(&Method::PUT, "/v1/agents"), None);
    }
}

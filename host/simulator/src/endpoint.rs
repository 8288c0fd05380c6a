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
    /// `POST /v1/files`
    #[serde(rename = "files.create")]
    FilesCreate,
    /// `GET /v1/files`
    #[serde(rename = "files.list")]
    FilesList,
    /// `GET /v1/files/{id}`
    #[serde(rename = "files.retrieve")]
    FilesRetrieve,
    /// `GET /v1/files/{id}/content`
    #[serde(rename = "files.content")]
    FilesContent,
    /// `DELETE /v1/files/{id}`
    #[serde(rename = "files.delete")]
    FilesDelete,
    /// `POST /v1/memory_stores`
    #[serde(rename = "memory_stores.create")]
    MemoryStoresCreate,
    /// `GET /v1/memory_stores`
    #[serde(rename = "memory_stores.list")]
    MemoryStoresList,
    /// `GET /v1/memory_stores/{id}`
    #[serde(rename = "memory_stores.retrieve")]
    MemoryStoresRetrieve,
    /// `DELETE /v1/memory_stores/{id}`
    #[serde(rename = "memory_stores.delete")]
    MemoryStoresDelete,
    /// `POST /v1/memory_stores/{id}/memories`
    #[serde(rename = "memory_stores.memories.create")]
    MemoriesCreate,
    /// `GET /v1/memory_stores/{id}/memories`
    #[serde(rename = "memory_stores.memories.list")]
    MemoriesList,
    /// `GET /v1/memory_stores/{id}/memories/{id}`
    #[serde(rename = "memory_stores.memories.retrieve")]
    MemoriesRetrieve,
    /// `POST /v1/vaults`
    #[serde(rename = "vaults.create")]
    VaultsCreate,
    /// `GET /v1/vaults`
    #[serde(rename = "vaults.list")]
    VaultsList,
    /// `GET /v1/vaults/{id}`
    #[serde(rename = "vaults.retrieve")]
    VaultsRetrieve,
    /// `DELETE /v1/vaults/{id}`
    #[serde(rename = "vaults.delete")]
    VaultsDelete,
    /// `GET /v1/sessions/{id}/threads`
    #[serde(rename = "sessions.threads.list")]
    ThreadsList,
    /// `GET /v1/sessions/{id}/threads/{id}`
    #[serde(rename = "sessions.threads.retrieve")]
    ThreadsRetrieve,
    /// `GET /v1/sessions/{id}/threads/{id}/events`
    #[serde(rename = "sessions.threads.events.list")]
    ThreadEventsList,
    /// `GET /v1/sessions/{id}/threads/{id}/stream`
    #[serde(rename = "sessions.threads.events.stream")]
    ThreadEventsStream,
    /// `GET /v1/models/{id}`
    #[serde(rename = "models.retrieve")]
    ModelsRetrieve,
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
    (Method::POST, &["files"], Endpoint::FilesCreate),
    (Method::GET, &["files"], Endpoint::FilesList),
    (Method::GET, &["files", "*"], Endpoint::FilesRetrieve),
    (Method::GET, &["files", "*", "content"], Endpoint::FilesContent),
    (Method::DELETE, &["files", "*"], Endpoint::FilesDelete),
    (Method::POST, &["memory_stores"], Endpoint::MemoryStoresCreate),
    (Method::GET, &["memory_stores"], Endpoint::MemoryStoresList),
    (Method::GET, &["memory_stores", "*"], Endpoint::MemoryStoresRetrieve),
    (Method::DELETE, &["memory_stores", "*"], Endpoint::MemoryStoresDelete),
    (Method::POST, &["memory_stores", "*", "memories"], Endpoint::MemoriesCreate),
    (Method::GET, &["memory_stores", "*", "memories"], Endpoint::MemoriesList),
    (Method::GET, &["memory_stores", "*", "memories", "*"], Endpoint::MemoriesRetrieve),
    (Method::POST, &["vaults"], Endpoint::VaultsCreate),
    (Method::GET, &["vaults"], Endpoint::VaultsList),
    (Method::GET, &["vaults", "*"], Endpoint::VaultsRetrieve),
    (Method::DELETE, &["vaults", "*"], Endpoint::VaultsDelete),
    (Method::GET, &["sessions", "*", "threads"], Endpoint::ThreadsList),
    (Method::GET, &["sessions", "*", "threads", "*"], Endpoint::ThreadsRetrieve),
    (Method::GET, &["sessions", "*", "threads", "*", "events"], Endpoint::ThreadEventsList),
    (Method::GET, &["sessions", "*", "threads", "*", "stream"], Endpoint::ThreadEventsStream),
    (Method::GET, &["models", "*"], Endpoint::ModelsRetrieve),
];

impl Endpoint {
    /// How many there are.
    pub const COUNT: usize = Self::ModelsRetrieve as usize + 1;

    /// The endpoint of a request, and the ids in its path, outer and inner, which are empty where the path has none.
    pub(crate) fn of<'a>(method: &Method, path: &'a str) -> Option<(Self, [&'a str; 2])> {
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
        Some((*endpoint, [1, 3].map(|place| parts.get(place).copied().unwrap_or_default())))
    }

    /// The betas of which the call must ask for one; none for a call that is for everybody.
    pub(crate) const fn betas(self) -> &'static [&'static str] {
        match self {
            Self::ModelsList
            | Self::ModelsRetrieve
            | Self::FilesCreate
            | Self::FilesList
            | Self::FilesRetrieve
            | Self::FilesContent
            | Self::FilesDelete => &[],
            Self::MemoryStoresCreate
            | Self::MemoryStoresList
            | Self::MemoryStoresRetrieve
            | Self::MemoryStoresDelete
            | Self::MemoriesCreate
            | Self::MemoriesList
            | Self::MemoriesRetrieve => &["agent-memory-2026-07-22", "managed-agents-2026-04-01"],
            _ => &["managed-agents-2026-04-01"],
        }
    }
}

fn is_id(name: &str, part: &str) -> bool {
    name == "*" && !part.is_empty()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn each_endpoint_has_one_route() {
        for (index, (method, pattern, endpoint)) in ROUTES.iter().enumerate() {
            assert_eq!(*endpoint as usize, index);
            let path = format!("/v1/{}", pattern.join("/").replace('*', "x_1"));
            let (found, ids) = Endpoint::of(method, &path).unwrap();
            assert_eq!(found, *endpoint);
            for (id, place) in ids.iter().zip([1, 3]) {
                assert_eq!(*id == "x_1", pattern.get(place) == Some(&"*"), "{path}");
            }
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

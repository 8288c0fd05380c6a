//! Agents: what their owners defined, and what of it exists upstream.
//!
//! For `http`, which lists and changes them, and for `session`, which needs to know what was provisioned. Everything
//! is sealed in `vault.redb`, for a system prompt tells much about its owner. All calls block on the disk, those that
//! change something for as long as a commit takes.
//!
//! Must not know `http`, and must not reach an upstream: an agent is a definition.

mod provision;
mod table;

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub(crate) use self::table::TABLES;
use self::table::{AGENTS, Table};
pub use self::{
    provision::{Provision, Provisions},
    table::{StoreError, verify},
};
use crate::{
    clock,
    id::{AgentId, RuntimeId},
    runtime::AgentSpec,
    vault::Vault,
};

/// The model of an agent whose owner names none.
pub const MODEL: &str = "claude-sonnet-4-6";

/// The time zone of an agent whose owner names none.
pub const TIMEZONE: &str = "UTC";

/// How long a run may take where the owner of the agent does not say.
pub const MAX_RUNTIME_MINUTES: u32 = 30;

/// The keys of an agent's `config` that the platform reads; the others are the runtime's.
const RUNTIME: &str = "runtime";
const CONFIG_MODEL: &str = "model";
const CONFIG_TOOLS: &str = "tools";

/// A JSON object whose values nobody here looks at.
pub type Object = BTreeMap<String, Box<RawValue>>;

/// A JSON array whose values nobody here looks at.
pub type Array = Vec<Box<RawValue>>;

/// An agent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Agent {
    /// Its name.
    pub id: AgentId,
    /// When it was made, in milliseconds since the epoch.
    pub created_ms: u64,
    /// What its owner wants it to be.
    pub definition: Definition,
}

/// What the owner of an agent decides.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Definition {
    /// What people call it; not blank.
    pub name: String,
    /// Whose it is; not blank.
    pub owner_id: String,
    /// Whether sessions may start.
    pub status: Status,
    /// The model where neither session nor `config` name one; not blank.
    pub model: String,
    /// The system prompt; may be empty.
    pub system: String,
    /// What it is asked when nobody asks it anything.
    pub prompt: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// The tools that it may use.
    pub tools: Option<Box<RawValue>>,
    /// Everything else that its runtime shall know, and the name of that runtime.
    pub config: Object,
    /// Names of secrets.
    pub vault_keys: Array,
    /// Commands for a sandbox.
    pub setup_commands: Array,
    /// Skills by id.
    pub skill_ids: Array,
    /// Rules by id.
    pub rule_ids: Array,
    /// How often it shall run, for people.
    pub cadence: Option<String>,
    /// When it shall run, as a cron expression.
    pub cron: Option<String>,
    /// The time zone of `cron`.
    pub timezone: String,
    /// How long one run may take.
    pub max_runtime_minutes: u32,
    /// What shall happen after a failure.
    pub on_failure: String,
}

/// Whether an agent takes new sessions. Those that run are not touched by a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It does.
    Active,
    /// It does not.
    Paused,
}

impl Definition {
    /// An agent of which nothing but name and owner is decided.
    #[must_use]
    pub fn new(name: String, owner_id: String) -> Self {
        Self {
            name,
            owner_id,
            status: Status::Active,
            model: MODEL.to_owned(),
            system: String::new(),
            prompt: None,
            description: None,
            tools: None,
            config: Object::new(),
            vault_keys: Array::new(),
            setup_commands: Array::new(),
            skill_ids: Array::new(),
            rule_ids: Array::new(),
            cadence: None,
            cron: None,
            timezone: TIMEZONE.to_owned(),
            max_runtime_minutes: MAX_RUNTIME_MINUTES,
            on_failure: "pause_and_notify".to_owned(),
        }
    }

    /// The runtime that it names.
    #[must_use]
    pub fn runtime(&self) -> Option<RuntimeId> {
        self.config_text(RUNTIME)?.parse().ok()
    }

    /// Names its runtime, or none.
    pub fn set_runtime(&mut self, runtime: Option<&RuntimeId>) {
        // A runtime's name is plain ASCII: quoting it cannot fail.
        match runtime.and_then(|id| RawValue::from_string(format!("\"{id}\"")).ok()) {
            Some(id) => drop(self.config.insert(RUNTIME.to_owned(), id)),
            None => drop(self.config.remove(RUNTIME)),
        }
    }

    fn config_text(&self, key: &str) -> Option<String> {
        // Another kind of value is as good as none.
        serde_json::from_str(self.config.get(key)?.get()).ok()
    }
}

impl Agent {
    /// The agent as its runtime shall see it. `environment_model` is the session's own choice.
    #[must_use]
    pub fn spec(&self, environment_model: Option<&str>) -> AgentSpec {
        let definition = &self.definition;
        let chosen = environment_model.map(str::to_owned).or_else(|| definition.config_text(CONFIG_MODEL));
        let model = chosen.filter(|model| !model.trim().is_empty()).unwrap_or_else(|| definition.model.clone());
        let tools = definition.tools.as_ref().or_else(|| definition.config.get(CONFIG_TOOLS));
        let others =
            definition.config.iter().filter(|(key, _)| ![RUNTIME, CONFIG_MODEL, CONFIG_TOOLS].contains(&&***key));
        let others: BTreeMap<_, _> = others.collect();
        AgentSpec {
            id: self.id.to_string(),
            name: definition.name.clone(),
            model,
            system: definition.system.clone(),
            description: definition.description.clone(),
            tools: tools.map(|tools| tools.get().to_owned()),
            // Text keys and values that are JSON already: writing them cannot fail.
            config: serde_json::to_string(&others).unwrap_or_else(|_| "{}".to_owned()),
        }
    }
}

/// All agents. A handle: clones share everything.
#[derive(Clone)]
pub struct Agents {
    table: Arc<Table>,
}

impl Agents {
    /// The agents in the vault's database.
    #[must_use]
    pub fn new(vault: &Vault) -> Self {
        Self { table: Arc::new(Table::new(vault, AGENTS)) }
    }

    /// Makes an agent, whose id is a new one.
    ///
    /// # Errors
    /// When the store fails; so for all calls.
    pub fn create(&self, id: AgentId, definition: Definition) -> Result<Agent, StoreError> {
        let agent = Agent { id, created_ms: clock::unix_ms(), definition };
        self.table.put(&agent.id.to_bytes(), &agent)?;
        Ok(agent)
    }

    /// An agent.
    ///
    /// # Errors
    /// See [`Self::create`].
    pub fn get(&self, id: AgentId) -> Result<Option<Agent>, StoreError> {
        self.table.get(&id.to_bytes())?.map(|row| row.parse()).transpose()
    }

    /// The agents of one owner, or of all; the first made first.
    ///
    /// # Errors
    /// See [`Self::create`].
    pub fn list(&self, owner_id: Option<&str>) -> Result<Vec<Agent>, StoreError> {
        // Ids sort by the time they were made, and the rows by their ids.
        let mut agents = Vec::new();
        for row in self.table.all()? {
            let agent: Agent = row.parse()?;
            if owner_id.is_none_or(|owner| owner == agent.definition.owner_id) {
                agents.push(agent);
            }
        }
        Ok(agents)
    }

    /// Changes an agent; nothing when there is none.
    ///
    /// # Errors
    /// See [`Self::create`].
    pub fn update(&self, id: AgentId, change: impl FnOnce(&mut Definition)) -> Result<Option<Agent>, StoreError> {
        self.table.update(&id.to_bytes(), |agent: &mut Agent| change(&mut agent.definition))
    }

    /// Lets an agent take new sessions, or not; nothing when there is none.
    ///
    /// # Errors
    /// See [`Self::create`].
    pub fn set_status(&self, id: AgentId, status: Status) -> Result<Option<Agent>, StoreError> {
        self.update(id, |definition| definition.status = status)
    }

    /// Removes an agent; false when there is none. Its sessions live on.
    ///
    /// # Errors
    /// See [`Self::create`].
    pub fn delete(&self, id: AgentId) -> Result<bool, StoreError> {
        self.table.remove(&id.to_bytes())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
pub(crate) mod tests {
    use super::*;
    use crate::vault::VaultKey;

    /// A vault in a directory that goes with the first value.
    pub(crate) fn vault() -> (tempfile::TempDir, Vault) {
        let directory = tempfile::tempdir().unwrap();
        let key = VaultKey::generate();
        Vault::init(directory.path(), &key).unwrap();
        let vault = Vault::open(directory.path(), key).unwrap();
        (directory, vault)
    }

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    fn definition(owner: &str) -> Definition {
        Definition::new("writer".to_owned(), owner.to_owned())
    }

    #[test]
    fn agents_are_listed_by_owner_in_the_order_they_were_made() {
        let (_directory, vault) = vault();
        let agents = Agents::new(&vault);
        assert!(agents.list(None).unwrap().is_empty());
        let owners = ["ann", "bob", "ann"];
        let mut made: Vec<_> =
            owners.map(|owner| agents.create(AgentId::fresh(), definition(owner)).unwrap().id).into();
        // Of the same millisecond, either may be the first.
        made.sort();
        assert_eq!(agents.list(None).unwrap().iter().map(|agent| agent.id).collect::<Vec<_>>(), made);
        assert_eq!(agents.list(Some("ann")).unwrap().len(), 2);
        assert!(agents.list(Some("eve")).unwrap().is_empty());
    }

    #[test]
    fn a_change_is_kept_and_a_removed_agent_is_gone() {
        let (_directory, vault) = vault();
        let agents = Agents::new(&vault);
        let id = agents.create(AgentId::fresh(), definition("ann")).unwrap().id;
        assert_eq!(agents.set_status(id, Status::Paused).unwrap().unwrap().definition.status, Status::Paused);
        assert_eq!(Agents::new(&vault).get(id).unwrap().unwrap().definition.status, Status::Paused);
        assert_eq!((agents.delete(id).unwrap(), agents.delete(id).unwrap()), (true, false));
        assert!(agents.get(id).unwrap().is_none());
        assert!(agents.set_status(id, Status::Active).unwrap().is_none());
    }

    #[test]
    fn the_session_s_model_beats_the_config_s_which_beats_the_agent_s() {
        let mut agent = Agent { id: AgentId::fresh(), created_ms: 0, definition: definition("ann") };
        assert_eq!(agent.spec(None).model, MODEL);
        agent.definition.config.insert("model".to_owned(), raw("\"m2\""));
        assert_eq!(agent.spec(None).model, "m2");
        assert_eq!(agent.spec(Some("m3")).model, "m3");
        agent.definition.config.insert("model".to_owned(), raw("7"));
        assert_eq!(agent.spec(None).model, MODEL);
    }

    #[test]
    fn a_runtime_sees_its_part_of_the_config_only() {
        let mut agent = Agent { id: AgentId::fresh(), created_ms: 0, definition: definition("ann") };
        agent.definition.config = [("tools", "[1]"), ("model", "\"m\""), ("space", "{\"a\": 1}")]
            .map(|(key, json)| (key.to_owned(), raw(json)))
            .into();
        agent.definition.set_runtime(Some(&"cursor".parse().unwrap()));
        assert_eq!(agent.definition.runtime().unwrap().as_str(), "cursor");
        let spec = agent.spec(None);
        assert_eq!((&*spec.config, spec.tools.as_deref()), (r#"{"space":{"a": 1}}"#, Some("[1]")));
        agent.definition.tools = Some(raw("[]"));
        assert_eq!(agent.spec(None).tools.as_deref(), Some("[]"));
    }
}

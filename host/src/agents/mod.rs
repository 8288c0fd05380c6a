//! Agents: what their owners defined, and what of it exists upstream.
//!
//! For `http`, which lists and changes them, and for `session`, which needs to know what was provisioned. Everything
//! is sealed in `vault.redb`, for a system prompt tells much about its owner. All calls block on the disk, those that
//! change something for as long as a commit takes.
//!
//! Must not know `http`, and must not reach an upstream: an agent is a definition.

mod environment;
mod provision;

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use lap_store::{Direction, Table};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use self::{
    environment::{Environment, Environments, Surroundings},
    provision::{Provision, Provisions},
};
use crate::{
    access::{OwnerId, Scope, Stretch},
    clock,
    id::{AgentId, RuntimeId},
    runtime::AgentSpec,
    vault::{self, Also, Mark, Row, SealedTable, Vault, noted},
};

pub use crate::vault::RowError as StoreError;

const AGENTS: Table = Table::new("agents");
/// Every version of every agent, by the agent's id and the version's number.
const VERSIONS: Table = Table::new("agent_versions");
const ENVIRONMENTS: Table = Table::new("environments");
const PROVISIONS: Table = Table::new("provisions");

/// What this module has in `vault.redb`, for a backup.
pub(crate) static TABLES: &[Table] = &[AGENTS, VERSIONS, ENVIRONMENTS, PROVISIONS];

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

/// Where the runtime finds what the environment of a session is.
const ENVIRONMENT: &str = "environment";

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
    /// When this version of it was made; 0 where it is the first one.
    #[serde(default)]
    updated_ms: u64,
    /// How often its owner has decided, from 1.
    #[serde(default = "first")]
    pub version: u32,
    /// Since when it takes no sessions and no changes.
    #[serde(default)]
    pub archived_ms: Option<u64>,
    /// What its owner wants it to be.
    pub definition: Definition,
}

const fn first() -> u32 {
    1
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
    /// What clients note on it.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
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
            metadata: BTreeMap::new(),
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
    /// What is left of an agent that was deleted.
    #[must_use]
    pub fn placeholder(id: AgentId) -> Self {
        let definition = Definition::new(String::new(), String::new());
        Self { id, created_ms: 0, updated_ms: 0, version: 1, archived_ms: None, definition }
    }

    /// Whose it is, and whose its sessions are.
    #[must_use]
    pub fn owner(&self) -> OwnerId {
        OwnerId::from(self.definition.owner_id.clone())
    }

    /// When it was changed last, in milliseconds since the epoch.
    #[must_use]
    pub fn updated_ms(&self) -> u64 {
        self.updated_ms.max(self.created_ms)
    }

    /// The model that its sessions use unless they choose another one.
    #[must_use]
    pub fn model(&self) -> String {
        let chosen = self.definition.config_text(CONFIG_MODEL).filter(|model| !model.trim().is_empty());
        chosen.unwrap_or_else(|| self.definition.model.clone())
    }

    /// Its tools, as its owner wrote them; nothing where it shall have what its runtime has.
    #[must_use]
    pub fn tools(&self) -> Option<&RawValue> {
        self.definition.tools.as_deref().or_else(|| self.definition.config.get(CONFIG_TOOLS).map(|tools| &**tools))
    }

    /// The agent as its runtime shall see it. `model` is the session's own choice, and `environment` what it runs in.
    #[must_use]
    pub fn spec(&self, model: Option<&str>, environment: Option<&Environment>) -> AgentSpec {
        let definition = &self.definition;
        let model = model.filter(|model| !model.trim().is_empty()).map_or_else(|| self.model(), str::to_owned);
        let others =
            definition.config.iter().filter(|(key, _)| ![RUNTIME, CONFIG_MODEL, CONFIG_TOOLS].contains(&&***key));
        let mut others: BTreeMap<&str, &RawValue> = others.map(|(key, value)| (key.as_str(), &**value)).collect();
        if let Some(environment) = environment.filter(|environment| environment.id != Environments::DEFAULT) {
            others.insert(ENVIRONMENT, &environment.surroundings.config);
        }
        AgentSpec {
            id: self.id.to_string(),
            name: definition.name.clone(),
            model,
            system: definition.system.clone(),
            description: definition.description.clone(),
            tools: self.tools().map(|tools| tools.get().to_owned()),
            // Text keys and values that are JSON already: writing them cannot fail.
            config: serde_json::to_string(&others).unwrap_or_else(|_| "{}".to_owned()),
        }
    }
}

/// Opens every row of every table.
///
/// # Errors
/// Names the first row that is not what was written.
pub fn verify(vault: &Vault) -> Result<(), StoreError> {
    vault::verify_rows(vault, &[AGENTS, VERSIONS, ENVIRONMENTS, PROVISIONS])
}

/// The agents in a scope: for whoever has this handle there are no others. Clones share everything.
#[derive(Clone)]
pub struct Agents {
    table: Arc<SealedTable>,
    versions: Arc<SealedTable>,
    scope: Scope,
    /// Noted with every change.
    mark: Option<Mark>,
}

/// Why an agent was not changed.
#[derive(Debug)]
pub enum UpdateError<E> {
    /// The caller does not know its latest version.
    Stale {
        /// Which that is.
        latest: u32,
    },
    /// It was put away.
    Archived,
    /// The change itself says so.
    Refused(E),
    /// The store failed.
    Store(StoreError),
}

impl<E> From<StoreError> for UpdateError<E> {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Agents {
    /// All agents in the vault's database.
    #[must_use]
    pub fn new(vault: &Vault) -> Self {
        let table = |table| Arc::new(SealedTable::new(vault, table));
        Self { table: table(AGENTS), versions: table(VERSIONS), scope: Scope::All, mark: None }
    }

    /// Those of them that are in a scope, too.
    #[must_use]
    pub fn within(&self, scope: &Scope) -> Self {
        Self { scope: self.scope.narrowed(scope), ..self.clone() }
    }

    /// The same, and each change notes that the request was carried out.
    #[must_use]
    pub fn noting(&self, mark: Option<Mark>) -> Self {
        Self { mark, ..self.clone() }
    }

    fn holds(&self, agent: &Agent) -> bool {
        self.scope.holds(&agent.definition.owner_id)
    }

    /// In a scope of one owner everything is that owner's and stays so.
    fn own(&self, definition: &mut Definition) {
        if let Some(owner) = self.scope.owner() {
            owner.as_str().clone_into(&mut definition.owner_id);
        }
    }

    /// Makes an agent, whose id is a new one.
    ///
    /// # Errors
    /// When the store fails; so for all calls.
    pub fn create(&self, id: AgentId, mut definition: Definition) -> Result<Agent, StoreError> {
        self.own(&mut definition);
        let agent =
            Agent { id, created_ms: clock::unix_ms(), updated_ms: 0, version: 1, archived_ms: None, definition };
        self.table.put(&agent.id.to_bytes(), &agent, self.versions.row(version_key(&agent), &agent)?)?;
        Ok(agent)
    }

    /// An agent.
    ///
    /// # Errors
    /// See [`Self::create`].
    pub fn get(&self, id: AgentId) -> Result<Option<Agent>, StoreError> {
        let agent = self.table.get(&id.to_bytes())?.map(|row| row.parse()).transpose()?;
        Ok(agent.filter(|agent| self.holds(agent)))
    }

    /// Agents, the first made first, from the one made after `after`; at most `limit` are looked at.
    ///
    /// # Errors
    /// See [`Self::create`].
    pub fn after(&self, after: Option<AgentId>, limit: usize) -> Result<Stretch<Agent, AgentId>, StoreError> {
        // Ids sort by the time they were made, and the rows by their ids.
        let start = after.map(AgentId::to_bytes);
        let start = start.as_ref().map_or(Bound::Unbounded, |start| Bound::Excluded(&start[..]));
        self.stretch(&self.table.rows((start, Bound::Unbounded), Direction::Forwards, limit)?, limit)
    }

    /// Agents, the latest made first, from the one made before `before`; at most `limit` are looked at.
    ///
    /// # Errors
    /// See [`Self::create`].
    pub fn before(&self, before: Option<AgentId>, limit: usize) -> Result<Stretch<Agent, AgentId>, StoreError> {
        let end = before.map(AgentId::to_bytes);
        let end = end.as_ref().map_or(Bound::Unbounded, |end| Bound::Excluded(&end[..]));
        self.stretch(&self.table.rows((Bound::Unbounded, end), Direction::Backwards, limit)?, limit)
    }

    fn stretch(&self, rows: &[Row], limit: usize) -> Result<Stretch<Agent, AgentId>, StoreError> {
        let agents = rows.iter().map(Row::parse).collect::<Result<_, _>>()?;
        Ok(Stretch::of(agents, limit, |agent: &Agent| agent.id, |agent| self.holds(agent)))
    }

    /// A version of an agent; nothing when there is none of this number.
    ///
    /// # Errors
    /// See [`Self::create`].
    pub fn version(&self, agent: &Agent, version: u32) -> Result<Option<Agent>, StoreError> {
        if version == agent.version {
            return Ok(Some(agent.clone()));
        }
        let mut key = agent.id.to_bytes().to_vec();
        key.extend(version.to_be_bytes());
        let version = self.versions.get(&key)?.map(|row| row.parse()).transpose()?;
        Ok(version.map(|version| of_same_owner(version, agent)))
    }

    /// The versions of an agent, the latest first, from the one before `before`; at most `limit`.
    ///
    /// # Errors
    /// See [`Self::create`].
    pub fn versions(&self, agent: &Agent, before: Option<u32>, limit: usize) -> Result<Vec<Agent>, StoreError> {
        let (mut start, mut end) = (agent.id.to_bytes().to_vec(), agent.id.to_bytes().to_vec());
        start.extend(0_u32.to_be_bytes());
        end.extend(before.unwrap_or(u32::MAX).to_be_bytes());
        let range = (Bound::Included(&start[..]), Bound::Excluded(&end[..]));
        let rows = self.versions.rows(range, Direction::Backwards, limit)?;
        let versions = rows.iter().map(|row| Ok(of_same_owner(row.parse()?, agent)));
        let mut versions = versions.collect::<Result<Vec<_>, StoreError>>()?;
        // An agent that was made before versions were kept.
        if versions.is_empty() && before.is_none() {
            versions.push(agent.clone());
        }
        Ok(versions)
    }

    /// Changes an agent, if its latest version is the `expected` one; nothing when there is none. A change makes a new
    /// version, and what changes nothing makes none.
    ///
    /// # Errors
    /// When the change is refused or the store fails.
    pub fn update<E>(
        &self,
        id: AgentId,
        expected: Option<u32>,
        change: impl FnOnce(&mut Definition) -> Result<(), E>,
    ) -> Result<Option<Agent>, UpdateError<E>> {
        if self.get(id)?.is_none() {
            return Ok(None);
        }
        self.table.update(&id.to_bytes(), |agent: &mut Agent| {
            if agent.archived_ms.is_some() {
                return Err(UpdateError::Archived);
            }
            if expected.is_some_and(|expected| expected != agent.version) {
                return Err(UpdateError::Stale { latest: agent.version });
            }
            let before = to_json(&agent.definition);
            change(&mut agent.definition).map_err(UpdateError::Refused)?;
            self.own(&mut agent.definition);
            if to_json(&agent.definition) == before {
                return Ok(None);
            }
            agent.version += 1;
            agent.updated_ms = clock::unix_ms();
            let version = self.versions.row(version_key(agent), agent)?;
            Ok(Some(Also::All(vec![version, noted(self.mark.as_ref())])))
        })
    }

    /// Puts an agent away for good: it takes no more sessions and no changes. Nothing when there is none.
    ///
    /// # Errors
    /// See [`Self::create`].
    pub fn archive(&self, id: AgentId) -> Result<Option<Agent>, StoreError> {
        if self.get(id)?.is_none() {
            return Ok(None);
        }
        self.table.update(&id.to_bytes(), |agent: &mut Agent| {
            let archived = agent.archived_ms.is_some();
            agent.archived_ms.get_or_insert_with(clock::unix_ms);
            Ok((!archived).then(|| noted(self.mark.as_ref())))
        })
    }

    /// Lets an agent take new sessions, or not; nothing when there is none. That makes no version.
    ///
    /// # Errors
    /// See [`Self::create`].
    pub fn set_status(&self, id: AgentId, status: Status) -> Result<Option<Agent>, StoreError> {
        if self.get(id)?.is_none() {
            return Ok(None);
        }
        self.table.update(&id.to_bytes(), |agent: &mut Agent| {
            agent.definition.status = status;
            Ok(Some(noted(self.mark.as_ref())))
        })
    }

    /// Removes an agent with all its versions; false when there is none. Its sessions live on.
    ///
    /// # Errors
    /// See [`Self::create`].
    pub fn delete(&self, id: AgentId) -> Result<bool, StoreError> {
        if self.scope != Scope::All && self.get(id)?.is_none() {
            return Ok(false);
        }
        self.table.remove(&id.to_bytes(), Also::Remove(&self.versions, id.to_bytes().to_vec()))
    }
}

/// A version of an agent, which is whoever's the agent is now.
fn of_same_owner(mut version: Agent, agent: &Agent) -> Agent {
    agent.definition.owner_id.clone_into(&mut version.definition.owner_id);
    version
}

fn version_key(agent: &Agent) -> Vec<u8> {
    let mut key = agent.id.to_bytes().to_vec();
    key.extend(agent.version.to_be_bytes());
    key
}

fn to_json(definition: &Definition) -> Vec<u8> {
    // Plain text, numbers and values: writing them cannot fail.
    serde_json::to_vec(definition).unwrap_or_default()
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
        let mut agent = Agent { definition: definition("ann"), ..Agent::placeholder(AgentId::fresh()) };
        assert_eq!(agent.spec(None, None).model, MODEL);
        agent.definition.config.insert("model".to_owned(), raw("\"m2\""));
        assert_eq!(agent.spec(None, None).model, "m2");
        assert_eq!(agent.spec(Some("m3"), None).model, "m3");
        agent.definition.config.insert("model".to_owned(), raw("7"));
        assert_eq!(agent.spec(None, None).model, MODEL);
    }

    #[test]
    fn a_runtime_sees_its_part_of_the_config_only() {
        let mut agent = Agent { definition: definition("ann"), ..Agent::placeholder(AgentId::fresh()) };
        agent.definition.config = [("tools", "[1]"), ("model", "\"m\""), ("space", "{\"a\": 1}")]
            .map(|(key, json)| (key.to_owned(), raw(json)))
            .into();
        agent.definition.set_runtime(Some(&"cursor".parse().unwrap()));
        assert_eq!(agent.definition.runtime().unwrap().as_str(), "cursor");
        let spec = agent.spec(None, None);
        assert_eq!((&*spec.config, spec.tools.as_deref()), (r#"{"space":{"a": 1}}"#, Some("[1]")));
        agent.definition.tools = Some(raw("[]"));
        assert_eq!(agent.spec(None, None).tools.as_deref(), Some("[]"));
    }

    #[test]
    fn a_change_makes_a_version_and_the_old_ones_stay() {
        let (_directory, vault) = vault();
        let agents = Agents::new(&vault);
        let id = agents.create(AgentId::fresh(), definition("ann")).unwrap().id;
        let rename = |expected, name: &'static str| {
            agents.update(id, expected, |definition| {
                definition.name = name.to_owned();
                Ok::<_, ()>(())
            })
        };
        assert_eq!(rename(None, "writer").unwrap().unwrap().version, 1, "nothing is different");
        assert_eq!(rename(Some(1), "b").unwrap().unwrap().version, 2);
        assert!(matches!(rename(Some(1), "c"), Err(UpdateError::Stale { latest: 2 })));
        let agent = rename(None, "c").unwrap().unwrap();
        let names = |agents: Vec<Agent>| agents.into_iter().map(|agent| agent.definition.name).collect::<Vec<_>>();
        assert_eq!(names(agents.versions(&agent, None, 9).unwrap()), ["c", "b", "writer"]);
        assert_eq!(names(agents.versions(&agent, Some(3), 1).unwrap()), ["b"]);
        assert_eq!(agents.version(&agent, 1).unwrap().unwrap().definition.name, "writer");
        assert!(agents.version(&agent, 4).unwrap().is_none());
        assert!(agents.archive(id).unwrap().unwrap().archived_ms.is_some());
        assert!(matches!(rename(None, "d"), Err(UpdateError::Archived)));
        assert!(agents.delete(id).unwrap() && agents.version(&agent, 1).unwrap().is_none());
    }

    #[test]
    fn what_is_another_s_is_not_there_and_what_is_made_is_one_s_own() {
        let (_directory, vault) = vault();
        let all = Agents::new(&vault);
        let [ann, bob] = ["ann", "bob"].map(|owner| all.within(&Scope::Of(OwnerId::from(owner.to_owned()))));
        let id = ann.create(AgentId::fresh(), definition("bob")).unwrap().id;
        assert_eq!(ann.get(id).unwrap().unwrap().owner().as_str(), "ann");
        let give_away = |definition: &mut Definition| {
            definition.owner_id = "bob".to_owned();
            Ok::<_, ()>(())
        };
        assert_eq!(ann.update(id, None, give_away).unwrap().unwrap().owner().as_str(), "ann");
        for none in [bob.clone(), bob.within(&Scope::All), bob.within(&ann.scope)] {
            assert!(none.get(id).unwrap().is_none() && none.archive(id).unwrap().is_none());
            assert!(none.set_status(id, Status::Paused).unwrap().is_none());
            assert!(none.update(id, None, |_| Err::<(), _>("looked at")).unwrap().is_none());
            assert!(!none.delete(id).unwrap());
            let listed = none.after(None, 1).unwrap();
            assert!(listed.found.is_empty() && listed.next == Some(id));
        }
        let moved = all.update(id, None, give_away).unwrap().unwrap();
        assert!(ann.get(id).unwrap().is_none());
        assert_eq!(bob.version(&moved, 1).unwrap().unwrap().owner().as_str(), "bob", "with all its versions");
        assert!(bob.delete(id).unwrap() && all.get(id).unwrap().is_none());
    }

    #[test]
    fn agents_are_paged_in_either_order() {
        let (_directory, vault) = vault();
        let agents = Agents::new(&vault);
        let mut ids: Vec<_> = (0..3).map(|_| agents.create(AgentId::fresh(), definition("ann")).unwrap().id).collect();
        ids.sort();
        ids.reverse();
        let page = |before, limit| {
            agents.before(before, limit).unwrap().found.into_iter().map(|agent| agent.id).collect::<Vec<_>>()
        };
        assert_eq!((page(None, 2), page(Some(ids[1]), 2)), (ids[..2].to_vec(), ids[2..].to_vec()));
        ids.reverse();
        let page = |after, limit| {
            agents.after(after, limit).unwrap().found.into_iter().map(|agent| agent.id).collect::<Vec<_>>()
        };
        assert_eq!((page(None, 2), page(Some(ids[1]), 2)), (ids[..2].to_vec(), ids[2..].to_vec()));
    }
}

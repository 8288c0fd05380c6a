//! Sessions: one driver each, which lives as long as there is something to do, whoever watches.
//!
//! For `http`, which hands in clients' wishes. A prompt is durable when it is acknowledged; a turn goes on without its
//! client, over a cut upstream and over a restart of the host. The log says what happened and nothing else does.
//!
//! What decides is the session machine, a crate of its own (`host/session`). Here it is driven:
//!
//! * `driver.rs` tells it what happens and carries out what it answers · `feed.rs` what is read · `failure.rs` what went wrong
//! * `live.rs` who runs now · `stored.rs` what is kept · `retention.rs` for how long · `changes.rs` who wants to know of changes
//! * `admission.rs` who may begin a turn · `resting.rs` which of those at rest gives way
//! * `workers.rs` what is to be done at several upstreams, one of which may hang
//! * `orphans.rs` what may go on upstream though it is over here · `sends.rs` what is on its way when the host ends
//! * `outlet.rs` the upstream under the credential that is stored now · `passage.rs` the same for what is no session's turn
//! * `provisioning.rs` what agents have upstream, made once · `probe.rs` whether a credential works · `versions.rs` who needs
//!   which version of a runtime · `error.rs` why something was not done
//!
//! Must not know `http`, nor any vendor. Only this module appends to the log.

mod admission;
mod changes;
mod driver;
mod error;
mod failure;
mod feed;
mod live;
mod orphans;
mod outlet;
mod passage;
mod probe;
mod provisioning;
mod resting;
mod retention;
mod sends;
mod stored;
mod versions;
mod workers;

use std::{
    hash::{BuildHasher, Hash, RandomState},
    sync::Arc,
    time::Duration,
};

use ring::digest::{Context, SHA256};
use serde_json::value::RawValue;
use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{sleep, timeout},
};

use lap_session::{Machine, Start};
pub use lap_session::{
    QueueLimit, Refused, UpstreamEnd, Waiting,
    usage::{Tokens, Usage},
};

pub(crate) use self::changes::Changes;
pub use self::{
    admission::NotAdmitted,
    changes::{Changed, Listener, News},
    error::{CreateError, DeleteError, InputError, InterruptError, KillError, LinkError, ModelsError, PromptError},
    orphans::{ForgetError, Orphan},
    probe::{Answer, PROBE_TIME, Tried},
    retention::Retention,
    stored::{Amendment, Change, Facts, Message, Prompt, Session, Status},
};
use self::{
    admission::{Admission, Unlimited},
    live::{Command, Delivery, Live},
    outlet::CurrentUpstream,
    provisioning::Provisioning,
    resting::Resting,
    sends::Sends,
};
use crate::{
    access::{OwnerId, Scope, Stretch},
    agents::{Provision, Provisions},
    blocking::blocking,
    clock,
    disk::Disk,
    events::{AppendError, EventLog, Limit, ReadError, Reader, Receipt, Run, Span, Writer, WriterError},
    id::{AgentId, ComponentDigest, EnvironmentId, MessageId, RuntimeId, SessionId},
    registry::Registry,
    runtime::{
        AgentSpec, CallError, ErrorKind, Instance, Model, Profile, Recordings, Runtime, SessionOpened, SessionSpec,
    },
    upstream::{Slot, Upstream, Upstreams},
    vault::Credential,
};

/// Messages that are looked at together for one of them.
const LOOK_BACK: Limit = Limit { rows: 256, bytes: 4 * 1024 * 1024 };

/// What is kept of what an upstream says of the resources of a new session. Of more, what the client said is kept: lists show
/// it of each session.
const RESOURCES_BYTES_MAX: usize = 64 * 1024;

/// How many sessions go on at once behind a start, and how long it is until more do: 3,000 in a second.
const RESUMED_AT_ONCE: usize = 64;
const RESUME_PAUSE: Duration = Duration::from_millis(20);

/// For how long who ends a session is kept waiting for what is known of its end upstream.
pub const KILL_ANSWER: Duration = Duration::from_millis(60);

/// The same for a session that has ended already: all that is left to do is to look.
const KILL_LOOK: Duration = Duration::from_secs(40);

/// What a client wants a session to be.
pub struct NewSession {
    /// A new id, or one that was reserved for this session and may have been used for it already.
    pub id: SessionId,
    /// Whose it is: the agent's owner.
    pub owner: OwnerId,
    /// The agent.
    pub agent: AgentId,
    /// The agent as the runtime shall see it.
    pub spec: AgentSpec,
    /// Where it runs.
    pub runtime: RuntimeId,
    /// What people call it.
    pub title: String,
    /// True when nobody has chosen the title.
    pub untitled: bool,
    /// The version of the agent.
    pub agent_version: Option<u32>,
    /// Where it runs.
    pub environment_id: Option<EnvironmentId>,
    /// The client's wishes as they are kept and shown: a JSON object.
    pub environment: Box<RawValue>,
    /// The client's wishes as the runtime is told them, which may have secrets in them and are not kept: a JSON object.
    pub wishes: Box<RawValue>,
    /// What is large about it.
    pub facts: Facts,
    /// The first prompts.
    pub prompts: Vec<Prompt>,
}

/// What the operator decides of all sessions.
pub struct OperatorWishes {
    /// How many turns clients may have begun at once.
    pub turns_max: usize,
    /// What may wait for one session.
    pub queue_limit: QueueLimit,
    /// Where all calls of sessions' guests are written down, if anywhere.
    pub recordings: Option<Arc<Recordings>>,
}

/// The sessions in a scope: for whoever has this handle there are no others. Clones share everything.
#[derive(Clone)]
pub struct Sessions {
    core: Arc<Core>,
    scope: Scope,
}

/// What sessions work with.
struct Core {
    log: EventLog,
    registry: Registry,
    provisioning: Provisioning,
    upstreams: Upstreams,
    live: Live,
    changes: Changes,
    /// Where drivers and guests run.
    executor: Handle,
    disk: Disk,
    admission: Arc<Admission>,
    queue_limit: QueueLimit,
    resting: Arc<Resting>,
    sends: Sends,
    /// Where guests' calls are written down, if the operator wants that.
    recordings: Option<Arc<Recordings>>,
    chances: RandomState,
}

/// A runtime with its upstream.
#[derive(Clone)]
struct Link {
    runtime: Arc<Runtime>,
    upstream: Arc<CurrentUpstream>,
}

impl Link {
    fn instance(&self) -> Instance {
        self.runtime.instance(Arc::clone(&self.upstream) as _)
    }

    /// What is behind a call that failed. Where its request found no way to the upstream, what the guest declares is its own
    /// reading of that, and the host knows better.
    fn cause<E: From<LinkError> + From<CallError>>(&self, error: CallError) -> E {
        match (error, self.upstream.take_unaddressed()) {
            (CallError::Declared(_), Some(unaddressed)) => unaddressed.into(),
            (error, _) => error.into(),
        }
    }

    /// A guest for a session.
    fn instance_of(&self, session: SessionId, core: &Core) -> Instance {
        match &core.recordings {
            Some(recordings) => self.instance().recorded(recordings, session),
            None => self.instance(),
        }
    }
}

impl Sessions {
    /// `executor` is where drivers and guests run.
    #[must_use]
    pub fn new(
        log: EventLog,
        registry: Registry,
        provisions: Provisions,
        upstreams: Upstreams,
        executor: Handle,
        disk: Disk,
        wishes: OperatorWishes,
    ) -> Self {
        let OperatorWishes { turns_max, queue_limit, recordings } = wishes;
        let core = Core {
            log,
            registry,
            provisioning: Provisioning::new(provisions),
            upstreams,
            admission: Arc::new(Admission::new(turns_max, Unlimited)),
            queue_limit,
            resting: Arc::default(),
            sends: Sends::default(),
            live: Live::default(),
            changes: Changes::default(),
            executor,
            disk,
            recordings,
            chances: RandomState::new(),
        };
        Self { core: Arc::new(core), scope: Scope::All }
    }

    /// Those of them that are in a scope, too.
    #[must_use]
    pub fn within(&self, scope: &Scope) -> Self {
        Self { core: Arc::clone(&self.core), scope: self.scope.narrowed(scope) }
    }

    /// Goes on with the sessions that had something to do when the last process ended, some at a time: each reads its log and
    /// connects to its upstream. Whoever is wanted before its time goes on at once. Returns how many there are.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn resume(&self) -> Result<usize, ReadError> {
        let unsettled = self.core.log.unsettled()?;
        let (core, count) = (Arc::clone(&self.core), unsettled.len());
        self.core.executor.spawn(async move {
            for some in unsettled.chunks(RESUMED_AT_ONCE) {
                for session in some {
                    if let Some(inbox) = core.live.start(*session) {
                        driver::spawn(Arc::clone(&core), *session, None, inbox);
                    }
                }
                sleep(RESUME_PAUSE).await;
            }
        });
        Ok(count)
    }

    /// Starts a session: makes it upstream and stores it with its prompt. The prompt is sent after that. A crash in
    /// between leaves a session upstream that nobody uses; under the same id the next try makes another one there.
    ///
    /// # Errors
    /// When the upstream refuses or the session cannot be stored.
    pub async fn create(&self, mut new: NewSession) -> Result<Session, CreateError> {
        let core = Arc::clone(&self.core);
        // In a scope of one owner everything is that owner's.
        if let Some(owner) = self.scope.owner() {
            new.owner = owner.clone();
        }
        // Goes on when the client leaves: what is made upstream must be stored.
        let made = self.core.executor.spawn(async move { core.create(new).await });
        made.await.unwrap_or(Err(CreateError::Store(AppendError::OutcomeUnknown)))
    }

    /// A session. Blocks on the file, as all that reads here and is not asynchronous.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn get(&self, id: SessionId) -> Result<Option<Session>, ReadError> {
        let session = self.core.log.session(id)?.map(|bytes| Session::read(id, &bytes)).transpose()?;
        Ok(session.filter(|session| self.holds(session)))
    }

    /// The same for asynchronous callers: the file is read on a thread that may block.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn find(&self, id: SessionId) -> Result<Option<Session>, ReadError> {
        let sessions = self.clone();
        blocking(move || sessions.get(id)).await
    }

    fn holds(&self, session: &Session) -> bool {
        self.scope.holds(session.owner.as_str())
    }

    /// Sessions in a row, of which at most `limit` are looked at.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn list(&self, span: Span, limit: usize) -> Result<Stretch<Session, SessionId>, ReadError> {
        let stored = self.core.log.sessions(span, limit)?;
        let read = stored.into_iter().map(|(id, bytes)| Session::read(id, &bytes)).collect::<Result<_, _>>()?;
        Ok(Stretch::of(read, limit, |session: &Session| session.id, |session| self.holds(session)))
    }

    /// How many there are.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn count(&self) -> Result<u64, ReadError> {
        self.core.log.session_count()
    }

    /// Tells of every change of a session's record from now on: of new ones, changed ones and deleted ones.
    #[must_use]
    pub fn changes(&self) -> Listener {
        self.core.changes.listen(&self.scope)
    }

    /// What is large about a session; nothing for one that was made before such facts were kept.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn facts(&self, session: &Session) -> Result<Option<Facts>, ReadError> {
        let id = session.id;
        self.core.log.facts(id)?.map(|bytes| Facts::read(id, &bytes)).transpose()
    }

    /// The user's messages in order; none where there is no such session.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn messages(&self, id: SessionId, run: Run, limit: Limit) -> Result<Vec<(u64, Message)>, ReadError> {
        if self.get(id)?.is_none() {
            return Ok(Vec::new());
        }
        let stored = self.core.log.messages(id, run, limit)?;
        stored.into_iter().map(|(number, bytes)| Ok((number, Message::read(id, &bytes)?))).collect()
    }

    /// One of the user's messages. The latest are looked at first.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn message(&self, id: SessionId, message: MessageId) -> Result<Option<Message>, ReadError> {
        let mut end = self.get(id)?.map_or(0, |session| session.messages());
        while end > 0 {
            let page = self.messages(id, Run::Before(end), LOOK_BACK)?;
            end = page.first().map_or(0, |(number, _)| *number);
            if let Some((_, found)) = page.into_iter().find(|(_, known)| known.id == message) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Gives a session a prompt, which becomes the message `message`: a new id. It is durable when this returns, and is
    /// sent when no turn runs.
    ///
    /// # Errors
    /// When the session does not exist or does not take it, or it cannot be stored.
    pub async fn prompt(
        &self,
        id: SessionId,
        message: MessageId,
        prompt: Prompt,
        receipt: Option<Receipt>,
    ) -> Result<Message, PromptError> {
        let (done, answer) = oneshot::channel();
        let session = self.find(id).await?.ok_or(PromptError::NotFound)?;
        // A turn that runs was admitted; what waits for its end is bounded there.
        let turn = session.settled().then(|| self.core.admission.admit(&session.owner)).transpose()?;
        if !self.deliver(id, Command::Prompt { id: message, prompt, turn, receipt, done }) {
            return Err(PromptError::Busy);
        }
        match answer.await {
            Ok(taken) => taken,
            // The driver ended before it came to this: the session was deleted, or the log has failed.
            Err(_) if self.find(id).await?.is_none() => Err(PromptError::NotFound),
            Err(_) => Err(PromptError::Store(AppendError::OutcomeUnknown)),
        }
    }

    /// Gives the runtime an input that does not begin a turn: a JSON object with a `type`. Returns once the upstream has
    /// taken it. A receipt is noted with that, as with all wishes here.
    ///
    /// # Errors
    /// When the session does not exist, or the upstream did not take it or may not have.
    pub async fn input(&self, id: SessionId, json: String, receipt: Option<Receipt>) -> Result<(), InputError> {
        let (done, answer) = oneshot::channel();
        self.command(id, Command::Input { json, receipt, done }, answer).await
    }

    /// Changes what clients say of a session; with an `input`, once the runtime has taken that.
    ///
    /// # Errors
    /// When the session does not exist, the change is refused, or cannot be stored.
    pub async fn amend(
        &self,
        id: SessionId,
        amendment: Amendment,
        input: Option<String>,
        receipt: Option<Receipt>,
    ) -> Result<Session, InputError> {
        let (done, answer) = oneshot::channel();
        self.command(id, Command::Amend { amendment, input, receipt, done }, answer).await
    }

    async fn command<T>(
        &self,
        id: SessionId,
        command: Command,
        answer: oneshot::Receiver<Result<T, InputError>>,
    ) -> Result<T, InputError> {
        self.find(id).await?.ok_or(InputError::NotFound)?;
        if !self.deliver(id, command) {
            return Err(InputError::Busy);
        }
        match answer.await {
            Ok(done) => done,
            Err(_) if self.find(id).await?.is_none() => Err(InputError::NotFound),
            Err(_) => Err(InputError::Store(AppendError::OutcomeUnknown)),
        }
    }

    /// Stops the turn and withdraws what waits. Does nothing where no turn runs.
    ///
    /// # Errors
    /// When the session does not exist or the upstream does not take it.
    pub async fn interrupt(&self, id: SessionId, receipt: Option<Receipt>) -> Result<(), InterruptError> {
        let (done, answer) = oneshot::channel();
        self.find(id).await?.ok_or(InterruptError::NotFound)?;
        if !self.deliver(id, Command::Interrupt { receipt, done }) {
            return Err(InterruptError::Busy);
        }
        match answer.await {
            Ok(done) => done,
            Err(_) if self.find(id).await?.is_none() => Err(InterruptError::NotFound),
            Err(_) => Err(InterruptError::Store(AppendError::OutcomeUnknown)),
        }
    }

    /// Ends a session for good, with whatever it still runs upstream, and keeps its log. That it ends is durable when this
    /// returns; with what is known of its end upstream, if that is known within [`KILL_ANSWER`]. Otherwise the session's last
    /// event tells it. Of a session that has ended it is looked anew, and waited for what is seen.
    ///
    /// # Errors
    /// When the session does not exist, or the wish could not be stored.
    pub async fn kill(&self, id: SessionId, receipt: Option<Receipt>) -> Result<UpstreamEnd, KillError> {
        let ((durable, stored), (over, end)) = (oneshot::channel(), oneshot::channel());
        let session = self.find(id).await?.ok_or(KillError::NotFound)?;
        let patience = if session.is_over() { KILL_LOOK } else { KILL_ANSWER };
        if !self.deliver(id, Command::Kill { receipt, durable, over }) {
            return Err(KillError::Busy);
        }
        match stored.await {
            Ok(stored) => stored?,
            Err(_) if self.find(id).await?.is_none() => return Err(KillError::NotFound),
            Err(_) => return Err(KillError::Store(AppendError::OutcomeUnknown)),
        }
        // A driver that ends before it is known leaves it to the next one.
        Ok(match timeout(patience, end).await {
            Ok(Ok(end)) => end,
            Ok(Err(_)) | Err(_) => {
                UpstreamEnd::unknown("the session is being ended upstream; its last event tells what came of that")
            }
        })
    }

    /// Ends a session upstream and removes it with all its events. False when there is none.
    ///
    /// # Errors
    /// When it still exists.
    pub async fn delete(&self, id: SessionId) -> Result<bool, DeleteError> {
        self.delete_as_of(id, None).await
    }

    /// As [`Self::delete`], unless something happens to the session meanwhile: false then, too.
    ///
    /// # Errors
    /// When it still exists.
    pub async fn delete_unchanged(&self, session: &Session) -> Result<bool, DeleteError> {
        self.delete_as_of(session.id, Some(session.version)).await
    }

    /// Deletes a session; with the version of a record, only if nothing has happened to it since then.
    async fn delete_as_of(&self, id: SessionId, version: Option<u64>) -> Result<bool, DeleteError> {
        let (done, answer) = oneshot::channel();
        if self.find(id).await?.is_none() {
            return Ok(false);
        }
        if !self.deliver(id, Command::Delete { version, done }) {
            return Err(DeleteError::Busy);
        }
        match answer.await {
            Ok(done) => done,
            Err(_) if self.find(id).await?.is_none() => Ok(false),
            Err(_) => Err(DeleteError::Store(AppendError::OutcomeUnknown)),
        }
    }

    /// A cursor into a session's events, behind the event `after`; nothing when there is no such session.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn events(&self, id: SessionId, after: u64) -> Result<Option<Reader>, ReadError> {
        let Some(session) = self.get(id)? else { return Ok(None) };
        self.core.log.reader(id, session.settled(), after).map(Some)
    }

    /// The models that a runtime's credential may use.
    ///
    /// # Errors
    /// When the upstream refuses.
    pub async fn models(&self, runtime: &RuntimeId) -> Result<Vec<Model>, ModelsError> {
        let (core, runtime) = (Arc::clone(&self.core), runtime.clone());
        let asked = self.core.executor.spawn(async move {
            let link = core.link(&runtime, None, None).await?;
            link.instance().models().await.map_err(|error| link.cause(error))
        });
        let gone = || CallError::Fault(crate::runtime::Fault::Wall);
        asked.await.unwrap_or_else(|_| Err(gone().into()))
    }

    /// Before the host ends: begins to send nothing more, and waits for what is on its way to upstreams, so long at the
    /// most. How much is on its way still: whether that arrives, the next start finds out.
    pub async fn close(&self, patience: Duration) -> usize {
        self.core.sends.close(patience).await
    }

    /// How many sessions have a driver now.
    #[must_use]
    pub fn running(&self) -> usize {
        self.core.live.count()
    }

    fn deliver(&self, session: SessionId, command: Command) -> bool {
        match self.core.live.deliver(session, command) {
            Delivery::Delivered => true,
            Delivery::Busy => false,
            Delivery::Start(inbox) => {
                driver::spawn(Arc::clone(&self.core), session, None, inbox);
                true
            }
        }
    }
}

impl Core {
    async fn create(self: Arc<Self>, new: NewSession) -> Result<Session, CreateError> {
        let turn = (!new.prompts.is_empty()).then(|| self.admission.admit(&new.owner)).transpose()?;
        let link = self.link(&new.runtime, None, None).await?;
        let mut instance = link.instance_of(new.id, &self);
        let (provision, opened) = self.open(&link, &mut instance, &new).await.map_err(|error| match error {
            CreateError::Upstream(error) => link.cause(error),
            error => error,
        })?;
        let id = new.id;
        let now = clock::unix_ms();
        let mut session = Session {
            id,
            title: new.title,
            untitled: new.untitled,
            owner: new.owner,
            agent: new.agent,
            agent_version: new.agent_version,
            environment_id: new.environment_id,
            runtime: new.runtime,
            component: Some(link.runtime.profile().component),
            provision: provision.id,
            upstream_id: opened.upstream_id,
            environment: new.environment,
            created_ms: now,
            updated_ms: now,
            archived_ms: None,
            usage: Usage::default(),
            base: link.upstream.base().to_owned(),
            state: lap_session::State::NEW,
            guest: opened.state,
            version: 0,
            bytes: 0,
            waits_for: None,
        };
        let mut facts = new.facts;
        let is_small = |json: &String| json.len() <= RESOURCES_BYTES_MAX && lap_session::event::storable(json).is_ok();
        if let Some(resources) = opened.resources.filter(is_small).and_then(|json| serde_json::from_str(&json).ok()) {
            facts.resources = resources;
        }
        let messages: Vec<_> = new.prompts.into_iter().map(|prompt| prompt.into_message(MessageId::fresh())).collect();
        let start = Start {
            session: id.to_string(),
            kept: session.kept(),
            next_seq: 1,
            queue: Vec::new(),
            queue_limit: self.queue_limit,
            current: None,
            archived: false,
            named: session.upstream_id.is_some(),
            credential: None,
            fresh: true,
            seed: 0,
            secret: [0; 16],
        };
        let (kept, commit) = Machine::begin(start, messages.iter().map(Message::prompt).collect(), now);
        session.keep(&kept);
        let mut records = vec![facts.record()];
        records.extend(commit.prompts.iter().zip(&messages).map(|((_, number), message)| message.record(*number)));
        records.push(session.record());
        let (log, settled) = (self.log.clone(), session.settled());
        let found = blocking(move || {
            let writer = log.writer(id, settled)?;
            let made = log.session(id)?;
            Ok((writer, made))
        });
        let (mut writer, made) = found.await.map_err(|error| match error {
            WriterError::Read(error) => CreateError::Read(error),
            WriterError::Taken => CreateError::Store(AppendError::Fenced),
        })?;
        // Whoever has the writer is alone with this id. The session must not be overwritten if another try was faster.
        if let Some(made) = made {
            return Ok(Session::read(id, &made)?);
        }
        if session.settled() {
            writer.append(commit.draft, records, true).await?;
            // Whoever hears of it may want something of it at once.
            drop(writer);
            self.changes.announce(Changed::of(&session));
            return Ok(session);
        }
        // On the list before it can be found in the log: whoever finds it there would start a second driver.
        let inbox = self.live.start(id);
        let stored = writer.append(commit.draft, records, false).await;
        if let Err(error) = stored {
            drop(inbox);
            self.live.remove_dead(id);
            return Err(error.into());
        }
        self.changes.announce(Changed::of(&session));
        if let Some(inbox) = inbox {
            // Making a session dirties more of a guest's memory than a turn does, so the turn gets a guest of its own.
            drop(instance);
            let queue = messages.iter().map(Message::prompt).collect();
            let found = driver::Found { writer, session: session.clone(), current: None, queue };
            driver::spawn(self, id, Some(driver::OpenedSession { found, link, turn }), inbox);
        }
        Ok(session)
    }

    /// Makes a session upstream, of what its agent has there.
    async fn open(
        &self,
        link: &Link,
        instance: &mut Instance,
        new: &NewSession,
    ) -> Result<(Provision, SessionOpened), CreateError> {
        let key = provision_key(new, link.upstream.current()?.credential());
        let mut provision = self.provision(instance, key, new).await?;
        let spec = |provision: &Provision| SessionSpec {
            id: new.id.to_string(),
            title: new.title.clone(),
            agent: new.spec.clone(),
            provision: provision.value.clone(),
            environment: new.wishes.get().to_owned(),
        };
        let opened = match instance.open(&spec(&provision)).await {
            Err(CallError::Declared(error)) if error.kind == ErrorKind::Gone => {
                // Somebody removed it upstream: make it anew, once.
                self.provisioning.forget(key, &provision).await?;
                provision = self.provision(instance, key, new).await?;
                instance.open(&spec(&provision)).await?
            }
            opened => opened?,
        };
        Ok((provision, opened))
    }

    /// What the agent has upstream: made at its first session and found again at the others.
    async fn provision(
        &self,
        instance: &mut Instance,
        key: [u8; 32],
        new: &NewSession,
    ) -> Result<Provision, CreateError> {
        self.provisioning.get_or_make(key, new.agent, async || Ok(instance.provision(&new.spec).await?)).await
    }

    /// The version of the credential that a session's requests go with now, where there is one for the place where it
    /// lives.
    fn credential_of(&self, session: &Session) -> Option<u64> {
        let profile = self.registry.get_for(&session.runtime, session.component)?;
        // Why there is none is told by the next request.
        self.upstream(&profile, Some(&session.base)).ok().map(|upstream| upstream.credential().version)
    }

    /// What decides how a session's waits are spread.
    fn chance(&self, of: &impl Hash) -> u64 {
        self.chances.hash_one(of)
    }

    /// What an upstream cannot guess: its events are told apart with it. A session keeps the one that its index begins with.
    fn secret(&self, id: SessionId) -> [u8; 16] {
        let [high, low] = [0, 1].map(|half: u8| self.chance(&(id, half)));
        (u128::from(high) << 64 | u128::from(low)).to_le_bytes()
    }

    /// The right to append to a session that there is already.
    fn writer(&self, id: SessionId) -> Result<Writer, WriterError> {
        // While nobody has the session's log open, nobody changes its record; and what readers are told until the first
        // append, which may never come, must be what the record says.
        let stored = self.log.session(id)?.map(|bytes| Session::read(id, &bytes)).transpose()?;
        self.log.writer(id, stored.is_none_or(|session| session.settled()))
    }

    /// A runtime with its upstream, if that can be asked now. `pinned` is the version that the session was made on, and
    /// `base` where it lives, if it does already; otherwise it will live where the credential goes now.
    async fn link(
        &self,
        runtime: &RuntimeId,
        pinned: Option<ComponentDigest>,
        base: Option<&str>,
    ) -> Result<Link, LinkError> {
        let runtime = self.registry.runtime(runtime, pinned).await?;
        let profile = runtime.profile();
        let base = self.upstream(profile, base)?.credential().base.to_string();
        let upstream = CurrentUpstream::new(self.upstreams.clone(), profile.id().clone(), slot(profile)?, base);
        Ok(Link { runtime, upstream: Arc::new(upstream) })
    }

    /// The upstream of a runtime under the credential that is stored now; with a `base`, only if that is where it goes.
    /// Blocks on the vault.
    fn upstream(&self, runtime: &Profile, base: Option<&str>) -> Result<Upstream, LinkError> {
        Ok(self.upstreams.current(runtime.id(), &slot(runtime)?, base)?)
    }
}

/// Where a runtime's credential stands in a request.
fn slot(runtime: &Profile) -> Result<Slot, LinkError> {
    let auth = runtime.auth();
    Slot::new(&auth.header, &auth.scheme).map_err(|error| LinkError::BadCredential(error.to_string()))
}

/// An event as the log would take it, if it would.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn logged(json: &str) -> Option<String> {
    use lap_session::event;
    let head = event::check(json).ok()?;
    let line = event::on_one_line(json);
    Some(if head.id.is_some() { line.into_owned() } else { event::with_id(&line, "evt_1") })
}

/// The same agent, under the same credential, is provisioned once: this tells what is the same.
fn provision_key(new: &NewSession, credential: &Credential) -> [u8; 32] {
    let spec = &new.spec;
    let version = credential.version.to_string();
    let mut context = Context::new(&SHA256);
    let parts = [
        new.runtime.as_str(),
        &version,
        &spec.id,
        &spec.name,
        &spec.model,
        &spec.system,
        spec.description.as_deref().unwrap_or_default(),
        spec.tools.as_deref().unwrap_or_default(),
        &spec.config,
    ];
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    let mut key = [0; 32];
    key.copy_from_slice(context.finish().as_ref());
    key
}

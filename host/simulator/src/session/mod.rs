//! One session, shared by its turn, its streams and the requests about it.
//!
//! It has one lock, and everything that happens to it happens under that lock, so what a client is told is at once true
//! for every stream and list. `state.rs` says what happens; here is who may do what, and who is woken.

mod state;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use serde_json::{Map, Value};
use tokio::sync::{Notify, watch};

use self::state::State;
pub(crate) use self::state::{Ending, Prompt, Status};
use crate::{
    clock::Moment,
    event::{Event, Frame, Pattern},
    fault::CutBy,
    history::History,
    id::Ids,
    incoming::{Incoming, Refused, Reply},
    past::Past,
    script::{Burden, Repeat},
    window::{Read, ReaderId, RoomAgain},
};

/// A session.
pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) created_at: Moment,
    pub(crate) environment_id: String,
    ids: Arc<Ids>,
    state: Mutex<State>,
    /// Whatever the turn waits for may have come: an answer, room, an interrupt.
    turn_wake: Notify,
}

/// What a session's owner can set and see.
#[derive(Clone)]
pub(crate) struct Profile {
    pub(crate) agent: Arc<Map<String, Value>>,
    pub(crate) title: Option<String>,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) budget: Option<Value>,
    pub(crate) resources: Vec<Value>,
    pub(crate) vault_ids: Vec<String>,
    pub(crate) updated_at: Moment,
    pub(crate) archived_at: Option<Moment>,
}

/// The turn must stop: a client said so, or the session is gone.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl Session {
    pub(crate) fn new(ids: &Arc<Ids>, environment_id: String, profile: Profile, backlog_bytes_max: usize) -> Self {
        Self {
            id: ids.mint("sesn"),
            created_at: profile.updated_at,
            environment_id,
            ids: Arc::clone(ids),
            state: Mutex::new(State::new(Arc::clone(ids), profile, backlog_bytes_max)),
            turn_wake: Notify::new(),
        }
    }

    /// One that another simulator has made and played so far.
    pub(crate) fn past(ids: &Arc<Ids>, past: Past, backlog_bytes_max: usize) -> Self {
        let Past { session: shown, events } = past;
        let (created_at, profile) = (shown.created_at(), shown.profile());
        Self {
            created_at,
            ids: Arc::clone(ids),
            state: Mutex::new(State::past(Arc::clone(ids), profile, backlog_bytes_max, &events)),
            turn_wake: Notify::new(),
            id: shown.id,
            environment_id: shown.environment_id,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For requests.
impl Session {
    pub(crate) fn profile(&self) -> Profile {
        self.lock().profile.clone()
    }

    /// The status, so many milliseconds behind what the stream says.
    pub(crate) fn status(&self, lag_ms: u64) -> Status {
        self.lock().status(lag_ms)
    }

    pub(crate) fn with_history<T>(&self, look: impl FnOnce(&History) -> T) -> T {
        look(&self.lock().history)
    }

    /// Takes the client's events, all or none, and opens a turn if one can start. The caller plays the turn.
    pub(crate) fn send(&self, events: Vec<Incoming>) -> Result<(Vec<Frame>, Option<Prompt>), Refused> {
        let taken = self.lock().take(events);
        self.turn_wake.notify_one();
        taken
    }

    /// Changes what the owner can set; `change` learns whether a turn runs and returns what differs, which the streams
    /// are told.
    pub(crate) fn update<E>(
        &self,
        change: impl FnOnce(&mut Profile, Status) -> Result<Map<String, Value>, E>,
    ) -> Result<(), E> {
        let mut state = self.lock();
        let status = state.status(0);
        let mut profile = state.profile.clone();
        let changed = change(&mut profile, status)?;
        if !changed.is_empty() {
            profile.updated_at = Moment::now();
            state.profile = profile;
            state.emit(&Event::Updated(&changed));
        }
        Ok(())
    }

    pub(crate) fn archive(&self, lag_ms: u64) -> Result<(), Refused> {
        self.lock().archive(lag_ms)
    }

    /// Says `session.deleted` and ends the streams.
    pub(crate) fn delete(&self, lag_ms: u64) -> Result<(), Refused> {
        let deleted = self.lock().delete(lag_ms);
        self.turn_wake.notify_one();
        deleted
    }

    /// The same in mid-turn too.
    pub(crate) fn say_deleted(&self) {
        self.lock().say_deleted();
        self.turn_wake.notify_one();
    }

    /// Tells whether a turn runs.
    pub(crate) fn watch_busy(&self) -> watch::Receiver<bool> {
        self.lock().busy.subscribe()
    }

    /// Ends the turn without a word, as the simulator itself ends.
    pub(crate) fn abandon(&self) {
        self.lock().abandon();
        self.turn_wake.notify_one();
    }

    /// How many questions wait for the client's answer.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().waiting()
    }

    /// Lets the turn go on behind its `hold`, or behind the next one that it comes to.
    pub(crate) fn release(&self) {
        self.lock().release();
        self.turn_wake.notify_one();
    }

    /// Says something outside of any turn.
    pub(crate) fn inject(&self, event: Map<String, Value>) -> String {
        self.lock().emit_raw(event)
    }
}

/// For streams.
impl Session {
    /// Adds a reader; with `replay` also everything said so far, in one moment with the start of the reading.
    pub(crate) fn attach(&self, replay: bool) -> (ReaderId, Vec<Frame>) {
        let mut state = self.lock();
        let past = if replay { state.history.frames().collect() } else { Vec::new() };
        (state.window.attach(), past)
    }

    pub(crate) fn poll_read(&self, reader: ReaderId, cx: &mut Context<'_>) -> Poll<Read> {
        let (read, room) = self.lock().window.poll(reader, cx);
        self.wake_turn(room);
        read
    }

    pub(crate) fn mute(&self, reader: ReaderId) {
        let room = self.lock().window.mute(reader);
        self.wake_turn(room);
    }

    pub(crate) fn detach(&self, reader: ReaderId) {
        let room = self.lock().window.detach(reader);
        self.wake_turn(room);
    }

    pub(crate) fn cut_streams(&self, by: CutBy) {
        self.lock().window.cut_all(by);
    }

    fn wake_turn(&self, room: RoomAgain) {
        if room.0 {
            self.turn_wake.notify_one();
        }
    }
}

/// For the turn. Each of these but the last fails once the turn must stop, and nothing more is said.
impl Session {
    fn playing(&self) -> Result<MutexGuard<'_, State>, Interrupted> {
        let state = self.lock();
        if state.must_stop() { Err(Interrupted) } else { Ok(state) }
    }

    pub(crate) fn check(&self) -> Result<(), Interrupted> {
        self.playing().map(drop)
    }

    /// Says an event and returns its id.
    pub(crate) fn emit(&self, event: &Event<'_>) -> Result<String, Interrupted> {
        Ok(self.playing()?.emit(event))
    }

    pub(crate) fn emit_raw(&self, event: Map<String, Value>) -> Result<String, Interrupted> {
        Ok(self.playing()?.emit_raw(event))
    }

    /// Sends bytes to whoever reads now.
    pub(crate) fn emit_bytes(&self, bytes: Bytes) -> Result<(), Interrupted> {
        self.playing()?.emit_bytes(bytes);
        Ok(())
    }

    pub(crate) fn pattern(&self, repeat: &Repeat) -> Arc<Pattern> {
        Arc::new(Pattern::new(&self.ids, repeat))
    }

    pub(crate) fn emit_batch(&self, pattern: &Arc<Pattern>, first_n: u64, count: u64) -> Result<(), Interrupted> {
        self.playing()?.emit_batch(pattern, first_n, count);
        Ok(())
    }

    /// Says an event that the client must answer before the turn goes on.
    pub(crate) fn ask(&self, event: &Event<'_>) -> Result<(), Interrupted> {
        self.playing()?.ask(event);
        Ok(())
    }

    /// Waits for all answers, if any is missing. Returns whether it had to: then the span is closed and the session ran
    /// anew.
    pub(crate) async fn answered(&self, span: &mut Option<String>) -> Result<bool, Interrupted> {
        let mut missing = self.playing()?.pause(span);
        let waited = missing > 0;
        while missing > 0 {
            self.turn_wake.notified().await;
            missing = self.playing()?.resume(missing);
        }
        Ok(waited)
    }

    /// The answers to everything asked, with the id of what asked, in its order.
    pub(crate) fn take_answers(&self) -> Result<Vec<(String, Reply)>, Interrupted> {
        Ok(self.playing()?.take_answers())
    }

    /// Waits until the slowest reader has caught up.
    pub(crate) async fn room(&self) -> Result<(), Interrupted> {
        while !self.playing()?.window.has_room() {
            self.turn_wake.notified().await;
        }
        Ok(())
    }

    /// Waits until somebody lets the turn go on.
    pub(crate) async fn held(&self) -> Result<(), Interrupted> {
        while !self.playing()?.take_release() {
            self.turn_wake.notified().await;
        }
        Ok(())
    }

    /// Something that the turn waits for may have come.
    pub(crate) async fn turn_woken(&self) {
        self.turn_wake.notified().await;
    }

    /// Closes the turn, and opens the next at once if a prompt waits.
    pub(crate) fn finish(&self, span: Option<String>, ending: Ending, burden: Option<Burden>) -> Option<Prompt> {
        self.lock().finish(span, ending, burden)
    }
}

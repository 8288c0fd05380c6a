//! The flight recorder: every call of a session's guest, with the answers of its imports, as lines of JSON.
//!
//! For whoever has to find out afterwards what a runtime did, with `lap runtime replay`. It is off unless the operator wants
//! it. A guest never sees a credential, so none can be in a recording; what clients entrust to a session under a name such
//! as `token` or `password` is left out as well. What people and agents said is in it: a recording is for its owner alone.

use std::{
    borrow::Cow,
    fs::{self, File},
    io::{self, Write},
    mem,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Call, CallError, Error, Fault, Level, Outlet};
use crate::{
    id::SessionId,
    upstream::{Method, Request, Response, SendError},
};

/// The bytes of one session's recording.
const SESSION_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// What one process records in all.
const ALL_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;

/// Names that say that their value is nobody's business.
const SECRET_NAMES: [&str; 6] = ["authorization", "credential", "password", "private_key", "secret", "token"];

/// What stands for a secret.
const SECRET: &str = "[secret]";

/// A shorter value could stand anywhere.
const SECRET_BYTES_MIN: usize = 6;

/// The first line of a recording, and the first after each break.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The version of this format: 1.
    pub recording: u32,
    /// The session.
    pub session: String,
    /// The runtime's id.
    pub runtime: String,
    /// The digest of its component.
    pub component: String,
}

/// A call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// Its number, from 1, within this process.
    pub number: u64,
    /// What was called, with what.
    pub call: Call,
    /// What the guest asked its upstream, and what it was answered.
    pub exchanges: Vec<Exchange>,
    /// What the guest wrote into its log.
    pub log: Vec<String>,
    /// How it ended.
    pub ended: Ended,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ended {
    /// With a value.
    Value(Value),
    /// With an error that the guest declared.
    Error(Error),
    /// By a fault of the guest's, of this name.
    Fault(String),
}

impl Ended {
    /// Of a call's result.
    pub fn of<T: Serialize>(result: &Result<T, CallError>) -> Self {
        match result {
            // What the contract has is text, numbers and lists of them, which JSON can express.
            Ok(value) => Self::Value(serde_json::to_value(value).unwrap_or_default()),
            Err(CallError::Declared(error)) => Self::Error(error.clone()),
            Err(CallError::Fault(fault)) => Self::Fault(name(fault).to_owned()),
        }
    }
}

const fn name(fault: &Fault) -> &'static str {
    match fault {
        Fault::Busy => "busy",
        Fault::Cpu => "cpu",
        Fault::Memory => "memory",
        Fault::Wall => "wall",
        Fault::HostCalls => "host-calls",
        Fault::Quarantined { .. } => "quarantined",
        Fault::Trap(_) => "trap",
        Fault::Contract(_) => "contract",
    }
}

/// A request and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// What was asked.
    pub request: Asked,
    /// What came of it.
    pub answer: Answered,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "as in the contract")]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub query: Vec<(String, String)>,
    pub headers: Vec<(String, String)>,
    pub body: Option<String>,
}

/// An answer, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "as in the contract")]
pub enum Answered {
    Response { status: u16, headers: Vec<(String, String)>, body: String },
    Refused(String),
    Unreachable(String),
    Interrupted(String),
    TooLarge,
}

impl From<&Request> for Asked {
    fn from(request: &Request) -> Self {
        Self {
            method: Method::as_str(request.method).to_owned(),
            path: request.path.clone(),
            query: request.query.clone(),
            headers: request.headers.clone(),
            body: request.body.clone(),
        }
    }
}

impl From<&Result<Response, SendError>> for Answered {
    fn from(answer: &Result<Response, SendError>) -> Self {
        match answer {
            Ok(Response { status, headers, body }) => {
                Self::Response { status: *status, headers: headers.clone(), body: body.clone() }
            }
            Err(SendError::Refused(reason)) => Self::Refused(reason.clone()),
            Err(SendError::Unreachable(reason)) => Self::Unreachable(reason.clone()),
            Err(SendError::Interrupted(reason)) => Self::Interrupted(reason.clone()),
            Err(SendError::TooLarge) => Self::TooLarge,
        }
    }
}

impl From<Answered> for Result<Response, SendError> {
    fn from(answer: Answered) -> Self {
        match answer {
            Answered::Response { status, headers, body } => Ok(Response { status, headers, body }),
            Answered::Refused(reason) => Err(SendError::Refused(reason)),
            Answered::Unreachable(reason) => Err(SendError::Unreachable(reason)),
            Answered::Interrupted(reason) => Err(SendError::Interrupted(reason)),
            Answered::TooLarge => Err(SendError::TooLarge),
        }
    }
}

/// Where a process keeps its recordings: a file for each session, which only its owner may read.
#[derive(Debug)]
pub struct Recordings {
    folder: PathBuf,
    bytes_left: AtomicU64,
}

impl Recordings {
    /// Recordings in this folder, which is made if it is missing.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(folder: &Path) -> io::Result<Arc<Self>> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        Ok(Arc::new(Self { folder: folder.to_owned(), bytes_left: AtomicU64::new(ALL_BYTES_MAX) }))
    }

    fn take(&self, bytes: u64) -> bool {
        let left = |left: u64| left.checked_sub(bytes);
        self.bytes_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left).is_ok()
    }
}

/// What happens between two calls, as the guest's outlet sees it.
pub(super) struct Tape {
    outlet: Arc<dyn Outlet>,
    heard: Mutex<Heard>,
}

#[derive(Default)]
struct Heard {
    exchanges: Vec<Exchange>,
    log: Vec<String>,
}

impl Tape {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outlet for Tape {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, SendError>> {
        Box::pin(async move {
            let asked = Asked::from(&request);
            let answer = self.outlet.send(request).await;
            self.heard().exchanges.push(Exchange { request: asked, answer: Answered::from(&answer) });
            answer
        })
    }

    fn scrub<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.outlet.scrub(text)
    }

    fn heard(&self, level: Level, line: &str) {
        Tape::heard(self).log.push(line.to_owned());
        self.outlet.heard(level, line);
    }
}

/// Writes one guest's calls down.
pub(super) struct Recorder {
    recordings: Arc<Recordings>,
    header: Header,
    tape: Arc<Tape>,
    file: Option<File>,
    bytes_left: u64,
    number: u64,
}

impl Recorder {
    pub(super) fn new(
        recordings: Arc<Recordings>,
        session: SessionId,
        runtime: &str,
        component: &str,
        outlet: Arc<dyn Outlet>,
    ) -> Self {
        let header = Header {
            recording: 1,
            session: session.to_string(),
            runtime: runtime.to_owned(),
            component: component.to_owned(),
        };
        let tape = Arc::new(Tape { outlet, heard: Mutex::default() });
        Self { recordings, header, tape, file: None, bytes_left: SESSION_BYTES_MAX, number: 0 }
    }

    /// What the guest shall reach its upstream through.
    pub(super) fn outlet(&self) -> Arc<dyn Outlet> {
        Arc::clone(&self.tape) as _
    }

    /// A call begins. What one that was dropped half-way has left is forgotten.
    pub(super) fn begin(&self) {
        *self.tape.heard() = Heard::default();
    }

    /// A call has ended. That it cannot be recorded is no reason to stop the session.
    pub(super) fn end<T: Serialize>(&mut self, call: Call, result: &Result<T, CallError>) {
        let Heard { exchanges, log } = mem::take(&mut *self.tape.heard());
        self.number += 1;
        let recorded = Recorded { number: self.number, call, exchanges, log, ended: Ended::of(result) };
        if let Err(error) = self.write(&recorded) {
            tracing::warn!(session = self.header.session, %error, "a session is not recorded any further");
            self.bytes_left = 0;
        }
    }

    fn write(&mut self, recorded: &Recorded) -> io::Result<()> {
        let line = without_secrets(&recorded.call, serde_json::to_string(recorded)?);
        let bytes = line.len() as u64 + 1;
        if self.bytes_left == 0 {
            return Ok(());
        }
        if bytes > self.bytes_left || !self.recordings.take(bytes) {
            return Err(io::Error::other("the recording is as large as it may become"));
        }
        self.bytes_left -= bytes;
        let header = serde_json::to_string(&self.header)?;
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let path = self.recordings.folder.join(format!("{}.ndjson", self.header.session));
                let mut file = File::options().append(true).create(true).mode(0o600).open(path)?;
                self.bytes_left = self.bytes_left.saturating_sub(file.metadata()?.len());
                file.write_all(format!("{header}\n").as_bytes())?;
                self.file.insert(file)
            }
        };
        // In one piece, so that a line is never cut by another one.
        file.write_all(format!("{line}\n").as_bytes())
    }
}

/// The line without what the call's texts have under a name that says that it is secret.
fn without_secrets(call: &Call, mut line: String) -> String {
    let texts: Vec<&str> = match call {
        Call::Provision { agent } => vec![&agent.config, agent.tools.as_deref().unwrap_or_default()],
        Call::Open { session } => {
            vec![&session.environment, &session.agent.config, session.agent.tools.as_deref().unwrap_or_default()]
        }
        Call::Listen { state }
        | Call::Send { state, .. }
        | Call::OnFrames { state, .. }
        | Call::OnEnd { state, .. }
        | Call::CatchUp { state, .. }
        | Call::Close { state } => vec![state],
        Call::Describe | Call::Models => Vec::new(),
    };
    let mut secrets = Vec::new();
    for text in texts {
        // What is no JSON has no names.
        if let Ok(value) = serde_json::from_str(text) {
            collect_secrets(&value, false, &mut secrets);
        }
    }
    // The longest first, since one may be the beginning of another.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    for secret in secrets {
        // As it stands in JSON, in JSON within JSON, and once more in a request's body.
        let mut spelled = secret;
        for _ in 0..3 {
            line = line.replace(&spelled, SECRET);
            spelled = escaped(&spelled);
        }
    }
    line
}

fn escaped(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    quoted.trim_matches('"').to_owned()
}

fn collect_secrets(value: &Value, named: bool, secrets: &mut Vec<String>) {
    match value {
        Value::String(text) if named && text.len() >= SECRET_BYTES_MIN => secrets.push(text.clone()),
        Value::Array(values) => values.iter().for_each(|value| collect_secrets(value, named, secrets)),
        Value::Object(members) => {
            for (name, value) in members {
                let name = name.to_ascii_lowercase();
                let secret = SECRET_NAMES.iter().any(|secret| name.contains(secret));
                collect_secrets(value, named || secret, secrets);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn what_clients_entrust_to_a_session_is_not_recorded() {
        let state = r#"{"session":"s_1","resources":[{"authorization_token":"gh\"p_12345678"}]}"#.to_owned();
        let call = Call::Listen { state };
        let body = r#"{"token":"gh\"p_12345678","text":"authorization"}"#;
        let line = serde_json::json!({"call": call, "body": body, "plain": "gh\"p_12345678"}).to_string();
        let clean = without_secrets(&call, line);
        assert!(!clean.contains("12345678") && clean.matches(SECRET).count() == 3, "{clean}");
        assert!(clean.contains("s_1") && serde_json::from_str::<Value>(&clean).is_ok(), "{clean}");
    }

    #[test]
    fn a_recording_is_its_owners_and_ends_where_it_must() {
        use std::os::unix::fs::PermissionsExt;

        struct Nowhere;
        impl Outlet for Nowhere {
            fn send(&self, _: Request) -> BoxFuture<'_, Result<Response, SendError>> {
                Box::pin(async { Err(SendError::TooLarge) })
            }
            fn scrub<'a>(&self, text: &'a str) -> Cow<'a, str> {
                Cow::Borrowed(text)
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let recordings = Recordings::open(&folder.path().join("r")).unwrap();
        let session = SessionId::fresh();
        let mut recorder = Recorder::new(recordings, session, "sample", "sha256:0", Arc::new(Nowhere));
        recorder.begin();
        recorder.end(Call::Models, &Err::<(), _>(CallError::Fault(Fault::Cpu)));
        recorder.bytes_left = 10;
        recorder.end(Call::Models, &Ok(7));
        recorder.end(Call::Models, &Ok(7));
        let path = folder.path().join("r").join(format!("{session}.ndjson"));
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((lines.len(), &lines[0]["component"]), (2, &"sha256:0".into()));
        assert_eq!((&lines[1]["call"]["export"], &lines[1]["ended"]["fault"]), (&"models".into(), &"cpu".into()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

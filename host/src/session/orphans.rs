//! Sessions that are over or gone here and may go on upstream, because nobody could end them there: they are listed, and it is
//! tried again.

use std::{collections::HashMap, time::Duration};

use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio::{
    select,
    task::spawn_blocking,
    time::{sleep, timeout},
};

use super::{
    Core, ReadError, Sessions,
    failure::StepError,
    stored::{Session, to_json},
    workers::Workers,
};
use crate::{
    access::Stretch,
    blocking::blocking,
    clock,
    events::AppendError,
    id::{RuntimeId, SessionId},
    runtime::{CallError, ErrorKind},
};

/// How often it is looked whether one is due.
const EVERY: Duration = Duration::from_mins(1);

/// How long after a try the next one comes; twice as long after each, and this at the most. Another credential is tried at
/// once.
const WAIT: Duration = Duration::from_mins(1);
const WAIT_MAX: Duration = Duration::from_hours(6);

/// For how long one try may take.
const TRY: Duration = Duration::from_secs(30);

/// Orphans of one runtime that are tried at once.
const AT_ONCE: usize = 8;

/// Orphans that are read at once.
const PAGE: usize = 64;

/// A session that may go on upstream.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Orphan {
    /// The session, as it was when it ended here.
    pub session: Session,
    /// Why it could not be ended, the last time.
    pub reason: String,
    /// Since when, in milliseconds since the epoch.
    pub since_ms: u64,
    /// When it was tried last.
    pub tried_ms: u64,
    /// How often it was tried since it is an orphan.
    pub tries: u32,
    /// The credential that it was tried with, where there was one.
    credential: Option<u64>,
}

impl Orphan {
    pub(super) fn new(session: Session, reason: String, credential: Option<u64>) -> Self {
        let now = clock::unix_ms();
        Self { session, reason, since_ms: now, tried_ms: now, tries: 0, credential }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        to_json(self)
    }

    fn read(id: SessionId, bytes: &[u8]) -> Result<Self, ReadError> {
        serde_json::from_slice(bytes).map_err(|_| ReadError::Damaged { session: id })
    }

    /// When it is tried again, in milliseconds since the epoch, unless another credential comes before that.
    #[must_use]
    pub fn next_try_ms(&self) -> u64 {
        let wait = WAIT.saturating_mul(2_u32.saturating_pow(self.tries)).min(WAIT_MAX);
        self.tried_ms.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
    }

    fn is_due(&self, credential: Option<u64>, now_ms: u64) -> bool {
        (credential.is_some() && credential != self.credential) || now_ms >= self.next_try_ms()
    }
}

impl Sessions {
    /// Orphans by when their sessions were made, behind `after`; at most `limit` are looked at.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn orphans(&self, after: Option<SessionId>, limit: usize) -> Result<Stretch<Orphan, SessionId>, ReadError> {
        let stored = self.core.log.orphans(after, limit)?;
        let (full, last) = (stored.len() >= limit, stored.last().map(|(id, _)| *id));
        // One that cannot be understood must not stand in the way of the others.
        let read = stored.into_iter().filter_map(|(id, bytes)| match Orphan::read(id, &bytes) {
            Ok(orphan) => Some(orphan),
            Err(error) => {
                tracing::error!(session = %id, %error, "an orphan cannot be read");
                None
            }
        });
        let found = read.filter(|orphan| self.holds(&orphan.session)).collect();
        Ok(Stretch { found, next: last.filter(|_| full) })
    }

    /// Forgets an orphan: nobody tries to end it any more. False when there is none.
    ///
    /// # Errors
    /// When that cannot be stored.
    pub async fn forget_orphan(&self, id: SessionId) -> Result<bool, ForgetError> {
        let log = self.core.log.clone();
        let Some(bytes) = blocking(move || log.orphan(id)).await? else { return Ok(false) };
        if !self.holds(&Orphan::read(id, &bytes)?.session) {
            return Ok(false);
        }
        self.core.log.set_orphan(id, None).await?;
        Ok(true)
    }

    /// Tries to end orphans upstream, now and again and again, and whenever a credential changes. One runtime's do not wait for
    /// those of another, whose upstream may hang.
    pub async fn end_orphans(self) {
        let mut changes = self.core.upstreams.changes();
        let mut workers = Workers::default();
        loop {
            match self.due_orphans().await {
                Ok(due) => {
                    for (runtime, orphans) in due {
                        let sessions = self.clone();
                        workers.begin(runtime, async move {
                            sessions.try_orphans(orphans).await.unwrap_or_else(|error| unendable(&error));
                        });
                    }
                }
                Err(error) => unendable(&error),
            }
            select! {
                () = sleep(EVERY) => {}
                changed = changes.changed() => if changed.is_err() { return },
                () = workers.over() => {}
            }
        }
    }

    /// Those that are due, by their runtime.
    async fn due_orphans(&self) -> Result<HashMap<RuntimeId, Vec<Orphan>>, ForgetError> {
        let sessions = self.clone();
        let read = spawn_blocking(move || -> Result<_, ReadError> {
            let (mut due, mut after) = (HashMap::<RuntimeId, Vec<Orphan>>::new(), None);
            loop {
                let page = sessions.orphans(after, PAGE)?;
                for orphan in page.found {
                    if orphan.is_due(sessions.core.credential_of(&orphan.session), clock::unix_ms()) {
                        due.entry(orphan.session.runtime.clone()).or_default().push(orphan);
                    }
                }
                after = page.next;
                if after.is_none() {
                    return Ok(due);
                }
            }
        });
        // A look that crashed has found nothing.
        Ok(read.await.unwrap_or_else(|_| Ok(HashMap::new()))?)
    }

    /// Tries those of one runtime, several at once.
    async fn try_orphans(&self, orphans: Vec<Orphan>) -> Result<(), ForgetError> {
        let tried = stream::iter(orphans).map(|orphan| self.try_one(orphan)).buffer_unordered(AT_ONCE);
        tried.try_collect::<Vec<()>>().await.map(drop)
    }

    async fn try_one(&self, mut orphan: Orphan) -> Result<(), ForgetError> {
        let id = orphan.session.id;
        let credential = self.core.credential_of(&orphan.session);
        match self.core.end(&orphan.session).await {
            Ok(how) => {
                tracing::info!(session = %id, "an orphan is none any more: {how}");
                self.core.log.set_orphan(id, None).await?;
            }
            Err(reason) => {
                orphan.tries = orphan.tries.saturating_add(1);
                (orphan.reason, orphan.tried_ms, orphan.credential) = (reason, clock::unix_ms(), credential);
                self.core.log.renew_orphan(id, orphan.to_bytes()).await?;
            }
        }
        Ok(())
    }
}

fn unendable(error: &ForgetError) {
    tracing::error!(%error, "sessions that may go on upstream cannot be ended there");
}

/// Why an orphan was not forgotten.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// That it is forgotten cannot be stored.
    #[error(transparent)]
    Store(#[from] AppendError),
}

impl Core {
    /// Ends a session upstream that nobody drives any more, and says how that went, or why it did not.
    async fn end(&self, session: &Session) -> Result<&'static str, String> {
        let link = self.link(&session.runtime, session.component, Some(&session.base)).await;
        let link = link.map_err(|error| error.to_string())?;
        match timeout(TRY, link.instance().close(&session.guest)).await {
            Err(_) => Err(format!("the upstream did not answer within {} seconds", TRY.as_secs())),
            Ok(Ok(())) => Ok("the upstream has taken the wish to end it"),
            Ok(Err(CallError::Declared(error))) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::Gone) => {
                Ok("the upstream has no such session")
            }
            Ok(Err(CallError::Declared(error))) if error.kind == ErrorKind::Unsupported => {
                Ok("its runtime has no way to end it")
            }
            Ok(Err(error)) => Err(link.cause::<StepError>(error).to_string()),
        }
    }
}

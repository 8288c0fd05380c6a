//! `/v1/sessions/{id}/threads`: each session has one, which is the session itself.

use serde_json::{Value, json};

use super::{Answered, ApiError, Call, Forward, events, sessions};
use crate::session::Session;

/// The name of a session's only thread.
fn id_of(session: &Session) -> String {
    session.id.replacen("sesn_", "sthr_", 1)
}

fn shown(session: &Session, call: &Call<'_>) -> Value {
    let profile = session.profile();
    json!({
        "id": id_of(session), "type": "session_thread", "session_id": session.id, "agent": *profile.agent,
        "parent_thread_id": null, "status": session.status(call.world.status_lag_ms()), "stats": null, "usage": null,
        "workflow_run_id": null, "created_at": session.created_at, "updated_at": profile.updated_at,
        "archived_at": profile.archived_at,
    })
}

pub(super) fn list(call: &Call<'_>) -> Result<Answered, ApiError> {
    let session = sessions::find(call)?;
    Answered::json(&Forward { data: vec![shown(&session, call)], next_page: None })
}

pub(super) fn retrieve(call: &Call<'_>) -> Result<Answered, ApiError> {
    check(call)?;
    Answered::json(&shown(&*sessions::find(call)?, call))
}

pub(super) fn events(call: &Call<'_>) -> Result<Answered, ApiError> {
    check(call)?;
    events::list(call)
}

pub(super) fn stream(call: &Call<'_>) -> Result<Answered, ApiError> {
    check(call)?;
    events::stream(call)
}

/// Whether the path's thread is the session's.
fn check(call: &Call<'_>) -> Result<(), ApiError> {
    let session = sessions::find(call)?;
    if id_of(&session) == call.inner_id { Ok(()) } else { Err(ApiError::no_such("Thread", call.inner_id)) }
}

//! `/v1/sessions/{id}/events`

use serde_json::Value;

use super::{
    Answered, ApiError, Call,
    page::{Ask, Cursor, Order, TimeRange, token},
    sessions,
};
use crate::{
    clock::Moment,
    event::Frame,
    feed::Feed,
    history::History,
    incoming::{Incoming, Input, Refused},
    turn,
};

const LIMIT_DEFAULT: usize = 1000;
/// The event types that a stream can preview. A client may ask for them; nothing is previewed here.
const PREVIEWS: [&str; 2] = ["agent.message", "agent.thinking"];
const PREVIEWS_MAX: usize = 100;

pub(super) fn send(call: &Call<'_>) -> Result<Answered, ApiError> {
    let session = sessions::find(call)?;
    let Some(Value::Array(events)) = call.fields()?.remove("events") else {
        return Err(ApiError::invalid("events: Field required"));
    };
    if events.is_empty() {
        return Err(ApiError::invalid("events: List should have at least 1 item"));
    }
    let events = events.into_iter().enumerate().map(|(index, event)| Incoming::parse(index, event, &call.world.ids));
    let mut events = events.collect::<Result<Vec<_>, Refused>>()?;
    if call.world.faults().interrupts_ignored {
        for event in events.iter_mut().filter(|event| event.input == Input::Interrupt) {
            event.input = Input::Note;
        }
    }
    let (stored, opened) = session.send(events)?;
    if let Some(prompt) = opened {
        turn::spawn(call.world, &session, prompt);
    }
    let mut json = data(&stored);
    json.push(b'}');
    Ok(Answered::Json(json))
}

pub(super) fn list(call: &Call<'_>) -> Result<Answered, ApiError> {
    let session = sessions::find(call)?;
    let ask = Ask::parse(&call.query, Order::Ascending, LIMIT_DEFAULT)?;
    let range = TimeRange::parse(&call.query)?;
    let types = call.query.list("types");
    let (lag, faults) = (call.world.list_lag(), call.world.faults());
    let unlisted = |kind: &[u8]| faults.unlisted.iter().any(|name| name.as_bytes() == kind);
    let (frames, next) = session.with_history(|history| {
        let kept = |position: &u64| {
            let is_kind = |kind: &&str| kind.as_bytes() == history.kind(*position);
            (types.is_empty() || types.iter().any(is_kind))
                && !unlisted(history.kind(*position))
                && range.holds(history.processed_at(*position))
        };
        slice(history, &ask, history.shown(lag, Moment::now()), kept)
    })?;
    let mut json = data(&frames);
    json.extend_from_slice(b",\"next_page\":");
    json.extend_from_slice(next.map_or_else(|| "null".to_owned(), |token| format!("\"{token}\"")).as_bytes());
    json.push(b'}');
    Ok(Answered::Json(json))
}

/// The events asked for out of the first `shown`, and the cursor to those behind them.
fn slice(
    history: &History,
    ask: &Ask<u64>,
    shown: u64,
    kept: impl Fn(&u64) -> bool,
) -> Result<(Vec<Frame>, Option<String>), ApiError> {
    let after = match ask.cursor {
        None => None,
        Some(Cursor::After(position)) => Some(position),
        Some(Cursor::Before(_)) => return Err(ApiError::invalid("invalid page cursor")),
    };
    let wanted = ask.limit + 1;
    let mut positions: Vec<u64> = match ask.order {
        Order::Ascending => (after.map_or(0, |position| position + 1)..shown).filter(kept).take(wanted).collect(),
        Order::Descending => (0..after.unwrap_or(shown).min(shown)).rev().filter(kept).take(wanted).collect(),
    };
    let more = positions.len() > ask.limit;
    positions.truncate(ask.limit);
    let next = positions.last().filter(|_| more).map(|last| token(ask.order, &Cursor::After(last)));
    Ok((positions.into_iter().map(|position| history.frame(position)).collect(), next))
}

/// `{"data":[…]`, of JSON that is there already.
fn data(frames: &[Frame]) -> Vec<u8> {
    let mut json = b"{\"data\":[".to_vec();
    for (index, frame) in frames.iter().enumerate() {
        if index > 0 {
            json.push(b',');
        }
        json.extend_from_slice(frame.json());
    }
    json.push(b']');
    json
}

pub(super) fn stream(call: &Call<'_>) -> Result<Answered, ApiError> {
    let session = sessions::find(call)?;
    let previews = call.query.list("event_deltas");
    if previews.len() > PREVIEWS_MAX || previews.iter().any(|preview| !PREVIEWS.contains(preview)) {
        return Err(ApiError::invalid("event_deltas: Input should be 'agent.message' or 'agent.thinking'"));
    }
    let (world, line) = (call.world, call.line.clone());
    let open = world.recorder.open_stream();
    let feed = Feed::new(session, line, world.heartbeat(), world.stream_fault(), open);
    Ok(Answered::Stream(Box::new(feed)))
}

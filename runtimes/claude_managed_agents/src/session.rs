//! A session upstream: opened, listened to, sent to, listed, closed.

use std::collections::BTreeMap;

use lap_runtime_sdk::{
    Error, ErrorKind, Feed, Frame, History, Input, Outcome, Response, SendError, SessionOpened, SessionSpec, Upstream,
    path_segment, read_state, write_state,
};
use serde::{Deserialize, Deserializer, Serialize, de::IgnoredAny};
use serde_json::value::RawValue;

use crate::{agent::Provision, delete, get, post};

/// What the host keeps about a session: as little as will do, since it crosses the border at each call.
#[derive(Serialize, Deserialize)]
struct State {
    session: String,
}

impl State {
    fn path(&self, tail: &str) -> String {
        format!("/v1/sessions/{}{tail}", self.session)
    }
}

#[derive(Serialize)]
struct NewSession<'a> {
    agent: AgentRef<'a>,
    environment_id: &'a str,
    title: &'a str,
    metadata: Metadata<'a>,
    #[serde(flatten)]
    wishes: Wishes<'a>,
}

/// What a session shall have beyond its agent, as the client wrote it.
#[derive(Serialize, Deserialize)]
struct Wishes<'a> {
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    resources: Option<&'a RawValue>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    vault_ids: Option<&'a RawValue>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    budget: Option<&'a RawValue>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum AgentRef<'a> {
    /// Whatever the agent is at that moment.
    Latest(&'a str),
    /// The agent as it was provisioned, whatever was done to it in the vendor's console since.
    Pinned { r#type: &'static str, id: &'a str, version: u32 },
}

#[derive(Serialize)]
struct Metadata<'a> {
    local_agent_id: &'a str,
    local_session_id: &'a str,
}

/// Opens a session with a single request, so that there is nothing to undo when it fails.
pub(crate) fn open(upstream: &mut dyn Upstream, session: &SessionSpec) -> Result<SessionOpened, Error> {
    #[derive(Deserialize)]
    struct Created {
        id: String,
        #[serde(default)]
        resources: Option<Box<RawValue>>,
    }
    let wishes = serde_json::from_str(&session.environment).map_err(|error| {
        Error::new(ErrorKind::BadRequest, format!("the session's environment cannot be used: {error}"))
    })?;
    // One that cannot be read was written by another version of this runtime: the host shall have a new one made.
    let Ok(Provision { agent, version, environment }) = serde_json::from_str(&session.provision) else {
        return Err(Error::new(ErrorKind::Gone, "the agent has to be provisioned again"));
    };
    let new = NewSession {
        agent: version.map_or(AgentRef::Latest(&agent), |version| AgentRef::Pinned {
            r#type: "agent",
            id: &agent,
            version,
        }),
        environment_id: &environment,
        title: &session.title,
        metadata: Metadata { local_agent_id: &session.agent.id, local_session_id: &session.id },
        wishes,
    };
    let response = upstream.call(post("/v1/sessions", &new)?).map_err(gone)?;
    let Created { id, resources } = response.json()?;
    let state = State { session: path_segment(id, "session")? };
    let resources =
        resources.map(|resources| resources.get().to_owned()).filter(|resources| resources.starts_with('['));
    Ok(SessionOpened { state: write_state(&state)?, upstream_id: Some(state.session), resources })
}

/// An agent or an environment that was deleted, or archived, which is for good too.
fn gone(error: Error) -> Error {
    let archived = error.kind == ErrorKind::BadRequest && error.message.contains("archived");
    let kind = if error.kind == ErrorKind::NotFound || archived { ErrorKind::Gone } else { error.kind };
    Error { kind, ..error }
}

/// The stream starts at this moment and replays nothing; what went before is for [`catch_up`].
pub(crate) fn listen(state: &str) -> Result<Feed, Error> {
    Ok(Feed::Sse(get(&read_state::<State>(state)?.path("/events/stream")).header("accept", "text/event-stream")))
}

#[derive(Serialize)]
struct NewEvents<'a> {
    events: &'a [NewEvent<'a>],
}

#[derive(Serialize)]
#[serde(untagged)]
enum NewEvent<'a> {
    Ours {
        r#type: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        content: Option<&'a RawValue>,
    },
    Given(Given<'a>),
}

/// An event as a client wrote it.
#[derive(Serialize)]
#[serde(transparent)]
struct Given<'a> {
    json: &'a RawValue,
    #[serde(skip)]
    kind: String,
}

impl NewEvent<'_> {
    fn kind(&self) -> &str {
        match self {
            Self::Ours { r#type, .. } => r#type,
            Self::Given(given) => &given.kind,
        }
    }
}

const INTERRUPT: NewEvent<'_> = NewEvent::Ours { r#type: "user.interrupt", content: None };

/// Sends all inputs at once: the upstream takes all or none. Their echoes come back on the stream. A change of the
/// session itself comes alone.
pub(crate) fn send(upstream: &mut dyn Upstream, state: &str, inputs: &[Input]) -> Result<Outcome, Error> {
    if let [Input::Other(json)] = inputs
        && let Some(update) = update(json)?
    {
        let state = read_state::<State>(state)?;
        let response = upstream.call(post(&state.path(""), &update)?)?;
        updated(&response, &state)?;
        return Ok(Outcome::none());
    }
    let events = inputs.iter().map(new_event).collect::<Result<Vec<_>, _>>()?;
    let path = read_state::<State>(state)?.path("/events");
    let response = upstream.call(post(&path, &NewEvents { events: &events })?)?;
    taken(&response, &events)?;
    Ok(Outcome::none())
}

/// Looks whether an answer is the session that was changed.
fn updated(response: &Response, state: &State) -> Result<(), Error> {
    #[derive(Deserialize)]
    struct Updated {
        id: String,
    }
    let Updated { id } = response.json()?;
    if id == state.session { Ok(()) } else { Err(Error::not_understood(response, "it is of another session")) }
}

/// Looks whether an answer says that the events were taken. What stands between here and there may answer 200 to
/// anything; believed, a prompt that never arrived would be waited for.
fn taken(response: &Response, events: &[NewEvent<'_>]) -> Result<(), Error> {
    #[derive(Deserialize)]
    struct Taken {
        /// What Anthropic has stored.
        #[serde(default)]
        data: Option<Vec<Stored>>,
        /// What a harness says instead.
        #[serde(default)]
        ok: bool,
    }
    #[derive(Deserialize)]
    struct Stored {
        #[serde(rename = "type")]
        kind: String,
    }
    let mut stored = match response.json()? {
        Taken { data: Some(stored), .. } => stored,
        Taken { ok: true, .. } => return Ok(()),
        Taken { .. } => return Err(Error::not_understood(response, "it has no data")),
    };
    // Of what begins no turn nobody waits to hear.
    let prompts =
        events.iter().map(NewEvent::kind).filter(|kind| ["user.message", "user.define_outcome"].contains(kind));
    for kind in prompts {
        let place = stored.iter().position(|stored| stored.kind == kind);
        let place = place.ok_or_else(|| Error::not_understood(response, format_args!("its data has no {kind}")))?;
        stored.swap_remove(place);
    }
    Ok(())
}

/// What of a session may change while it lives.
#[derive(Serialize, Deserialize)]
struct Update<'a> {
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    agent: Option<&'a RawValue>,
    /// Null takes it away.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    budget: Option<Option<&'a RawValue>>,
}

/// Tells null from nothing.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(from: D) -> Result<Option<Option<&'a RawValue>>, D::Error> {
    Option::deserialize(from).map(Some)
}

fn update(json: &str) -> Result<Option<Update<'_>>, Error> {
    #[derive(Deserialize)]
    struct Typed<'a> {
        #[serde(rename = "type")]
        kind: &'a str,
    }
    match serde_json::from_str(json) {
        Ok(Typed { kind: "session.update" }) => serde_json::from_str(json).map(Some).map_err(|error| invalid(&error)),
        _ => Ok(None),
    }
}

fn invalid(error: &serde_json::Error) -> Error {
    Error::new(ErrorKind::BadRequest, format!("the input: {error}"))
}

fn new_event(input: &Input) -> Result<NewEvent<'_>, Error> {
    #[derive(Deserialize)]
    struct Typed {
        #[serde(rename = "type")]
        kind: String,
    }
    let invalid = |error: serde_json::Error| invalid(&error);
    match input {
        Input::Message(content) => {
            let content = serde_json::from_str(content).map_err(invalid)?;
            Ok(NewEvent::Ours { r#type: "user.message", content: Some(content) })
        }
        Input::Interrupt => Ok(INTERRUPT),
        Input::Other(json) => {
            let Typed { kind } = serde_json::from_str(json).map_err(invalid)?;
            if !kind.starts_with("user.") && !kind.starts_with("system.") {
                let message = format!("Claude Agents take inputs of user.* and system.*, and none of {kind:?}");
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
            let json = serde_json::from_str(json).map_err(invalid)?;
            Ok(NewEvent::Given(Given { json, kind }))
        }
    }
}

/// How many events to ask for at once. Mostly a few of the latest are wanted. Where the events of a page are large, fewer
/// of them are asked for.
const PAGES: [&str; 3] = ["200", "10", "1"];

/// A page of more than this is asked for in parts. The host takes no answer of more than 16 MiB, and reading one of that
/// size would come near to the processor time that a call has.
const PAGE_BYTES: usize = 8 * 1024 * 1024;

/// One page of the session's events, the latest first where the upstream can.
pub(crate) fn catch_up(upstream: &mut dyn Upstream, state: &str, cursor: Option<&str>) -> Result<History, Error> {
    let path = read_state::<State>(state)?.path("/events");
    let mut answer = Err(SendError::TooLarge);
    for limit in PAGES {
        let request = get(&path).query("limit", limit).query("order", "desc");
        answer = upstream.send(match cursor {
            Some(cursor) => request.query("page", cursor),
            None => request,
        });
        let too_large = match &answer {
            Ok(response) => response.body.len() > PAGE_BYTES,
            Err(error) => matches!(error, SendError::TooLarge),
        };
        if !too_large {
            break;
        }
    }
    if matches!(answer, Err(SendError::TooLarge)) {
        // Asked again it would be as large. What is newer was on the pages before this one.
        let frames = vec![Frame::new(SESSION_ERROR, UNREADABLE)];
        return Ok(History { frames, newest_first: true, next: None });
    }
    history(&answer?.success()?)
}

const SESSION_ERROR: &str = "session.error";

/// What stands in the log for an event that no answer is large enough for: once, however often the history is read.
const UNREADABLE: &str = concat!(
    r#"{"type":"session.error","id":"history_unreadable","error":{"type":"unknown_error","message":"#,
    r#""an event in the upstream's history is larger than 16 MiB: it cannot be read, and what came before it only where "#,
    r#"it was heard in time","retry_status":{"type":"retrying"}}}"#
);

fn history(response: &Response) -> Result<History, Error> {
    #[derive(Deserialize)]
    struct Page<'a> {
        #[serde(borrow)]
        data: Vec<&'a RawValue>,
        next_page: Option<String>,
    }
    #[derive(Deserialize, Default)]
    struct Head {
        #[serde(default, rename = "type")]
        kind: String,
        processed_at: Option<String>,
    }
    let page: Page<'_> = response.json()?;
    let mut frames = Vec::with_capacity(page.data.len());
    let mut times = Vec::new();
    for event in page.data {
        let head: Head = serde_json::from_str(event.get()).unwrap_or_default();
        times.extend(head.processed_at);
        frames.push(Frame::new(head.kind, event.get()));
    }
    let newest_first = newest_first(&times).unwrap_or(page.next_page.is_some());
    Ok(History { frames, newest_first, next: page.next_page })
}

/// Whether a page of a listing is in the order that was asked for, as far as its times tell. Harnesses know no order: some list
/// oldest first, and some give no times.
fn newest_first(times: &[String]) -> Option<bool> {
    let (first, last) = (times.first()?, times.last()?);
    // RFC 3339 sorts as text only where both have as many digits; else down to the second.
    let digits = if first.len() == last.len() { first.len() } else { "2026-01-01T00:00:00".len() };
    Some(first.get(..digits) >= last.get(..digits))
}

/// Stops what runs, and deletes the session. The upstream may refuse to delete one that has not come to rest yet: then
/// the error is a conflict, and the host tries again.
pub(crate) fn close(upstream: &mut dyn Upstream, state: &str) -> Result<(), Error> {
    let state = read_state::<State>(state)?;
    let interrupt = post(&state.path("/events"), &NewEvents { events: &[INTERRUPT] })?;
    match upstream.call(interrupt).and_then(|response| taken(&response, &[])) {
        Ok(()) => {}
        // A session that takes no interrupt, because it rests or cannot be stopped, may still be deleted.
        Err(error) if matches!(error.kind, ErrorKind::BadRequest | ErrorKind::Conflict | ErrorKind::Unsupported) => {}
        Err(error) => return absent_is_closed(error),
    }
    match upstream.call(delete(&state.path(""))) {
        Ok(response) => deleted(&response),
        Err(error) if error.kind == ErrorKind::BadRequest && error.message.contains("running") => {
            Err(Error { kind: ErrorKind::Conflict, ..error })
        }
        Err(error) => absent_is_closed(error),
    }
}

/// Looks whether an answer says that something was deleted. Anthropic answers what it was; a harness may have nothing to
/// say, or say it in its own words.
fn deleted(response: &Response) -> Result<(), Error> {
    if response.status == 204 {
        return Ok(());
    }
    response.json::<BTreeMap<String, IgnoredAny>>().map(drop)
}

fn absent_is_closed(error: Error) -> Result<(), Error> {
    match error.kind {
        ErrorKind::NotFound | ErrorKind::Gone => Ok(()),
        _ => Err(error),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use lap_runtime_sdk::{AgentSpec, Header, Method, Request, Script};

    use super::*;

    const STATE: &str = r#"{"session":"sesn_01"}"#;

    fn spec(provision: &str) -> SessionSpec {
        SessionSpec {
            id: "ses_local".to_owned(),
            title: "Numbers".to_owned(),
            agent: AgentSpec {
                id: "agent_local".to_owned(),
                name: "Ada".to_owned(),
                model: "m".to_owned(),
                system: String::new(),
                description: None,
                tools: None,
                config: "{}".to_owned(),
            },
            provision: provision.to_owned(),
            environment: "{}".to_owned(),
        }
    }

    /// Method and path of a request, and what else matters about it.
    fn asked(request: &Request) -> (Method, &str, &[(String, String)], Option<&str>) {
        (request.method, &request.path, &request.query, request.body.as_deref())
    }

    fn failing(status: u32, message: &str) -> Result<Response, SendError> {
        let body = format!(r#"{{"type":"error","error":{{"type":"x","message":"{message}"}}}}"#);
        Ok(Response { status, headers: Vec::new(), body })
    }

    #[test]
    fn a_session_is_opened_by_one_request_that_pins_the_version() {
        for (provision, agent) in [
            (
                r#"{"agent":"agent_01","version":3,"environment":"env_01"}"#,
                r#"{"type":"agent","id":"agent_01","version":3}"#,
            ),
            (r#"{"agent":"agt_01","environment":"env_01"}"#, r#""agt_01""#),
        ] {
            let mut script = Script::new([(200, r#"{"id":"sesn_01","type":"session","status":"idle"}"#)]);
            let opened = open(&mut script, &spec(provision)).unwrap();
            let upstream_id = Some("sesn_01".to_owned());
            let expected = SessionOpened { state: STATE.to_owned(), upstream_id, resources: None };
            assert_eq!(opened, expected);
            let body = format!(
                r#"{{"agent":{agent},"environment_id":"env_01","title":"Numbers","metadata":{{"local_agent_id":"agent_local","local_session_id":"ses_local"}}}}"#
            );
            assert_eq!(
                script.requests.iter().map(asked).collect::<Vec<_>>(),
                [(Method::Post, "/v1/sessions", &[][..], Some(body.as_str()))]
            );
        }
    }

    #[test]
    fn an_agent_that_is_no_longer_there_has_to_be_provisioned_again() {
        let provision = r#"{"agent":"agent_01","version":3,"environment":"env_01"}"#;
        for (status, message, kind) in [
            (404, "agent.version: 3 not found", ErrorKind::Gone),
            (400, "Environment env_01 is archived", ErrorKind::Gone),
            (400, "title: too long", ErrorKind::BadRequest),
            (401, "Authentication failed", ErrorKind::Auth),
            (529, "Overloaded", ErrorKind::Overloaded),
        ] {
            let error = open(&mut Script::default().then(failing(status, message)), &spec(provision)).unwrap_err();
            assert_eq!(error, Error { status: Some(status), ..Error::new(kind, message) });
        }
        let mut script = Script::default();
        assert_eq!(open(&mut script, &spec("of old")).unwrap_err().kind, ErrorKind::Gone);
        assert_eq!(script.requests, []);
    }

    #[test]
    fn an_id_that_would_lead_elsewhere_is_refused() {
        for id in ["", "../agents", "a?b", "a/b", "a b"] {
            let answer = Response { status: 200, headers: Vec::new(), body: format!(r#"{{"id":"{id}"}}"#) };
            let mut script = Script::default().then(Ok(answer));
            let error = open(&mut script, &spec(r#"{"agent":"a","environment":"e"}"#)).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Upstream, "{id}");
        }
    }

    #[test]
    fn the_feed_is_the_sessions_stream() {
        let Feed::Sse(request) = listen(STATE).unwrap() else { unreachable!("a stream is asked for") };
        assert_eq!(asked(&request), (Method::Get, "/v1/sessions/sesn_01/events/stream", &[][..], None));
        let accept = Header { name: "accept".to_owned(), value: "text/event-stream".to_owned() };
        assert!(request.headers.contains(&accept));
        assert_eq!(listen("of old").unwrap_err().kind, ErrorKind::Internal);
    }

    #[test]
    fn all_inputs_go_in_one_request_and_in_their_order() {
        let inputs = [
            Input::Interrupt,
            Input::Message(r#"[{"type":"text","text":"Hi"}]"#.to_owned()),
            Input::Other(r#"{"type":"user.tool_confirmation","tool_use_id":"sevt_1","result":"allow"}"#.to_owned()),
            Input::Other(r#"{"type":"system.message","content":[]}"#.to_owned()),
        ];
        let mut script = Script::new([(200, r#"{"data":[{"type":"user.interrupt"},{"type":"user.message"}]}"#)]);
        assert_eq!(send(&mut script, STATE, &inputs).unwrap(), Outcome::none());
        let body = concat!(
            r#"{"events":[{"type":"user.interrupt"},"#,
            r#"{"type":"user.message","content":[{"type":"text","text":"Hi"}]},"#,
            r#"{"type":"user.tool_confirmation","tool_use_id":"sevt_1","result":"allow"},"#,
            r#"{"type":"system.message","content":[]}]}"#
        );
        let expected = (Method::Post, "/v1/sessions/sesn_01/events", &[][..], Some(body));
        assert_eq!(script.requests.iter().map(asked).collect::<Vec<_>>(), [expected]);
    }

    #[test]
    fn an_input_that_cannot_be_sent_stops_all_of_them() {
        for (input, kind) in [
            (Input::Other(r#"{"type":"agent.message"}"#.to_owned()), ErrorKind::Unsupported),
            (Input::Other(r#"{"type":7}"#.to_owned()), ErrorKind::BadRequest),
            (Input::Other("{}".to_owned()), ErrorKind::BadRequest),
            (Input::Message("no json".to_owned()), ErrorKind::BadRequest),
        ] {
            let mut script = Script::new([(200, "{}")]);
            assert_eq!(send(&mut script, STATE, &[Input::Interrupt, input]).unwrap_err().kind, kind);
            assert_eq!(script.requests, []);
        }
    }

    #[test]
    fn history_is_read_page_by_page_from_its_end() {
        let body = concat!(
            r#"{"data":[{"type":"session.status_idle","processed_at":"2026-11-23T14:00:02Z","#,
            r#""stop_reason": {"type":"end_turn"}},{"type":"user.message","processed_at":null}],"next_page":"p2"}"#
        );
        let mut script = Script::new([(200, body), (200, r#"{"data":[],"next_page":null}"#)]);
        let page = catch_up(&mut script, STATE, None).unwrap();
        let frame = |name: &str, data: &str| Frame { name: name.to_owned(), data: data.to_owned() };
        let frames = vec![
            frame(
                "session.status_idle",
                r#"{"type":"session.status_idle","processed_at":"2026-11-23T14:00:02Z","stop_reason": {"type":"end_turn"}}"#,
            ),
            frame("user.message", r#"{"type":"user.message","processed_at":null}"#),
        ];
        assert_eq!(page, History { frames, newest_first: true, next: Some("p2".to_owned()) });
        let page = catch_up(&mut script, STATE, page.next.as_deref()).unwrap();
        assert_eq!((page.frames.len(), page.next), (0, None));

        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let first = vec![pair("limit", "200"), pair("order", "desc")];
        let second = [first.clone(), vec![pair("page", "p2")]].concat();
        assert_eq!(
            script.requests.iter().map(asked).collect::<Vec<_>>(),
            [
                (Method::Get, "/v1/sessions/sesn_01/events", &first[..], None),
                (Method::Get, "/v1/sessions/sesn_01/events", &second[..], None),
            ]
        );
    }

    #[test]
    fn a_page_that_is_too_large_is_asked_for_in_parts() {
        let asked_for = |script: &Script| {
            let limit = |request: &Request| request.query[0].1.clone();
            script.requests.iter().map(limit).collect::<Vec<_>>()
        };
        let body = r#"{"data":[],"next_page":"p2"}"#.to_owned();
        let page = Response { status: 200, headers: Vec::new(), body };
        let mut script = Script::default().then(Err(SendError::TooLarge)).then(Ok(page.clone()));
        assert_eq!(catch_up(&mut script, STATE, Some("p1")).unwrap().next.as_deref(), Some("p2"));
        assert_eq!(asked_for(&script), ["200", "10"]);
        let long = Response { body: format!(r#"{{"data":[],"x":"{}"}}"#, "x".repeat(PAGE_BYTES)), ..page.clone() };
        let mut script = Script::default().then(Ok(long.clone())).then(Ok(page));
        assert_eq!(catch_up(&mut script, STATE, None).unwrap().next.as_deref(), Some("p2"));
        assert_eq!(asked_for(&script), ["200", "10"]);
        let mut script = Script::default().then(Ok(long.clone())).then(Ok(long.clone())).then(Ok(long));
        assert_eq!(catch_up(&mut script, STATE, None).unwrap().next, None, "one event is one event");
        let too_large = || Err(SendError::TooLarge);
        let mut script = Script::default().then(too_large()).then(too_large()).then(too_large());
        let unreadable = catch_up(&mut script, STATE, None).unwrap();
        assert_eq!((unreadable.frames.len(), unreadable.next), (1, None), "asked again it would be as large");
        assert!(unreadable.frames[0].data.contains("larger than 16 MiB"), "{}", unreadable.frames[0].data);
        assert_eq!(asked_for(&script), PAGES);
    }

    #[test]
    fn the_first_of_several_pages_may_be_in_the_wrong_order_too() {
        for (times, newest_first) in [(["2", "1"], true), (["1", "2"], false), (["1", "1"], true)] {
            let event = |second| format!(r#"{{"type":"a","processed_at":"2026-11-23T14:00:0{second}Z"}}"#);
            let body = format!(r#"{{"data":[{},{}],"next_page":"p2"}}"#, event(times[0]), event(times[1]));
            let page = history(&Response { status: 200, headers: Vec::new(), body }).unwrap();
            assert_eq!(page.newest_first, newest_first, "{times:?}");
        }
    }

    #[test]
    fn a_single_page_may_be_in_the_wrong_order() {
        for (times, newest_first) in [
            (&[r#""2026-11-23T14:00:02Z""#, r#""2026-11-23T14:00:01Z""#][..], true),
            (&[r#""2026-11-23T14:00:01Z""#, "null", r#""2026-11-23T14:00:02Z""#], false),
            (&["null", r#""2026-11-23T14:00:02Z""#, r#""2026-11-23T14:00:01Z""#], true),
            (&[r#""2026-11-23T14:00:01.250Z""#, r#""2026-11-23T14:00:01.125Z""#], true),
            (&[r#""2026-11-23T14:00:01.125Z""#, r#""2026-11-23T14:00:01.250Z""#], false),
            (&[r#""2026-11-23T14:00:02.5Z""#, r#""2026-11-23T14:00:01Z""#], true),
            (&["null", "null"], false),
            (&[], false),
        ] {
            let data: Vec<_> = times.iter().map(|time| format!(r#"{{"type":"a","processed_at":{time}}}"#)).collect();
            let body = format!(r#"{{"data":[{}]}}"#, data.join(","));
            let page = history(&Response { status: 200, headers: Vec::new(), body }).unwrap();
            assert_eq!((page.newest_first, page.next), (newest_first, None), "{times:?}");
        }
    }

    #[test]
    fn what_a_session_shall_have_goes_up_and_what_it_got_comes_back() {
        let got = r#"[{"id":"sesrsc_1","type":"file","file_id":"file_1"}]"#;
        let answer = r#"{"id":"sesn_01","resources":[{"id":"sesrsc_1","type":"file","file_id":"file_1"}]}"#;
        let mut script = Script::new([(200, answer)]);
        let environment =
            r#"{"resources":[{"type":"file","file_id":"file_1"}],"vault_ids":["vlt_1"],"ref":"main"}"#.to_owned();
        let spec = SessionSpec { environment, ..spec(r#"{"agent":"a","environment":"e"}"#) };
        assert_eq!(open(&mut script, &spec).unwrap().resources.as_deref(), Some(got));
        let body = script.requests[0].body.clone().unwrap();
        assert!(
            body.ends_with(r#","resources":[{"type":"file","file_id":"file_1"}],"vault_ids":["vlt_1"]}"#),
            "{body}"
        );
    }

    #[test]
    fn a_change_of_the_session_is_no_event() {
        for (input, body) in [
            (r#"{"type":"session.update","agent":{"tools":[]}}"#, r#"{"agent":{"tools":[]}}"#),
            (r#"{"type":"session.update","budget":null}"#, r#"{"budget":null}"#),
        ] {
            let mut script = Script::new([(200, r#"{"id":"sesn_01","type":"session"}"#)]);
            send(&mut script, STATE, &[Input::Other(input.to_owned())]).unwrap();
            assert_eq!(asked(&script.requests[0]), (Method::Post, "/v1/sessions/sesn_01", &[][..], Some(body)));
        }
    }

    /// What a 200 may bring that no upstream has said.
    const NO_ANSWERS: [&str; 8] = [
        "<html>sign in to this network</html>",
        "",
        r#"{"data":[{"type":"user.mess"#,
        "null",
        "7",
        r#""ok""#,
        r#"{"data":[7]}"#,
        r#"{"data":[{}]}"#,
    ];

    #[test]
    fn a_success_that_is_no_answer_is_the_upstreams_fault() {
        let message = || Input::Message(r#"[{"type":"text","text":"Hi"}]"#.to_owned());
        let outcome = || Input::Other(r#"{"type":"user.define_outcome","description":"d"}"#.to_owned());
        let update = || Input::Other(r#"{"type":"session.update","budget":null}"#.to_owned());
        let send = |body, input| {
            let mut script = Script::new([(200, body)]);
            let sent = send(&mut script, STATE, &[input]);
            assert_eq!(script.requests.len(), 1);
            sent.map_err(|error| (error.kind, error.status))
        };
        let fault = Err((ErrorKind::Upstream, Some(200)));
        let strange = ["{}", r#"{"data":null}"#, r#"{"ok":false}"#, r#"{"error":{"message":"no"}}"#];
        for body in NO_ANSWERS.into_iter().chain(strange) {
            for input in [message(), outcome(), Input::Interrupt, update()] {
                assert_eq!(send(body, input), fault, "{body}");
            }
        }
        let other = r#"{"data":[{"type":"user.interrupt"}]}"#;
        for input in [message(), outcome()] {
            assert_eq!(send(other, input.clone()), fault);
            assert_eq!(send(r#"{"data":[]}"#, input), fault);
        }
        assert_eq!(send(r#"{"id":"sesn_02"}"#, update()), fault);
        for (body, input) in [
            (other, Input::Interrupt),
            (r#"{"data":[]}"#, Input::Interrupt),
            (r#"{"data":[{"type":"user.message","id":"sevt_1"}]}"#, message()),
            (r#"{"ok":true,"queued":false}"#, message()),
        ] {
            assert_eq!(send(body, input), Ok(Outcome::none()), "{body}");
        }
        let twice = [message(), message()];
        let mut once = Script::new([(200, r#"{"data":[{"type":"user.message"}]}"#)]);
        assert_eq!(super::send(&mut once, STATE, &twice).unwrap_err().kind, ErrorKind::Upstream);
    }

    #[test]
    fn a_session_that_nobody_says_is_opened_is_not_and_one_that_nobody_says_is_closed_neither() {
        for body in NO_ANSWERS.into_iter().filter(|body| !body.starts_with(r#"{"data":[{}"#)) {
            let provision = r#"{"agent":"agent_01","environment":"env_01"}"#;
            let error = open(&mut Script::new([(200, body)]), &spec(provision)).unwrap_err();
            assert_eq!((error.kind, error.status), (ErrorKind::Upstream, Some(200)), "{body}");
            let error = close(&mut Script::new([(200, body)]), STATE).unwrap_err();
            assert_eq!((error.kind, error.status), (ErrorKind::Upstream, Some(200)), "{body}");
            let error = catch_up(&mut Script::new([(200, body)]), STATE, None);
            let of_events = body == r#"{"data":[7]}"#;
            assert_eq!(
                error.map(drop).map_err(|error| error.kind),
                if of_events { Ok(()) } else { Err(ErrorKind::Upstream) }
            );
        }
        for (status, body, closed) in [(200, "<html>", false), (200, "", false), (200, "{}", true), (204, "", true)] {
            let closes = close(&mut Script::new([(200, r#"{"data":[]}"#), (status, body)]), STATE);
            assert_eq!(
                closes.map_err(|error| error.kind),
                if closed { Ok(()) } else { Err(ErrorKind::Upstream) },
                "{body}"
            );
        }
    }

    /// An interrupt that was taken, and a session that was deleted.
    fn done() -> Result<Response, SendError> {
        Ok(Response { status: 200, headers: Vec::new(), body: r#"{"data":[],"type":"session_deleted"}"#.to_owned() })
    }

    #[test]
    fn closing_interrupts_and_then_deletes() {
        for interrupted in [done(), failing(400, "no user.message text"), failing(409, "busy")] {
            let mut script = Script::default().then(interrupted).then(done());
            close(&mut script, STATE).unwrap();
            assert_eq!(
                script.requests.iter().map(asked).collect::<Vec<_>>(),
                [
                    (
                        Method::Post,
                        "/v1/sessions/sesn_01/events",
                        &[][..],
                        Some(r#"{"events":[{"type":"user.interrupt"}]}"#)
                    ),
                    (Method::Delete, "/v1/sessions/sesn_01", &[][..], None),
                ]
            );
        }
    }

    #[test]
    fn a_session_that_is_gone_is_closed_and_one_that_runs_is_not() {
        let close = |answers: Vec<_>| close(&mut answers.into_iter().fold(Script::default(), Script::then), STATE);
        assert_eq!(close(vec![failing(404, "not found")]), Ok(()));
        assert_eq!(close(vec![done(), failing(404, "not found")]), Ok(()));
        let running = "Cannot delete session while it is running";
        for (status, message, kind) in [
            (400, running, ErrorKind::Conflict),
            (409, running, ErrorKind::Conflict),
            (400, "malformed", ErrorKind::BadRequest),
            (405, "Method Not Allowed", ErrorKind::Unsupported),
            (500, "out of order", ErrorKind::Upstream),
        ] {
            let error = close(vec![done(), failing(status, message)]).unwrap_err();
            assert_eq!(error, Error { status: Some(status), ..Error::new(kind, message) });
        }
        assert_eq!(close(vec![failing(401, "no")]).unwrap_err().kind, ErrorKind::Auth);
    }
}

"""The kit: from the contract of wit/ to plain values and back, so that an adapter has no JSON text and no generated types
in it. Nothing here knows a vendor; change it freely.

An adapter is a module of functions, which `exported` makes a component's:

    describe()                           Description
    provision(upstream, agent)           a string that leads to what all sessions of an agent share
    open(upstream, session)              Opened
    listen(upstream, state)              Sse, Lines, Poll, or None while there is nothing to read
    send(upstream, state, inputs)        Outcome or None
    on_frames(upstream, state, frames)   the same; a frame is its name and its data
    on_end(upstream, state, ending)      the same; without it the host connects again
    catch_up(upstream, state, cursor)    History; without it there is none
    close(upstream, state)               None
    models(upstream)                     pairs of id and name; without it, unsupported

What is JSON text on the border is a value here: the state; `tools` and `config` of an agent; the environment of a session;
a message's content and other inputs. Whatever is raised becomes a declared error, and never a trap: a `Failure` as it
is, anything else as the adapter's own fault, with its traceback in the operator's log.
"""

import json
import re
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any


class Failure(Exception):
    """Something that failed, as the contract has it: `kind` is one of `error-kind` of wit/types.wit."""

    def __init__(self, kind: str, message: str, *, retry_after_ms: int | None = None, status: int | None = None):
        super().__init__(message)
        self.kind, self.message, self.retry_after_ms, self.status = kind, message, retry_after_ms, status


_write: Callable[[str, str], None] = lambda level, message: None


def log(level: str, message: str) -> None:
    """Writes a line into the operator's log: debug, info, warn or error. In tests the line is dropped."""
    _write(level, message)


def compact(value: Any) -> str:
    """JSON without what nobody reads."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


# JSON. What is nested deeper than anybody writes would exhaust the component's stack, which is a trap.

_DEPTH_MAX = 100
_PERHAPS_TOO_DEEP = re.compile(r"[^\[{]*(?:[\[{][^\[{]*){%d}" % (_DEPTH_MAX + 1))
_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{}\]]', re.DOTALL)
_STEPS = {"[": 1, "{": 1, "]": -1, "}": -1}


def parse(text: str) -> Any:
    """Text as a value; raises ValueError when it is no JSON, or nested too deep."""
    if _PERHAPS_TOO_DEEP.match(text):
        depth = 0
        for token in _TOKENS.finditer(text):
            depth += _STEPS.get(token[0], 0)
            if depth > _DEPTH_MAX:
                raise ValueError(f"JSON is nested more than {_DEPTH_MAX} deep")
    return json.loads(text)


def _read(kind: str, what: str, text: str) -> Any:
    try:
        return parse(text)
    except ValueError as fault:
        raise Failure(kind, f"{what}: {fault}") from None


def _state(state: str) -> Any:
    return _read("internal", "the state", state)


# What the host hands in.


@dataclass
class Session:
    id: str
    title: str
    agent: dict[str, Any]
    provision: str
    environment: dict[str, Any]


@dataclass
class Input:
    """`kind` is message, with its content blocks; interrupt, with nothing; or other, with an object."""

    kind: str
    value: Any = None


# What an adapter answers.


@dataclass
class Description:
    id: str
    name: str
    default_base: str
    provider_id: str
    provider_name: str
    auth_header: str
    auth_scheme: str
    # Each with id, name, description and enabled_by_default.
    tools: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Opened:
    state: Any
    upstream_id: str | None = None
    resources: list[Any] | None = None


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    body: str | None = None


@dataclass
class Sse:
    request: Request


@dataclass
class Lines:
    request: Request


@dataclass
class Poll:
    request: Request
    every_ms: int


@dataclass
class Event:
    """An event of the platform with its effect on the turn, or the index of a frame that is one, unchanged."""

    value: dict[str, Any] | int
    effect: str = "none"


@dataclass
class Outcome:
    """A state of None stays as it was."""

    events: list[Event] = field(default_factory=list)
    state: Any = None
    relisten: bool = False


@dataclass
class History:
    frames: list[tuple[str, str]] = field(default_factory=list)
    newest_first: bool = False
    next: str | None = None


# Requests and answers.


def get(path: str, **rest: Any) -> Request:
    return Request("get", path, **rest)


def delete(path: str, **rest: Any) -> Request:
    return Request("delete", path, **rest)


def post(path: str, value: Any, *, headers: dict[str, str] | None = None, **rest: Any) -> Request:
    """Posts a value as JSON."""
    headers = {"content-type": "application/json", **(headers or {})}
    return Request("post", path, headers=headers, body=compact(value), **rest)


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: str

    def json(self) -> Any:
        """The body, whatever it is."""
        return _read("upstream", "the upstream's answer cannot be understood", self.body)

    def object(self, **members: type) -> dict[str, Any]:
        """The body as an object that has these members, each of its type."""
        value = self.json()
        for name, kind in members.items():
            if not isinstance(value, dict) or not isinstance(value.get(name), kind):
                raise self._failure(f"there is no {name} of type {kind.__name__}")
        return value

    def no_content(self) -> None:
        """For an answer that has nothing to say: anything else than a 204 is not what the upstream answered."""
        if self.status != 204:
            raise self._failure("it should be a 204")

    def _failure(self, why: str) -> Failure:
        return Failure("upstream", f"the upstream's answer cannot be understood: {why}", status=self.status)


_KINDS = {
    401: "auth",
    402: "quota",
    403: "auth",
    404: "not-found",
    405: "unsupported",
    408: "upstream",
    409: "conflict",
    410: "gone",
    429: "throttled",
    501: "unsupported",
    503: "overloaded",
    529: "overloaded",
}


def _told(body: str) -> str | None:
    """The sentence in an error's body, in the forms that servers use."""
    try:
        value = parse(body)
    except ValueError:
        return None
    while isinstance(value, dict):
        value = next((value[name] for name in ("error", "message", "detail") if name in value), None)
    return value if isinstance(value, str) else None


def _retry_after_ms(headers: dict[str, str]) -> int | None:
    for name, unit_ms in (("retry-after-ms", 1), ("retry-after", 1000)):
        if headers.get(name, "").strip().isdecimal():
            return min(int(headers[name]) * unit_ms, 0xFFFFFFFF)
    return None


class Upstream:
    """Where requests go. `send` of a subclass gives any answer, or raises a `Failure` when there is none."""

    def send(self, request: Request) -> Response:
        raise NotImplementedError

    def call(self, request: Request) -> Response:
        """Sends a request that is expected to succeed; raises what any other status means."""
        response = self.send(request)
        status = response.status
        if 200 <= status < 300:
            return response
        kind = _KINDS.get(status, "bad-request" if 400 <= status < 500 else "upstream")
        message = _told(response.body) or f"the upstream answered with status {status}"
        raise Failure(kind, message[:500], retry_after_ms=_retry_after_ms(response.headers), status=status)


class Script(Upstream):
    """An upstream for tests: gives the answers that it was told, status and value, and keeps what it was asked."""

    def __init__(self, *answers: tuple[int, Any]):
        self.answers, self.requests = list(answers), []

    def send(self, request: Request) -> Response:
        self.requests.append(request)
        if not self.answers:
            raise Failure("internal", "the script has ended")
        status, value = self.answers.pop(0)
        return Response(status, {}, compact(value))


# What clients send and wish.


def text(content: list[dict[str, Any]]) -> str:
    """The text of a message; raises for content of other kinds."""
    if not isinstance(content, list):
        raise Failure("bad-request", "a message is a list of content blocks")
    for block in content:
        if block["type"] != "text":
            message = f"this runtime takes text, and no {block['type']}: leave it out of the message"
            raise Failure("unsupported", message)
    return "\n".join(block["text"] for block in content)


def refuse(session: Session, *wishes: str) -> None:
    """Refuses wishes that this runtime cannot fulfil: names of members of a session's environment."""
    for wish in wishes:
        if wish in session.environment:
            raise Failure("unsupported", f"a session of this runtime has no {wish}: leave it out")


def path_segment(id: Any, what: str) -> str:
    """An id of the upstream's that is going to be a segment of paths, and must not lead elsewhere."""
    if isinstance(id, str) and re.fullmatch(r"[A-Za-z0-9_-]+", id):
        return id
    raise Failure("upstream", f"the upstream's id of the {what} cannot be part of a path")


# Events. The id is the upstream's own, or made of it, so that what is told twice has the same; None leaves it to the host.
# `at` is when the upstream came to it, in RFC 3339. Content may be text.

Content = str | list[dict[str, Any]]


def event(type: str, id: str | None, effect: str = "none", *, at: str | None = None, **members: Any) -> Event:
    if id is not None and not isinstance(id, str):
        raise TypeError(f"the id of an event is text, and not {id!r}")
    given = {"id": id, "processed_at": at}
    return Event({"type": type, **{name: value for name, value in given.items() if value is not None}, **members}, effect)


def _blocks(content: Content) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def user_message(id: str | None, content: Content, *, at: str | None = None) -> Event:
    return event("user.message", id, at=at, content=_blocks(content))


def agent_message(id: str | None, content: Content, *, at: str | None = None) -> Event:
    return event("agent.message", id, at=at, content=_blocks(content))


def tool_use(id: str, name: str, input: dict[str, Any], *, ask: bool = False, at: str | None = None) -> Event:
    """A tool of the upstream's runs, or asks for the client's leave to."""
    permission = "ask" if ask else "allow"
    return event("agent.tool_use", id, at=at, name=name, input=input, evaluated_permission=permission)


def tool_result(
    id: str | None, tool_use_id: str, content: Content, *, is_error: bool = False, at: str | None = None
) -> Event:
    blocks = _blocks(content)
    return event("agent.tool_result", id, at=at, tool_use_id=tool_use_id, content=blocks, is_error=is_error)


def custom_tool_use(id: str, name: str, input: dict[str, Any], *, at: str | None = None) -> Event:
    """The client shall run a tool. The turn waits once an `idle` says so."""
    return event("agent.custom_tool_use", id, at=at, name=name, input=input)


def running(id: str | None, *, at: str | None = None) -> Event:
    """A turn runs."""
    return event("session.status_running", id, "started", at=at)


_STOPS = {"end_turn": "ended", "requires_action": "waiting", "retries_exhausted": "failed"}


def idle(id: str | None, reason: str, event_ids: list[str] | None = None, *, at: str | None = None) -> Event:
    """The turn is over (end_turn, retries_exhausted), or waits for answers to events (requires_action)."""
    stop = {"type": reason} if event_ids is None else {"type": reason, "event_ids": event_ids}
    return event("session.status_idle", id, _STOPS[reason], at=at, stop_reason=stop, stop_details=None)


def error(
    id: str | None, message: str, *, type: str = "model_request_failed_error", at: str | None = None
) -> Event:
    """The turn dies of an error."""
    told = {"type": type, "message": message, "retry_status": {"type": "exhausted"}}
    return event("session.error", id, "failed", at=at, error=told)


# The component.


def frames_of(data: bytes, ends: list[int]) -> list[tuple[str, str]]:
    """Packed frames, one by one."""
    starts = [0, *ends[:-1]]
    pieces = [data[start:end].decode() for start, end in zip(starts, ends)]
    return list(zip(pieces[::2], pieces[1::2]))


def _agent(agent: Any) -> dict[str, Any]:
    tools = _read("bad-request", "the agent's tools", agent.tools or "null")
    return {**vars(agent), "tools": tools, "config": _read("bad-request", "the agent's configuration", agent.config)}


def _trace(failed: BaseException) -> str:
    """What failed, and where, without the lines themselves: a component has no files to read them from."""
    frames = traceback.walk_tb(failed.__traceback__)
    places = [f"{frame.f_code.co_filename}:{line} in {frame.f_code.co_name}" for frame, line in frames]
    return "\n".join([repr(failed), *reversed(places)])


def _no_models(upstream: Upstream) -> list[tuple[str, str]]:
    raise Failure("unsupported", "this runtime cannot list models")


def exported(adapter: Any, types: Any, host: Any, logs: Any, err: Any) -> type:
    """An adapter as a component exports it, over what is generated from the contract: the types, the two imports `host`
    and `logs`, and the exception that stands for a declared error."""
    global _write
    _write = lambda level, message: logs.write(logs.Level[level.upper()], message)
    on_end = getattr(adapter, "on_end", lambda *_: Outcome(relisten=True))
    catch_up = getattr(adapter, "catch_up", lambda *_: History())
    models = getattr(adapter, "models", _no_models)

    def request(made: Request) -> Any:
        headers = [types.Header(name, value) for name, value in made.headers.items()]
        return types.Request(types.Method[made.method.upper()], made.path, list(made.query.items()), headers, made.body)

    class Host(Upstream):
        def send(self, made: Request) -> Response:
            try:
                got = host.send(request(made))
            except err as failed:
                # What the host refuses to send is this adapter's own fault.
                kind = "internal" if isinstance(failed.value, host.SendError_Refused) else "upstream"
                raise Failure(kind, getattr(failed.value, "value", "the upstream's answer is too large")) from None
            return Response(got.status, {header.name: header.value for header in reversed(got.headers)}, got.body)

    upstream = Host()

    def guarded(call: Callable[..., Any]) -> Callable[..., Any]:
        def guard(_: Any, *values: Any) -> Any:
            try:
                return call(*values)
            except Failure as failed:
                kind = types.ErrorKind[failed.kind.upper().replace("-", "_")]
                declared = types.Error(kind, failed.message, failed.retry_after_ms, failed.status)
            except Exception as failed:
                log("error", _trace(failed))
                declared = types.Error(types.ErrorKind.INTERNAL, f"the runtime failed: {failed!r}", None, None)
            raise err(declared)

        return guard

    def feed(found: Sse | Lines | Poll | None) -> Any:
        match found:
            case Sse(made):
                return types.Feed_Sse(request(made))
            case Lines(made):
                return types.Feed_Lines(request(made))
            case Poll(made, every_ms):
                return types.Feed_Poll(types.Poll(request(made), every_ms))
        return types.Feed_None_()

    def told(made: Event) -> Any:
        frame = isinstance(made.value, int)
        body = types.Body_Frame(made.value) if frame else types.Body_Json(compact(made.value))
        return types.Event(body, types.Effect[made.effect.upper()])

    def outcome(found: Outcome | None) -> Any:
        found = found or Outcome()
        state = None if found.state is None else compact(found.state)
        return types.Outcome(state, [told(made) for made in found.events], found.relisten)

    def given(made: Any) -> Input:
        kind = type(made).__name__.removeprefix("Input_").lower()
        return Input(kind, _read("bad-request", f"the {kind} input", made.value) if hasattr(made, "value") else None)

    def opened(session: Any) -> Any:
        environment = _read("bad-request", "the session's environment", session.environment)
        known = Session(**{**vars(session), "agent": _agent(session.agent), "environment": environment})
        found = adapter.open(upstream, known)
        resources = None if found.resources is None else compact(found.resources)
        return types.SessionOpened(compact(found.state), found.upstream_id, resources)

    def history(state: str, cursor: str | None) -> Any:
        found = catch_up(upstream, _state(state), cursor)
        return types.History([types.Frame(*frame) for frame in found.frames], found.newest_first, found.next)

    def description() -> Any:
        found = asdict(adapter.describe())
        return types.Description(**{**found, "tools": [types.Tool(**tool) for tool in found["tools"]]})

    def on_frames(state: str, frames: Any) -> Any:
        return outcome(adapter.on_frames(upstream, _state(state), frames_of(frames.bytes, frames.ends)))

    calls = {
        "describe": description,
        "provision": lambda agent: adapter.provision(upstream, _agent(agent)),
        "open": opened,
        "listen": lambda state: feed(adapter.listen(upstream, _state(state))),
        "send": lambda state, inputs: outcome(adapter.send(upstream, _state(state), [given(made) for made in inputs])),
        "on_frames": on_frames,
        "on_end": lambda state, ending: outcome(on_end(upstream, _state(state), ending.name.lower())),
        "catch_up": history,
        "close": lambda state: adapter.close(upstream, _state(state)),
        "models": lambda: [types.Model(*model) for model in models(upstream)],
    }
    return type("Adapter", (), {name: guarded(call) for name, call in calls.items()})

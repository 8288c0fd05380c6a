"""The runtime example_chat: drives the Example Chat API, which VENDOR.md describes, for a host of lap:runtime@0.1.

Functions of what the host hands them: nothing is kept between two calls, and the only way out is `upstream`. What is known
of a session is its state, a plain dict, which the host stores. lap.py says what is handed in and out.
"""

import json
from collections.abc import Iterator
from typing import Any

from lap import (
    Description,
    Event,
    Failure,
    History,
    Input,
    Opened,
    Outcome,
    Session,
    Sse,
    Upstream,
    agent_message,
    delete,
    error,
    get,
    idle,
    log,
    parse,
    path_segment,
    post,
    refuse,
    running,
    text,
    tool_result,
    tool_use,
    user_message,
)

State = dict[str, Any]


def path(state: State, tail: str) -> str:
    return f"/v1/conversations/{state['conversation']}{tail}"


def describe() -> Description:
    return Description(
        id="example_chat",
        name="Example Chat",
        default_base="http://127.0.0.1:4200",
        provider_id="example",
        provider_name="Example",
        auth_header="authorization",
        auth_scheme="Bearer",
    )


def provision(upstream: Upstream, agent: dict[str, Any]) -> str:
    """This vendor knows conversations only: there is nothing to make that sessions of an agent would share."""
    return ""


def open(upstream: Upstream, session: Session) -> Opened:
    refuse(session, "resources", "vault_ids", "budget")
    agent = session.agent
    new = {"title": session.title, "model": agent["model"], "instructions": agent["system"]}
    created = upstream.call(post("/v1/conversations", new)).object(id=str)
    conversation = path_segment(created["id"], "conversation")
    return Opened(state={"conversation": conversation}, upstream_id=conversation)


def listen(upstream: Upstream, state: State) -> Sse:
    """The stream begins with what happens from now on; what was before is for `catch_up`."""
    return Sse(get(path(state, "/stream"), headers={"accept": "text/event-stream"}))


def send(upstream: Upstream, state: State, inputs: list[Input]) -> None:
    """What the vendor makes of an input comes on the stream. Its answers are read all the same: a proxy on the way may say
    200 with a page of its own, and then the prompt has not arrived.
    """
    for given in inputs:
        match given.kind:
            case "message":
                upstream.call(post(path(state, "/prompts"), {"text": text(given.value)})).object(id=str)
            case "interrupt":
                stop(upstream, state)
            case _:
                raise Failure("unsupported", "this runtime takes messages and interrupts only")


def stop(upstream: Upstream, state: State) -> None:
    try:
        upstream.call(post(path(state, "/stop"), {})).object(stopped=bool)
    except Failure as failure:
        # The turn was over before it could be stopped.
        if failure.kind != "conflict":
            raise


def on_frames(upstream: Upstream, state: State, frames: list[tuple[str, str]]) -> Outcome:
    return Outcome(events=[event for name, data in frames if name == "entry" for event in told(data)])


def told(data: str) -> list[Event]:
    """The events of a frame: none for one that is no entry."""
    try:
        return list(events(parse(data)))
    except (KeyError, TypeError, ValueError) as fault:
        log("warn", f"an entry is left out: {fault!r}")
        return []


def events(entry: dict[str, Any]) -> Iterator[Event]:
    """An entry has the same id wherever it is told, and so have its events: the host stores each once."""
    at = entry["at"]
    match entry:
        case {"kind": "prompt", "id": id, "text": said}:
            yield user_message(id, said, at=at)
        case {"kind": "working", "id": id}:
            yield running(id, at=at)
        case {"kind": "lookup", "id": id, "query": query}:
            yield tool_use(id, "lookup", {"query": query}, at=at)
        case {"kind": "found", "id": id, "lookup": lookup, "text": found}:
            yield tool_result(id, lookup, found, at=at)
        case {"kind": "answer", "id": id, "text": said}:
            yield agent_message(id, said, at=at)
        case {"kind": "done", "id": id, "reason": "failed"}:
            yield error(f"{id}.error", entry.get("error") or "the vendor gives no reason", at=at)
            yield idle(id, "retries_exhausted", at=at)
        case {"kind": "done", "id": id}:
            yield idle(id, "end_turn", at=at)
        case _:
            log("warn", f"an entry is left out: there is no kind {entry.get('kind')}")


def catch_up(upstream: Upstream, state: State, before: str | None) -> History:
    """A page of entries, in the shape in which the stream brings them."""
    query = {"limit": "100"} if before is None else {"limit": "100", "before": before}
    page = upstream.call(get(path(state, "/entries"), query=query)).object(entries=list)
    frames = [("entry", json.dumps(entry)) for entry in page["entries"]]
    return History(frames, newest_first=True, next=page.get("next"))


def close(upstream: Upstream, state: State) -> None:
    try:
        upstream.call(delete(path(state, ""))).no_content()
    except Failure as failure:
        if failure.kind != "not-found":
            raise


def models(upstream: Upstream) -> list[tuple[str, str]]:
    return [(model["id"], model["name"]) for model in upstream.call(get("/v1/models")).object(models=list)["models"]]

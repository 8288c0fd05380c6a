"""What users of the official Python SDK do with the Managed Agents API, case by case, with every value that matters.

    ANTHROPIC_BASE_URL=… ANTHROPIC_API_KEY=… python suite.py [--record FILE]

The base URL is that of a host, or of the simulator, which speaks the same API. The upstream behind it answers prompts as
`host/simulator/src/script.rs` says: `/custom` asks for a tool, `/ask` for leave, `/long` takes a while. With `--record`
each answer's JSON is written to FILE, with the type that the SDK reads it as, for `strict.py`.

Ends with a status other than 0 and a line for each case that fails.
"""

import asyncio
import concurrent.futures
import os
import sys
import threading
import traceback

import anthropic
import recorder

# What differs from runtime to runtime: the tool that a turn uses, the one that needs leave, and what a refused one comes to.
RUNTIMES = {
    "claude_managed_agents": {
        "tool": ("bash", {"command": "ls"}), "asks": "agent.tool_use", "denied": [True], "lacks": {},
    },
    "openai_responses": {
        "tool": ("web_search", {"query": "README"}), "asks": "agent.mcp_tool_use", "denied": [],
        "lacks": {
            "terminated": "a conversation there has no end of its own",
            "resources": "there is no machine to put them on",
        },
    },
}
HERE = RUNTIMES[os.environ.get("SUITE_RUNTIME", "claude_managed_agents")]
PROMPT = "Bonjour, ça va? 你好"
TURN = [
    "session.status_running", "span.model_request_start", "agent.message", "agent.tool_use", "agent.tool_result",
    "agent.message", "span.model_request_end", "session.status_idle",
]


class Differs(Exception):
    """Something is not as expected."""


def expect(what, got, wanted):
    if got != wanted:
        raise Differs(f"{what}: expected {wanted!r}, got {got!r}")


def refused(what, kind, call):
    """The error that a call ends in, which must be of this class."""
    try:
        answer = call()
    except kind as error:
        return error
    raise Differs(f"{what}: {kind.__name__} was expected, got {answer!r}")


def user_message(text):
    return {"type": "user.message", "content": [{"type": "text", "text": text}]}


def text_of(message):
    return "".join(block.text for block in message.content)


def to_idle(stream, on_event=lambda event: None):
    """The events of a stream up to and with the first idle that is the end of a turn or waits for the client."""
    events = []
    for event in stream:
        events.append(event)
        on_event(event)
        if event.type == "session.status_idle":
            return events
    raise Differs(f"the stream ended without idle after {[event.type for event in events]}")


class World:
    """A client, and an agent and an environment that several cases share."""

    def __init__(self):
        self.client = anthropic.Anthropic(max_retries=0, timeout=30)
        self.beta = self.client.beta
        self.agent = self.beta.agents.create(
            name="Tester", model="claude-opus-5-5", tools=[{"type": "agent_toolset_20260401"}]
        )
        self.environment = self.beta.environments.create(name="Somewhere")

    def session(self, **wishes):
        wishes = {"agent": self.agent.id, "environment_id": self.environment.id, **wishes}
        return self.beta.sessions.create(**wishes)

    def turn(self, session, text=PROMPT):
        """The events of one turn, as a stream shows them that was opened before."""
        with self.beta.sessions.events.stream(session.id) as stream:
            self.send(session, user_message(text))
            return to_idle(stream)

    def send(self, session, *events):
        return self.beta.sessions.events.send(session.id, events=list(events)).data

    def events(self, session, **query):
        return list(self.beta.sessions.events.list(session.id, **query))


def main_flow(world):
    session = world.session(title="Main flow", metadata={"case": "main"})
    expect("status", session.status, "idle")
    expect("agent", (session.agent.id, session.agent.version, session.agent.model.id),
           (world.agent.id, 1, "claude-opus-5-5"))
    expect("title", (session.title, session.metadata), ("Main flow", {"case": "main"}))
    with world.beta.sessions.events.stream(session.id) as stream:
        sent = world.send(session, user_message(PROMPT))
        expect("sent", [(event.type, text_of(event)) for event in sent], [("user.message", PROMPT)])
        first = to_idle(stream)
        # The stream stays open over idle: the second turn comes on it.
        world.send(session, user_message("again"))
        second = to_idle(stream)
    for events, text in (first, PROMPT), (second, "again"):
        # A message is shown while it waits and once it is taken, at whatever point of the turn that is.
        expect("types", [event.type for event in events if event.type != "user.message"], TURN)
        said = next(event for event in events if event.type == "user.message" and event.processed_at)
        expect("echo", text_of(said), text)
        expect("answer", text in text_of(next(event for event in events if event.type == "agent.message")), True)
        idle = events[-1]
        expect("idle", (idle.stop_reason.type, idle.stop_details), ("end_turn", None))
        expect("classes", type(idle).__name__, "BetaManagedAgentsSessionStatusIdleEvent")
    use, result = (next(event for event in first if event.type == kind) for kind in ("agent.tool_use", "agent.tool_result"))
    expect("tool", (use.name, use.input, use.evaluated_permission), (*HERE["tool"], "allow"))
    expect("tool result", result.tool_use_id, use.id)
    listed = world.events(session)
    expect("each event is listed once", len({event.id for event in listed}), len(listed))
    processed = [event for event in first + second if event.processed_at]
    expect("listed", [event.id for event in listed], [event.id for event in processed])
    expect("listed values", listed, processed)
    shown = world.beta.sessions.retrieve(session.id)
    expect("status after a turn", shown.status, "idle")
    spans = [event for event in first + second if event.type == "span.model_request_end"]
    expect("usage", (shown.usage.input_tokens, shown.usage.output_tokens),
           tuple(sum(getattr(span.model_usage, name) for span in spans) for name in ("input_tokens", "output_tokens")))
    expect("active", shown.stats.active_seconds is not None and shown.stats.active_seconds >= 0, True)


def custom_tool(world):
    session = world.session()
    with world.beta.sessions.events.stream(session.id) as stream:
        world.send(session, user_message("/custom please"))
        events = to_idle(stream)
        [use] = [event for event in events if event.type == "agent.custom_tool_use"]
        expect("waits", (events[-1].stop_reason.type, events[-1].stop_reason.event_ids), ("requires_action", [use.id]))
        [stored] = world.send(session, {
            "type": "user.custom_tool_result", "custom_tool_use_id": use.id,
            "content": [{"type": "text", "text": "12 degrees"}],
        })
        expect("result is processed at once", (stored.custom_tool_use_id, stored.processed_at is not None), (use.id, True))
        events = to_idle(stream)
    expect("the answer is used", text_of(next(event for event in events if event.type == "agent.message")), "12 degrees")
    expect("end", events[-1].stop_reason.type, "end_turn")


def confirmation(world):
    for verdict, results in ("allow", [False]), ("deny", HERE["denied"]):
        session = world.session()
        with world.beta.sessions.events.stream(session.id) as stream:
            world.send(session, user_message("/ask me"))
            events = to_idle(stream)
            [use] = [event for event in events if event.type == HERE["asks"]]
            expect("asks", (use.evaluated_permission, events[-1].stop_reason.event_ids), ("ask", [use.id]))
            wish = {"type": "user.tool_confirmation", "tool_use_id": use.id, "result": verdict}
            if verdict == "deny":
                wish["deny_message"] = "rather not"
            [stored] = world.send(session, wish)
            expect("confirmation", (stored.type, stored.result), ("user.tool_confirmation", verdict))
            events = to_idle(stream)
        of = {"agent.tool_result": "tool_use_id", "agent.mcp_tool_result": "mcp_tool_use_id"}
        found = [(getattr(event, of[event.type]), bool(event.is_error)) for event in events if event.type in of]
        expect("results", found, [(use.id, is_error) for is_error in results])
        expect("end", events[-1].stop_reason.type, "end_turn")


def tool_runner(world):
    """The SDK's own loop around custom tools and the confirmations that somebody else gives."""
    from anthropic import AsyncAnthropic, beta_async_tool

    @beta_async_tool
    async def get_weather(city: str) -> str:
        """Tells the weather.

        Args:
            city: Where.
        """
        return f"fine in {city}"

    async def run():
        client = AsyncAnthropic(max_retries=0, timeout=30)
        session = world.session()
        runner = client.beta.sessions.events.tool_runner(session.id, tools=[get_weather], max_idle=0.2)
        world.send(session, user_message("/custom please"))
        calls = [call async for call in runner]
        return session, calls

    session, calls = asyncio.run(asyncio.wait_for(run(), 30))
    expect("calls", [call.name for call in calls], ["get_weather"])
    said = [text_of(event) for event in world.events(session) if event.type == "agent.message"]
    expect("the tool's answer is used", said[-1], "fine in Kyiv")


def interrupt(world):
    session = world.session()
    sent = threading.Event()

    def stop(event):
        if event.type == "agent.message" and not sent.is_set():
            sent.set()
            expect("status", world.beta.sessions.retrieve(session.id).status, "running")
            [stored] = world.send(session, {"type": "user.interrupt"})
            expect("interrupt", stored.type, "user.interrupt")

    with world.beta.sessions.events.stream(session.id) as stream:
        world.send(session, user_message("/long turn"))
        events = to_idle(stream, stop)
    expect("interrupted", (events[-1].stop_reason.type, len(events) < 600), ("end_turn", True))
    expect("goes on", world.turn(session)[-1].stop_reason.type, "end_turn")


def paging(world):
    session = world.session()
    with world.beta.sessions.events.stream(session.id) as stream:
        world.send(session, user_message("/pages"))
        streamed = [event.id for event in to_idle(stream) if event.processed_at]
    expect("more than one page", len(streamed) > 1000, True)
    expect("ascending", [event.id for event in world.events(session)], streamed)
    expect("descending", [event.id for event in world.events(session, order="desc", limit=300)], streamed[::-1])
    some = world.events(session, types=["session.status_running", "session.status_idle"], limit=1)
    expect("types", [event.type for event in some], ["session.status_running", "session.status_idle"])
    middle = world.events(session)[500].processed_at
    early = world.events(session, created_at_lte=middle)
    late = world.events(session, created_at_gt=middle)
    expect("ranges", [event.id for event in early + late], streamed)
    page = world.beta.sessions.events.list(session.id, limit=10)
    expect("a page", (len(page.data), page.next_page is not None), (10, True))
    refused("another order", anthropic.BadRequestError,
            lambda: world.beta.sessions.events.list(session.id, order="desc", page=page.next_page))
    refused("no cursor", anthropic.BadRequestError, lambda: world.beta.sessions.events.list(session.id, page="x"))


def agents(world):
    agents = world.beta.agents
    tool = {"type": "custom", "name": "f", "description": "d", "input_schema": {"type": "object", "properties": {}}}
    server = {"type": "url", "name": "docs", "url": "https://mcp.example/sse"}
    agent = agents.create(
        name="Versioned", model={"id": "claude-opus-5-5", "effort": "low"}, system="Be brief.", description="A test.",
        tools=[tool, {"type": "mcp_toolset", "mcp_server_name": "docs"}], mcp_servers=[server], metadata={"a": "1", "b": "2"},
    )
    expect("model", (agent.model.id, agent.model.effort.type), ("claude-opus-5-5", "low"))
    expect("tools", [tool.type for tool in agent.tools], ["custom", "mcp_toolset"])
    expect("policy", agent.tools[1].default_config.permission_policy.type, "always_ask")
    expect("servers", [(one.name, one.url) for one in agent.mcp_servers], [("docs", "https://mcp.example/sse")])
    expect("retrieved", agents.retrieve(agent.id), agent)
    expect("no change", agents.update(agent.id, version=1, name="Versioned").version, 1)
    changed = agents.update(agent.id, version=1, system=None, metadata={"a": None, "c": "3"})
    expect("changed", (changed.version, changed.system, changed.metadata), (2, None, {"b": "2", "c": "3"}))
    expect("kept", (changed.description, len(changed.tools)), ("A test.", 2))
    stale = refused("stale", anthropic.ConflictError, lambda: agents.update(agent.id, version=1, name="late"))
    expect("stale is not retried", stale.response.headers["x-should-retry"], "false")
    expect("versions", [(one.version, one.system) for one in agents.versions.list(agent.id)], [(2, None), (1, "Be brief.")])
    expect("old version", agents.retrieve(agent.id, version=1), agent)
    archived = agents.archive(agent.id)
    expect("archived", archived.archived_at is not None, True)
    refused("archived agent", anthropic.BadRequestError, lambda: world.session(agent=agent.id))
    recent = [one.id for one in agents.list(limit=2)]
    expect("archived is out of sight", agent.id in recent, False)
    expect("but there", agent.id in [one.id for one in agents.list(include_archived=True)], True)
    refused("no agent", anthropic.NotFoundError, lambda: agents.retrieve("agent_none"))
    refused("no name", anthropic.BadRequestError, lambda: agents.create(name=" ", model="m"))


def environments(world):
    environments = world.beta.environments
    limited = {"type": "cloud", "networking": {"type": "limited", "allowed_hosts": ["example.com"]}, "packages": {"pip": ["numpy"]}}
    made = environments.create(name="Limited", config=limited, description="d", metadata={"k": "v"})
    expect("config", (made.config.networking.allowed_hosts, made.config.packages.pip), (["example.com"], ["numpy"]))
    expect("retrieved", environments.retrieve(made.id), made)
    changed = environments.update(made.id, name="Other", metadata={"k": None}, description=None)
    expect("changed", (changed.name, changed.metadata, changed.description), ("Other", {}, None))
    expect("config is kept", changed.config, made.config)
    session = world.session(environment_id=made.id)
    expect("environment", session.environment_id, made.id)
    expect("listed", made.id in [one.id for one in environments.list()], True)
    expect("archived", environments.archive(made.id).archived_at is not None, True)
    refused("archived environment", anthropic.BadRequestError, lambda: world.session(environment_id=made.id))
    world.beta.sessions.delete(session.id)
    deleted = environments.delete(made.id)
    expect("deleted", (deleted.id, deleted.type), (made.id, "environment_deleted"))
    refused("no environment", anthropic.NotFoundError, lambda: environments.retrieve(made.id))


def sessions(world):
    sessions = world.beta.sessions
    agent = world.beta.agents.create(name="One", model="claude-opus-5-5", system="first")
    world.beta.agents.update(agent.id, version=1, system="second")
    latest = world.session(agent=agent.id)
    expect("latest", (latest.agent.version, latest.agent.system, latest.title), (2, "second", None))
    pinned = world.session(agent={"type": "agent", "id": agent.id, "version": 1})
    expect("pinned", (pinned.agent.version, pinned.agent.system), (1, "first"))
    overrides = {"type": "agent_with_overrides", "id": agent.id, "system": "third", "model": "claude-haiku-5-5"}
    changed = world.session(agent=overrides)
    expect("overridden", (changed.agent.version, changed.agent.system, changed.agent.model.id), (2, "third", "claude-haiku-5-5"))
    missing = refused("no version", anthropic.NotFoundError, lambda: world.session(agent={"type": "agent", "id": agent.id, "version": 9}))
    expect("missing version", "9 not found" in str(missing), True)
    refused("no agent", anthropic.NotFoundError, lambda: world.session(agent="agent_none"))
    refused("no environment", anthropic.NotFoundError, lambda: world.session(environment_id="env_none"))

    found = [one.id for one in sessions.list(agent_id=agent.id)]
    expect("newest first", found, [changed.id, pinned.id, latest.id])
    expect("oldest first", [one.id for one in sessions.list(agent_id=agent.id, order="asc", limit=1)], found[::-1])
    expect("by version", [one.id for one in sessions.list(agent_id=agent.id, agent_version=1)], [pinned.id])
    expect("by status", [one.id for one in sessions.list(agent_id=agent.id, statuses=["running"])], [])
    expect("of nobody", list(sessions.list(agent_id="agent_none")), [])
    page = sessions.list(agent_id=agent.id, limit=1)
    expect("first page", (page.data[0].id, page.prev_page), (found[0], None))
    second = sessions.list(agent_id=agent.id, limit=1, page=page.next_page)
    expect("second page", second.data[0].id, found[1])
    back = sessions.list(agent_id=agent.id, limit=1, page=second.prev_page)
    expect("and back", (back.data[0].id, back.prev_page), (found[0], None))

    updated = sessions.update(latest.id, title="Named", metadata={"x": "1", "y": "2"})
    expect("updated", (updated.title, updated.metadata), ("Named", {"x": "1", "y": "2"}))
    updated = sessions.update(latest.id, title=None, metadata={"x": None})
    expect("cleared", (updated.title, updated.metadata), (None, {"y": "2"}))
    expect("archived", sessions.archive(latest.id).archived_at is not None, True)
    refused("archived session", anthropic.BadRequestError, lambda: world.send(latest, user_message("x")))
    expect("out of sight", latest.id in [one.id for one in sessions.list(agent_id=agent.id)], False)
    expect("but there", latest.id in [one.id for one in sessions.list(agent_id=agent.id, include_archived=True)], True)
    deleted = sessions.delete(pinned.id)
    expect("deleted", (deleted.id, deleted.type), (pinned.id, "session_deleted"))
    refused("no session", anthropic.NotFoundError, lambda: sessions.retrieve(pinned.id))


def resources(world):
    session = world.session(resources=[{"type": "file", "file_id": "file_1", "mount_path": "/a.txt"}])
    [resource] = session.resources
    expect("resource", (resource.type, resource.file_id, resource.mount_path), ("file", "file_1", "/a.txt"))
    expect("kept", world.beta.sessions.retrieve(session.id).resources, session.resources)


def initial_events(world):
    session = world.session(initial_events=[user_message("one")])
    for _ in range(500):
        events = world.events(session)
        if events and events[-1].type == "session.status_idle":
            break
        # The turn runs upstream; this waits for it as a user without a stream would.
        threading.Event().wait(0.02)
    said = [text_of(event) for event in events if event.type == "user.message"]
    expect("said", said, ["one"])
    refused("no beginning", anthropic.BadRequestError, lambda: world.session(initial_events=[{"type": "user.interrupt"}]))


def while_running(world):
    session = world.session()
    with world.beta.sessions.events.stream(session.id) as stream:
        world.send(session, user_message("/long turn"))
        next(event for event in stream if event.type == "agent.message")
        error = refused("archive", anthropic.BadRequestError, lambda: world.beta.sessions.archive(session.id))
        expect("archive says why", "running" in str(error), True)
        error = refused("delete", anthropic.BadRequestError, lambda: world.beta.sessions.delete(session.id))
        expect("delete says why", "Cannot delete session while it is running" in str(error), True)
        queued = world.send(session, user_message("next"))
        expect("queued", queued[0].processed_at, None)
        world.send(session, {"type": "user.interrupt"})
        to_idle(stream)


def ends_of_streams(world):
    session = world.session()
    with world.beta.sessions.events.stream(session.id) as stream:
        world.beta.sessions.delete(session.id)
        expect("last event", [event.type for event in stream][-1:], ["session.deleted"])


def terminated(world):
    session = world.session()
    with world.beta.sessions.events.stream(session.id) as stream:
        world.send(session, user_message("/terminate"))
        expect("last event", [event.type for event in stream][-1:], ["session.status_terminated"])
    expect("status", world.beta.sessions.retrieve(session.id).status, "terminated")


def reconnect(world):
    """Open, list, dedupe: the way back that the API documents, with a second reader all along."""
    session = world.session()
    with world.beta.sessions.events.stream(session.id) as whole:
        first = world.beta.sessions.events.stream(session.id)
        world.send(session, user_message("/pages"))
        seen = {}
        for event in first:
            seen[event.id] = event
            if len(seen) > 100:
                break
        first.close()
        second = world.beta.sessions.events.stream(session.id)
        listed = world.events(session)
        for event in listed:
            seen.setdefault(event.id, event)
        if listed[-1].type != "session.status_idle":
            for event in second:
                seen.setdefault(event.id, event)
                if event.type == "session.status_idle":
                    break
        second.close()
        everything = {event.id for event in to_idle(whole)}
    expect("nothing is missing", everything - seen.keys(), set())
    expect("gapless", [event.id for event in world.events(session) if event.id not in seen], [])


def errors(world):
    stranger = anthropic.Anthropic(api_key="sk-wrong", max_retries=0)
    error = refused("wrong key", anthropic.AuthenticationError, lambda: stranger.beta.agents.list())
    expect("type", error.body["error"]["type"], "authentication_error")
    error = refused("unknown", anthropic.NotFoundError, lambda: world.beta.sessions.retrieve("sesn_none"))
    expect("type", error.body["error"]["type"], "not_found_error")
    expect("request id", (error.request_id, error.body["request_id"].startswith("req_")), (error.body["request_id"], True))
    expect("keys", (set(error.body), set(error.body["error"])), ({"type", "error", "request_id"}, {"type", "message"}))
    session = world.session()
    for events in [], [{"type": "agent.message"}], [{"type": "user.message", "content": []}]:
        error = refused("bad events", anthropic.BadRequestError, lambda: world.send(session, *events))
        expect("type", error.body["error"]["type"], "invalid_request_error")
    refused("deltas", anthropic.BadRequestError,
            lambda: world.client.get(f"/v1/sessions/{session.id}/events/stream", cast_to=object,
                                     options={"params": {"event_deltas[]": "user.message"},
                                              "headers": {"anthropic-beta": "managed-agents-2026-04-01"}}))


CASES = [
    main_flow, custom_tool, confirmation, tool_runner, interrupt, paging, agents, environments, sessions, resources,
    initial_events, while_running, ends_of_streams, terminated, reconnect, errors,
]


def main():
    record = sys.argv[sys.argv.index("--record") + 1] if "--record" in sys.argv else None
    if record:
        recorder.install()
    world = World()
    failures = []

    def run(case):
        try:
            case(world)
        except Exception as error:  # noqa: BLE001 - every failure is told
            place = traceback.extract_tb(error.__traceback__)
            lines = [frame.lineno for frame in place if frame.filename == __file__]
            failures.append(f"{case.__name__} (line {lines[-1] if lines else '?'}): {type(error).__name__}: {error}")

    cases = [case for case in CASES if case.__name__ not in HERE["lacks"]]
    with concurrent.futures.ThreadPoolExecutor(len(cases)) as pool:
        list(pool.map(run, cases))
    if record:
        recorder.write(record)
    for failure in failures:
        print(failure)
    for name, reason in HERE["lacks"].items():
        print(f"{name} is not tried: {reason}")
    print(f"anthropic {anthropic.__version__}: {len(cases) - len(failures)} of {len(cases)} cases as expected")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()

"""The main flow of the official SDK against the simulator, value by value.

    pip install anthropic==2.12.0
    cargo run -p lap-simulator --example serve -- 4010
    ANTHROPIC_BASE_URL=http://127.0.0.1:4010 ANTHROPIC_API_KEY=any python simulator_main_flow.py

Ends with a status other than 0, and a line that says what differs, when anything is not as expected.
"""

import json
import sys
import threading

import anthropic

PROMPT = "Bonjour, ça va? 你好"


def expect(what, got, wanted):
    if got != wanted:
        sys.exit(f"{what}: expected {wanted!r}, got {got!r}")


def user_message(text):
    return {"type": "user.message", "content": [{"type": "text", "text": text}]}


def to_idle(stream, on_event=lambda event: None):
    """The events of a stream up to and with the first idle."""
    events = []
    for event in stream:
        events.append(event)
        on_event(event)
        if event.type == "session.status_idle":
            return events
    sys.exit(f"the stream ended without idle after {[event.type for event in events]}")


def raw(call):
    """The answer's JSON as it came, before the SDK makes objects of it."""
    return json.loads(call.text())


def check_create(client):
    agent = client.beta.agents.create(
        name="Tester", model="claude-opus-5-5", tools=[{"type": "agent_toolset_20260401"}]
    )
    expect("agent.model.id", agent.model.id, "claude-opus-5-5")
    expect("agent.version", agent.version, 1)
    tools = [config.name for config in agent.tools[0].configs]
    expect("agent.tools", tools, ["bash", "edit", "read", "write", "glob", "grep", "web_fetch", "web_search"])
    expect("agent retrieved", client.beta.agents.retrieve(agent.id), agent)

    environment = client.beta.environments.create(name="Somewhere")
    expect("environment.config", environment.config.type, "cloud")
    expect("environment.networking", environment.config.networking.type, "unrestricted")

    answer = client.beta.sessions.with_raw_response.create(
        agent=agent.id, environment_id=environment.id, title="Main flow", metadata={"case": "sdk"}
    )
    keys = set(raw(answer))
    wanted = {"id", "type", "agent", "environment_id", "title", "metadata", "status", "created_at", "updated_at"}
    wanted |= {"archived_at", "budget", "outcome_evaluations", "resources", "stats", "usage", "vault_ids"}
    expect("session keys", keys - {"deployment_id"}, wanted)
    expect("request id", answer.headers["request-id"].startswith("req_"), True)
    session = answer.parse()
    expect("session.status", session.status, "idle")
    expect("session.agent", (session.agent.id, session.agent.version), (agent.id, 1))
    return agent, session


def check_turn(client, session):
    with client.beta.sessions.events.stream(session.id) as stream:
        sent = client.beta.sessions.events.send(session.id, events=[user_message(PROMPT)])
        expect("sent type", [event.type for event in sent.data], ["user.message"])
        expect("sent processed_at", sent.data[0].processed_at, None)
        events = to_idle(stream)
    types = [event.type for event in events]
    expect("types", types, [
        "user.message", "user.message", "session.status_running", "span.model_request_start", "agent.message",
        "agent.tool_use", "agent.tool_result", "agent.message", "span.model_request_end", "session.status_idle",
    ])
    queued, processed, _, span, said, use, result, _, span_end, idle = events
    expect("echo", (queued.id, queued.processed_at, processed.id), (sent.data[0].id, None, sent.data[0].id))
    expect("processed_at is a time", processed.processed_at is not None, True)
    expect("agent.message", said.content[0].text, f"You said: “{PROMPT}” — let me look around.")
    expect("agent.tool_use", (use.name, use.input, use.evaluated_permission), ("bash", {"command": "ls"}, "allow"))
    expect("agent.tool_result", (result.tool_use_id, result.is_error), (use.id, False))
    expect("span", (span_end.model_request_start_id, span_end.is_error), (span.id, False))
    expect("idle", (idle.stop_reason.type, idle.stop_details), ("end_turn", None))
    expect("classes", type(said).__name__, "BetaManagedAgentsAgentMessageEvent")

    listed = list(client.beta.sessions.events.list(session.id))
    expect("listed ids", [event.id for event in listed], [event.id for event in events[1:]])
    expect("listed values", listed, events[1:])
    paged = list(client.beta.sessions.events.list(session.id, limit=2, order="desc", types=["agent.message"]))
    expect("filtered", [event.id for event in paged], [events[7].id, said.id])
    return listed


def check_custom_tool(client, session):
    answered = []

    def answer(event):
        if event.type == "agent.custom_tool_use":
            answered.append(event.id)

    with client.beta.sessions.events.stream(session.id) as stream:
        client.beta.sessions.events.send(session.id, events=[user_message("/custom please")])
        waiting = to_idle(stream, answer)[-1].stop_reason
        expect("requires_action", (waiting.type, waiting.event_ids), ("requires_action", answered))
        result = {"type": "user.custom_tool_result", "custom_tool_use_id": answered[0]}
        result["content"] = [{"type": "text", "text": "12 degrees"}]
        stored = client.beta.sessions.events.send(session.id, events=[result]).data[0]
        expect("result is processed at once", stored.processed_at is not None, True)
        events = to_idle(stream)
    expect("types after the answer", [event.type for event in events], [
        "user.custom_tool_result", "session.status_running", "span.model_request_start", "agent.message",
        "span.model_request_end", "session.status_idle",
    ])
    expect("the answer is used", events[3].content[0].text, "12 degrees")


def check_interrupt(client, session):
    with client.beta.sessions.events.stream(session.id) as stream:
        client.beta.sessions.events.send(session.id, events=[user_message("/long turn")])
        sent = threading.Event()

        def interrupt(event):
            if event.type == "agent.message" and not sent.is_set():
                sent.set()
                expect("status", client.beta.sessions.retrieve(session.id).status, "running")
                client.beta.sessions.events.send(session.id, events=[{"type": "user.interrupt"}])

        events = to_idle(stream, interrupt)
    types = [event.type for event in events]
    expect("end of an interrupted turn", types[-3:], [
        "user.interrupt", "span.model_request_end", "session.status_idle",
    ])
    expect("reason", events[-1].stop_reason.type, "end_turn")
    expect("status", client.beta.sessions.retrieve(session.id).status, "idle")


def check_lists_and_errors(client, agent, session):
    found = [one.id for one in client.beta.sessions.list(agent_id=agent.id, statuses=["idle"])]
    expect("sessions", found, [session.id])
    expect("no sessions", list(client.beta.sessions.list(agent_id="agent_other")), [])
    try:
        client.beta.sessions.retrieve("sesn_none")
        sys.exit("an unknown session was found")
    except anthropic.NotFoundError as error:
        expect("type", error.type, "not_found_error")
        expect("request id", error.request_id, error.body["request_id"])
    deleted = client.beta.sessions.delete(session.id)
    expect("deleted", (deleted.id, deleted.type), (session.id, "session_deleted"))


def main():
    client = anthropic.Anthropic(max_retries=0, timeout=10)
    agent, session = check_create(client)
    check_turn(client, session)
    check_custom_tool(client, session)
    check_interrupt(client, session)
    check_lists_and_errors(client, agent, session)
    print(f"anthropic {anthropic.__version__}: all as expected")


if __name__ == "__main__":
    main()

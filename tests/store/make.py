#!/usr/bin/env python3
"""Makes a store as one version of `lap` leaves it, for `tests/store/mod.rs`:

    tests/store/make.py LAP COMPONENT FOLDER

LAP is the program of that version, COMPONENT a third party's component with its `runtime.toml` beside it, and FOLDER, which
must not exist, gets

  store.tar.gz   data/ as a `kill -9` left it, lap.backup of a moment before, master.key, vault.key, client.key
  upstream.json  the upstream's sessions, as its API showed them after the turn that ran had ended there
  listing.json   what the host answered just before the kill

A fixture of a version is made once, by that version, and never again: that it is old is what it is for.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

# Addresses that nothing else uses: the credentials in the store point to the first for ever.
UPSTREAM = "127.83.69.35:18350"
HOST = "127.83.69.35:18351"
UPSTREAM_KEY = "sk-ant-fixture-of-a-store"
MASTER_KEY = "sk-master-of-a-fixture"
BETA = {"anthropic-version": "2023-06-01", "anthropic-beta": "managed-agents-2026-04-01"}

SCRIPT = """
[default]
steps = [
    { step = "message", text = "You said: “{prompt}”" },
    { step = "tool_use", name = "bash", input = { command = "ls" } },
    { step = "tool_result", text = "README.md" },
    { step = "message", text = "There is one file." },
]

[turns.ask]
steps = [
    { step = "ask", name = "bash", input = { command = "rm -r build" }, result = "removed" },
    { step = "message", text = "Done." },
]

[turns.error]
steps = [{ step = "error", type = "model_overloaded_error", message = "The model is overloaded.", retry_status = "exhausted" }]

[turns.terminate]
steps = [{ step = "message", text = "Good-bye." }, { step = "terminate" }]

# Long enough to be interrupted.
[turns.long]
steps = [{ step = "message", text = "working" }, { step = "delay", ms = 600_000 }]

# It runs when the host is killed, and ends here without it.
[turns.outlives]
steps = [{ step = "message", text = "working" }, { step = "delay", ms = 8_000 }, { step = "message", text = "Done alone." }]
"""


def call(method, url, body=None, headers=()):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method)
    for name, value in dict(headers).items():
        request.add_header(name, value)
    if data is not None:
        request.add_header("content-type", "application/json")
    with urllib.request.urlopen(request, timeout=60) as answer:
        text = answer.read().decode()
        return json.loads(text) if text and answer.headers["content-type"].startswith("application/json") else text


def host(method, path, body=None, headers=()):
    return call(method, f"http://{HOST}{path}", body, {"authorization": f"Bearer {MASTER_KEY}", **dict(headers)})


def upstream(path):
    return call("GET", f"http://{UPSTREAM}{path}", None, {"x-api-key": UPSTREAM_KEY, **BETA})


def until(condition):
    """Nothing here can be waited for in a better way: the programs are other processes."""
    for _ in range(600):
        try:
            found = condition()
            if found:
                return found
        except (urllib.error.URLError, ConnectionError):
            pass
        time.sleep(0.1)
    raise SystemExit("it did not come")


def status(session):
    return host("GET", f"/session/{session}")["status"]


def events(session):
    page = host("GET", f"/v1/sessions/{session}/events?limit=1000")
    assert page["next_page"] is None
    return page["data"]


def has(session, kind):
    return any(event["type"] == kind for event in events(session))


class Fixture:
    def __init__(self, lap, component, place):
        self.lap, self.component, self.place = lap, component, place
        self.running = []

    def file(self, name):
        return os.path.join(self.place, name)

    def start(self, *arguments):
        process = subprocess.Popen([self.lap, *arguments], cwd=self.place, env={}, stdout=subprocess.DEVNULL)
        self.running.append(process)
        return process

    def run(self, *arguments):
        settings = ["--listen", HOST, "--master-key-file", "master.key"]
        ended = subprocess.run([self.lap, *arguments, *settings], cwd=self.place, env={}, capture_output=True, text=True)
        if ended.returncode != 0:
            raise SystemExit(f"{arguments}: {ended.stderr}{ended.stdout}")
        return ended.stdout

    def write(self, name, text):
        with open(self.file(name), "w", encoding="utf-8") as to:
            to.write(text)
        os.chmod(self.file(name), 0o600)

    def make(self, to):
        self.write("script.toml", SCRIPT)
        self.write("master.key", MASTER_KEY + "\n")
        self.start("simulate", "--listen", UPSTREAM, "--script", "script.toml", "--api-key", UPSTREAM_KEY)
        settings = ["--listen", HOST, "--master-key-file", "master.key", "--data-dir", "data", "--vault-key-file", "vault.key"]
        server = self.start("serve", *settings)
        until(lambda: host("GET", "/readyz") is not None)
        sessions = self.fill()
        listing = self.listing(sessions)
        self.run("backup", "lap.backup")
        assert [events(session) for session in sessions.values()] == [listing["events"][s] for s in sessions.values()]
        server.send_signal(signal.SIGKILL)
        server.wait()
        # The upstream outlives the host: the turn ends there.
        theirs = {name: listing["sessions"][session]["provider_session_id"] for name, session in sessions.items()}
        until(lambda: upstream(f"/v1/sessions/{theirs['running']}")["status"] == "idle")
        told = {}
        del theirs["killed"]
        for name, session in theirs.items():
            page = upstream(f"/v1/sessions/{session}/events?limit=1000")
            told[name] = {"session": upstream(f"/v1/sessions/{session}"), "events": page["data"]}
        shutil.rmtree(self.file("data/cache"), ignore_errors=True)
        os.mkdir(to)
        for name, value in {"upstream.json": told, "listing.json": listing}.items():
            with open(os.path.join(to, name), "w", encoding="utf-8") as out:
                json.dump(value, out, indent=1, ensure_ascii=False)
                out.write("\n")
        names = ["data", "lap.backup", "master.key", "vault.key", "client.key"]
        tar = ["tar", "--owner=0", "--group=0", "--numeric-owner", "-C", self.place, "-c", *names]
        packed = subprocess.run(tar, check=True, capture_output=True).stdout
        with open(os.path.join(to, "store.tar.gz"), "wb") as out:
            subprocess.run(["gzip", "-9", "-n"], input=packed, stdout=out, check=True)

    def fill(self):
        credential = {"api_key": UPSTREAM_KEY, "api_base": f"http://{UPSTREAM}"}
        host("PUT", "/api/agent-runtimes/claude_managed_agents/credentials", credential)
        alias = {"alias": "second-account", "api_spec": "claude_managed_agents", **credential}
        host("POST", "/api/runtime-harnesses", alias)
        self.run("runtime", "add", self.component, "--yes")
        self.write("client.key", self.run("key", "mint", "--label", "a client", "--role", "member", "--owner", "ada"))
        agent = {
            "name": "my-agent", "owner_id": "ada", "runtime": "claude_managed_agents", "model": "claude-opus-4-5",
            "system": "You are a helpful assistant.",
        }
        agent = host("POST", "/api/agents", agent)["id"]
        host("PATCH", f"/api/agents/{agent}", {"system": "Be brief."})
        self.agent = agent

        def session(prompt, **more):
            made = host("POST", "/session", {"runtime": "claude_managed_agents", "agent_id": agent, "prompt": prompt, **more})
            return made["id"]

        def send(session, text):
            host("POST", f"/session/{session}/prompt_async", {"parts": [{"type": "text", "text": text}]})

        found = {"finished": session("Hello", title="Three turns")}
        for text in ["And now?", "Grüße, 世界 🌍"]:
            until(lambda: status(found["finished"]) == "idle")
            send(found["finished"], text)
        until(lambda: status(found["finished"]) == "idle")
        found["asking"] = session("/ask me")
        until(lambda: status(found["asking"]) == "requires_action")
        found["failed"] = session("/error")
        until(lambda: status(found["failed"]) == "error")
        found["terminated"] = session("/terminate")
        until(lambda: status(found["terminated"]) == "terminated")
        found["archived"] = session("Put me away")
        until(lambda: status(found["archived"]) == "idle")
        host("POST", f"/v1/sessions/{found['archived']}/archive", {}, BETA)
        found["interrupted"] = session("/long")
        until(lambda: has(found["interrupted"], "agent.message"))
        host("POST", f"/session/{found['interrupted']}/interrupt", {})
        until(lambda: status(found["interrupted"]) == "idle")
        found["killed"] = session("/long")
        until(lambda: has(found["killed"], "agent.message"))
        host("POST", f"/session/{found['killed']}/kill", {})
        found["aliased"] = host("POST", "/session", {"runtime": "second-account", "agent_id": agent, "prompt": "Hello"})["id"]
        until(lambda: status(found["aliased"]) == "idle")
        found["running"] = session("/outlives the host")
        until(lambda: has(found["running"], "agent.message"))
        for text in ["first in the queue", "second in the queue"]:
            send(found["running"], text)
        return found

    def listing(self, sessions):
        return {
            "names": sessions,
            "sessions": {session["id"]: session for session in host("GET", "/session")},
            "anthropic": {id: host("GET", f"/v1/sessions/{id}", None, BETA) for id in sessions.values()},
            "events": {id: events(id) for id in sessions.values()},
            "messages": {id: host("GET", f"/session/{id}/message") for id in sessions.values()},
            "agents": host("GET", "/api/agents"),
            "versions": host("GET", f"/v1/agents/{self.agent}/versions", None, BETA),
            "keys": host("GET", "/api/keys"),
            "harnesses": host("GET", "/api/runtime-harnesses"),
            "runtimes": host("GET", "/api/agent-runtimes"),
        }

    def end(self):
        for process in self.running:
            process.kill()
            process.wait()


def main():
    lap, component, to = (os.path.abspath(path) for path in sys.argv[1:])
    with tempfile.TemporaryDirectory() as place:
        fixture = Fixture(lap, component, place)
        try:
            fixture.make(to)
        finally:
            fixture.end()


if __name__ == "__main__":
    main()

"""A simulated vendor, to try the adapter on: the Example Chat API of VENDOR.md over real HTTP, in memory.

    python vendor.py [PORT]

For this machine and for trusted clients only: it limits nothing.
"""

import json
import sys
import threading
import time
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

STEP_S = 0.05
HEARTBEAT_S = 5


class Refusal(Exception):
    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


class Conversation:
    def __init__(self):
        self.entries = []
        self.turn = None
        self.changed = threading.Condition()

    def tell(self, **entry):
        at = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        told = {"id": f"ent_{len(self.entries) + 1}", "at": at, **entry}
        self.entries.append(told)
        self.changed.notify_all()
        return told["id"]

    def prompt(self, text):
        with self.changed:
            if self.turn:
                raise Refusal(409, "it answers another prompt")
            turn = self.tell(kind="prompt", text=text)
            self.tell(kind="working")
            self.turn = turn
        threading.Thread(target=self.work, args=(turn, text), daemon=True).start()
        return {"id": turn}

    def end(self, **done):
        self.turn = None
        self.tell(kind="done", **done)

    def work(self, turn, text):
        def say(**entry):
            time.sleep(STEP_S)
            with self.changed:
                # Nothing is said in a turn that was stopped.
                return self.tell(**entry) if self.turn == turn else None

        if text == "/long":
            for number in range(600):
                if say(kind="answer", text=str(number)) is None:
                    break
        elif text != "/fail":
            lookup = say(kind="lookup", query=text)
            say(kind="found", lookup=lookup, text="nothing is known of it")
            say(kind="answer", text=f"You said: {text}")
        time.sleep(STEP_S)
        with self.changed:
            if self.turn == turn and text == "/fail":
                self.end(reason="failed", error="the model broke")
            elif self.turn == turn:
                self.end(reason="finished")

    def stop(self):
        with self.changed:
            if not self.turn:
                raise Refusal(409, "there is nothing to stop")
            self.end(reason="stopped")
        return {"stopped": True}

    def page(self, query):
        """A page of entries, the latest first."""
        with self.changed:
            ids = [entry["id"] for entry in self.entries]
            end = ids.index(query["before"]) if query.get("before") in ids else len(ids)
            page = self.entries[max(0, end - int(query.get("limit", 100))) : end]
        return {"entries": page[::-1], "next": page[0]["id"] if len(page) < end and page else None}


class Vendor(BaseHTTPRequestHandler):
    conversations: dict[str, Conversation] = {}

    def answer(self):
        """Status and body, or nothing where the answer was a stream."""
        length = int(self.headers.get("content-length") or 0)
        body = json.loads(self.rfile.read(length) or "null")
        scheme, _, key = self.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or key in ("", "wrong"):
            raise Refusal(401, "no such key")
        url = urlsplit(self.path)
        match self.command, url.path.split("/")[1:]:
            case "GET", ["v1", "models"]:
                return 200, {"models": [{"id": "example-1", "name": "Example 1"}]}
            case "POST", ["v1", "conversations"]:
                id = f"conv_{time.time_ns():x}"
                self.conversations[id] = Conversation()
                return 201, {"id": id}
            case method, ["v1", "conversations", id, *rest]:
                conversation = self.conversations.get(id)
                if not conversation:
                    raise Refusal(404, "no such conversation")
                match method, rest:
                    case "GET", ["stream"]:
                        return self.stream(conversation)
                    case "GET", ["entries"]:
                        return 200, conversation.page(dict(parse_qsl(url.query)))
                    case "POST", ["prompts"]:
                        return 202, conversation.prompt(body["text"])
                    case "POST", ["stop"]:
                        return 202, conversation.stop()
                    case "DELETE", []:
                        del self.conversations[id]
                        return 204, None
                raise Refusal(405, "no such method")
        raise Refusal(404, "no such path")

    def stream(self, conversation):
        """Tells what comes from now on, until the client goes."""
        with conversation.changed:
            told = len(conversation.entries)
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        self.wfile.write(b": hello\n\n")
        while True:
            with conversation.changed:
                conversation.changed.wait_for(lambda: len(conversation.entries) > told, HEARTBEAT_S)
                new = conversation.entries[told:]
            told += len(new)
            frames = [f"event: entry\ndata: {json.dumps(entry)}\n\n" for entry in new]
            self.wfile.write("".join(frames or [": nothing new\n\n"]).encode())

    def serve(self):
        try:
            answered = self.answer()
        except Refusal as refusal:
            answered = refusal.status, {"error": {"message": str(refusal)}}
        except OSError:
            # The client has gone.
            answered = None
        if answered:
            status, value = answered
            body = b"" if value is None else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    do_GET = do_POST = do_DELETE = serve

    def log_message(self, *_):
        """Says nothing for each request."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 4200), Vendor)
    server.daemon_threads = True
    print(f"a simulated vendor at http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()

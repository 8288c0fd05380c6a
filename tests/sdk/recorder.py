"""Notes every JSON answer that the SDK gets, with the class that it reads it as."""

import json
import threading
import typing

import anthropic._base_client as base

KEPT = 40

_lock = threading.Lock()
_noted = []
_counts = {}


def install():
    """Looks over the shoulder of the SDK's own reading of answers."""
    def wrap(original):
        def process(self, *, cast_to, options, response, stream, **rest):
            if not stream and cast_to is not object:
                note(cast_to, response.text)
            return original(self, cast_to=cast_to, options=options, response=response, stream=stream, **rest)
        return process

    base.SyncAPIClient._process_response = wrap(base.SyncAPIClient._process_response)


def note(cast_to, text):
    origin = typing.get_origin(cast_to) or cast_to
    body = json.loads(text)
    arguments = getattr(cast_to, "__pydantic_generic_metadata__", {}).get("args") or typing.get_args(cast_to)
    kind = origin.__name__ if not arguments else getattr(origin, "__name__", str(origin))
    with _lock:
        # Many alike tell no more than a few; each type of event is a kind of its own.
        kinds = (kind, *sorted({entry.get("type", "") for entry in body.get("data", [body]) if isinstance(entry, dict)}))
        _counts[kinds] = _counts.get(kinds, 0) + 1
        if _counts[kinds] <= KEPT:
            _noted.append((cast_to, body))


def noted():
    return list(_noted)


def write(path):
    """Each line: the name of the class, and the body."""
    with open(path, "w", encoding="utf-8") as file:
        for cast_to, body in _noted:
            file.write(json.dumps({"class": name(cast_to), "body": body}) + "\n")


def name(cast_to):
    """`SyncPageCursor[BetaManagedAgentsAgent]` and the like."""
    arguments = getattr(cast_to, "__pydantic_generic_metadata__", {}).get("args") or typing.get_args(cast_to)
    origin = getattr(cast_to, "__pydantic_generic_metadata__", {}).get("origin") or typing.get_origin(cast_to) or cast_to
    if not arguments:
        return getattr(origin, "__name__", str(origin))
    return f"{origin.__name__}[{','.join(getattr(argument, '__name__', str(argument)) for argument in arguments)}]"

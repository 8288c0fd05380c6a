"""Validates what an API answered, as strictly as the official SDKs describe it.

    python strict.py RECORD… TYPESCRIPT_FILE

The records come from `suite.py --record`. Each body is read with the SDK's own model in pydantic's strict mode, which
finds wrong and missing values, and searched for keys that no model has. The SDK's Python models do not say which keys
must be there though they may be null; its TypeScript types do. So every body is written into TYPESCRIPT_FILE as a fresh
literal of its type, for `tsc --noEmit --strict`, which refuses a missing key, one too many, and a wrong word.

Ends with a status other than 0 and a line for each difference. `self_test` shows that it finds any.
"""

import json
import re
import sys

import pydantic

import anthropic.types.beta as types
import anthropic.types.beta.sessions as session_types

EVENTS = "BetaManagedAgentsSessionEvent"

# Where the TypeScript SDK has the types.
MODULES = {
    "BetaManagedAgentsAgent": "agents/agents",
    "BetaEnvironment": "environments/environments",
    "BetaEnvironmentDeleteResponse": "environments/environments",
    "BetaManagedAgentsSession": "sessions/sessions",
    "BetaManagedAgentsDeletedSession": "sessions/sessions",
    "BetaManagedAgentsSendSessionEvents": "sessions/events",
    EVENTS: "sessions/events",
}

# What the platform adds to a client's event: docs/wire.md, "How a prompt ends".
ADDED = {"upstream_id"}

# The keys of a page beside its entries.
PAGES = {"SyncPageCursor": {"next_page"}, "SyncBidirectionalPageCursor": {"next_page", "prev_page"}}


def entries(line):
    """The bodies in a line of a record, each with the name of its type, and what is wrong with their page."""
    wrong = []
    page = re.fullmatch(r"(\w+)\[(\w+)\]", line["class"])
    if not page:
        return [(line["class"], as_the_vendor_s(line["class"], line["body"]))], wrong
    keys = set(line["body"]) - {"data"}
    if keys != PAGES[page[1]]:
        wrong.append(f"{line['class']}: the page has {sorted(keys)}, expected {sorted(PAGES[page[1]])}")
    # The union of all events has no name of its own.
    kind = EVENTS if page[2] == "Annotated" else page[2]
    return [(kind, as_the_vendor_s(kind, entry)) for entry in line["body"]["data"]], wrong


def as_the_vendor_s(kind, body):
    """A client's event without what the platform adds to it; everything else as it is."""
    if kind != EVENTS or not body["type"].startswith("user."):
        return body
    return {key: value for key, value in body.items() if key not in ADDED}


def model(kind):
    return getattr(session_types, kind, None) or getattr(types, kind)


def extras(value, path):
    """The keys of an object of the SDK's that its model does not have."""
    found = []
    if isinstance(value, pydantic.BaseModel):
        found += [f"{path}.{key}: no such key" for key in (value.model_extra or {})]
        for name in type(value).model_fields:
            found += extras(getattr(value, name), f"{path}.{name}")
    elif isinstance(value, list):
        for place, entry in enumerate(value):
            found += extras(entry, f"{path}[{place}]")
    return found


def differences(kind, body):
    """What the Python models say against a body."""
    try:
        value = pydantic.TypeAdapter(model(kind)).validate_json(json.dumps(body), strict=True)
    except pydantic.ValidationError as error:
        return [f"{kind}.{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
    return extras(value, kind)


def typescript(bodies):
    """A program that compiles if every body is exactly of its type."""
    lines = []
    for kind in sorted({kind for kind, _ in bodies}):
        lines.append(f"import type {{ {kind} }} from '@anthropic-ai/sdk/resources/beta/{MODULES[kind]}';")
    for number, (kind, body) in enumerate(bodies):
        lines.append(f"export const body{number}: {kind} = {json.dumps(body)};")
    return "\n".join(lines) + "\n"


def self_test():
    """Each kind of difference is found."""
    good = {"id": "env_1", "type": "environment_deleted"}
    assert not differences("BetaEnvironmentDeleteResponse", good)
    assert differences("BetaEnvironmentDeleteResponse", {"id": "env_1"}), "a missing key"
    assert differences("BetaEnvironmentDeleteResponse", {**good, "more": 1}), "a key too many"
    assert differences("BetaEnvironmentDeleteResponse", {**good, "type": "gone"}), "a wrong word"
    assert entries({"class": "SyncPageCursor[BetaEnvironment]", "body": {"data": []}})[1], "a missing key of a page"


def main():
    self_test()
    *records, program = sys.argv[1:]
    wrong, seen, bodies = [], set(), []
    for record in records:
        for line in open(record, encoding="utf-8"):
            found, problems = entries(json.loads(line))
            wrong += problems
            for kind, body in found:
                # Alike but for their values: the first few tell.
                shape = (kind, json.dumps(body, sort_keys=True)) if kind != EVENTS else (kind, body["type"], frozenset(body))
                if shape not in seen:
                    seen.add(shape)
                    bodies.append((kind, body))
                    wrong += differences(kind, body)
    with open(program, "w", encoding="utf-8") as file:
        file.write(typescript(bodies))
    kinds = sorted({kind for kind, _ in bodies})
    missing = sorted(set(MODULES) - set(kinds))
    wrong += [f"{kind}: never answered" for kind in missing]
    for line in sorted(set(wrong)):
        print(line)
    print(f"{len(bodies)} bodies of {len(kinds)} types, {len(set(wrong))} differences")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

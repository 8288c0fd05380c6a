import json
import unittest

import adapter as chat
from lap import Failure, Input, Opened, Response, Script, Session, Upstream, frames_of, parse

STATE = {"conversation": "conv_1"}
AT = "2026-11-25T10:00:00Z"
MESSAGE = Input("message", [{"type": "text", "text": "Hi"}])


def session(**environment):
    agent = {"id": "agent_1", "name": "Ada", "model": "example-1", "system": "Be brief.", "tools": None, "config": {}}
    return Session("ses_1", "Numbers", agent, "", environment)


def asked(script):
    return [(request.method, request.path, json.loads(request.body or "null")) for request in script.requests]


class Adapter(unittest.TestCase):
    def fails(self, kind, call, *values):
        with self.assertRaises(Failure) as raised:
            call(*values)
        self.assertEqual(raised.exception.kind, kind)

    def test_a_session_is_a_conversation(self):
        script = Script((201, {"id": "conv_1"}))
        self.assertEqual(chat.open(script, session()), Opened(STATE, "conv_1"))
        body = {"title": "Numbers", "model": "example-1", "instructions": "Be brief."}
        self.assertEqual(asked(script), [("post", "/v1/conversations", body)])

    def test_a_wish_that_this_vendor_cannot_fulfil_is_refused_before_anything_is_sent(self):
        script = Script()
        self.fails("unsupported", chat.open, script, session(budget={}))
        self.assertEqual(script.requests, [])

    def test_an_id_that_would_lead_elsewhere_is_refused(self):
        for id in ["", "../a", "a?b", 7, None]:
            self.fails("upstream", chat.open, Script((201, {"id": id})), session())

    def test_the_feed_is_the_conversations_stream(self):
        self.assertEqual(chat.listen(Script(), STATE).request.path, "/v1/conversations/conv_1/stream")

    def test_inputs_go_out_in_their_order(self):
        script = Script((202, {"stopped": True}), (202, {"id": "ent_1"}))
        chat.send(script, STATE, [Input("interrupt"), MESSAGE])
        stop = ("post", "/v1/conversations/conv_1/stop", {})
        self.assertEqual(asked(script), [stop, ("post", "/v1/conversations/conv_1/prompts", {"text": "Hi"})])

    def test_stopping_what_is_over_is_no_error_and_prompting_what_runs_is(self):
        chat.send(Script((409, {})), STATE, [Input("interrupt")])
        self.fails("upstream", chat.send, Script((500, {})), STATE, [Input("interrupt")])
        self.fails("conflict", chat.send, Script((409, {})), STATE, [MESSAGE])
        self.fails("unsupported", chat.send, Script(), STATE, [Input("other", {"type": "system.message"})])

    def test_each_entry_is_an_event_with_its_effect(self):
        for entry, expected in [
            ({"kind": "prompt", "text": "Hi"}, [("user.message", "ent_7", "none")]),
            ({"kind": "working"}, [("session.status_running", "ent_7", "started")]),
            ({"kind": "lookup", "query": "Hi"}, [("agent.tool_use", "ent_7", "none")]),
            ({"kind": "found", "lookup": "ent_6", "text": "a"}, [("agent.tool_result", "ent_7", "none")]),
            ({"kind": "answer", "text": "Hello"}, [("agent.message", "ent_7", "none")]),
            ({"kind": "done", "reason": "finished"}, [("session.status_idle", "ent_7", "ended")]),
            ({"kind": "done", "reason": "stopped"}, [("session.status_idle", "ent_7", "ended")]),
            (
                {"kind": "done", "reason": "failed", "error": "no"},
                [("session.error", "ent_7.error", "failed"), ("session.status_idle", "ent_7", "failed")],
            ),
            ({"kind": "of_next_year"}, []),
            ({"id": 7, "kind": "answer", "text": "Hello"}, []),
        ]:
            data = json.dumps({"id": "ent_7", "at": AT, **entry})
            events = chat.on_frames(Script(), STATE, [("ping", ""), ("entry", data)]).events
            self.assertEqual([(event.value["type"], event.value["id"], event.effect) for event in events], expected)
            self.assertTrue(all(event.value["processed_at"] == AT for event in events))

    def test_a_page_has_the_shape_of_the_stream(self):
        entry = {"id": "ent_7", "at": AT, "kind": "working"}
        page = chat.catch_up(Script((200, {"entries": [entry], "next": "ent_7"})), STATE, None)
        self.assertEqual((page.frames, page.newest_first, page.next), ([("entry", json.dumps(entry))], True, "ent_7"))

    def test_a_success_that_is_no_answer_is_the_upstreams_fault(self):
        for body in ["<html>", "", '{"id":"ent', "{}", "null", "[]"]:
            upstream = Upstream()
            upstream.send = lambda request: Response(200, {}, body)
            for call, *values in [
                (chat.send, STATE, [MESSAGE]),
                (chat.send, STATE, [Input("interrupt")]),
                (chat.open, session()),
                (chat.catch_up, STATE, None),
                (chat.close, STATE),
                (chat.models,),
            ]:
                self.fails("upstream", call, upstream, *values)

    def test_a_conversation_that_is_gone_is_closed(self):
        for status in (204, 404):
            chat.close(Script((status, None)), STATE)
        self.fails("upstream", chat.close, Script((500, None)), STATE)

    def test_what_is_nested_too_deep_is_refused_and_what_only_has_many_brackets_is_not(self):
        for deep in ["[" * 100_000, '{"a":' * 101 + "1" + "}" * 101]:
            self.assertRaises(ValueError, parse, deep)
        self.assertEqual(len(parse("[" * 100 + "]" * 100)), 1)
        self.assertEqual(len(parse(json.dumps([{"n": n, "text": '[[{"\\'} for n in range(200)]))), 200)

    def test_packed_frames_are_cut_at_their_ends(self):
        self.assertEqual(frames_of("aäb".encode(), [1, 3, 3, 4]), [("a", "ä"), ("", "b")])


if __name__ == "__main__":
    unittest.main()

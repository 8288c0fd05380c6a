// What a log tells: turns, tools, what waits, where the session stands.
import assert from "node:assert/strict";
import { test } from "node:test";
import { entry, Log } from "../../../host/src/http/console/assets/watcher/log.js";
import { Story } from "../../../host/src/http/console/assets/watcher/story.js";
import { summary } from "../../../host/src/http/console/assets/watcher/words.js";

const text = (words) => [{ type: "text", text: words }];
/** Events a second apart; each may bring its own time. */
const entries = (...events) => events.map((event, place) => entry(place + 1, { processed_at: new Date(place * 1000).toISOString(), ...event }));
const running = { type: "session.status_running" };
const idle = (type = "end_turn", event_ids = undefined) => ({ type: "session.status_idle", stop_reason: { type, event_ids } });
const use = (id, more = {}) => ({ type: "agent.tool_use", id, name: "bash", input: { command: "ls" }, ...more });

test("a turn has its tools, its tokens and its end", () => {
  const story = Story.of(entries(
    { type: "user.message", id: "u", content: text("hello") },
    running,
    { type: "span.model_request_start", id: "s" },
    use("t"),
    { type: "agent.tool_result", id: "r", tool_use_id: "t", content: text("README.md") },
    { type: "agent.message", id: "m", content: text("done") },
    { type: "span.model_request_end", id: "z", model_request_start_id: "s", model_usage: { input_tokens: 3, output_tokens: 4 } },
    idle(),
  ));
  assert.deepEqual(story.items.map(({ kind, seq }) => [kind, seq]), [["user", 1], ["tool", 4], ["agent", 6], ["end", 8]]);
  const { tool } = story.items[1];
  assert.deepEqual([tool.done, tool.failed, tool.result, tool.ms], [true, false, "README.md", 1000]);
  const { turn } = story.items[3];
  assert.deepEqual([turn.number, turn.start, turn.end, turn.stop, turn.failed], [1, 1000, 7000, "end turn", false]);
  assert.deepEqual(turn.tokens, { input_tokens: 3, output_tokens: 4, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 });
  assert.deepEqual(story.spans.map(({ kind, start, end, failed }) => [kind, start, end, failed]), [
    ["turn", 1000, 7000, false], ["model", 2000, 6000, false], ["tool", 3000, 4000, false],
  ]);
  assert.deepEqual([story.status, story.turn, story.pending], ["idle", null, []]);
});

test("a message that waited is told once, in its last form", () => {
  const queued = { type: "user.message", id: "u", content: text("later"), processed_at: null };
  const story = Story.of(entries(queued));
  assert.deepEqual([story.items.length, story.items[0].queued], [1, true]);
  const before = story.items[0].rev;
  story.take(entry(2, { ...queued, processed_at: new Date(9000).toISOString() }));
  assert.deepEqual([story.items.length, story.items[0].queued, story.items[0].at, story.items[0].seqs], [1, false, 9000, [1, 2]]);
  assert.ok(story.items[0].rev > before, "the row is to be painted anew");
});

test("a message that will not be sent says so and why, and does not wait", () => {
  const told = { type: "user.message", id: "u", content: text("later"), processed_at: null, withdrawn: { reason: "the turn failed" } };
  const queued = { ...told, withdrawn: undefined };
  for (const story of [Story.of(entries(told)), Story.of(entries(queued, told))]) {
    const [item, ...others] = story.items;
    assert.deepEqual([item.withdrawn, item.queued, item.text, others], ["the turn failed", false, "later", []]);
  }
  assert.equal(summary(told), "withdrawn: the turn failed · later");
  assert.equal(summary(queued), "later");
  const [outcome] = Story.of(entries({ type: "user.define_outcome", id: "o", description: "all green", processed_at: null, withdrawn: {} })).items;
  assert.deepEqual([outcome.kind, outcome.withdrawn], ["note", "nobody says why"]);
  const [odd] = Story.of(entries({ ...told, withdrawn: { reason: ["<b>"] } })).items;
  assert.equal(odd.withdrawn, "nobody says why");
  assert.equal(Story.of(entries({ ...told, withdrawn: null })).items[0].withdrawn, null);
});

test("what waits for the client is known until it is answered", () => {
  const asked = entries(running, use("t1", { evaluated_permission: "ask" }), { type: "agent.custom_tool_use", id: "t2", name: "weather", input: {} }, idle("requires_action", ["t1", "t2"]));
  const story = Story.of(asked);
  assert.equal(story.status, "requires_action");
  assert.deepEqual(story.pending.map(({ id, asks, name, seq }) => [id, asks, name, seq]), [["t1", "confirm", "bash", 2], ["t2", "custom", "weather", 3]]);
  story.take(entry(5, { type: "user.tool_confirmation", id: "c", tool_use_id: "t1", result: "deny", deny_message: "not here" }));
  assert.deepEqual(story.pending.map(({ id }) => id), ["t2"]);
  assert.equal(story.items[0].tool.verdict, "denied: not here");
  assert.deepEqual([story.items.at(-1).kind, story.items.at(-1).text], ["note", "bash denied: not here"]);
  story.take(entry(6, { type: "user.custom_tool_result", id: "o", custom_tool_use_id: "t2", content: text("sunny") }));
  assert.deepEqual(story.pending, []);
  story.take(entry(7, { ...running, processed_at: new Date(8000).toISOString() }));
  assert.deepEqual([story.status, story.turns], ["running", 1], "it is the same turn");
  assert.equal(story.spans.find(({ kind }) => kind === "wait").end, 8000);
});

test("what was asked before the events that are here is pending, too", () => {
  const story = Story.of(entries(idle("requires_action", ["gone"])));
  assert.deepEqual(story.pending, [{ id: "gone", asks: "unknown", name: "gone", input: {}, seq: null }]);
});

test("a result whose tool is not here yet stands alone, and joins it once the log has both", () => {
  const log = new Log(1);
  log.append(2, { type: "agent.tool_result", tool_use_id: "t", content: text("out") });
  assert.deepEqual(Story.of(log.entries).items.map(({ kind }) => kind), ["note"]);
  log.prepend(0, [use("t")]);
  const [item, ...others] = Story.of(log.entries).items;
  assert.deepEqual([item.kind, item.tool.result, item.seqs, others], ["tool", "out", [1, 2], []]);
});

test("a turn that failed says so, and what it left open ends with it", () => {
  const error = { type: "session.error", error: { type: "billing_error", message: "No money.", retry_status: { type: "exhausted" } } };
  const story = Story.of(entries(running, use("t"), error, idle("retries_exhausted")));
  assert.equal(story.status, "error");
  assert.deepEqual(story.items.map(({ kind, label }) => [kind, label]), [["tool", undefined], ["error", "billing_error · exhausted"], ["end", undefined]]);
  const { turn } = story.items[2];
  assert.deepEqual([turn.failed, turn.stop], [true, "retries exhausted"]);
  assert.deepEqual(story.spans.map(({ kind, failed, end, text }) => [kind, failed, end, text]), [
    ["turn", true, 3000, "retries exhausted"], ["tool", false, 3000, "cut off"], ["error", true, 2000, ""],
  ]);
});

test("an error that is tried again does not fail the turn", () => {
  const error = { type: "session.error", error: { type: "model_overloaded_error", message: "Busy.", retry_status: { type: "retrying" } } };
  const story = Story.of(entries(running, error, idle()));
  assert.deepEqual([story.status, story.items.at(-1).turn.failed], ["idle", false]);
});

test("events of any kind and shape are told", () => {
  const odd = [{ type: "agent.surprise" }, { type: "agent.tool_result" }, { type: "session.status_idle" }, { type: "session.status_terminated" },
    { type: "span.model_request_end" }, { type: "user.tool_confirmation" }, { type: "session.error" }, { type: "agent.message", content: "plain" },
    { type: "agent.tool_use" }, { type: "user.message", content: [null, 1, { type: "image" }] }];
  const story = Story.of(odd.map((event, place) => entry(place + 1, event)));
  assert.equal(story.items[0].label, "agent.surprise");
  assert.equal(story.items.find(({ kind }) => kind === "agent").text, "plain");
});

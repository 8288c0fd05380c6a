// The feed against a host that cuts, doubles, refuses and goes away: whatever it does, the log has each event once.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { test } from "node:test";
import { Feed } from "../../../host/src/http/console/assets/watcher/feed.js";
import { Log } from "../../../host/src/http/console/assets/watcher/log.js";
import { SseParser } from "../../../host/src/http/console/assets/watcher/sse.js";

const event = (seq) => ({ type: "agent.message", id: `e${seq}`, text: "é" });
const frame = (seq) => `id: ${seq}\nevent: agent.message\ndata: ${JSON.stringify(event(seq))}\n\n`;

/** A host whose answers to the stream are taken from a list; each gets the cursor and the response. */
async function host(context, streams) {
  const asked = [];
  const server = createServer((request, response) => {
    const url = new URL(request.url, "http://host");
    const after = Number(url.searchParams.get("after"));
    if (url.pathname === "/events") {
      const limit = Math.min(Number(url.searchParams.get("limit")), 3);
      const data = Array.from({ length: limit }, (_, place) => event(after + 1 + place));
      response.setHeader("content-type", "application/json");
      return response.end(JSON.stringify({ data, next_page: String(after + limit) }));
    }
    asked.push(after);
    const answer = streams[Math.min(asked.length, streams.length) - 1];
    answer(response, after);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  context.after(() => (server.closeAllConnections(), server.close()));
  return { url: `http://127.0.0.1:${server.address().port}/events`, asked };
}

const sse = (response, ...pieces) => {
  response.writeHead(200, { "content-type": "text/event-stream" });
  for (const piece of pieces) response.write(piece);
};

/** Follows until the feed is in a state that is final, or the log has so many events. */
async function follow(url, log, last) {
  const heard = { states: [], reconnects: [] };
  const feed = new Feed(url, log, {
    state: (state) => {
      heard.states.push(state.kind);
      // Nobody here wants to wait.
      if (state.kind === "waiting") setTimeout(() => feed.wake());
      if (state.kind === "signed-out") feed.stop();
    },
    grown: () => log.last >= last && feed.stop(),
    reconnected: (reconnect) => heard.reconnects.push(reconnect.after),
    reset: () => heard.states.push("reset"),
  });
  await feed.run();
  return { feed, heard };
}

const seqs = (log) => log.entries.map(({ seq }) => seq);

test("what a cut, a double and a gap leave is the log, once and without a gap", async (context) => {
  const world = await host(context, [
    (response) => (sse(response, frame(1), frame(2), frame(2), "id: 3\ndata: {\"ty"), setTimeout(() => response.destroy(), 20)),
    (response, after) => (sse(response, frame(after), frame(after + 1), frame(after + 3)), response.end()),
    (response, after) => sse(response, frame(after + 1), frame(after + 2)),
  ]);
  const log = new Log(0);
  const { heard } = await follow(world.url, log, 5);
  assert.deepEqual(seqs(log), [1, 2, 3, 4, 5]);
  assert.deepEqual(world.asked, [0, 2, 3], "each comes back behind its last event");
  assert.deepEqual(heard.reconnects, [2, 3]);
  assert.deepEqual(heard.states, ["connecting", "live", "waiting", "connecting", "live", "waiting", "connecting", "live"]);
});

test("a session that is gone ends the feed, and so does a restored log", async (context) => {
  for (const [status, end] of [[404, "deleted"], [409, "reset"], [401, "signed-out"]]) {
    const world = await host(context, [(response) => (response.writeHead(status, { "content-type": "application/json" }), response.end("{}"))]);
    const { heard } = await follow(world.url, new Log(0), 1);
    assert.deepEqual(heard.states, ["connecting", end]);
    }
});

test("a refusal is asked again, and says why", async (context) => {
  const world = await host(context, [
    (response) => (response.writeHead(503, { "content-type": "application/json" }), response.end('{"error":{"message":"busy"}}')),
    (response) => (response.writeHead(200, { "content-type": "text/html" }), response.end("<h1>A proxy</h1>")),
    (response) => sse(response, ": hb\n\n", frame(1)),
  ]);
  const log = new Log(0);
  const { heard } = await follow(world.url, log, 1);
  assert.deepEqual(seqs(log), [1]);
  assert.deepEqual(heard.states.filter((kind) => kind === "waiting").length, 2);
  assert.deepEqual(heard.reconnects, [], "it was never connected before");
});

test("history is fetched in pages, however short they are, and joins the log", async (context) => {
  const world = await host(context, []);
  const log = new Log(10);
  const grown = [];
  const feed = new Feed(world.url, log, { state() {}, grown: (where) => grown.push(where), reconnected() {}, reset() {} });
  log.append(11, event(11));
  await feed.backfill(1);
  assert.deepEqual(seqs(log), Array.from({ length: 11 }, (_, place) => place + 1));
  assert.deepEqual(grown, ["start"]);
});

test("frames come whole out of bytes in any pieces", () => {
  const bytes = new TextEncoder().encode(`retry: 2500\n: hb\n\n${frame(1)}id: 2\r\nevent: x\r\ndata: a\r\ndata:b\r\n\r\n`);
  for (const size of [1, 2, 7, bytes.length]) {
    const parser = new SseParser();
    const frames = [];
    for (let at = 0; at < bytes.length; at += size) frames.push(...parser.push(bytes.subarray(at, at + size)));
    assert.deepEqual(frames, [
      { id: "1", event: "agent.message", data: JSON.stringify(event(1)) },
      { id: "2", event: "x", data: "a\nb" },
    ]);
    assert.equal(parser.retryMs, 2500);
  }
});

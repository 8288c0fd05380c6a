// What a log tells: the rows of the conversation, the bars of the timeline, where the session stands and what it waits
// for. Pure: events in, plain values out. Works from any event on, and knows more the earlier it begins.

/** @import { Entry, Event } from "./log.js" */
/** @import { Tokens } from "./words.js" */
import { stopWords, textOf, withdrawn } from "./words.js";

/**
 * A row of the conversation. `rev` rises with every change of what it shows; `seqs` are the events that it is made of.
 * @typedef {object} Item
 * @property {string} key
 * @property {"user" | "agent" | "thinking" | "tool" | "error" | "end" | "note"} kind
 * @property {number} seq
 * @property {number[]} seqs
 * @property {number | null} at
 * @property {number} rev
 * @property {string} text
 * @property {string} [label]
 * @property {boolean} [queued]
 * @property {string | null} [withdrawn] Why it will not be sent.
 * @property {Tool} [tool]
 * @property {Turn} [turn]
 *
 * @typedef {object} Tool
 * @property {string} id
 * @property {string} name
 * @property {any} input
 * @property {"confirm" | "custom" | "none"} asks Whether it needs the client.
 * @property {string | null} verdict
 * @property {boolean} done
 * @property {boolean} failed
 * @property {string} result
 * @property {number | null} ms
 *
 * @typedef {{number: number, tokens: Tokens | null, start: number | null, end: number | null, stop: string, failed: boolean}} Turn
 * @typedef {"turn" | "model" | "tool" | "wait" | "error"} SpanKind
 * @typedef {{key: string, kind: SpanKind, name: string, seq: number, seqs: number[], start: number | null, end: number | null,
 *            failed: boolean, rev: number, text: string}} Span
 * @typedef {{id: string, asks: "confirm" | "custom" | "unknown", name: string, input: any, seq: number | null}} Pending
 */

const USES = new Set(["agent.tool_use", "agent.mcp_tool_use", "agent.custom_tool_use"]);
/** The member that names the tool use, of each kind of result. @type {Record<string, string>} */
const RESULTS = {
  "agent.tool_result": "tool_use_id",
  "agent.mcp_tool_result": "mcp_tool_use_id",
  "user.custom_tool_result": "custom_tool_use_id",
  "user.tool_result": "tool_use_id",
};
/** @type {(keyof Tokens)[]} */
const COUNTS = ["input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"];

/** Whether a client's event waits, or will not be sent. @param {Entry} entry */
function waits({ at, event }) {
  const why = withdrawn(event);
  return { queued: at === null && why === null, withdrawn: why };
}

export class Story {
  /** @type {Item[]} */ items = [];
  /** @type {Span[]} */ spans = [];
  /** Null as long as the log has not told. @type {string | null} */ status = null;
  /** @type {Turn | null} The one that runs. */ turn = null;
  turns = 0;
  /** @type {Map<string, Item>} */ #items = new Map();
  /** @type {Map<string, Span>} */ #spans = new Map();
  /** @type {Map<string, Entry>} */ #uses = new Map();
  /** @type {string[]} */ #asked = [];
  /** @type {Set<string>} */ #answered = new Set();
  /** @type {Span | null} */ #turnSpan = null;
  /** @type {Span | null} */ #wait = null;

  /** @param {Iterable<Entry>} entries */
  static of(entries) {
    const story = new Story();
    for (const entry of entries) story.take(entry);
    return story;
  }

  /** What the session waits for now. @returns {Pending[]} */
  get pending() {
    return this.#asked.filter((id) => !this.#answered.has(id)).map((id) => {
      const use = this.#uses.get(id);
      if (!use) return { id, asks: "unknown", name: id, input: {}, seq: null };
      const asks = use.type === "agent.custom_tool_use" ? "custom" : "confirm";
      return { id, asks, name: use.event.name ?? "tool", input: use.event.input, seq: use.seq };
    });
  }

  /** Takes the next event. @param {Entry} entry */
  take(entry) {
    const { type, event } = entry;
    const known = event.id === undefined ? undefined : this.#items.get(event.id);
    // A client's event comes twice: when it begins to wait, and when it is processed or withdrawn.
    if (known && type.startsWith("user.")) return void this.#processed(known, entry);
    if (USES.has(type)) this.#use(entry);
    else if (RESULTS[type]) this.#result(entry, event[RESULTS[type]]);
    else if (type.startsWith("session.status_")) this.#stands(entry);
    else if (type.startsWith("span.model_request_")) this.#request(entry);
    else this.#said(entry);
  }

  /** @param {Entry} entry */
  #said(entry) {
    const { type, event } = entry;
    switch (type) {
      case "user.message":
        return void this.#item(entry, "user", textOf(event.content), waits(entry));
      case "agent.message":
        return void this.#item(entry, "agent", textOf(event.content));
      case "agent.thinking":
        return void this.#item(entry, "thinking", textOf(event.content ?? event.thinking));
      case "user.interrupt":
        return void this.#item(entry, "note", "a client stopped the turn", { label: "interrupt" });
      case "user.tool_confirmation":
        return this.#verdict(entry);
      case "session.error":
        return this.#error(entry);
      default:
        this.#item(entry, "note", textOf(event.content ?? event.description), { label: type, ...(type.startsWith("user.") ? waits(entry) : {}) });
    }
  }

  /** @param {Entry} entry @param {Item["kind"]} kind @param {string} text @param {Partial<Item>} [more] */
  #item({ seq, at, event }, kind, text, more) {
    /** @type {Item} */
    const item = { key: `i${seq}`, kind, seq, seqs: [seq], at, rev: 0, text, ...more };
    this.items.push(item);
    if (event.id !== undefined) this.#items.set(event.id, item);
    return item;
  }

  /** @param {Item} item @param {Entry} entry */
  #processed(item, entry) {
    item.seqs.push(entry.seq);
    if (!item.tool) Object.assign(item, { at: entry.at, rev: item.rev + 1 }, waits(entry));
  }

  /** @param {Entry} entry @param {SpanKind} kind @param {string} name */
  #span({ seq, at, event }, kind, name) {
    /** @type {Span} */
    const span = { key: `s${seq}${kind}`, kind, name, seq, seqs: [seq], start: at, end: null, failed: false, rev: 0, text: "" };
    this.spans.push(span);
    if (event.id !== undefined) this.#spans.set(event.id, span);
    return span;
  }

  /** @param {Span | null | undefined} span @param {Entry} entry @param {Partial<Span>} [more] */
  #close(span, { at, seq }, more) {
    if (!span) return;
    Object.assign(span, { end: at ?? span.start, rev: span.rev + 1 }, more);
    if (span.seq !== seq) span.seqs.push(seq);
  }

  /** @param {Entry} entry */
  #use(entry) {
    const { event, type } = entry;
    const asks = type === "agent.custom_tool_use" ? "custom" : event.evaluated_permission === "ask" ? "confirm" : "none";
    const name = event.mcp_server_name ? `${event.mcp_server_name}/${event.name}` : String(event.name ?? "tool");
    const id = event.id ?? "";
    const tool = { id, name, input: event.input, asks, verdict: null, done: false, failed: false, result: "", ms: null };
    this.#item(entry, "tool", "", { tool: /** @type {Tool} */ (tool) });
    this.#uses.set(id, entry);
    this.#span(entry, "tool", name);
  }

  /** @param {Entry} entry @param {string} id */
  #result(entry, id) {
    const item = this.#items.get(id);
    const text = textOf(entry.event.content);
    const failed = entry.event.is_error === true;
    this.#answered.add(id);
    this.#close(this.#spans.get(id), entry, { failed });
    if (!item?.tool) return void this.#item(entry, failed ? "error" : "note", text, { label: entry.type });
    const ms = entry.at !== null && item.at !== null ? entry.at - item.at : null;
    Object.assign(item.tool, { done: true, failed, result: text, ms });
    item.seqs.push(entry.seq);
    item.rev += 1;
    if (entry.event.id !== undefined) this.#items.set(entry.event.id, item);
  }

  /** @param {Entry} entry */
  #verdict(entry) {
    const { tool_use_id: id, result, deny_message: why } = entry.event;
    this.#answered.add(id);
    const item = this.#items.get(id);
    const words = `${result === "deny" ? "denied" : "allowed"}${why ? `: ${why}` : ""}`;
    if (item?.tool) {
      Object.assign(item.tool, { verdict: words });
      item.seqs.push(entry.seq);
      item.rev += 1;
    }
    // A decision is part of the history, so it is a row of its own, too.
    this.#item(entry, "note", `${item?.tool?.name ?? id} ${words}`, { label: "decision" });
  }

  /** @param {Entry} entry */
  #error(entry) {
    const error = entry.event.error ?? {};
    const retry = error.retry_status?.type ?? error.retry_status;
    this.#item(entry, "error", String(error.message ?? ""), { label: [error.type ?? "error", retry].filter(Boolean).join(" · ") });
    this.#close(this.#span(entry, "error", String(error.type ?? "error")), entry, { failed: true });
    if (retry === "retrying") return;
    if (this.turn) this.turn.failed = true;
    if (this.#turnSpan) Object.assign(this.#turnSpan, { failed: true, rev: this.#turnSpan.rev + 1 });
    this.status = "error";
  }

  /** @param {Entry} entry */
  #request(entry) {
    if (entry.type === "span.model_request_start") return void this.#span(entry, "model", "model request");
    const { model_request_start_id: start, model_usage: usage, is_error: failed } = entry.event;
    this.#close(this.#spans.get(start), entry, { failed: failed === true });
    if (!usage || !this.turn) return;
    const sum = this.turn.tokens ?? {};
    for (const name of COUNTS) sum[name] = (sum[name] ?? 0) + (Number(usage[name]) || 0);
    this.turn.tokens = sum;
  }

  /** @param {Entry} entry */
  #stands(entry) {
    const { type, event } = entry;
    if (type === "session.status_running") return this.#runs(entry);
    if (type === "session.status_rescheduled") {
      this.status = "rescheduling";
      return void this.#item(entry, "note", "the upstream goes on by itself after a fault", { label: "rescheduled" });
    }
    const terminated = type === "session.status_terminated";
    const reason = event.stop_reason ?? { type: terminated ? "terminated" : "idle" };
    if (reason.type === "requires_action") {
      this.#asked = [...(reason.event_ids ?? [])];
      this.status = "requires_action";
      this.#wait ??= this.#span(entry, "wait", "waits for you");
      return;
    }
    this.#asked = [];
    this.#close(this.#wait, entry);
    this.#wait = null;
    this.status = terminated ? "terminated" : this.turn?.failed || reason.type === "retries_exhausted" ? "error" : "idle";
    this.#ends(entry, stopWords(reason));
  }

  /** @param {Entry} entry */
  #runs(entry) {
    this.status = "running";
    this.#asked = [];
    this.#close(this.#wait, entry);
    this.#wait = null;
    if (this.turn) return;
    this.turns += 1;
    this.turn = { number: this.turns, tokens: null, start: entry.at, end: null, stop: "", failed: false };
    this.#turnSpan = this.#span(entry, "turn", `turn ${this.turns}`);
  }

  /** @param {Entry} entry @param {string} stop */
  #ends(entry, stop) {
    const turn = this.turn ?? { number: 0, tokens: null, start: null, end: null, stop, failed: false };
    Object.assign(turn, { end: entry.at, stop });
    this.#item(entry, "end", stop, { turn });
    this.#close(this.#turnSpan, entry, { failed: turn.failed, text: stop });
    // What a turn leaves open, such as a tool that was interrupted, ends with it.
    for (let place = this.spans.length - 1; place >= 0 && this.spans[place] !== this.#turnSpan; place -= 1) {
      const span = this.spans[place];
      if (span.end === null && span.kind !== "turn") this.#close(span, entry, { text: "cut off" });
    }
    this.turn = null;
    this.#turnSpan = null;
  }
}

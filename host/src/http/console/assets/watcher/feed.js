// Brings the log here: pages of history, and the stream behind a cursor, which is opened again however it ends. The log
// refuses what it has and what would leave a gap, so that nothing is lost or doubled; whatever goes wrong, the way on is
// to ask again behind the last event.

/** @import { Event, Log } from "./log.js" */
import { SseParser } from "./sse.js";

/**
 * @typedef {{kind: "connecting" | "live" | "signed-out" | "deleted" | "stopped"}
 *   | {kind: "waiting", until: number, why: string}} State
 * @typedef {{after: number, lostAt: number, backAt: number}} Reconnect
 * @typedef {object} Hearers
 * @property {(state: State) => void} state
 * @property {(where: "end" | "start") => void} grown Called after events were taken.
 * @property {(reconnect: Reconnect) => void} reconnected
 * @property {() => void} reset The host's log is not the one that is here: begin anew.
 *
 * @typedef {{ok: true} | {ok: false, state?: State, why: string, retryMs?: number | null}} Outcome
 */

const PAGE = 1000;
/** The host says something every 10 seconds. */
const SILENCE_MS = 25_000;
const BACKOFF_MS = [500, 1000, 2000, 4000, 8000, 15_000];

export class Feed {
  /** @type {(() => void) | null} */
  #wake = null;
  #ends = new AbortController();
  #lostAt = 0;
  #filling = false;
  /** When the last byte came, also of a heartbeat. */
  heardAt = 0;

  /** @param {string} events The address of the session's events. @param {Log} log @param {Hearers} hear */
  constructor(events, log, hear) {
    this.events = events;
    this.log = log;
    this.hear = hear;
  }

  /** Takes the page that is there already, and follows. Returns when there is nothing to follow any more. */
  async run() {
    let failures = 0;
    while (!this.#ends.signal.aborted) {
      this.hear.state({ kind: "connecting" });
      const before = this.log.last;
      const outcome = await this.#stream();
      if (this.#ends.signal.aborted) return;
      if (!outcome.ok && outcome.state?.kind === "stopped") return this.hear.reset();
      if (!outcome.ok && outcome.state) {
        this.hear.state(outcome.state);
        if (outcome.state.kind === "deleted") return;
        // Somebody may sign in again in another tab.
        await this.#rest(30_000);
        continue;
      }
      failures = outcome.ok || this.log.last > before ? 0 : failures + 1;
      const wait = Math.max((!outcome.ok && outcome.retryMs) || 0, jittered(BACKOFF_MS[Math.min(failures, BACKOFF_MS.length - 1)]));
      this.hear.state({ kind: "waiting", until: Date.now() + wait, why: outcome.ok ? "the host closed the stream" : outcome.why });
      await this.#rest(wait);
    }
  }

  /** Asks again at once, if it waits. */
  wake() {
    this.#wake?.();
  }

  stop() {
    this.#ends.abort();
    this.wake();
  }

  /** Fetches the events before the first, as far back as wanted. @param {number} until The event that is wanted. */
  async backfill(until) {
    if (this.#filling) return;
    this.#filling = true;
    try {
      while (this.log.base >= until && this.log.base > 0 && !this.#ends.signal.aborted) {
        const after = Math.max(0, this.log.base - PAGE);
        if (this.log.prepend(after, await this.#range(after, this.log.base))) this.hear.grown("start");
      }
    } finally {
      this.#filling = false;
    }
  }

  /** The events behind one up to another. @param {number} after @param {number} last @returns {Promise<Event[]>} */
  async #range(after, last) {
    /** @type {Event[]} */
    const events = [];
    while (after + events.length < last) {
      const limit = Math.min(PAGE, last - after - events.length);
      const answer = await fetch(`${this.events}?after=${after + events.length}&limit=${limit}`, { signal: this.#ends.signal });
      if (!answer.ok) throw new Error(await refusal(answer));
      const { data } = await answer.json();
      // A page ends early when it is large, but never empty.
      if (!Array.isArray(data) || data.length === 0) throw new Error("the host has no such events any more");
      events.push(...data);
    }
    return events;
  }

  /** @returns {Promise<Outcome>} */
  async #stream() {
    const attempt = new AbortController();
    const end = () => attempt.abort();
    this.#ends.signal.addEventListener("abort", end);
    let timer = setTimeout(end, SILENCE_MS);
    try {
      const answer = await fetch(`${this.events}/stream?after=${this.log.last}`, { signal: attempt.signal, cache: "no-store" });
      if (!answer.ok) return await refused(answer);
      if (!answer.body || !answer.headers.get("content-type")?.startsWith("text/event-stream")) {
        return { ok: false, why: "something between here and the host answered in its place" };
      }
      this.#opened();
      const parser = new SseParser();
      const reader = answer.body.getReader();
      for (;;) {
        const { done, value } = await reader.read();
        clearTimeout(timer);
        timer = setTimeout(end, SILENCE_MS);
        if (done) return { ok: true };
        this.heardAt = Date.now();
        if (!this.#take(parser.push(value))) return { ok: false, why: "an event was missing", retryMs: parser.retryMs };
      }
    } catch {
      return { ok: false, why: globalThis.navigator?.onLine === false ? "this computer is offline" : "the connection broke" };
    } finally {
      clearTimeout(timer);
      this.#ends.signal.removeEventListener("abort", end);
      // Whatever is left of the answer is not wanted.
      attempt.abort();
      this.#lostAt ||= this.heardAt && Date.now();
    }
  }

  #opened() {
    const now = Date.now();
    this.heardAt = now;
    if (this.#lostAt) this.hear.reconnected({ after: this.log.last, lostAt: this.#lostAt, backAt: now });
    this.#lostAt = 0;
    this.hear.state({ kind: "live" });
  }

  /** @param {import("./sse.js").Frame[]} frames @returns {boolean} False when there is a gap. */
  #take(frames) {
    const before = this.log.last;
    const whole = frames.every(({ id, data }) => {
      // What has no number is no event of the log.
      if (id === "") return true;
      return this.log.append(Number(id), JSON.parse(data)) !== "gap";
    });
    if (this.log.last > before) this.hear.grown("end");
    return whole;
  }

  /** @param {number} ms */
  async #rest(ms) {
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve(undefined);
      };
    });
    this.#wake = null;
  }
}

/** So that not all come back at once. @param {number} ms */
function jittered(ms) {
  return ms * (0.75 + Math.random() / 2);
}

/** @param {Response} answer @returns {Promise<Outcome>} */
async function refused(answer) {
  const after = Number(answer.headers.get("retry-after"));
  const why = await refusal(answer);
  if (answer.status === 401) return { ok: false, why, state: { kind: "signed-out" } };
  if (answer.status === 404 || answer.status === 410) return { ok: false, why, state: { kind: "deleted" } };
  // The cursor is ahead of the log, which only a restored backup makes.
  if (answer.status === 409) return { ok: false, why, state: { kind: "stopped" } };
  return { ok: false, why, retryMs: Number.isFinite(after) ? after * 1000 : null };
}

/** @param {Response} answer */
async function refusal(answer) {
  const body = await answer.json().catch(() => null);
  return body?.error?.message ?? `the host answered ${answer.status}`;
}

// What stands above the log: where the session stands, what it has used, whether this page is live, and what can be done
// to it as a whole.

/** @import { Context } from "./watcher.js" */
import { call, reason } from "../api.js";
import { ask, say } from "../dialog.js";
import { badge, tokensOf } from "../session.js";
import { lines, save } from "./download.js";
import { copied } from "./events.js";
import { count, duration, tokenWords } from "./words.js";

const STOPPABLE = new Set(["running", "rescheduling", "requires_action"]);

/** @param {string} id */
export const place = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

export class Header {
  /** What the host says of the session. @type {any} */ record = null;
  #asked = 0;
  /** Which status is on the page. */
  #shown = "";

  /** @param {Context} context */
  constructor(context) {
    this.context = context;
    this.interrupt = /** @type {HTMLButtonElement} */ (place("interrupt"));
    this.kill = /** @type {HTMLButtonElement} */ (place("kill"));
    this.interrupt.addEventListener("click", () => this.#interrupt());
    this.kill.addEventListener("click", () => this.#kill());
    place("copy-curl").addEventListener("click", () => copied(this.#curl(), "The command is in the clipboard. It takes the key from $MASTER_KEY."));
    place("download").addEventListener("click", () => this.#download());
    this.refresh();
  }

  /** Asks the host what it knows. Many wishes at once are one. */
  refresh() {
    if (this.#asked) return;
    this.#asked = window.setTimeout(async () => {
      this.#asked = 0;
      const answer = await fetch(`/session/${this.context.session}`).catch(() => null);
      if (!answer?.ok) return;
      this.record = await answer.json();
      this.update();
    }, 400);
  }

  /** Where the session stands: the log says it, and the record as long as the log has not. */
  get status() {
    return this.context.story.status ?? this.record?.status ?? place("status").dataset.status ?? "idle";
  }

  update() {
    const { story } = this.context;
    if (this.#shown !== this.status) place("status").replaceChildren(badge(this.status));
    this.#shown = this.status;
    this.interrupt.disabled = !STOPPABLE.has(this.status);
    this.kill.disabled = this.status === "terminated";
    if (this.record) {
      const { usage } = this.record;
      const sum = tokensOf(usage);
      const usd = usage?.reported?.cost_usd;
      place("tokens").textContent = sum ? tokenWords(sum) : "n/a";
      // Nothing is reckoned from tokens.
      place("cost").textContent = typeof usd === "number" ? `$${usd.toFixed(4)}` : "n/a";
    }
    place("elapsed").textContent = this.#elapsed(story.turn);
  }

  /** @param {import("./story.js").Turn | null} turn */
  #elapsed(turn) {
    const active = this.record?.usage?.active_ms;
    if (turn?.start) return `turn ${turn.number} for ${duration(Math.max(0, Date.now() - turn.start))}`;
    return active === undefined ? "n/a" : `${duration(active)} in turns`;
  }

  /** @param {import("./feed.js").State} state @param {number} lastAt */
  connection(state, lastAt) {
    const seq = `seq ${count(this.context.log.last)}`;
    const seconds = Math.floor((Date.now() - lastAt) / 1000);
    const last = !lastAt ? "no event yet" : seconds < 1 ? "last event just now" : `last event ${duration(seconds * 1000)} ago`;
    const words = {
      connecting: () => `connecting · ${seq}`,
      live: () => `live · ${last} · ${seq}`,
      waiting: () => `${/** @type {any} */ (state).why}; reconnecting in ${Math.max(0, Math.ceil((/** @type {any} */ (state).until - Date.now()) / 1000))} s · ${seq}`,
      "signed-out": () => `signed out · ${seq}`,
      deleted: () => `session deleted · ${seq} was the last`,
      stopped: () => "the host has another log; loading it",
    };
    const line = place("connection");
    line.dataset.state = state.kind;
    const text = words[state.kind]();
    const said = /** @type {HTMLElement} */ (line.querySelector("span"));
    if (said.textContent !== text) said.textContent = text;
    place("sign-in-again").hidden = state.kind !== "signed-out";
    place("reconnect").hidden = state.kind !== "waiting";
  }

  async #interrupt() {
    try {
      await call("POST", `/session/${this.context.session}/interrupt`);
      say("The turn was told to stop.");
    } catch (error) {
      say(reason(error), "bad");
    }
  }

  async #kill() {
    const sure = await ask({
      title: "Kill this session?",
      text: "Its turn stops, here and at the vendor, and it takes no more prompts. The log stays.",
      action: "Kill the session",
      danger: true,
    });
    if (!sure) return;
    try {
      const { upstream } = await call("POST", `/session/${this.context.session}/kill`);
      if (upstream?.verified) say("The session is over, and the vendor confirms it.");
      else say(`The session is over here. The vendor has not confirmed it: ${upstream?.detail ?? "no reason given"}.`, "bad");
    } catch (error) {
      say(reason(error), "bad");
    }
    this.refresh();
  }

  #curl() {
    return `curl -N '${location.origin}${this.context.events}/stream?after=0' -H "Authorization: Bearer $MASTER_KEY"`;
  }

  async #download() {
    const { events, log, session } = this.context;
    const last = log.last;
    const button = /** @type {HTMLButtonElement} */ (place("download"));
    const words = button.textContent;
    button.disabled = true;
    try {
      const found = await lines(events, last, (seq) => (button.textContent = `${count(seq)} of ${count(last)}`));
      save(`${session}.ndjson`, found.map((line) => `${line}\n`), "application/x-ndjson");
    } catch (error) {
      say(reason(error), "bad");
    } finally {
      button.textContent = words;
      button.disabled = false;
    }
  }
}

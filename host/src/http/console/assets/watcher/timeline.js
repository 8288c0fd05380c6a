// The log as bars over time: turns, and in them model requests, tools, waits and errors.

/** @import { Span } from "./story.js" */
/** @import { Context } from "./watcher.js" */
import { element } from "../dialog.js";
import { axis, busy, without } from "./axis.js";
import { View } from "./view.js";
import { clockTime, duration } from "./words.js";

const WORDS = { turn: "Turn", model: "Model", tool: "Tool", wait: "Wait", error: "Error" };

export class Timeline extends View {
  /** @type {import("./axis.js").Axis} */ #axis = axis([], true);
  /** The turn that fills the width, by the number of its first event. @type {number | null} */ #zoom = null;
  #drawn = 0;

  /** @param {HTMLElement} panel @param {Context} context */
  constructor(panel, context) {
    super(panel, context);
    this.ruler = /** @type {HTMLElement} */ (panel.querySelector(".ruler"));
    this.cut = /** @type {HTMLInputElement} */ (panel.querySelector("#cut-idle"));
    this.whole = /** @type {HTMLButtonElement} */ (panel.querySelector("#whole"));
    this.cut.addEventListener("change", () => this.update());
    this.whole.addEventListener("click", () => this.zoom(null));
    panel.addEventListener("click", (event) => {
      const button = event.target instanceof Element ? event.target.closest("[data-zoom]") : null;
      if (button instanceof HTMLElement) this.zoom(Number(button.dataset.zoom));
    });
  }

  /** @param {number | null} seq */
  zoom(seq) {
    this.#zoom = this.#zoom === seq ? null : seq;
    this.whole.hidden = this.#zoom === null;
    this.update();
  }

  /** @returns {Span[]} */
  #spans() {
    const { story, matches, log } = this.context;
    const turn = this.#zoom === null ? undefined : story.spans.find((span) => span.kind === "turn" && span.seq === this.#zoom);
    const last = turn?.seqs[1] ?? Infinity;
    const inTurn = turn ? story.spans.filter((span) => span.seq >= turn.seq && span.seq <= last) : story.spans;
    return matches ? inTurn.filter((span) => span.seqs.some((seq) => matches(/** @type {any} */ (log.at(seq))))) : inTurn;
  }

  rows() {
    const now = Date.now();
    const spans = this.#spans();
    /** @param {(span: Span) => boolean} wanted */
    const ranges = (wanted) => busy(spans.filter((span) => span.start !== null && wanted(span))
      .map((span) => ({ start: span.start ?? 0, end: Math.max(span.start ?? 0, span.end ?? now) }))
      .sort((a, b) => a.start - b.start));
    const cut = this.cut.checked;
    const waits = ranges((span) => span.kind === "wait");
    this.#axis = axis(cut ? without(ranges((span) => span.kind !== "wait"), waits) : ranges(() => true), cut);
    this.#rule();
    this.#drawn += 1;
    return spans.map((span) => ({ key: span.key, rev: `${span.rev}.${this.#drawn}`, seq: span.seq, of: span }));
  }

  #rule() {
    const marks = this.#axis.ticks.map((tick) => placed("tick", tick.at, tick.label));
    const cuts = this.#axis.cuts.map((cut) => {
      const mark = placed("cut", cut.at, "");
      mark.title = `${duration(cut.ms)} without work`;
      return mark;
    });
    this.ruler.replaceChildren(...marks, ...cuts);
  }

  /** @param {number} seq */
  keyOf(seq) {
    return this.context.story.spans.findLast((span) => span.seq <= seq)?.key;
  }

  estimate() {
    return 28;
  }

  /** @param {Span} span @param {HTMLElement} node */
  fill(span, node) {
    const open = span.end === null;
    const ms = span.start === null ? null : (span.end ?? Date.now()) - span.start;
    const time = span.kind === "error" || ms === null ? "" : duration(ms);
    const outcome = span.failed ? "failed" : open ? "running" : span.text;
    node.className = `row span ${span.kind}${span.failed ? " failed" : ""}${open ? " open" : ""}`;
    node.setAttribute("aria-label", [WORDS[span.kind], span.name, time, outcome, `event ${span.seq}`].filter(Boolean).join(", "));
    const name = span.kind === "turn"
      ? element("button", { type: "button", class: "plain", "data-zoom": String(span.seq), tabindex: "-1", title: "Fit this turn to the width, or all again" }, span.name)
      : element("span", {}, span.name);
    const label = element("div", { class: "label" }, name, element("span", { class: "num quiet" }, time));
    const bar = element("a", { class: "bar", href: `#seq-${span.seq}`, tabindex: "-1", "aria-label": `Event ${span.seq}`, title: `${span.name} · ${time || "a moment"} · ${outcome || "done"} · from ${clockTime(span.start)}` });
    if (span.start !== null) {
      const [from, to] = [this.#axis.place(span.start), this.#axis.place(span.end ?? Date.now())];
      bar.style.left = `${from * 100}%`;
      bar.style.width = `${(to - from) * 100}%`;
    }
    const words = span.failed || span.kind === "error" ? `✕ ${span.failed && span.kind !== "error" ? "failed" : span.name}` : "";
    const track = element("div", { class: "track" }, bar);
    if (words) {
      const said = element("strong", { class: "said" }, words);
      const end = this.#axis.place(span.end ?? Date.now());
      if (end < 0.8) said.style.left = `calc(${end * 100}% + 8px)`;
      else said.style.right = `calc(${(1 - this.#axis.place(span.start ?? 0)) * 100}% + 8px)`;
      track.append(said);
    }
    node.replaceChildren(label, track);
  }
}

/** @param {string} css @param {number} at @param {string} words */
function placed(css, at, words) {
  const mark = element("span", { class: css }, words);
  mark.style.left = `${at * 100}%`;
  return mark;
}

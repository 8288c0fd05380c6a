// The log as a conversation: who said what, which tool did what, and how each turn ended.

/** @import { Item, Tool } from "./story.js" */
/** @import { Context } from "./watcher.js" */
import { element } from "../dialog.js";
import { prose } from "./prose.js";
import { View, where } from "./view.js";
import { count, duration, inputLine, oneLine, tokenWords } from "./words.js";

/** What of a text is shown at first. */
const SHOWN = 6000;
const WHO = { user: "User", agent: "Agent", thinking: "Thinking", error: "Error", tool: "", end: "", note: "" };
const FOLDS = new Set(["thinking", "tool", "note"]);

export class Conversation extends View {
  /** @param {HTMLElement} panel @param {Context} context */
  constructor(panel, context) {
    super(panel, context);
  }

  rows() {
    const { story, matches, log } = this.context;
    if (!matches) return this.withMarks(story.items);
    return story.items.filter((item) => item.seqs.some((seq) => matches(/** @type {any} */ (log.at(seq)))));
  }

  /** @param {number} seq */
  keyOf(seq) {
    return this.context.story.items.find((item) => item.seqs.includes(seq) || item.seq >= seq)?.key;
  }

  /** @param {Item} item */
  folds(item) {
    return FOLDS.has(item.kind) && (item.kind !== "note" || item.text.length > 100) && (item.kind !== "thinking" || item.text !== "");
  }

  /** @param {Item} item */
  estimate(item) {
    if (item.kind === "user" || item.kind === "agent") return 44 + 22 * Math.ceil(Math.min(item.text.length, SHOWN) / 110);
    return item.kind === "end" ? 46 : 34;
  }

  /** @param {Item} item @param {HTMLElement} node */
  fill(item, node) {
    const open = this.isOpen(item.key);
    const { tool } = item;
    node.className = `row ${item.kind}${tool ? ` ${toolState(tool).css}` : ""}`;
    if (item.kind === "end") return node.replaceChildren(this.#end(item));
    const head = element("div", { class: "row-head" });
    if (this.folds(item)) head.append(this.fold(item.key, open, item.kind === "tool" ? "input and result" : "all of it"));
    head.append(element("span", { class: "who" }, tool?.name ?? (WHO[item.kind] || item.label || "")));
    if (item.kind === "error") head.append(element("span", { class: "badge bad" }, item.label ?? "error"));
    if (tool) head.append(...this.#tool(tool));
    if (item.kind === "note" && !open) head.append(element("span", { class: "line" }, oneLine(item.text)));
    if (item.kind === "thinking" && !open) head.append(element("span", { class: "line" }, oneLine(item.text)));
    if (item.queued) head.append(element("span", { class: "badge warn" }, "queued"));
    const why = item.withdrawn ?? null;
    if (why !== null) head.append(element("span", { class: "badge bad" }, "withdrawn"), element("span", { class: "line" }, oneLine(why)));
    head.append(why === null ? where(item.seq, item.at) : where(item.seq, item.at, ""));
    node.replaceChildren(head, ...this.#body(item, open));
  }

  /** @param {Tool} tool */
  #tool(tool) {
    const state = toolState(tool);
    const parts = [element("code", { class: "line" }, inputLine(tool.input)), element("span", { class: `badge ${state.tone}` }, state.word)];
    if (tool.ms !== null) parts.push(element("span", { class: "quiet num" }, duration(tool.ms)));
    return parts;
  }

  /** @param {Item} item @param {boolean} open @returns {Node[]} */
  #body(item, open) {
    const { tool } = item;
    if (tool) {
      if (!open) return [];
      const parts = [element("h4", {}, "Input"), element("pre", { tabindex: "0" }, JSON.stringify(tool.input ?? {}, null, 2))];
      if (tool.verdict) parts.push(element("p", {}, `A client ${tool.verdict}`));
      if (tool.done) parts.push(element("h4", {}, tool.failed ? "Result: an error" : "Result"), this.#long(item.key, tool.result, "code"));
      return [element("div", { class: "body" }, ...parts)];
    }
    if (item.text === "" || (this.folds(item) && !open) || (item.kind === "note" && !open)) return [];
    return [this.#long(item.key, item.text, item.kind === "agent" ? "prose" : "text")];
  }

  /** @param {string} key @param {string} text @param {"prose" | "code" | "text"} as */
  #long(key, text, as) {
    const all = text.length <= SHOWN || this.isOpen(`${key} all`);
    const shown = all ? text : text.slice(0, SHOWN);
    const body = as === "code"
      ? element("pre", { tabindex: "0" }, shown)
      : element("div", { class: as === "prose" ? "body" : "body text" }, ...(as === "prose" ? prose(shown) : [shown]));
    if (!all) {
      const more = element("button", { type: "button", class: "plain" }, `Show all ${count(text.length)} characters`);
      more.addEventListener("click", () => this.toggle(`${key} all`, key));
      body.append("… ", more);
    }
    return body;
  }

  /** @param {Item} item */
  #end(item) {
    const turn = item.turn ?? { number: 0, failed: false, start: null, end: null, tokens: null, stop: "" };
    const time = turn.start !== null && turn.end !== null ? duration(turn.end - turn.start) : null;
    const facts = [turn.number > 0 ? `Turn ${turn.number}` : "Turn", turn.stop, time, turn.tokens && tokenWords(turn.tokens)];
    const words = element(turn.failed ? "strong" : "span", { class: "turn-words" }, facts.filter(Boolean).join(" · "));
    return element("div", { class: "row-head" }, words, where(item.seq, item.at));
  }
}

/** @param {Tool} tool @returns {{css: string, tone: string, word: string}} */
function toolState(tool) {
  if (tool.done && tool.failed) return { css: "failed", tone: "bad", word: tool.verdict?.startsWith("denied") ? "denied" : "failed" };
  if (tool.done) return { css: "done", tone: "good", word: "done" };
  if (tool.verdict?.startsWith("denied")) return { css: "failed", tone: "bad", word: "denied" };
  if (tool.asks !== "none" && !tool.verdict) return { css: "asks", tone: "warn", word: "waits for you" };
  return { css: "runs", tone: "busy", word: "running" };
}


// The log as it is: each event a line, and all of its JSON on demand.

/** @import { Entry } from "./log.js" */
import { element, say } from "../dialog.js";
import { View, where } from "./view.js";
import { summary, withdrawn } from "./words.js";

/** @param {number} seq */
export const eventKey = (seq) => `e${seq}`;

export class Events extends View {
  /** @type {WeakMap<Entry, {key: string, rev: number, seq: number, of: Entry}>} */
  #rows = new WeakMap();

  rows() {
    const { log, matches } = this.context;
    const shown = matches ? log.entries.filter(matches) : log.entries;
    const rows = shown.map((entry) => this.#row(entry));
    return matches ? rows : this.withMarks(rows);
  }

  /** @param {Entry} entry */
  #row(entry) {
    let row = this.#rows.get(entry);
    if (!row) {
      row = { key: eventKey(entry.seq), rev: 0, seq: entry.seq, of: entry };
      this.#rows.set(entry, row);
    }
    return row;
  }

  /** @param {number} seq */
  keyOf(seq) {
    return eventKey(seq);
  }

  folds() {
    return true;
  }

  estimate() {
    return 30;
  }

  /** @param {Entry} entry @param {HTMLElement} node */
  fill(entry, node) {
    const key = eventKey(entry.seq);
    const open = this.isOpen(key);
    node.className = `row event${entry.type === "session.error" || entry.event.is_error ? " failed" : ""}`;
    node.id = `seq-${entry.seq}`;
    const type = element("span", { class: `type ${entry.type.split(".")[0]}` }, entry.type);
    const line = element("div", { class: "row-head" }, this.fold(key, open, `the JSON of event ${entry.seq}`), type, element("span", { class: "line" }, summary(entry.event)), withdrawn(entry.event) === null ? where(entry.seq, entry.at) : where(entry.seq, entry.at, ""));
    node.replaceChildren(line, ...(open ? [this.#json(entry)] : []));
  }

  /** @param {Entry} entry */
  #json(entry) {
    const text = JSON.stringify(entry.event, null, 2);
    const copy = element("button", { type: "button", class: "small" }, "Copy JSON");
    copy.addEventListener("click", () => copied(text, "The event is in the clipboard."));
    const link = element("button", { type: "button", class: "small" }, "Copy link");
    link.addEventListener("click", () => copied(this.context.link(entry.seq), "The link is in the clipboard."));
    return element("div", { class: "body" }, element("pre", { tabindex: "0" }, text), element("div", { class: "actions" }, copy, link));
  }
}

/** @param {string} text @param {string} done */
export async function copied(text, done) {
  try {
    await navigator.clipboard.writeText(text);
    say(done);
  } catch {
    // Browsers have no clipboard for pages on plain HTTP that are not of this machine.
    const field = /** @type {HTMLTextAreaElement} */ (element("textarea", { class: "unseen" }));
    field.value = text;
    document.body.append(field);
    field.select();
    const worked = document.execCommand("copy");
    field.remove();
    say(worked ? done : "The browser does not let this page copy.", worked ? "good" : "bad");
  }
}

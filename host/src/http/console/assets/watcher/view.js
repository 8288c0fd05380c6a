// What the three projections of a log have in common: a list behind a window, rows that fold, and marks between them.

/** @import { Row } from "./window.js" */
/** @import { Context, Mark } from "./watcher.js" */
import { element } from "../dialog.js";
import { clockTime } from "./words.js";
import { Window } from "./window.js";

/** The number of an event, which leads to it, and its time. @param {number} seq @param {number | null} at @param {string} [words] */
export function where(seq, at, words = clockTime(at)) {
  const time = element("time", at === null ? {} : { datetime: new Date(at).toISOString(), title: new Date(at).toLocaleString() }, words);
  return element("span", { class: "where" }, time, element("a", { href: `#seq-${seq}`, title: `Event ${seq}`, tabindex: "-1" }, String(seq)));
}

export class View {
  /** @type {Set<string>} Keys of what is open. */ #open = new Set();
  /** @type {Map<string, number>} */ #turned = new Map();

  /** @param {HTMLElement} panel @param {Context} context */
  constructor(panel, context) {
    this.panel = panel;
    this.context = context;
    const [scroller, list] = [panel.querySelector(".scroller"), panel.querySelector("ol.rows")];
    this.window = new Window(/** @type {HTMLElement} */ (scroller), /** @type {HTMLElement} */ (list), {
      paint: (row, node) => (row.mark ? paintMark(row.mark, node) : this.fill(row.of ?? row, node)),
      estimate: (row) => (row.mark ? 34 : this.estimate(row.of ?? row)),
    }, () => context.moved());
  }

  /** Shows what the log has by now. */
  update() {
    const rows = this.rows();
    // What is open is a matter of this view; a row that was turned is another one to the window.
    this.window.set(rows.map((row) => {
      const turned = this.#turned.get(row.key);
      return turned === undefined ? row : { ...row, of: row.of ?? row, rev: `${row.rev}+${turned}` };
    }));
    const empty = this.panel.querySelector(".none");
    if (empty instanceof HTMLElement) {
      empty.hidden = rows.length > 0;
      empty.textContent = this.context.matches ? "No event matches the filter." : "Nothing has happened yet.";
    }
  }

  /** @param {string} key */
  isOpen(key) {
    return this.#open.has(key);
  }

  /** @param {string} key What is opened or closed. @param {string} [row] Where it is. @param {boolean} [open] */
  toggle(key, row = key, open = !this.#open.has(key)) {
    if (open === this.#open.has(key)) return;
    if (open) this.#open.add(key);
    else this.#open.delete(key);
    this.#turned.set(row, (this.#turned.get(row) ?? 0) + 1);
    // Who opens something reads it, and does not want to be taken to the end.
    if (open) this.window.follows = false;
    this.update();
    this.window.draw();
    this.context.moved();
  }

  /** The button that opens a row. @param {string} key @param {boolean} open @param {string} what */
  fold(key, open, what) {
    const label = `${open ? "Hide" : "Show"} ${what}`;
    return element("button", { type: "button", class: "fold", "aria-expanded": String(open), "aria-label": label, tabindex: "-1", "data-fold": key });
  }

  /** Marks stand behind the last row that began before them. @template {Row & {seq: number}} R @param {R[]} rows @returns {any[]} */
  withMarks(rows) {
    const { marks } = this.context;
    if (marks.length === 0) return rows;
    const merged = [];
    let next = 0;
    for (const row of rows) {
      for (; next < marks.length && marks[next].after < row.seq; next += 1) merged.push(markRow(marks[next]));
      merged.push(row);
    }
    return merged.concat(marks.slice(next).map(markRow));
  }

  /** @returns {any[]} */
  rows() {
    return [];
  }

  /** The row that an event is in. @param {number} _seq @returns {string | undefined} */
  keyOf(_seq) {
    return undefined;
  }

  /** @param {any} _row @returns {boolean} */
  folds(_row) {
    return false;
  }

  /** @param {any} _row */
  estimate(_row) {
    return 32;
  }

  /** @param {any} _row @param {HTMLElement} _node */
  fill(_row, _node) {}
}

/** @param {Mark} mark */
function markRow(mark) {
  return { key: `m${mark.number}`, rev: 0, seq: mark.after, mark };
}

/** @param {Mark} mark @param {HTMLElement} node */
function paintMark(mark, node) {
  node.className = "row mark";
  node.replaceChildren(element("span", {}, mark.words), where(mark.after, mark.at));
}

// What agents write, a little as they mean it: code, headings and emphasis. Text stays text, whatever is in it.

import { element } from "../dialog.js";
import { blocks, spans } from "./words.js";

/** @param {string} text @returns {Node[]} */
export function prose(text) {
  return blocks(text).map(([kind, piece]) =>
    kind === "code"
      ? element("pre", { tabindex: "0" }, piece)
      : element("div", { class: "text" }, ...spans(piece).map(([kind, piece]) => (kind === "text" ? piece : element(kind, {}, piece)))));
}

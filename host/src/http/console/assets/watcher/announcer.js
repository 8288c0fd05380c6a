// What screen readers are told of a session, beside what stands on the page.

/** @import { Story } from "./story.js" */
import { place } from "./header.js";

/** They are told of no more than one thing in this time. */
const QUIET_MS = 3000;

let announcement = 0;
let quiet = 0;

/** @param {string} words */
export function announce(words) {
  clearTimeout(announcement);
  announcement = window.setTimeout(() => {
    quiet = Date.now() + QUIET_MS;
    place("announcer").textContent = words;
  }, Math.max(0, quiet - Date.now()));
}

/** Says what has become of the turn. @param {Story} story */
export function tell({ status, pending, items }) {
  if (status === "requires_action") return announce(`The session waits for you: ${pending.map((one) => one.name).join(", ")}.`);
  const end = items.at(-1);
  if (end?.kind === "end") announce(`${end.turn?.number ? `Turn ${end.turn.number}` : "The turn"} has ended: ${end.turn?.failed ? "it failed" : end.text}.`);
}

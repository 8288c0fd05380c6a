// What every page does: times that tell how long ago, buttons that ask the API, and parts that are shown anew.

import { call, reason } from "./api.js";
import { ask, say, sayAt } from "./dialog.js";

const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "short" });
/** @type {[Intl.RelativeTimeFormatUnit, number][]} */
const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60]];

/**
 * @param {Date} then
 * @returns {string} how long ago that was, or how far off it is
 */
export function ago(then) {
  const seconds = (then.getTime() - Date.now()) / 1000;
  for (const [unit, size] of UNITS) {
    // What is 89 days and 23 hours off was 90 days off when somebody chose it.
    if (Math.abs(seconds) >= size) return relative.format(Math.ceil(seconds / size), unit);
  }
  return seconds > 0 ? "in a moment" : "just now";
}

/**
 * Lets the times in a part of the page tell how long ago they were. The exact time stays, as a tooltip.
 *
 * @param {ParentNode} [root]
 */
export function tellTimes(root = document) {
  for (const time of root.querySelectorAll("time[data-ago]")) {
    if (!(time instanceof HTMLTimeElement)) continue;
    const then = new Date(time.dateTime);
    if (Number.isNaN(then.getTime())) continue;
    time.title ||= then.toLocaleString();
    const text = ago(then);
    if (time.textContent !== text) time.textContent = text;
  }
}

/**
 * Shows parts of the page as the host would show them now. What has the focus keeps it, by its id.
 *
 * @param {...string} ids
 */
export async function refresh(...ids) {
  const response = await fetch(location.href, { headers: { accept: "text/html" } });
  if (!response.ok) throw new Error(`The page cannot be loaded again (${response.status}).`);
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const id of ids) {
    const [old, now] = [document.getElementById(id), fresh.getElementById(id)];
    if (!old || !now) continue;
    const focused = old.contains(document.activeElement) ? document.activeElement?.id : undefined;
    old.replaceWith(document.adoptNode(now));
    if (focused) document.getElementById(focused)?.focus();
    prepare(now);
  }
}

/**
 * A button that asks the API: `data-call="DELETE /api/…"`, with `data-confirm` the question before it, `data-done` what
 * is said after it, and `data-next` or `data-refresh` what is shown then.
 *
 * @param {HTMLButtonElement} button
 */
async function press(button) {
  const { call: wish = "", body, confirm, consequence, done = "Done.", next, refresh: ids } = button.dataset;
  const [method, path] = wish.split(" ");
  const danger = button.classList.contains("danger");
  const action = button.dataset.action ?? button.textContent?.trim() ?? "";
  if (confirm && !(await ask({ title: confirm, text: consequence, action, danger }))) return;
  button.disabled = true;
  try {
    await call(method, path, body ? { body: JSON.parse(body) } : {});
    if (next) return sayAt(done, next);
    if (ids) await refresh(...ids.split(" "));
    say(done);
  } catch (error) {
    say(reason(error), "bad");
  } finally {
    button.disabled = false;
  }
}

/**
 * Lets what needs scripts work, in a part of the page.
 *
 * @param {ParentNode & Node} root
 */
export function prepare(root) {
  tellTimes(root);
  // Without scripts these are off: a form must not be sent to a page that would not know what to do with it.
  for (const control of root.querySelectorAll("[data-scripted]")) control.removeAttribute("disabled");
  root.dispatchEvent(new CustomEvent("fresh", { bubbles: true }));
}

document.addEventListener("click", (event) => {
  const button = event.target instanceof Element ? event.target.closest("button[data-call]") : null;
  if (button instanceof HTMLButtonElement) press(button);
});
prepare(document);
setInterval(tellTimes, 30_000, document);

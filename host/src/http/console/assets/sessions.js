// The list of sessions, live: one feed tells what changes, and rows change where they are.

import { call, reason } from "./api.js";
import { ask, element } from "./dialog.js";
import { badge, read, tokensOf } from "./session.js";
import { prepare, refresh } from "./view.js";

/**
 * @typedef {object} Session as the API tells it
 * @property {string} id
 * @property {string} title
 * @property {string} agent_id
 * @property {string} runtime
 * @property {string} status
 * @property {number} [queued]
 * @property {any} [usage]
 * @property {{created: number, updated: number}} time
 */

/** How many are killed at the same time. */
const AT_ONCE = 4;
const numbers = new Intl.NumberFormat("en");

const rows = () => /** @type {HTMLElement} */ (document.getElementById("rows"));
const rowOf = (/** @type {string} */ id) => /** @type {HTMLElement|null} */ (rows().querySelector(`[data-session="${CSS.escape(id)}"]`));
const ticks = () => /** @type {HTMLInputElement[]} */ (Array.from(rows().querySelectorAll(".tick input")));

/**
 * A copy of what a template holds.
 *
 * @param {string} selector
 * @returns {DocumentFragment|null}
 */
function copyOf(selector) {
  const template = document.querySelector(selector);
  return template instanceof HTMLTemplateElement ? /** @type {DocumentFragment} */ (template.content.cloneNode(true)) : null;
}

/** @param {Session} session */
function tokens({ usage }) {
  const sum = tokensOf(usage);
  return sum ? numbers.format(read(sum) + (sum.output_tokens ?? 0)) : element("span", { class: "quiet" }, "n/a");
}

/**
 * Lets a row say what a session is now.
 *
 * @param {HTMLElement} row
 * @param {Session} session
 */
function fill(row, session) {
  const put = (/** @type {string} */ slot, /** @type {Node|string} */ what) =>
    row.querySelector(`[data-slot="${slot}"]`)?.replaceChildren(what);
  const time = (/** @type {number} */ ms) =>
    element("time", { datetime: new Date(ms).toISOString(), "data-ago": "" });
  row.dataset.state = session.status;
  put("title", session.title);
  put("status", badge(session.status));
  put("queued", numbers.format(session.queued ?? 0));
  put("tokens", tokens(session));
  put("updated", time(session.time.updated));
  prepare(row);
}

/**
 * @param {Session} session
 * @returns {HTMLElement|null} a new row
 */
function rowFor(session) {
  const row = copyOf("#row-model")?.firstElementChild;
  if (!(row instanceof HTMLElement)) return null;
  for (const part of [row, ...row.querySelectorAll("*")]) {
    for (const attribute of part.attributes) {
      const id = part.matches('[data-slot="agent"]') ? session.agent_id : session.id;
      attribute.value = attribute.value.replace("{id}", id);
    }
  }
  const name = copyOf("#agent-names")?.querySelector(`data[value="${CSS.escape(session.agent_id)}"]`)?.textContent;
  row.querySelector('[data-slot="agent"]')?.replaceChildren(name ?? session.agent_id);
  row.querySelector('[data-slot="runtime"]')?.replaceChildren(session.runtime);
  const created = new Date(session.time.created).toISOString();
  row.querySelector('[data-slot="created"]')?.replaceChildren(element("time", { datetime: created, "data-ago": "" }));
  row.querySelector(".tick input")?.setAttribute("aria-label", `Select ${session.title}`);
  for (const of of row.querySelectorAll("button .unseen")) of.textContent = ` ${session.title}`;
  fill(row, session);
  return row;
}

/**
 * True for a session that the host would show on this page. Text is searched by the host alone.
 *
 * @param {Session} session
 */
function isWanted({ status, agent_id, runtime }) {
  const wanted = rows().dataset;
  return (!wanted.status || wanted.status === status) && (!wanted.agent || wanted.agent === agent_id)
    && (!wanted.runtime || wanted.runtime === runtime);
}

/** @param {Session} session */
function update(session) {
  const row = rowOf(session.id);
  if (row && isWanted(session)) return fill(row, session);
  // What somebody works with does not vanish under their hands.
  if (row) return row.contains(document.activeElement) || row.querySelector(":checked") ? fill(row, session) : row.remove();
  const { first, text, page } = rows().dataset;
  if (first === undefined || text || !isWanted(session)) return;
  // Older sessions that change belong to a later page.
  const newest = rows().querySelector('[data-slot="created"] time');
  const since = newest instanceof HTMLTimeElement ? Date.parse(newest.dateTime) : 0;
  if (session.time.created < since) return;
  const made = rowFor(session);
  if (!made) return;
  rows().prepend(made);
  if (rows().childElementCount > Number(page)) rows().lastElementChild?.remove();
  rows().closest(".scroll")?.removeAttribute("hidden");
  document.querySelector("#sessions > .empty")?.remove();
}

/** Shows the list as it is now. What is ticked stays so. */
async function reload() {
  const ticked = new Set(ticks().filter((tick) => tick.checked).map((tick) => tick.closest("tr")?.dataset.session));
  await refresh("sessions");
  for (const tick of ticks()) tick.checked = ticked.has(tick.closest("tr")?.dataset.session);
  rows().dispatchEvent(new Event("change", { bubbles: true }));
}

function listen() {
  const feed = new EventSource("/api/sessions/stream");
  const told = document.getElementById("feed");
  const tell = (/** @type {string} */ tone, /** @type {string} */ word) => {
    const badge = told?.firstElementChild;
    if (badge?.textContent !== word) told?.replaceChildren(element("span", { class: `badge ${tone}` }, word));
  };
  const renew = () => reload().catch(() => tell("warn", "Not live"));
  feed.addEventListener("open", () => tell("good", "Live"));
  // What happened between the page and the feed is in the list alone. A feed that comes back says so itself.
  feed.addEventListener("open", renew, { once: true });
  feed.addEventListener("error", () => tell("warn", feed.readyState === EventSource.CLOSED ? "Not live" : "Reconnecting"));
  feed.addEventListener("session.updated", ({ data }) => update(JSON.parse(data)));
  feed.addEventListener("session.deleted", ({ data }) => rowOf(JSON.parse(data).id)?.remove());
  feed.addEventListener("reset", renew);
}

/**
 * Ends a session here and upstream.
 *
 * @param {string} id
 * @returns {Promise<string>} what became of it, in words
 */
async function kill(id) {
  try {
    const { upstream } = await call("POST", `/session/${id}/kill`);
    return upstream.verified ? "killed; the vendor confirms it" : `killed here; the vendor does not confirm it: ${upstream.detail}`;
  } catch (error) {
    return `not killed: ${reason(error)}`;
  }
}

/**
 * Kills sessions after asking, tells how far it is, and at the end what became of each.
 *
 * @param {{id: string, title: string}[]} sessions
 * @param {(text: string) => void} tell
 */
async function killAll(sessions, tell) {
  const [only] = sessions;
  const title = sessions.length === 1 ? `Kill ${only.title}?` : `Kill ${sessions.length} sessions?`;
  const text = "They end here and at the vendor, with whatever they do. Their logs are kept.";
  if (!(await ask({ title, text, action: "Kill", danger: true }))) return;
  const results = element("ul", { class: "results" });
  const waiting = [...sessions];
  let done = 0;
  const work = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      const outcome = await kill(next.id);
      results.append(element("li", {}, element("strong", {}, next.title), ` ${outcome}`));
      tell(`${++done} of ${sessions.length} done`);
    }
  };
  tell(`0 of ${sessions.length} done`);
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  tell("");
  await refresh("sessions");
  await ask({ title: "What became of them", action: "Close", more: results, only: true });
}

function selection() {
  const bulk = document.getElementById("bulk");
  const button = document.getElementById("kill-selected");
  const all = document.getElementById("select-all");
  const told = document.getElementById("bulk-told");
  if (!bulk || !told || !(button instanceof HTMLButtonElement) || !(all instanceof HTMLInputElement)) return;
  bulk.hidden = false;
  const tell = (/** @type {string} */ text) => (told.textContent = text);
  const count = () => {
    const chosen = ticks().filter((tick) => tick.checked).length;
    button.disabled = chosen === 0;
    button.textContent = chosen ? `Kill selected (${chosen})` : "Kill selected";
    all.checked = chosen > 0 && chosen === ticks().length;
    all.indeterminate = chosen > 0 && !all.checked;
  };
  const named = (/** @type {Element|null} */ row) => ({
    id: row instanceof HTMLElement ? (row.dataset.session ?? "") : "",
    title: row?.querySelector('[data-slot="title"]')?.textContent ?? "",
  });
  all.addEventListener("change", () => {
    for (const tick of ticks()) tick.checked = all.checked;
    count();
  });
  document.getElementById("sessions")?.parentElement?.addEventListener("change", count);
  document.addEventListener("fresh", count);
  button.addEventListener("click", async () => {
    await killAll(ticks().filter((tick) => tick.checked).map((tick) => named(tick.closest("tr"))), tell);
    count();
  });
  document.addEventListener("click", ({ target }) => {
    const one = target instanceof Element ? target.closest("button[data-kill]") : null;
    if (one) killAll([named(one.closest("tr"))], tell);
  });
}

selection();
listen();

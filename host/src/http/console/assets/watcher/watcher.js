// The page of a session: one log, brought by the feed, told by the story, shown in three projections.

/** @import { State } from "./feed.js" */
/** @import { View } from "./view.js" */
import "../view.js";
import { element } from "../dialog.js";
import { announce, tell } from "./announcer.js";
import { Composer } from "./composer.js";
import { Conversation } from "./conversation.js";
import { Decisions } from "./decisions.js";
import { Events } from "./events.js";
import { Feed } from "./feed.js";
import { Header, place } from "./header.js";
import { listen } from "./keys.js";
import { filter, Log } from "./log.js";
import { Story } from "./story.js";
import { Timeline } from "./timeline.js";
import { clockTime, count, duration } from "./words.js";

/**
 * @typedef {{number: number, after: number, at: number, words: string}} Mark Something that happened to this page and not to the session.
 * @typedef {object} Context
 * @property {string} session
 * @property {string} events
 * @property {Log} log
 * @property {Story} story
 * @property {Mark[]} marks
 * @property {ReturnType<typeof filter>} matches
 * @property {() => void} moved
 * @property {(seq: number) => string} link
 */

/** What is loaded at first, and without being asked for. */
const FIRST = 1000;
const UNASKED = 20_000;

const root = /** @type {HTMLElement} */ (document.querySelector(".watcher"));
const { session = "", head = "0" } = root.dataset;
const known = Number(head);
const log = new Log(Math.max(0, known - FIRST));
/** @type {Context} */
const context = {
  session,
  events: `/v1/sessions/${session}/events`,
  log,
  story: new Story(),
  marks: [],
  matches: null,
  moved,
  link: (seq) => `${location.origin}${location.pathname}?view=events&at=${seq}#seq-${seq}`,
};

root.classList.add("scripted");
/** @type {Record<string, View>} */
const views = {
  conversation: new Conversation(place("panel-conversation"), context),
  timeline: new Timeline(place("panel-timeline"), context),
  events: new Events(place("panel-events"), context),
};
const tabs = [...document.querySelectorAll(".tabs a")].map((tab) => /** @type {HTMLAnchorElement} */ (tab));
const header = new Header(context);
const composer = new Composer(/** @type {HTMLFormElement} */ (place("composer")), session);
const decisions = new Decisions(place("decisions"), session);
const kind = /** @type {HTMLSelectElement} */ (place("kind"));
const text = /** @type {HTMLInputElement} */ (place("text"));

let current = views.conversation;
/** @type {State} */
let state = { kind: "connecting" };
let lastAt = 0;
/** The last event that the reader has seen at the end. */
let seen = known;
/** The event that was asked for and is not here yet. @type {number | null} */
let wanted = null;
let frame = 0;
let rebuild = false;

const feed = new Feed(context.events, log, {
  state: (next) => {
    if (next.kind !== state.kind && ["deleted", "signed-out"].includes(next.kind)) announce(next.kind === "deleted" ? "The session was deleted." : "You are signed out.");
    state = next;
    header.connection(state, lastAt);
  },
  grown: (where) => {
    rebuild ||= where === "start";
    if (where === "end" && log.last > known) lastAt = Date.now();
    frame ||= requestAnimationFrame(update);
  },
  reconnected: ({ after, lostAt, backAt }) => {
    const words = `Reconnected at ${clockTime(backAt).slice(0, 8)} after ${duration(backAt - lostAt)} · goes on behind event ${count(after)}, nothing lost`;
    context.marks.push({ number: context.marks.length, after, at: backAt, words });
    current.update();
  },
  reset: () => location.reload(),
});

/** Brings the page up to what the log has, once for each frame. */
function update() {
  frame = 0;
  const before = context.story;
  const [turns, status] = [before.turns, before.status];
  if (rebuild) {
    context.story = Story.of(log.entries);
    rebuild = false;
  } else {
    for (const entry of log.entries.slice(Math.max(0, taken - log.base))) context.story.take(entry);
  }
  const fresh = log.last - taken;
  taken = log.last;
  lastAt ||= log.entries.findLast((entry) => entry.at !== null)?.at ?? 0;
  // What the host has shown so far stays until there is better.
  document.getElementById("static")?.remove();
  current.update();
  decisions.show(context.story.pending);
  header.connection(state, lastAt);
  header.update();
  matched();
  moved();
  if (fresh > 0 && (context.story.status !== status || context.story.turns !== turns || log.entries.slice(-fresh).some((entry) => entry.type === "user.message"))) {
    header.refresh();
    composer.refresh();
  }
  if (taken > known && context.story.status !== status) tell(context.story);
  if (wanted !== null) open(wanted);
}
let taken = log.base;

/** The reader has moved, or the end has. */
function moved() {
  const { window: rows } = current;
  if (rows.follows) seen = log.last;
  const more = log.last - seen;
  const button = place("newer");
  button.hidden = rows.follows || rows.rows.length === 0;
  const words = more > 0 ? `${count(more)} new ${more === 1 ? "event" : "events"} ↓` : "To the end ↓";
  if (button.textContent !== words) button.textContent = words;
  // Whoever comes near the beginning wants what was before it.
  if (!rows.follows && log.base > 0 && rows.scroller.scrollTop < 2000) fill(log.base - 2000);
}

/** Loads what was before. A wish that failed comes again, and none is made meanwhile. @param {number} until */
function fill(until) {
  if (refill) return;
  feed.backfill(Math.max(1, until)).catch(() => {
    refill = window.setTimeout(() => {
      refill = 0;
      fill(wanted ?? until);
    }, 5000);
  });
}
let refill = 0;

/** @param {string} name @param {boolean} [focus] */
function choose(name, focus = false) {
  const next = views[name] ?? views.conversation;
  for (const tab of tabs) {
    const mine = tab.dataset.view === name;
    tab.setAttribute("aria-selected", String(mine));
    tab.tabIndex = mine ? 0 : -1;
    if (mine && focus) tab.focus();
    place(`panel-${tab.dataset.view}`).hidden = !mine;
  }
  if (next === current) return current.update();
  const { window: rows } = current;
  const at = rows.follows ? null : rows.rows.find((row) => row.key === rows.active) ?? rows.first;
  next.window.follows = at === null;
  current = next;
  current.update();
  const key = at && current.keyOf(/** @type {any} */ (at).seq);
  if (key) current.window.show(key, false);
  else current.window.draw();
  moved();
}

/** @param {string} name */
function go(name) {
  history.replaceState(null, "", `?view=${name}`);
  choose(name, document.activeElement?.closest(".tabs") !== null);
}

/** Shows an event, as soon as it is here. @param {number} seq */
function open(seq) {
  wanted = seq;
  const entry = log.at(seq);
  if (seq <= log.base) return fill(seq);
  if (!entry) return;
  wanted = null;
  if (context.matches && !context.matches(entry)) {
    kind.value = text.value = "";
    search();
  }
  choose("events");
  const key = current.keyOf(seq) ?? "";
  current.toggle(key, key, true);
  current.window.show(key);
  for (const node of document.querySelectorAll("#panel-events [aria-current]")) node.removeAttribute("aria-current");
  current.window.node(key)?.setAttribute("aria-current", "true");
}

function follow() {
  const seq = /^#seq-(\d+)$/.exec(location.hash)?.[1];
  if (seq) open(Number(seq));
  else choose(new URLSearchParams(location.search).get("view") ?? "conversation");
}

function search() {
  context.matches = filter(kind.value, text.value);
  current.update();
  matched();
}

function matched() {
  const { matches } = context;
  place("matched").textContent = matches ? `${count(log.entries.filter(matches).length)} of ${count(log.entries.length)} events` : "";
}

/** Offers the types that the log has. */
function kinds() {
  /** @type {Map<string, number>} */
  const types = new Map();
  for (const { type } of log.entries) types.set(type, (types.get(type) ?? 0) + 1);
  const group = /** @type {HTMLElement} */ (kind.querySelector("optgroup"));
  const chosen = kind.value;
  group.replaceChildren(...[...types].sort().map(([type, times]) => element("option", { value: type }, `${type} (${count(times)})`)));
  kind.value = chosen;
}

/** Opens or closes the row that the keyboard is at. @param {KeyboardEvent} event */
function turn(event) {
  const row = event.target instanceof Element && event.target.matches("ol.rows > li") ? /** @type {HTMLElement} */ (event.target) : null;
  const fold = row?.querySelector("[data-fold], .bar");
  if (!(fold instanceof HTMLElement)) return false;
  fold.click();
}

for (const tab of tabs) {
  tab.setAttribute("role", "tab");
  tab.setAttribute("aria-controls", `panel-${tab.dataset.view}`);
  tab.removeAttribute("aria-current");
  tab.addEventListener("click", (event) => {
    event.preventDefault();
    go(tab.dataset.view ?? "");
  });
  tab.addEventListener("keydown", ({ key }) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[key];
    if (by) tabs[(tabs.indexOf(tab) + by + tabs.length) % tabs.length].click();
  });
}
root.addEventListener("click", (event) => {
  const target = event.target instanceof Element ? event.target : root;
  const fold = target.closest("[data-fold]") ?? (target.closest("a, button, pre, time, .text") ? null : target.closest(".row-head")?.querySelector("[data-fold]"));
  if (fold instanceof HTMLElement) current.toggle(fold.dataset.fold ?? "");
  const row = target.closest("ol.rows > li");
  if (row instanceof HTMLElement) current.window.active = row.dataset.key ?? null;
  // A link to where the page is already leads there, too.
  if (target.closest("a")?.getAttribute("href") === location.hash) follow();
});
place("newer").addEventListener("click", () => current.window.end());
place("reconnect").addEventListener("click", () => feed.wake());
kind.addEventListener("focus", kinds);
kind.addEventListener("change", search);
text.addEventListener("input", search);
text.addEventListener("keydown", ({ key }) => key === "Escape" && current.window.step(0));
addEventListener("hashchange", follow);
addEventListener("popstate", follow);
addEventListener("online", () => feed.wake());
// Somebody comes back, perhaps from signing in.
addEventListener("focus", () => state.kind === "signed-out" && feed.wake());
addEventListener("pagehide", ({ persisted }) => persisted || feed.stop());
const help = /** @type {HTMLDialogElement} */ (place("keys"));
place("help").addEventListener("click", () => help.showModal());
listen({
  1: () => go("conversation"),
  2: () => go("timeline"),
  3: () => go("events"),
  j: () => current.window.step(1),
  k: () => current.window.step(-1),
  ArrowDown: (event) => (event.target instanceof Element && event.target.closest("ol.rows") ? current.window.step(1) : false),
  ArrowUp: (event) => (event.target instanceof Element && event.target.closest("ol.rows") ? current.window.step(-1) : false),
  Home: () => current.window.rows[0] && current.window.show(current.window.rows[0].key),
  End: () => current.window.end(),
  Enter: turn,
  "/": () => text.focus(),
  c: () => composer.text.focus(),
  a: () => decisions.focus(),
  "?": () => help.showModal(),
}, help);
setInterval(() => {
  header.connection(state, lastAt);
  if (context.story.turn) header.update();
  if (context.story.turn && current === views.timeline) current.update();
}, 1000);

follow();
feed.run();
fill(known - UNASKED);

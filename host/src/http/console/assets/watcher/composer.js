// What is said to the session. It is always taken: what cannot be sent yet waits here and is sent again under the same
// idempotency key until the host has it, over reloads of the page, too. What the host has and the turn has not, waits there.

import { ApiError, call, randomKey, reason } from "../api.js";
import { element } from "../dialog.js";
import { oneLine } from "./words.js";

/**
 * @typedef {{key: string, text: string, refused?: string}} Letter
 * @typedef {{info: {id: string, status?: "queued" | "withdrawn"}, parts: {text: string}[]}} Message
 */

const AGAIN_MS = [1000, 2000, 4000, 8000, 15_000];

/** True when the same request may do better later. @param {unknown} error */
export function passes(error) {
  if (!(error instanceof ApiError)) return false;
  return [0, 408, 429].includes(error.status) || (error.status >= 500 && error.status !== 501);
}

export class Composer {
  /** @type {Letter[]} */ #letters = [];
  /** @type {Message[]} */ #messages = [];
  #sending = false;
  #tries = 0;
  #asked = 0;

  /** @param {HTMLFormElement} form @param {string} session */
  constructor(form, session) {
    this.session = session;
    this.stored = `lap.outbox.${session}`;
    this.text = /** @type {HTMLTextAreaElement} */ (form.querySelector("textarea"));
    this.queue = /** @type {HTMLElement} */ (form.querySelector("#queue"));
    this.#letters = JSON.parse(sessionStorage.getItem(this.stored) ?? "[]");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.text.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || event.isComposing) return;
      event.preventDefault();
      this.#submit();
    });
    this.text.addEventListener("input", () => this.#fit());
    addEventListener("online", () => this.#send());
    this.#changed();
    this.#send();
    this.refresh();
  }

  /** Asks which messages wait. Many wishes at once are one. */
  refresh() {
    if (this.#asked) return;
    this.#asked = window.setTimeout(async () => {
      this.#asked = 0;
      const answer = await fetch(`/session/${this.session}/message`).catch(() => null);
      if (!answer?.ok) return;
      this.#messages = await answer.json();
      this.#show();
    }, 300);
  }

  #submit() {
    const text = this.text.value.trim();
    if (text === "") return this.text.focus();
    this.text.value = "";
    this.#fit();
    this.#letters.push({ key: randomKey(), text });
    this.#changed();
    this.#send();
  }

  #fit() {
    this.text.style.height = "auto";
    this.text.style.height = `${Math.min(this.text.scrollHeight + 2, 220)}px`;
  }

  #changed() {
    if (this.#letters.length > 0) sessionStorage.setItem(this.stored, JSON.stringify(this.#letters));
    else sessionStorage.removeItem(this.stored);
    this.#show();
  }

  /** One after the other, so that they arrive in their order. */
  async #send() {
    const letter = this.#letters.find((letter) => letter.refused === undefined);
    if (!letter || this.#sending) return;
    this.#sending = true;
    const body = { parts: [{ type: "text", text: letter.text }] };
    try {
      await call("POST", `/session/${this.session}/prompt_async`, { body, key: letter.key });
      this.#letters = this.#letters.filter((other) => other !== letter);
      this.#tries = 0;
      this.refresh();
    } catch (error) {
      if (passes(error)) this.#tries += 1;
      else letter.refused = reason(error);
    }
    this.#sending = false;
    this.#changed();
    if (this.#tries > 0) setTimeout(() => this.#send(), AGAIN_MS[Math.min(this.#tries, AGAIN_MS.length) - 1]);
    else this.#send();
  }

  #show() {
    const sent = this.#messages.findLastIndex((message) => message.info.status === undefined);
    const recent = this.#messages.slice(sent + 1);
    const withdrawn = recent.filter((message) => message.info.status === "withdrawn");
    const queued = recent.filter((message) => message.info.status === "queued");
    const rows = [
      ...withdrawn.map((message) => this.#row("withdrawn", textOf(message), "bad", [this.#back("Put back", textOf(message), () => {
        this.#messages = this.#messages.filter((other) => other !== message);
      })])),
      ...queued.map((message, place) => this.#row(`waits for the turn to end · ${place + 1} of ${queued.length}`, textOf(message), "warn", [])),
      ...this.#letters.map((letter) => this.#letter(letter)),
    ];
    this.queue.replaceChildren(...rows);
    this.queue.hidden = rows.length === 0;
  }

  /** @param {Letter} letter */
  #letter(letter) {
    if (letter.refused === undefined) {
      return this.#row(this.#tries > 0 ? "not sent yet: the host does not take it; trying again" : "is being sent", letter.text, "busy", []);
    }
    const discard = () => {
      this.#letters = this.#letters.filter((other) => other !== letter);
    };
    return this.#row(`refused: ${letter.refused}`, letter.text, "bad", [this.#back("Put back", letter.text, discard), this.#back("Discard", null, discard)]);
  }

  /** @param {string} state @param {string} text @param {string} tone @param {HTMLElement[]} buttons */
  #row(state, text, tone, buttons) {
    return element("li", {}, element("span", { class: `badge ${tone}` }, state), element("span", { class: "line", title: text }, oneLine(text)), ...buttons);
  }

  /** @param {string} label @param {string | null} text @param {() => void} remove */
  #back(label, text, remove) {
    const button = element("button", { type: "button", class: "small" }, label);
    button.addEventListener("click", () => {
      remove();
      if (text !== null) this.text.value = [text, this.text.value].filter(Boolean).join("\n");
      this.text.focus();
      this.#fit();
      this.#changed();
    });
    return button;
  }
}

/** @param {Message} message */
function textOf(message) {
  return message.parts.map((part) => part.text).join("\n");
}

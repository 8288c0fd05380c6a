// What the session waits for: tools that somebody has to allow, and results that somebody has to give. Each is answered once.

/** @import { Pending } from "./story.js" */
import { call, randomKey, reason } from "../api.js";
import { element } from "../dialog.js";
import { passes } from "./composer.js";

export class Decisions {
  /** @type {Map<string, {card: HTMLElement, asks: string}>} By what is asked for, so that a reason that is being written stays. */
  #cards = new Map();
  #serial = 0;

  /** @param {HTMLElement} place @param {string} session */
  constructor(place, session) {
    this.place = place;
    this.session = session;
    this.list = /** @type {HTMLElement} */ (place.querySelector("ul"));
  }

  /** @param {Pending[]} pending */
  show(pending) {
    const wanted = new Map(pending.map((one) => [one.id, one]));
    for (const [id, { card, asks }] of this.#cards) {
      if (wanted.get(id)?.asks === asks) continue;
      const focused = card.contains(document.activeElement);
      card.remove();
      this.#cards.delete(id);
      if (focused && !wanted.has(id)) this.#onward();
    }
    for (const one of pending) {
      if (this.#cards.has(one.id)) continue;
      const card = this.#card(one);
      this.#cards.set(one.id, { card, asks: one.asks });
      this.list.append(card);
    }
    this.place.hidden = pending.length === 0;
  }

  focus() {
    /** @type {HTMLElement | null} */ (this.list.querySelector("button:not(:disabled), textarea"))?.focus();
  }

  /** The focus goes to what is next, and not to nowhere. */
  #onward() {
    if (this.list.querySelector("button:not(:disabled)")) this.focus();
    else document.getElementById("prompt")?.focus();
  }

  /** @param {Pending} one */
  #card(one) {
    const words = one.asks === "custom" ? "needs a result from you" : "wants to run";
    const title = element("p", { class: "title" }, element("strong", {}, one.name), ` ${words} `);
    if (one.seq !== null) title.append(element("a", { href: `#seq-${one.seq}` }, `event ${one.seq}`));
    const card = element("li", { class: "decision" }, title);
    if (one.asks === "unknown") {
      card.append(element("p", { class: "quiet" }, "It was asked before the events that are here; they are being loaded."));
      return card;
    }
    card.append(element("pre", { tabindex: "0", "aria-label": `Input of ${one.name}` }, compact(one.input ?? {})));
    card.append(one.asks === "custom" ? this.#result(one) : this.#verdict(one));
    return card;
  }

  /** @param {Pending} one */
  #verdict(one) {
    const why = /** @type {HTMLInputElement} */ (element("input", { type: "text", id: this.#id(), placeholder: "Reason, for the agent (only if you deny)" }));
    const allow = button("Approve", "primary");
    const deny = button("Deny", "danger");
    const form = element("div", { class: "answer" }, allow, deny, label("Reason for a denial", why), why);
    const confirm = { type: "user.tool_confirmation", tool_use_id: one.id };
    this.#once(form, allow, () => ({ ...confirm, result: "allow" }), "Approved; waiting for the agent to go on.");
    this.#once(form, deny, () => ({ ...confirm, result: "deny", ...(why.value.trim() ? { deny_message: why.value.trim() } : {}) }), "Denied; waiting for the agent to go on.");
    return form;
  }

  /** @param {Pending} one */
  #result(one) {
    const text = /** @type {HTMLTextAreaElement} */ (element("textarea", { id: this.#id(), rows: "2", placeholder: "What the tool says" }));
    const failed = /** @type {HTMLInputElement} */ (element("input", { type: "checkbox", id: this.#id() }));
    const send = button("Send the result", "primary");
    const form = element("div", { class: "answer" }, label("Result", text), text, element("label", { class: "check", for: failed.id }, failed, " The tool failed"), send);
    this.#once(form, send, () => ({
      type: "user.custom_tool_result",
      custom_tool_use_id: one.id,
      content: text.value === "" ? [] : [{ type: "text", text: text.value }],
      is_error: failed.checked,
    }), "Sent; waiting for the agent to go on.");
    return form;
  }

  /**
   * Lets a button send an event. One that may have arrived is sent again as the same; a refused one can be tried anew.
   * @param {HTMLElement} form @param {HTMLElement} button @param {() => Record<string, any>} event @param {string} done
   */
  #once(form, button, event, done) {
    let key = randomKey();
    button.addEventListener("click", async () => {
      const controls = /** @type {NodeListOf<HTMLButtonElement>} */ (form.querySelectorAll("button, input, textarea"));
      for (const control of controls) control.disabled = true;
      const words = /** @type {HTMLElement} */ (form.querySelector("[role=status]")) ?? form.appendChild(element("p", { role: "status", class: "quiet" }));
      words.textContent = "Sending…";
      // A button that is off loses the focus, and what the focus was on would not be known.
      words.tabIndex = -1;
      words.focus();
      try {
        await call("POST", `/v1/sessions/${this.session}/events`, { body: { events: [event()] }, key });
        words.textContent = done;
      } catch (error) {
        words.textContent = `${reason(error)}${passes(error) ? " Try again: it will count once." : ""}`;
        if (!passes(error)) key = randomKey();
        for (const control of controls) control.disabled = false;
        button.focus();
      }
    });
  }

  #id() {
    this.#serial += 1;
    return `answer-${this.#serial}`;
  }
}

/** JSON, on one line where that is short. @param {any} input */
function compact(input) {
  const line = JSON.stringify(input);
  return line.length <= 160 ? line : JSON.stringify(input, null, 2);
}

/** @param {string} words @param {string} css */
function button(words, css) {
  return element("button", { type: "button", class: css }, words);
}

/** @param {string} words @param {HTMLElement} control */
function label(words, control) {
  return element("label", { class: "unseen", for: control.id }, words);
}

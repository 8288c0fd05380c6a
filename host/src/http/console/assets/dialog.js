// What is asked before something is done that cannot be undone, and what is said after it.

/**
 * An element with its attributes and children. Text is text: nothing of it is read as markup.
 *
 * @param {string} name
 * @param {Record<string, string>} [attributes]
 * @param {...(Node|string)} children
 * @returns {HTMLElement}
 */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  made.append(...children);
  return made;
}

/**
 * @typedef {object} Question
 * @property {string} title
 * @property {string} [text] what follows from it
 * @property {string} action the word on the button
 * @property {boolean} [danger]
 * @property {Node} [more] what else is to be seen
 * @property {boolean} [only] true when there is nothing to decide
 * @property {boolean} [kept] true when it is closed by its buttons alone, and not by a hasty Escape
 */

let dialogs = 0;

/**
 * Asks, and waits for the answer. The focus goes back to where it was.
 *
 * @param {Question} question
 * @returns {Promise<boolean>} true when the answer is yes
 */
export function ask({ title, text, action, danger = false, more, only = false, kept = false }) {
  const id = `dialog-${++dialogs}`;
  const form = element("form", { method: "dialog" }, element("h2", { id }, title));
  const dialog = /** @type {HTMLDialogElement} */ (element("dialog", { "aria-labelledby": id }, form));
  if (text) {
    form.append(element("p", { id: `${id}-text` }, text));
    dialog.setAttribute("aria-describedby", `${id}-text`);
  }
  if (kept) {
    dialog.setAttribute("closedby", "none");
    // For browsers that do not know the attribute.
    dialog.addEventListener("keydown", (event) => event.key === "Escape" && event.preventDefault());
  }
  if (more) form.append(more);
  const no = element("button", { value: "no" }, "Cancel");
  const yes = element("button", { value: "yes", class: danger ? "danger solid" : "primary" }, action);
  form.append(element("div", { class: "actions end" }, ...(only ? [yes] : [no, yes])));
  document.body.append(dialog);
  return new Promise((answer) => {
    dialog.addEventListener("close", () => {
      answer(dialog.returnValue === "yes");
      dialog.remove();
    });
    dialog.showModal();
    // What cannot be undone is not done by a hasty Enter.
    (danger ? no : yes).focus();
  });
}

/** For how long something good stays on the screen. What went wrong stays until it is closed. */
const STAY_MS = 6000;
const LATER = "lap.notice";

/**
 * Says something in the corner, aloud for screen readers.
 *
 * @param {string} text
 * @param {"good"|"bad"} [tone]
 */
export function say(text, tone = "good") {
  const place = document.getElementById("notices");
  if (!place) return;
  const close = element("button", { type: "button", class: "close", "aria-label": "Dismiss" }, "×");
  const notice = element("div", { class: `notice ${tone}` }, element("p", {}, text), close);
  close.addEventListener("click", () => notice.remove());
  if (tone === "good") setTimeout(() => notice.remove(), STAY_MS);
  place.append(notice);
}

/**
 * Says it on the page that comes next.
 *
 * @param {string} text
 * @param {string} path of that page
 */
export function sayAt(text, path) {
  sessionStorage.setItem(LATER, text);
  location.assign(path);
}

const waiting = sessionStorage.getItem(LATER);
if (waiting) {
  sessionStorage.removeItem(LATER);
  say(waiting);
}

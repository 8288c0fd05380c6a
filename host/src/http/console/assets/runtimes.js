// Adds a runtime or another version of one: the files go to the host, which says what they may do; they are added once
// somebody has looked at that and agreed.

import { ApiError, call } from "./api.js";
import { ask, element, sayAt } from "./dialog.js";
import { FieldError, onSubmit } from "./form.js";

/**
 * @typedef {object} Change what a version may do that was otherwise before, or is otherwise then
 * @property {string} what
 * @property {string} [was]
 * @property {string} [becomes]
 */

/**
 * @param {Blob} file
 * @returns {Promise<string>} as the host names components
 */
async function digestOf(file) {
  if (!crypto.subtle) {
    const message = "Over plain HTTP a browser computes no digests. Open the console by HTTPS or on the host itself, or use lap runtime add.";
    throw new FieldError("component", message);
  }
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", await file.arrayBuffer()));
  return `sha256:${Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

/**
 * @param {Change[]} changes
 * @param {boolean} isNew
 * @returns {HTMLElement}
 */
function table(changes, isNew) {
  const cell = (/** @type {string|undefined} */ text) => element("td", {}, text === undefined ? "–" : element("code", {}, text));
  const rows = changes.map(({ what, was, becomes }) =>
    element("tr", {}, element("th", { scope: "row" }, what), ...(isNew ? [] : [cell(was)]), cell(becomes)),
  );
  const heads = isNew ? ["What", "Granted"] : ["What", "Was", "Becomes"];
  const head = element("tr", {}, ...heads.map((text) => element("th", { scope: "col" }, text)));
  const caption = element("caption", { class: "unseen" }, "What is to be granted");
  return element("div", { class: "scroll" },
    element("table", { class: "changes" }, caption, element("thead", {}, head), element("tbody", {}, ...rows)));
}

/**
 * Adds it, asking for the grant as often as what is to be granted changes.
 *
 * @param {{component: string, manifest: string, grant?: string}} version
 * @param {(text: string) => void} tell
 * @returns {Promise<any>} the runtime; null when somebody does not agree
 */
async function add(version, tell) {
  try {
    tell(version.grant ? "Compiling it, and asking it who it is…" : "Reading its manifest…");
    return await call("POST", "/api/agent-runtimes", { body: version });
  } catch (error) {
    if (!(error instanceof ApiError) || error.code !== "grant_required") throw error;
    const { runtime, replaces, grant, changes } = error.details;
    tell("");
    const title = replaces ? `Upgrade ${runtime}?` : `Add ${runtime}?`;
    const text = replaces
      ? "New sessions get this version; those that run stay on theirs. This is what changes:"
      : "This is what it will be allowed to do:";
    const agreed = await ask({ title, text, action: "Grant and add", more: table(changes, !replaces) });
    return agreed ? add({ ...version, grant }, tell) : null;
  }
}

/** @param {ParentNode} root */
function bind(root) {
  const form = root.querySelector("#add");
  if (!(form instanceof HTMLFormElement)) return;
  const tell = (/** @type {string} */ text) => {
    const place = document.getElementById("add-told");
    if (place) place.textContent = text;
  };
  onSubmit(form, async () => {
    const files = new FormData(form);
    const [component, manifest] = [files.get("component"), files.get("manifest")];
    if (!(component instanceof File && manifest instanceof File)) return;
    try {
      tell("Computing its digest…");
      const digest = await digestOf(component);
      tell("Sending it to the host…");
      await call("PUT", `/api/components/${digest}`, { body: component });
      const runtime = await add({ component: digest, manifest: await manifest.text() }, tell);
      if (runtime) sayAt(`${runtime.name} is added.`, `/console/runtimes/${runtime.id}`);
    } finally {
      tell("");
    }
  });
}

document.addEventListener("fresh", ({ target }) => target instanceof Element && bind(target));
bind(document);

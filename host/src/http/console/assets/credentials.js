// Stores a credential and asks the vendor at once whether it works: a key that was only stored says nothing.

import { call } from "./api.js";
import { say } from "./dialog.js";
import { onSubmit } from "./form.js";
import { refresh } from "./view.js";

/**
 * @typedef {object} Probe what an upstream says of a credential
 * @property {boolean|null} ok null where the runtime has no way to find out
 * @property {string} [message]
 * @property {number} [models]
 */

/**
 * @param {string} runtime
 * @param {{api_key: string, api_base?: string}} credential
 * @returns {Promise<Probe>}
 */
export async function save(runtime, credential) {
  const path = `/api/agent-runtimes/${encodeURIComponent(runtime)}/credentials`;
  await call("PUT", path, { body: credential });
  const { probe } = await call("POST", `${path}/probe`);
  return probe;
}

/**
 * Says in words what a probe has shown.
 *
 * @param {string} name of the runtime
 * @param {Probe} probe
 */
export function tell(name, probe) {
  if (probe.ok) say(`${name}: the credential is stored and works.`);
  else if (probe.ok === null) say(`${name}: the credential is stored. The first session will tell whether it works.`);
  else say(`${name}: the credential is stored, but does not work: ${probe.message ?? "the vendor did not say why"}`, "bad");
}

/** @param {ParentNode} root */
function bind(root) {
  for (const form of root.querySelectorAll("form[data-credential]")) {
    if (!(form instanceof HTMLFormElement)) continue;
    const { credential = "", card = "", name = "" } = form.dataset;
    onSubmit(form, async ({ api_key, api_base }) => {
      const probe = await save(credential, { api_key, api_base });
      await refresh(card);
      tell(name, probe);
    });
  }
}

document.addEventListener("fresh", ({ target }) => target instanceof Element && bind(target));
bind(document);

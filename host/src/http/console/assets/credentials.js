// Stores a credential, of a runtime or of a new alias, and asks the vendor at once whether it works: a key that was only
// stored says nothing.

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
  await call("PUT", `/api/agent-runtimes/${encodeURIComponent(runtime)}/credentials`, { body: credential });
  return probed(runtime);
}

/**
 * @param {string} runtime
 * @returns {Promise<Probe>}
 */
async function probed(runtime) {
  const { probe } = await call("POST", `/api/agent-runtimes/${encodeURIComponent(runtime)}/credentials/probe`);
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

const addition = document.getElementById("alias-form");
if (addition instanceof HTMLFormElement) {
  onSubmit(addition, async ({ alias, api_spec, api_base, api_key }) => {
    await call("POST", "/api/runtime-harnesses", { body: { alias, api_spec, api_base, api_key } });
    // It is there, whatever the probe says.
    addition.reset();
    await refresh("cards");
    const probe = await probed(alias);
    await refresh(`credential-${alias}`);
    tell(alias, probe);
  });
}

document.addEventListener("fresh", ({ target }) => target instanceof Element && bind(target));
bind(document);

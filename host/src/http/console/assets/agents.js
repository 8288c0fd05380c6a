// Makes and changes an agent, lists the models of its runtime, and starts sessions.

import { call, reason } from "./api.js";
import { sayAt } from "./dialog.js";
import { FieldError, onSubmit } from "./form.js";

/**
 * What a field of JSON says.
 *
 * @param {string} field its name
 * @param {string} text
 * @param {(value: any) => boolean} fits
 * @param {string} otherwise what to say when it does not
 * @returns {any} null for the empty text
 */
function parsed(field, text, fits, otherwise) {
  if (text.trim() === "") return null;
  let value;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new FieldError(field, `This is not JSON: ${reason(error)}`);
  }
  if (!fits(value)) throw new FieldError(field, otherwise);
  return value;
}

/**
 * @param {Record<string, string>} values of the form
 * @returns {object} the agent as the API takes it
 */
function wishes(values) {
  const isObject = (/** @type {any} */ value) => typeof value === "object" && value !== null && !Array.isArray(value);
  return {
    name: values.name,
    owner_id: values.owner_id,
    runtime: values.runtime,
    model: values.model,
    system: values.system,
    description: values.description || null,
    tools: parsed("tools", values.tools, Array.isArray, "This must be a list: [ … ]"),
    // The model has a field of its own, which is what counts.
    config: parsed("config", values.config, isObject, "This must be an object: { … }") ?? {},
  };
}

/** @param {string} runtime whose models shall be offered */
async function offerModels(runtime) {
  const list = document.getElementById("models");
  const told = document.getElementById("models-told");
  if (!list || !told) return;
  list.replaceChildren();
  told.textContent = "";
  if (!runtime) return;
  told.textContent = "Asking the vendor for its models…";
  let text;
  try {
    const { data } = await call("GET", `/v1/models?runtime=${encodeURIComponent(runtime)}`);
    for (const { id } of data) list.append(Object.assign(document.createElement("option"), { value: id }));
    text = data.length === 1 ? "The vendor offers 1 model." : `The vendor offers ${data.length} models.`;
  } catch (error) {
    text = `The models cannot be listed: ${reason(error)} You can type the name of one.`;
  }
  const still = document.querySelector("#agent-form [name=runtime]");
  if (still instanceof HTMLSelectElement && still.value === runtime) told.textContent = text;
}

/** @param {ParentNode} root */
function bind(root) {
  const form = root.querySelector("#agent-form");
  if (form instanceof HTMLFormElement) {
    const id = form.dataset.agent;
    onSubmit(form, async (values) => {
      const agent = await call(id ? "PATCH" : "POST", id ? `/api/agents/${id}` : "/api/agents", { body: wishes(values) });
      sayAt(id ? "The agent is saved." : "The agent is made.", `/console/agents/${agent.id}`);
    });
    const runtime = form.querySelector("[name=runtime]");
    if (runtime instanceof HTMLSelectElement) {
      runtime.addEventListener("change", () => offerModels(runtime.value));
      offerModels(runtime.value);
    }
  }
  const start = root.querySelector("#start");
  if (start instanceof HTMLFormElement) {
    onSubmit(start, async ({ runtime, prompt }) => {
      const wish = { agent_id: start.dataset.agent, runtime, prompt: prompt.trim() || undefined };
      const session = await call("POST", "/session", { body: wish });
      location.assign(`/console/sessions/${session.id}`);
    });
  }
}

document.addEventListener("fresh", ({ target }) => target instanceof Element && bind(target));
bind(document);

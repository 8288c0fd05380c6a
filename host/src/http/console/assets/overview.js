// The first step on a new host: the simulated vendor, with a key that is nobody's.

import { call, randomKey } from "./api.js";
import { save, tell } from "./credentials.js";
import { onSubmit } from "./form.js";
import { refresh } from "./view.js";

const form = document.getElementById("simulated");
if (form instanceof HTMLFormElement) {
  onSubmit(form, async () => {
    const { runtime = "", base = "" } = form.dataset;
    const probe = await save(runtime, { api_key: `sk-simulated-${randomKey()}`, api_base: base });
    if (probe.ok === false) {
      // A made-up key that does not work would hide these steps, and help nobody.
      await call("DELETE", `/api/agent-runtimes/${encodeURIComponent(runtime)}/credentials`);
      throw new Error(`${probe.message ?? "It does not answer."} Does lap simulate run?`);
    }
    await refresh("content");
    tell("The simulated vendor", probe);
  });
}

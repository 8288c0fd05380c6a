// Mints a key and shows it, once: it is on this screen and nowhere else.

import { call } from "./api.js";
import { ask, element, say } from "./dialog.js";
import { onSubmit } from "./form.js";
import { refresh } from "./view.js";

const DAY_S = 86_400;

/**
 * The key, with a button that copies it.
 *
 * @param {string} key
 * @returns {HTMLElement}
 */
function secret(key) {
  const text = element("code", { tabindex: "0" }, key);
  const copy = element("button", { type: "button", class: "small" }, "Copy");
  copy.addEventListener("click", async () => {
    try {
      // Not there on plain HTTP, except on this machine.
      await navigator.clipboard.writeText(key);
      copy.textContent = "Copied";
    } catch {
      getSelection()?.selectAllChildren(text);
      copy.textContent = "Selected: copy it";
    }
  });
  return element("div", { class: "secret" }, text, copy);
}

const form = document.getElementById("mint");
if (form instanceof HTMLFormElement) {
  onSubmit(form, async ({ label, role, owner_id, expires_at }) => {
    const days = Number(expires_at);
    const wish = {
      label: label || undefined,
      role,
      owner_id: owner_id || undefined,
      expires_at: days ? Math.floor(Date.now() / 1000) + days * DAY_S : undefined,
    };
    const { key } = await call("POST", "/api/keys", { body: wish });
    form.reset();
    await refresh("keys");
    const text = "Copy it now: the host keeps only a digest of it, and cannot show it again.";
    await ask({ title: "The new key", text, action: "I have copied it", more: secret(key), only: true, kept: true });
    say("The key is minted.");
  });
}

// The keyboard's way around. Keys without Ctrl or Alt do nothing where somebody writes, and can be switched off.

const OFF = "lap.keys-off";

/**
 * @typedef {Record<string, (event: KeyboardEvent) => boolean | void>} Keys By `event.key`; false leaves the key to the browser.
 */

/** @param {Keys} keys @param {HTMLDialogElement} help */
export function listen(keys, help) {
  const off = /** @type {HTMLInputElement} */ (help.querySelector("input"));
  off.checked = localStorage.getItem(OFF) === null;
  off.addEventListener("change", () => {
    if (off.checked) localStorage.removeItem(OFF);
    else localStorage.setItem(OFF, "1");
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing || document.querySelector("dialog[open]")) return;
    const target = event.target instanceof Element ? event.target : document.body;
    const writes = target.closest("input:not([type=checkbox]), textarea, select, [contenteditable]");
    const single = event.key.length === 1;
    if (event.key === "Escape" ? !writes : writes) return;
    if (single && !off.checked) return;
    const act = keys[event.key];
    if (act && act(event) !== false) event.preventDefault();
  });
}

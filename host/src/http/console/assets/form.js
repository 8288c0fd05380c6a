// Forms that are sent through the API, with what is wrong shown at the field that it is about.

import { ApiError, reason } from "./api.js";

/** @typedef {HTMLInputElement|HTMLSelectElement|HTMLTextAreaElement} Field */

/** Something that is wrong with one field. */
export class FieldError extends Error {
  /**
   * @param {string} field its name
   * @param {string} message
   */
  constructor(field, message) {
    super(message);
    this.field = field;
  }
}

/**
 * Sends a form with `send` when it is submitted. Whatever that throws is shown in the form.
 *
 * @param {HTMLFormElement} form
 * @param {(values: Record<string, string>, form: HTMLFormElement) => Promise<void>} send
 */
export function onSubmit(form, send) {
  form.noValidate = true;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    clear(form);
    if (!valid(form)) return;
    const button = event.submitter instanceof HTMLButtonElement ? event.submitter : null;
    if (button?.getAttribute("aria-busy") === "true") return;
    button?.setAttribute("aria-busy", "true");
    try {
      await send(valuesOf(form), form);
    } catch (error) {
      fail(form, error);
    } finally {
      button?.removeAttribute("aria-busy");
    }
  });
}

/**
 * @param {HTMLFormElement} form
 * @returns {Record<string, string>} by the fields' names; what is a file is missing
 */
export function valuesOf(form) {
  /** @type {Record<string, string>} */
  const values = {};
  for (const [name, value] of new FormData(form)) if (typeof value === "string") values[name] = value;
  return values;
}

/**
 * @param {HTMLFormElement} form
 * @returns {Field[]}
 */
function fieldsOf(form) {
  return /** @type {Field[]} */ (Array.from(form.querySelectorAll("input[name], select[name], textarea[name]")));
}

/** @param {HTMLFormElement} form */
function clear(form) {
  form.querySelector(":scope > .problem")?.remove();
  for (const field of fieldsOf(form)) mark(field, "");
}

/**
 * @param {HTMLFormElement} form
 * @returns {boolean}
 */
function valid(form) {
  const wrong = fieldsOf(form).filter((field) => !field.checkValidity());
  for (const field of wrong) mark(field, field.validationMessage);
  wrong[0]?.focus();
  return wrong.length === 0;
}

/**
 * Shows what is wrong with a field, beneath it; the empty text for nothing.
 *
 * @param {Field} field
 * @param {string} message
 */
function mark(field, message) {
  const place = document.getElementById(`${field.id}-error`);
  if (place) {
    place.textContent = message;
    place.hidden = message === "";
  }
  if (message) field.setAttribute("aria-invalid", "true");
  else field.removeAttribute("aria-invalid");
}

/**
 * Shows what went wrong: at its field where it names one, otherwise on top of the form.
 *
 * @param {HTMLFormElement} form
 * @param {unknown} error
 */
export function fail(form, error) {
  // The API names the field first.
  const named = error instanceof ApiError && /^([a-z_]+)(?=: | is | must )/.exec(error.message)?.[1];
  const name = error instanceof FieldError ? error.field : named;
  const field = name ? fieldsOf(form).find((field) => field.name === name) : undefined;
  if (field) {
    mark(field, reason(error));
    field.focus();
    return;
  }
  const problem = document.createElement("p");
  problem.className = "problem";
  problem.role = "alert";
  problem.textContent = reason(error);
  form.prepend(problem);
}

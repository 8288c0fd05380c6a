// The public API, as every script of the console asks it. The browser sends its pass along by itself.

/** What the API says when it does not do what it was asked for. */
export class ApiError extends Error {
  /**
   * @param {number} status 0 when there was no answer
   * @param {string} code stable, for programs
   * @param {string} message for people
   * @param {any} details what programs need beyond that
   */
  constructor(status, code, message, details) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.code = code;
    this.details = details;
  }
}

/**
 * @typedef {object} Wish
 * @property {any} [body] sent as JSON; a Blob as it is
 * @property {string} [key] the idempotency key of a POST; one of its own by default
 * @property {AbortSignal} [signal]
 */

/**
 * Asks the API.
 *
 * @param {string} method
 * @param {string} path with its query
 * @param {Wish} [wish]
 * @returns {Promise<any>} the JSON of the answer; null where it has none
 * @throws {ApiError} when it refuses, or there is no answer
 */
export async function call(method, path, wish = {}) {
  const response = await respond(method, path, wish);
  if (response.status === 204) return null;
  return response.json();
}

/**
 * The same for who needs the headers of the answer, too.
 *
 * @param {string} method
 * @param {string} path
 * @param {Wish} [wish]
 * @returns {Promise<Response>} a success
 */
export async function respond(method, path, { body, key, signal } = {}) {
  const headers = new Headers({ accept: "application/json" });
  const raw = body instanceof Blob;
  if (body !== undefined && !raw) headers.set("content-type", "application/json");
  // Whatever is made is made once, also when the request has to be sent again.
  if (method === "POST") headers.set("idempotency-key", key ?? randomKey());
  /** @type {RequestInit} */
  const request = { method, headers, signal, body: body === undefined || raw ? body : JSON.stringify(body) };
  const response = await fetch(path, request).catch((error) => {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError(0, "unreachable", "The host does not answer. Check the connection and try again.", null);
  });
  if (!response.ok) throw await refusal(response);
  return response;
}

/**
 * @param {Response} response
 * @returns {Promise<ApiError>}
 */
async function refusal(response) {
  const body = await response.json().catch(() => null);
  const error = body?.error ?? {};
  if (response.status === 401) {
    const here = location.pathname + location.search + location.hash;
    location.assign(`/console/sign-in?next=${encodeURIComponent(here)}`);
  }
  // The words before the colon are for clients of the platform that look for them.
  const message = String(error.message ?? response.statusText).replace(/^invalid request json: /, "");
  return new ApiError(response.status, error.code ?? "unknown", message, error.details);
}

/** @returns {string} 128 random bits; also where `randomUUID` is missing, which is on plain HTTP. */
export function randomKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * What to tell somebody of a failure.
 *
 * @param {unknown} error
 * @returns {string}
 */
export function reason(error) {
  return error instanceof Error ? error.message : String(error);
}

// What the API tells of a session, as each page that shows one says it.

/**
 * @typedef {object} Tokens
 * @property {number} [input_tokens]
 * @property {number} [output_tokens]
 * @property {number} [cache_creation_input_tokens]
 * @property {number} [cache_read_input_tokens]
 */

/**
 * The sum that counts: the runtime's own beats the host's.
 *
 * @param {any} usage
 * @returns {Tokens | undefined} nothing where nobody tells
 */
export function tokensOf(usage) {
  return [usage?.reported, usage].find((sum) => typeof sum?.input_tokens === "number");
}

/** What was read, from a cache or not. @param {Tokens} tokens */
export function read(tokens) {
  return (tokens.input_tokens ?? 0) + (tokens.cache_creation_input_tokens ?? 0) + (tokens.cache_read_input_tokens ?? 0);
}

/**
 * Where a session stands, as the host shows it.
 *
 * @param {string} status
 * @returns {Node}
 */
export function badge(status) {
  const model = document.querySelector(`template[data-status="${CSS.escape(status)}"]`);
  return model instanceof HTMLTemplateElement ? model.content.cloneNode(true) : document.createTextNode(status);
}

// Server-sent events out of bytes as they come. EventSource will not do here: it shows only events whose types were named
// before, and tells neither a refusal's status nor that the other side still breathes.

/** @typedef {{id: string, event: string, data: string}} Frame */

export class SseParser {
  #rest = "";
  #decoder = new TextDecoder();
  /** @type {Frame & {said: boolean}} */
  #frame = { id: "", event: "", data: "", said: false };
  /** The time after which the other side wants to be asked again, in milliseconds. @type {number | null} */
  retryMs = null;

  /** @param {Uint8Array} bytes @returns {Frame[]} What is complete with them. */
  push(bytes) {
    const lines = (this.#rest + this.#decoder.decode(bytes, { stream: true })).split("\n");
    this.#rest = lines.pop() ?? "";
    const frames = [];
    for (const line of lines) {
      const frame = this.#line(line.endsWith("\r") ? line.slice(0, -1) : line);
      if (frame) frames.push(frame);
    }
    return frames;
  }

  /** @param {string} line @returns {Frame | null} */
  #line(line) {
    if (line === "") {
      const { said, ...frame } = this.#frame;
      this.#frame = { id: frame.id, event: "", data: "", said: false };
      return said ? frame : null;
    }
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (name === "data") {
      this.#frame.data += this.#frame.said ? `\n${value}` : value;
      this.#frame.said = true;
    } else if (name === "event" || name === "id") {
      this.#frame[name] = value;
    } else if (name === "retry" && /^\d+$/.test(value)) {
      this.retryMs = Number(value);
    }
    return null;
  }
}

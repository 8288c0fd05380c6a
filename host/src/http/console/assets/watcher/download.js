// The whole log as a file: a line for each event, as the host has it, to the last byte.

import { SseParser } from "./sse.js";

/**
 * The events up to one, over as many streams as it takes.
 * @param {string} events The address of the session's events. @param {number} last
 * @param {(seq: number) => void} progress @returns {Promise<string[]>}
 */
export async function lines(events, last, progress) {
  /** @type {string[]} */
  const found = [];
  for (let tries = 0; found.length < last; tries += 1) {
    const before = found.length;
    await more(events, last, found).catch((error) => {
      if (found.length === before && tries > 3) throw error;
    });
    if (found.length > before) tries = 0;
    progress(found.length);
  }
  return found;
}

/** @param {string} events @param {number} last @param {string[]} found */
async function more(events, last, found) {
  const ends = new AbortController();
  const answer = await fetch(`${events}/stream?after=${found.length}`, { signal: ends.signal });
  if (!answer.ok || !answer.body) throw new Error(`the host answered ${answer.status}`);
  const parser = new SseParser();
  const reader = answer.body.getReader();
  for (let piece = await reader.read(); !piece.done && found.length < last; piece = await reader.read()) {
    for (const { id, data } of parser.push(piece.value)) {
      if (Number(id) === found.length + 1 && found.length < last) found.push(data);
    }
    if (found.length >= last) break;
  }
  ends.abort();
}

/** Gives the browser a file. @param {string} name @param {BlobPart[]} parts @param {string} type */
export function save(name, parts, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(parts, { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

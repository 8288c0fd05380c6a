// What an event says, and numbers, in words for people. Pure.

/** @import { Event } from "./log.js" */
/** @import { Tokens } from "../session.js" */
import { read } from "../session.js";

/** @param {any} block @returns {string} */
function blockText(block) {
  if (typeof block === "string") return block;
  switch (block?.type) {
    case "text":
      return String(block.text ?? "");
    case "search_result":
      return `${block.title ?? block.source ?? "search result"}\n${textOf(block.content)}`;
    case "image":
    case "document":
      return `[${block.type}${block.title ? `: ${block.title}` : ""}]`;
    case "redacted":
      return "[redacted]";
    default:
      return JSON.stringify(block);
  }
}

/** The text of a message's or a tool's content. @param {any} content @returns {string} */
export function textOf(content) {
  if (content === undefined || content === null) return "";
  return Array.isArray(content) ? content.map(blockText).join("\n") : blockText(content);
}

/** Of a fence that nobody closes all is code. */
const FENCE = /^[ \t]*```[^\n]*\n([\s\S]*?)(?:\n?^[ \t]*```[ \t]*$|(?![\s\S]))/gm;
const INLINE = /`([^`\n]+)`|\*\*([^*\n]+)\*\*|^#{1,4}[ \t]+([^\n]+)$/gm;

/** A text cut at what a pattern finds. @param {string} text @param {RegExp} pattern @returns {[string, RegExpMatchArray | null][]} */
function pieces(text, pattern) {
  /** @type {[string, RegExpMatchArray | null][]} */
  const found = [];
  let at = 0;
  for (const match of text.matchAll(pattern)) {
    if (match.index > at) found.push([text.slice(at, match.index), null]);
    found.push([match[0], match]);
    at = match.index + match[0].length;
  }
  if (at < text.length) found.push([text.slice(at), null]);
  return found;
}

/** The code and the text of what an agent writes. @param {string} text @returns {["code" | "text", string][]} */
export function blocks(text) {
  return pieces(text, FENCE)
    .map(([piece, match]) => /** @type {["code" | "text", string]} */ (match ? ["code", match[1]] : ["text", piece.replace(/^\n+|\s+$/g, "")]))
    .filter(([, piece]) => piece.trim() !== "");
}

/** Code and emphasis in a text. @param {string} text @returns {["code" | "strong" | "text", string][]} */
export function spans(text) {
  return pieces(text, INLINE).map(([piece, match]) => (!match ? ["text", piece] : match[1] !== undefined ? ["code", match[1]] : ["strong", match[2] ?? match[3]]));
}

/** A tool's input on one line: its only string as it is, otherwise JSON. @param {any} input */
export function inputLine(input) {
  const values = input && typeof input === "object" ? Object.values(input) : [];
  return values.length === 1 && typeof values[0] === "string" ? oneLine(values[0]) : oneLine(JSON.stringify(input ?? {}));
}

/** @param {string} text @param {number} [most] */
export function oneLine(text, most = 240) {
  const line = text.slice(0, most * 2).replace(/\s+/g, " ").trim();
  return line.length > most ? `${line.slice(0, most - 1)}…` : line;
}

/** Why a client's event will not be sent; null for one that was or may yet be. @param {Event} event @returns {string | null} */
export function withdrawn({ withdrawn: told }) {
  if (told === undefined || told === null || told === false) return null;
  return typeof told.reason === "string" ? told.reason : "nobody says why";
}

/** What an event says, on one line. @param {Event} event */
export function summary(event) {
  const said = textOf(event.content);
  const why = withdrawn(event);
  if (why !== null) return oneLine(`withdrawn: ${why} · ${said}`);
  if (said) return oneLine(said);
  if (event.name) return `${event.name} ${inputLine(event.input)}`;
  if (event.error) return oneLine(`${event.error.type ?? "error"}: ${event.error.message ?? ""}`);
  if (event.stop_reason) return stopWords(event.stop_reason);
  if (event.model_usage) return tokenWords(event.model_usage);
  if (event.result) return oneLine([event.result, event.deny_message ?? event.explanation].filter(Boolean).join(": "));
  const { type: _type, id: _id, processed_at: _at, ...rest } = event;
  return Object.keys(rest).length > 0 ? oneLine(JSON.stringify(rest)) : "";
}

/** @param {{type?: string, event_ids?: string[]}} reason */
export function stopWords(reason) {
  const words = String(reason.type ?? "unknown").replaceAll("_", " ");
  return reason.event_ids ? `${words}: ${reason.event_ids.length} open` : words;
}

/** @param {Tokens} tokens */
export function tokenWords(tokens) {
  const cached = tokens.cache_read_input_tokens ?? 0;
  const share = cached > 0 ? ` (${count(cached)} cached)` : "";
  return `${count(read(tokens))} in${share} / ${count(tokens.output_tokens ?? 0)} out`;
}

const NUMBERS = new Intl.NumberFormat("en");

/** @param {number} number */
export function count(number) {
  return NUMBERS.format(number);
}

/** @param {number} ms */
export function duration(ms) {
  if (!Number.isFinite(ms)) return "n/a";
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(ms < 10_000 && ms % 1000 ? 1 : 0)} s`;
  const seconds = Math.round(ms / 1000);
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  return hours > 0 ? `${hours} h ${minutes} min` : `${minutes} min ${seconds % 60} s`;
}

/** @param {number} number @param {number} [digits] */
const padded = (number, digits = 2) => String(number).padStart(digits, "0");

/** A time of day, here. @param {number | null} at */
export function clockTime(at) {
  if (at === null) return "queued";
  const time = new Date(at);
  const day = [time.getHours(), time.getMinutes(), time.getSeconds()].map((part) => padded(part)).join(":");
  return `${day}.${padded(time.getMilliseconds(), 3)}`;
}

// What is known of a session's log: a run of events without a gap, which may grow at both ends. Knows no network and no page.

/**
 * @typedef {Record<string, any> & {type: string, id?: string}} Event
 * @typedef {{seq: number, type: string, at: number | null, event: Event, words?: string}} Entry
 */

/** @param {number} seq @param {Event} event @returns {Entry} */
export function entry(seq, event) {
  const at = typeof event.processed_at === "string" ? Date.parse(event.processed_at) : NaN;
  return { seq, type: String(event.type), at: Number.isNaN(at) ? null : at, event };
}

export class Log {
  /** @type {Entry[]} In the order of their numbers, which rise by one. */
  entries = [];
  /** The number of the event before the first. */
  base;

  /** @param {number} base */
  constructor(base) {
    this.base = base;
  }

  /** The number of the last event. */
  get last() {
    return this.base + this.entries.length;
  }

  /** @param {number} seq @returns {Entry | undefined} */
  at(seq) {
    return this.entries[seq - this.base - 1];
  }

  /**
   * Takes an event at the end. One that is there already is dropped, and one behind a gap is not taken.
   * @param {number} seq @param {Event} event @returns {"taken" | "known" | "gap"}
   */
  append(seq, event) {
    if (!Number.isSafeInteger(seq) || seq > this.last + 1) return "gap";
    if (seq <= this.last) return "known";
    this.entries.push(entry(seq, event));
    return "taken";
  }

  /**
   * Takes the events before the first, if they end where it begins.
   * @param {number} after The number of the event before them. @param {Event[]} events @returns {boolean}
   */
  prepend(after, events) {
    if (events.length === 0 || after + events.length !== this.base) return false;
    this.entries = events.map((event, place) => entry(after + 1 + place, event)).concat(this.entries);
    this.base = after;
    return true;
  }
}

/**
 * A filter: a kind of event, and words that its JSON must have, whatever their case.
 * @param {string} kind "" for all, "agent.*" for a family, or a type. @param {string} text
 * @returns {((entry: Entry) => boolean) | null} Null where it lets everything pass.
 */
export function filter(kind, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  if (!kind && words.length === 0) return null;
  const family = kind.endsWith("*") ? kind.slice(0, -1) : null;
  return (entry) => {
    if (family !== null ? !entry.type.startsWith(family) : kind && entry.type !== kind) return false;
    if (words.length === 0) return true;
    entry.words ??= JSON.stringify(entry.event).toLowerCase();
    return words.every((word) => entry.words?.includes(word));
  };
}

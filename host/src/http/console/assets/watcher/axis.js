// Where on the timeline a moment is. Pure.

/** @typedef {{start: number, end: number}} Range In milliseconds. */
/** @typedef {{place: (at: number) => number, cuts: {at: number, ms: number}[], ticks: {at: number, label: string}[]}} Axis Places are from 0 to 1. */

/** What a cut is wide, of the whole. */
const CUT = 0.012;
const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000, 600_000,
  1_800_000, 3_600_000, 10_800_000, 43_200_000, 86_400_000];

/**
 * The times in which something ran, with those of nothing left out.
 * @param {Range[]} ranges By their starts. @returns {Range[]}
 */
export function busy(ranges) {
  /** @type {Range[]} */
  const parts = [];
  for (const { start, end } of ranges) {
    const last = parts.at(-1);
    if (last && start <= last.end) last.end = Math.max(last.end, end);
    else parts.push({ start, end: Math.max(start, end) });
  }
  return parts;
}

/**
 * What is left of ranges without others. @param {Range[]} ranges By their starts, apart. @param {Range[]} holes The same. @returns {Range[]}
 */
export function without(ranges, holes) {
  const left = [];
  for (let { start, end } of ranges) {
    for (const hole of holes) {
      if (hole.end <= start || hole.start >= end) continue;
      if (hole.start > start) left.push({ start, end: hole.start });
      start = hole.end;
    }
    if (start <= end) left.push({ start, end });
  }
  return left;
}

/**
 * An axis over ranges. Where `cut`, times in which nothing ran shrink to a mark if they are long beside the rest.
 * @param {Range[]} ranges By their starts. @param {boolean} cut @returns {Axis}
 */
export function axis(ranges, cut) {
  const parts = busy(ranges);
  if (parts.length === 0) return { place: () => 0, cuts: [], ticks: [] };
  const work = parts.reduce((sum, part) => sum + part.end - part.start, 0);
  const long = cut ? Math.max(work * 0.1, 1000) : Infinity;
  /** @type {Range[]} What is drawn to scale. */
  const drawn = [];
  /** @type {{at: number, ms: number}[]} */
  const gaps = [];
  for (const part of parts) {
    const last = drawn.at(-1);
    if (last && part.start - last.end > long) gaps.push({ at: drawn.length, ms: part.start - last.end });
    if (last && part.start - last.end <= long) last.end = part.end;
    else drawn.push({ ...part });
  }
  const width = Math.min(CUT, 0.4 / Math.max(1, gaps.length));
  const whole = Math.max(1, drawn.reduce((sum, part) => sum + part.end - part.start, 0));
  const scale = (1 - width * gaps.length) / whole;
  const starts = [];
  let at = 0;
  for (const part of drawn) {
    starts.push(at);
    at += (part.end - part.start) * scale + width;
  }
  /** @param {number} time */
  const place = (time) => {
    let low = 0;
    let high = drawn.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (drawn[middle].start <= time) low = middle;
      else high = middle - 1;
    }
    const part = drawn[low];
    return starts[low] + Math.min(Math.max(time - part.start, 0), part.end - part.start) * scale;
  };
  const cuts = gaps.map((gap) => ({ at: starts[gap.at] - width / 2, ms: gap.ms }));
  return { place, cuts, ticks: ticks(drawn, starts, whole, scale) };
}

/** @param {Range[]} drawn @param {number[]} starts @param {number} whole @param {number} scale */
function ticks(drawn, starts, whole, scale) {
  const step = STEPS.find((step) => whole / step <= 8) ?? Math.ceil(whole / 8);
  const marks = [];
  let before = 0;
  let next = 0;
  for (const [place, part] of drawn.entries()) {
    const length = part.end - part.start;
    for (; next <= before + length && marks.length < 12; next += step) {
      marks.push({ at: starts[place] + (next - before) * scale, label: tickLabel(next, step) });
    }
    before += length;
  }
  return marks;
}

/** @param {number} ms @param {number} step */
function tickLabel(ms, step) {
  if (ms === 0) return "0";
  if (step < 1000) return ms < 1000 ? `${ms} ms` : `${+(ms / 1000).toFixed(3)} s`;
  if (step < 60_000) return ms < 60_000 ? `${ms / 1000} s` : `${Math.floor(ms / 60_000)}:${String((ms / 1000) % 60).padStart(2, "0")}`;
  return step < 3_600_000 ? `${ms / 60_000} min` : `${+(ms / 3_600_000).toFixed(1)} h`;
}

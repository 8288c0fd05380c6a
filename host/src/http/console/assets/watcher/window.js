// A long list of which only what is near the viewport is in the document. Rows have the heights that they turn out to
// have; until then, an estimate. What somebody looks at stays where it is while rows come in front of it or grow.

/**
 * @typedef {{key: string, rev: number | string}} Row
 * @typedef {object} Painter
 * @property {(row: any, node: HTMLElement) => void} paint Fills the node, also again when the row has changed.
 * @property {(row: any) => number} estimate
 */

/** How far beyond the viewport rows are drawn, in pixels. */
const MARGIN = 600;
/** What of the end may be out of sight for somebody who is at the end. */
const NEAR = 8;
/** For how long a scroll may be what a hand has begun, in milliseconds. */
const HAND_MS = 600;
const HANDS = ["wheel", "touchmove", "pointerdown", "keydown", "focusin"];

export class Window {
  /** @type {Row[]} */ rows = [];
  /** True while the reader is at the end and stays there. */
  follows = true;
  /** The row that the keyboard is at. @type {string | null} */
  active = null;
  /** @type {Map<string, number>} */ #places = new Map();
  /** @type {Map<string, number>} */ #heights = new Map();
  /** The upper edge of each row, and the end. @type {number[]} */ #edges = [0];
  #stale = true;
  /** @type {Map<string, HTMLElement>} */ #nodes = new Map();
  /** @type {WeakMap<HTMLElement, Row>} */ #painted = new WeakMap();
  /** What is at the upper edge of the viewport. @type {{key: string, shift: number} | null} */ #anchor = null;
  #frame = 0;
  #top = 0;
  /** When somebody last did what may scroll. */
  #handAt = -HAND_MS;
  #seen = new ResizeObserver((changes) => this.#resized(changes));

  /**
   * @param {HTMLElement} scroller @param {HTMLElement} list @param {Painter} painter
   * @param {() => void} moved Called when the reader has scrolled.
   */
  constructor(scroller, list, painter, moved) {
    this.scroller = scroller;
    this.list = list;
    this.painter = painter;
    this.moved = moved;
    scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    for (const hand of HANDS) scroller.addEventListener(hand, () => (this.#handAt = performance.now()), { passive: true });
    this.#seen.observe(scroller);
  }

  /** @param {Row[]} rows */
  set(rows) {
    this.rows = rows;
    this.#places = new Map(rows.map((row, place) => [row.key, place]));
    this.#stale = true;
    this.request();
  }

  /** Draws with the next frame. */
  request() {
    this.#frame ||= requestAnimationFrame(() => this.draw());
  }

  draw() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    if (this.scroller.clientHeight === 0) return;
    // Heights that turn out otherwise move what is below; then there may be more or less to see.
    for (let round = 0; round < 4; round += 1) {
      this.#settle();
      if (!this.#reconcile()) break;
      this.#stale = true;
    }
    this.#settle();
    this.#positions();
    this.#remember();
  }

  /** Goes to a row and takes the keyboard there. @param {string} key @param {boolean} [focus] */
  show(key, focus = true) {
    const place = this.#places.get(key);
    if (place === undefined) return;
    this.active = key;
    this.follows = place === this.rows.length - 1 && this.follows;
    for (let round = 0; round < 3; round += 1) {
      const [start, end, view] = [this.#edges[place], this.#edges[place + 1], this.scroller.clientHeight];
      const top = this.scroller.scrollTop;
      if (end - start > view || start < top) this.#scrollTo(start);
      else if (end > top + view) this.#scrollTo(end - view);
      this.#remember();
      this.draw();
    }
    if (focus) this.#nodes.get(key)?.focus({ preventScroll: true });
    this.moved();
  }

  /** Moves the keyboard by rows. @param {number} by */
  step(by) {
    const from = this.active === null ? undefined : this.#places.get(this.active);
    const place = from === undefined ? this.#first() : Math.min(Math.max(from + by, 0), this.rows.length - 1);
    if (this.rows[place]) this.show(this.rows[place].key);
  }

  end() {
    this.follows = true;
    this.draw();
    this.moved();
  }

  /** @param {string} key */
  node(key) {
    return this.#nodes.get(key);
  }

  #scrolled() {
    const { scrollTop, clientHeight, scrollHeight } = this.scroller;
    const below = scrollHeight - scrollTop - clientHeight;
    const now = performance.now();
    const byHand = now - this.#handAt < HAND_MS;
    // Whatever grows and shrinks below the list within a frame moves it, too, by less than a page; then it goes back to the end.
    const up = this.#top - scrollTop > (byHand ? 1 : clientHeight);
    if (below < 1) this.follows = true;
    else if (up) this.follows = false;
    else if (below < NEAR) this.follows = true;
    // A hand that goes on, as at the scroll bar, may do nothing else that shows.
    if (byHand) this.#handAt = now;
    if (up || !this.follows) this.#top = scrollTop;
    this.#remember();
    this.request();
    this.moved();
  }

  /** @param {ResizeObserverEntry[]} changes */
  #resized(changes) {
    for (const { target } of changes) {
      const row = this.#painted.get(/** @type {HTMLElement} */ (target));
      if (row) this.#measure(row.key, /** @type {HTMLElement} */ (target));
    }
    this.request();
  }

  /** @param {string} key @param {HTMLElement} node @returns {boolean} True when it is of another height. */
  #measure(key, node) {
    const height = node.getBoundingClientRect().height;
    if (height === 0 || Math.abs((this.#heights.get(key) ?? -1) - height) < 0.5) return false;
    this.#heights.set(key, height);
    this.#stale = true;
    return true;
  }

  /** Brings the edges up to date and the reader to where they were. */
  #settle() {
    if (this.#stale) {
      this.#stale = false;
      const edges = new Array(this.rows.length + 1);
      edges[0] = 0;
      for (const [place, row] of this.rows.entries()) {
        edges[place + 1] = edges[place] + (this.#heights.get(row.key) ?? this.painter.estimate(row));
      }
      this.#edges = edges;
      this.list.style.height = `${edges[this.rows.length]}px`;
    }
    // Who sees everything is at the end.
    if (this.#edges[this.rows.length] <= this.scroller.clientHeight) this.follows = true;
    if (this.follows) return this.#scrollTo(this.scroller.scrollHeight);
    const place = this.#anchor && this.#places.get(this.#anchor.key);
    if (this.#anchor && typeof place === "number") this.#scrollTo(this.#edges[place] + this.#anchor.shift);
  }

  /** @param {number} top */
  #scrollTo(top) {
    if (Math.abs(this.scroller.scrollTop - top) >= 1) this.scroller.scrollTop = top;
    this.#top = this.scroller.scrollTop;
  }

  #remember() {
    const place = this.#first();
    const row = this.rows[place];
    this.#anchor = row ? { key: row.key, shift: this.scroller.scrollTop - this.#edges[place] } : null;
  }

  /** What is at the upper edge of the viewport. */
  get first() {
    return this.rows[this.#first()] ?? null;
  }

  /** The first row that is in sight. */
  #first() {
    return this.#find(this.scroller.scrollTop);
  }

  /** @param {number} y */
  #find(y) {
    let low = 0;
    let high = this.rows.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#edges[middle + 1] > y) high = middle;
      else low = middle + 1;
    }
    return Math.max(low, 0);
  }

  /** Puts into the document what is near the viewport, and nothing else. True when a height was not as thought. */
  #reconcile() {
    const { scrollTop, clientHeight } = this.scroller;
    const from = this.#find(scrollTop - MARGIN);
    const to = Math.min(this.#find(scrollTop + clientHeight + MARGIN), this.rows.length - 1);
    const wanted = this.rows.slice(from, to + 1);
    const focused = [...this.#nodes].find(([, node]) => node.contains(document.activeElement))?.[0];
    const kept = new Set(wanted.map((row) => row.key));
    // Where the keyboard is must not vanish under it.
    if (focused !== undefined && this.#places.has(focused)) kept.add(focused);
    for (const [key, node] of this.#nodes) if (!kept.has(key)) this.#drop(key, node);
    const places = [...kept].map((key) => /** @type {number} */ (this.#places.get(key))).sort((a, b) => a - b);
    let next = /** @type {ChildNode | null} */ (this.list.firstChild);
    for (const place of places) {
      const node = this.#node(this.rows[place], place);
      if (node === next) next = node.nextSibling;
      else this.list.insertBefore(node, next);
    }
    return places.filter((place) => this.#measure(this.rows[place].key, this.#nodes.get(this.rows[place].key) ?? this.list)).length > 0;
  }

  /** @param {Row} row @param {number} place */
  #node(row, place) {
    let node = this.#nodes.get(row.key);
    if (!node) {
      node = document.createElement("li");
      node.dataset.key = row.key;
      this.#nodes.set(row.key, node);
      this.#seen.observe(node);
    }
    const painted = this.#painted.get(node);
    if (painted?.rev !== row.rev) {
      const inside = node !== document.activeElement && node.contains(document.activeElement);
      this.painter.paint(row, node);
      this.#painted.set(node, { key: row.key, rev: row.rev });
      if (inside && !node.contains(document.activeElement)) node.focus({ preventScroll: true });
    }
    const tab = (this.active ?? this.rows.at(-1)?.key) === row.key ? 0 : -1;
    if (node.tabIndex !== tab || !node.hasAttribute("tabindex")) node.tabIndex = tab;
    node.setAttribute("aria-setsize", String(this.rows.length));
    node.setAttribute("aria-posinset", String(place + 1));
    return node;
  }

  #positions() {
    for (const [key, node] of this.#nodes) {
      const top = `${this.#edges[/** @type {number} */ (this.#places.get(key))]}px`;
      if (node.style.top !== top) node.style.top = top;
    }
  }

  /** @param {string} key @param {HTMLElement} node */
  #drop(key, node) {
    this.#seen.unobserve(node);
    this.#nodes.delete(key);
    node.remove();
  }
}

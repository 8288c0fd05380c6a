// How flows see a session's page.
import assert from 'node:assert/strict';
import { base, until } from './world.mjs';

export async function watch(page, id, query = '') {
  await page.goto(`${base}/console/sessions/${id}${query}`);
  await connection(page, 'live');
}

// Waits for the state of the page's own connection: live, waiting, signed-out, deleted.
export const connection = (page, state) => page.locator(`#connection[data-state="${state}"]`).waitFor();

// Waits until the page says where the session stands.
export const status = (page, words) => page.locator('#status', { hasText: new RegExp(`^${words}$`) }).waitFor();

// The number of the last event that the page has.
export async function head(page) {
  const words = await page.locator('#connection').innerText();
  return Number(/seq ([\d,]+)/.exec(words)?.[1].replaceAll(',', '') ?? 0);
}

export async function view(page, name) {
  await page.getByRole('tab', { name }).click();
  await page.getByRole('tabpanel', { name }).waitFor();
}

// Reads a view from its beginning to its end, as somebody does who scrolls: each row's event, class and words, in the order
// in which they stand on the page.
export async function read(page, name) {
  await view(page, name);
  return page.evaluate(async (panel) => {
    const scroller = document.querySelector(`#${panel} .scroller`);
    // After a frame, not in it: as a reader's scrolling comes.
    const drawn = () => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(resolve))));
    const found = new Map();
    const note = () => {
      for (const row of scroller.querySelectorAll('ol.rows > li')) {
        const seq = /^seq-(\d+)$/.exec(row.id)?.[1];
        found.set(row.offsetTop, { seq: seq && Number(seq), kind: row.className, text: row.innerText });
      }
    };
    scroller.scrollTop = 0;
    await drawn();
    for (let last = -1; scroller.scrollTop !== last;) {
      last = scroller.scrollTop;
      note();
      scroller.scrollTop += scroller.clientHeight;
      await drawn();
    }
    note();
    return [...found].sort(([one], [other]) => one - other).map(([, row]) => row);
  }, `panel-${name.toLowerCase()}`);
}

// The numbers of the events, in the order in which they stand on the page.
export async function numbers(page) {
  return (await read(page, 'Events')).filter(({ seq }) => seq !== undefined).map(({ seq }) => seq);
}

// Notes each state of the page's connection from now on; gives them when it is called.
export async function states(page) {
  await page.evaluate(() => {
    const line = document.querySelector('#connection');
    window.seenStates = [line.dataset.state];
    new MutationObserver(() => {
      const { state } = line.dataset;
      if (window.seenStates.at(-1) !== state) window.seenStates.push(state);
    }).observe(line, { attributeFilter: ['data-state'] });
  });
  return () => page.evaluate(() => window.seenStates);
}

// Every event of the log is on the page, in order, once.
export async function complete(page, last) {
  await until(`the page has event ${last}`, async () => (await head(page)) === last);
  assert.deepEqual(await numbers(page), Array.from({ length: last }, (_, place) => place + 1));
}

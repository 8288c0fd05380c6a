// What every flow has: a browser at the console of a real host, the API of that host, and a watch over what goes wrong.
//
// `main.rs` starts the host and one process of this for each test. What only it can do, such as to kill the host, it does
// when it reads the name of it on standard output.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

const installed = createRequire(`${process.env.LAP_CONSOLE_DIR}/node/`);
const { chromium } = installed('playwright-core');

// For how long a condition may take to come true, on a machine that does much else.
export const PATIENCE_MS = 30_000;
const FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync',
];

export const base = process.env.LAP_CONSOLE_BASE;
export const masterKey = process.env.LAP_CONSOLE_KEY;
export const upstream = { base: process.env.LAP_CONSOLE_UPSTREAM, key: process.env.LAP_CONSOLE_UPSTREAM_KEY };
// Where `main.rs` writes files that a flow hands to the browser.
export const files = process.env.LAP_CONSOLE_FILES;
export const RUNTIME = 'claude_managed_agents';

// A request as another client would make it. The answer's JSON, or nothing where there is none.
export async function api(method, path, body, { key = masterKey, status } = {}) {
  const headers = { authorization: `Bearer ${key}` };
  if (body !== undefined) headers['content-type'] = 'application/json';
  const answer = await fetch(base + path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  const text = await answer.text();
  if (status === undefined) assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${text}`);
  else assert.equal(answer.status, status, `${method} ${path}: ${text}`);
  return text === '' ? undefined : JSON.parse(text);
}

// Waits until `probe` gives something true, and gives that.
export async function until(what, probe) {
  const end = performance.now() + PATIENCE_MS;
  for (;;) {
    const found = await probe();
    if (found) return found;
    assert.ok(performance.now() < end, `not within ${PATIENCE_MS} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

// The worlds that most flows begin with.
export async function connected() {
  const path = `/api/agent-runtimes/${RUNTIME}/credentials`;
  await api('PUT', path, { api_key: upstream.key, api_base: upstream.base });
}

export async function newAgent(more = {}, options) {
  const agent = { name: 'Release notes', owner_id: 'local-user', runtime: RUNTIME, model: 'claude-opus-4-5', ...more };
  return (await api('POST', '/api/agents', agent, { status: 201, ...options })).id;
}

export async function newSession(agent, prompt, options) {
  return (await api('POST', '/session', { runtime: RUNTIME, agent_id: agent, prompt }, options)).id;
}

export const session = (id) => api('GET', `/session/${id}`);

export const settled = (id, status = 'idle') =>
  until(`${id} is ${status}`, async () => (await session(id)).status === status);

// All events of a session, by the API's list.
export async function events(id) {
  const found = [];
  for (let page = ''; ;) {
    const body = await api('GET', `/v1/sessions/${id}/events?limit=1000${page}`);
    found.push(...body.data);
    if (!body.next_page) return found;
    page = `&page=${body.next_page}`;
  }
}

// Asks `main.rs` for something that only it can do, and waits until it is done.
const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
export async function tell(command) {
  process.stdout.write(`${command}\n`);
  assert.equal((await answers.next()).value, 'done', command);
}

export async function signIn(page, key = masterKey, path = '/console') {
  await page.goto(base + path);
  await page.getByLabel('Key').fill(key);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.waitForURL(base + path);
}

// Notes what must not happen on any page of a context.
function watch(context, expected) {
  const wrong = [];
  const note = (text) => {
    if (!expected.some((pattern) => pattern.test(text))) wrong.push(text);
  };
  context.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') note(`console: ${message.text()} ${message.location().url}`);
  });
  context.on('weberror', (error) => note(`page: ${error.error().stack}`));
  context.on('requestfailed', (request) => {
    // Whoever leaves a page ends what it was still reading.
    if (request.failure().errorText !== 'net::ERR_ABORTED') note(`failed: ${request.url()} ${request.failure().errorText}`);
  });
  context.on('response', (response) => {
    if (response.status() >= 400) note(`status: ${response.status()} ${response.request().method()} ${response.url()}`);
  });
  context.on('request', (request) => {
    if (!request.url().startsWith(`${base}/`)) note(`elsewhere: ${request.url()}`);
  });
  return wrong;
}

// Runs one flow in a browser. `expected` are patterns of what it lets go wrong; `context` is playwright's options.
export async function test(flow, { expected = [], context: options = {}, signedIn = true } = {}) {
  const browser = await chromium.launch({ executablePath: process.env.LAP_CHROMIUM ?? '/usr/bin/chromium', args: FLAGS });
  const contexts = [];
  const open = async (more = {}) => {
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options, ...more });
    context.setDefaultTimeout(PATIENCE_MS);
    contexts.push({ context, wrong: watch(context, expected) });
    const page = await context.newPage();
    return { context, page };
  };
  try {
    const { context, page } = await open();
    try {
      if (signedIn) await signIn(page);
      await flow({ page, context, open });
    } catch (error) {
      for (const page of contexts.flatMap(({ context }) => context.pages())) {
        const shown = await page.evaluate(() => `${location.href}\n${document.body.innerText}`).catch(() => '(none)');
        process.stderr.write(`A page at the end: ${shown.slice(0, 6000)}\n`);
      }
      throw error;
    } finally {
      for (const { wrong } of contexts) for (const text of wrong) process.stderr.write(`${text}\n`);
    }
    for (const { wrong } of contexts) assert.deepEqual(wrong, []);
  } finally {
    await browser.close();
  }
  process.exit(0);
}

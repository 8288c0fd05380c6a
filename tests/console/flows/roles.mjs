// Who may only read finds nothing to write with, on no page; and what a browser sends all the same is refused.
import assert from 'node:assert/strict';
import { accessible } from '../accessibility.mjs';
import { api, base, connected, newAgent, newSession, session, settled, signIn, test } from '../world.mjs';
import { connection, status } from '../watcher.mjs';

const refused = [/\b403\b/];
await test(async ({ page }) => {
  await connected();
  const agent = await newAgent({ name: 'Mine', owner_id: 'team-a' });
  const id = await newSession(agent, '/ask Clean up.');
  await settled(id, 'requires_action');
  const wish = { label: 'Hall', role: 'reader', owner_id: 'team-a' };
  const { key } = await api('POST', '/api/keys', wish, { status: 201 });
  await signIn(page, key, '/console');

  const links = await page.getByRole('navigation', { name: 'Console' }).getByRole('link').allInnerTexts();
  assert.deepEqual(links, ['Overview', 'Sessions', 'Agents', 'Runtimes']);
  for (const path of ['/console', '/console/agents', `/console/agents/${agent}`, '/console/sessions', '/console/runtimes', '/console/runtimes/claude_managed_agents']) {
    await page.goto(base + path);
    await page.locator('h1').waitFor();
    const writes = await page.locator('main button:not([hidden]):visible').allInnerTexts();
    assert.deepEqual(writes.filter((words) => words !== 'Filter'), [], path);
    await accessible(page, `${path} of a reader`);
  }

  await page.goto(`${base}/console/sessions/${id}`);
  await connection(page, 'live');
  await status(page, 'Needs you');
  for (const name of ['Approve', 'Deny', 'Interrupt', 'Kill', 'Send']) {
    assert.equal(await page.getByRole('button', { name, exact: true }).isVisible(), false, name);
  }
  assert.equal(await page.getByRole('textbox', { name: 'Prompt', exact: true }).isVisible(), false);

  // The page only spares people what the host refuses anyway.
  const answers = await page.evaluate(async (id) => {
    const send = (method, path, body) => fetch(path, { method, body, headers: { 'content-type': 'application/json' } });
    const prompt = JSON.stringify({ parts: [{ type: 'text', text: 'x' }] });
    const asked = [send('POST', `/session/${id}/prompt_async`, prompt), send('POST', `/session/${id}/kill`), send('POST', '/api/keys', '{}')];
    return Promise.all(asked.map(async (answer) => (await answer).status));
  }, id);
  assert.deepEqual(answers, [403, 403, 403]);
  assert.equal((await session(id)).status, 'requires_action');
}, { expected: refused, signedIn: false });

// The same runtime under another name: added, tried, used for an agent and a session, and removed again.
import assert from 'node:assert/strict';
import { RUNTIME, api, base, session, settled, test, upstream } from '../world.mjs';

// One of them takes a name that is taken.
const expected = [/\b400\b.*runtime-harnesses/];
await test(async ({ page }) => {
  await page.goto(`${base}/console/settings/credentials`);
  const form = page.getByRole('region', { name: 'Add an alias' });
  const card = (name) => page.locator(`#credential-${name}`);
  const add = async (name, key) => {
    await form.getByLabel('Name').fill(name);
    await form.getByLabel('Runtime').selectOption(RUNTIME);
    await form.getByLabel('API base').fill(upstream.base);
    await form.getByLabel('API key').fill(key);
    await form.getByRole('button', { name: 'Add and probe' }).click();
  };
  const names = async () => (await api('GET', '/api/runtime-harnesses')).harnesses.map(({ alias }) => alias);

  await add('local-opencode', upstream.key);
  await card('local-opencode').getByText('Works', { exact: true }).waitFor();
  assert.match(await card('local-opencode').innerText(), new RegExp(`alias of ${RUNTIME}`));
  assert.equal(await form.getByLabel('API key').inputValue(), '', 'the key does not stay in the form');
  const [own, other] = await Promise.all([api('GET', '/api/agent-runtimes/local-opencode'), api('GET', `/api/agent-runtimes/${RUNTIME}`)]);
  assert.deepEqual([own.source, own.alias_of, own.connected, other.connected], ['alias', RUNTIME, true, false]);

  // What the host refuses is said at its field, and what the vendor refuses on the card.
  await add('local-opencode', upstream.key);
  await page.locator('#alias-error').getByText('local-opencode').waitFor();
  await add('spare', 'sk-ant-of-nobody');
  await card('spare').getByText('Does not work').waitFor();
  assert.ok(!(await page.content()).includes(upstream.key), 'a stored key is shown masked');

  await card('spare').getByRole('button', { name: 'Remove the alias' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Remove the alias' }).click();
  await card('spare').waitFor({ state: 'detached' });
  assert.deepEqual((await names()).slice(-1), ['local-opencode']);

  await page.goto(`${base}/console/agents/new`);
  await page.getByLabel('Name').fill('Local helper');
  await page.getByLabel('Runtime').selectOption({ label: `local-opencode, alias of ${RUNTIME}` });
  await page.getByText(/^The vendor offers \d+ models?\./).waitFor();
  await page.getByLabel('Model').fill('claude-opus-4-5');
  await page.getByLabel('System prompt').fill('You help.');
  await page.getByRole('button', { name: 'Make the agent' }).click();
  await page.getByRole('textbox', { name: 'Prompt', exact: true }).fill('What is here?');
  await page.getByRole('button', { name: 'Start session' }).click();
  await page.waitForURL(/\/console\/sessions\/[^/]+$/);
  const id = page.url().split('/').at(-1);
  await settled(id);
  assert.equal((await session(id)).runtime, 'local-opencode');
  await page.getByText(`local-opencode, alias of ${RUNTIME}`).waitFor();

  await page.goto(`${base}/console/runtimes`);
  const row = page.getByRole('row', { name: /local-opencode/ });
  await row.getByText('Alias of').waitFor();
  await row.getByRole('link', { name: 'local-opencode' }).click();
  await page.getByText('whose versions it runs').waitFor();
}, { expected });

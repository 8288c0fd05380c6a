// The documentation's first steps, all of them in the browser: a credential, an agent, a session, its first turn.
import assert from 'node:assert/strict';
import { RUNTIME, api, base, events, session, settled, test, upstream } from '../world.mjs';

await test(async ({ page }) => {
  const menu = page.getByRole('navigation', { name: 'Console' });
  await menu.getByRole('link', { name: 'Credentials' }).click();
  const card = page.getByRole('region', { name: 'Claude Agents' });
  const state = async () => (await api('GET', `/api/agent-runtimes/${RUNTIME}`)).probe;

  // A key that the vendor does not take is stored, and said to be none that works.
  await card.getByLabel('API key').fill('sk-ant-of-nobody');
  await card.getByLabel('API base').fill(upstream.base);
  await card.getByRole('button', { name: 'Save and probe' }).click();
  await card.getByText('Does not work').waitFor();
  const refused = await state();
  assert.equal(refused.ok, false);
  assert.match(await card.innerText(), new RegExp(refused.code));

  await card.getByText('Replace the key').click();
  await card.getByLabel('API key').fill(upstream.key);
  await card.getByLabel('API base').fill(upstream.base);
  await card.getByRole('button', { name: 'Save and probe' }).click();
  await card.getByText('Works', { exact: true }).waitFor();
  const { ok, models } = await state();
  assert.deepEqual([ok, models > 0], [true, true]);
  assert.match(await card.innerText(), new RegExp(`for ${models} models?\\b`));
  assert.ok(!(await page.content()).includes(upstream.key), 'a stored key is shown masked');

  await menu.getByRole('link', { name: 'Agents' }).click();
  await page.getByRole('link', { name: 'New agent' }).click();
  await page.getByLabel('Name').fill('Release notes');
  await page.getByLabel('Runtime').selectOption(RUNTIME);
  await page.getByText(new RegExp(`^The vendor offers ${models} models?\\.`)).waitFor();
  const offered = await page.locator('#models option').evaluateAll((options) => options.map(({ value }) => value));
  const listed = (await api('GET', `/v1/models?runtime=${RUNTIME}`)).data.map(({ id }) => id);
  assert.deepEqual(offered, listed);
  await page.getByLabel('Model').fill(listed[0]);
  await page.getByLabel('System prompt').fill('You write release notes.');
  await page.getByRole('button', { name: 'Make the agent' }).click();
  await page.getByRole('heading', { name: 'Release notes', level: 1 }).waitFor();
  const [agent] = (await api('GET', '/api/agents')).agents;
  assert.equal(page.url(), `${base}/console/agents/${agent.id}`);
  assert.deepEqual([agent.name, agent.system, agent.config.runtime], ['Release notes', 'You write release notes.', RUNTIME]);

  await page.getByRole('textbox', { name: 'Prompt', exact: true }).fill('What is here?');
  await page.getByRole('button', { name: 'Start session' }).click();
  await page.waitForURL(/\/console\/sessions\/[^/]+$/);
  const id = page.url().split('/').at(-1);
  assert.equal((await session(id)).agent_id, agent.id);
  await page.getByText('There is a README.md and a folder src.').first().waitFor();
  await settled(id);
  await page.locator('header').getByText('idle', { exact: false }).first().waitFor();
  assert.ok((await events(id)).length > 5);
});

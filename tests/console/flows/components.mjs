// A component is added after somebody has seen what it may do, gets another version, and the one before again.
import assert from 'node:assert/strict';
import { api, base, files, tell, test, until } from '../world.mjs';

const ID = 'managed_agents_copy_1';
// The host asks for the grant by refusing what has none.
const expected = [/\b409\b.*\/api\/agent-runtimes/];
await test(async ({ page }) => {
  const detail = () => api('GET', `/api/agent-runtimes/${ID}`);
  const hand = async (day) => {
    await tell(`build ${day}`);
    await page.getByLabel('Component').setInputFiles(`${files}/copy.wasm`);
    await page.getByLabel('Manifest').setInputFiles(`${files}/runtime.toml`);
    await page.locator('#add button[type="submit"]').click();
  };

  // Whoever does not agree adds nothing.
  await page.goto(`${base}/console/runtimes`);
  await hand(1);
  const asked = page.getByRole('dialog', { name: `Add ${ID}?` });
  await asked.waitFor();
  const granted = await asked.getByRole('table').innerText();
  for (const part of ['x-api-key', 'GET', '/v1/sessions']) assert.ok(granted.includes(part), `${part} in ${granted}`);
  await asked.getByRole('button', { name: 'Cancel' }).click();
  await asked.waitFor({ state: 'detached' });
  await api('GET', `/api/agent-runtimes/${ID}`, undefined, { status: 404 });

  await page.locator('#add button[type="submit"]').click();
  await asked.getByRole('button', { name: 'Grant and add' }).click();
  await page.waitForURL(`${base}/console/runtimes/${ID}`);
  await page.getByText(/ is added\.$/).waitFor();
  const { component: first } = await detail();
  const version = (digest) => page.getByRole('article', { name: `Version ${digest.slice(0, 19)}` });
  await version(first).getByText('Current', { exact: true }).waitFor();

  // Another version shows what it changes, and nothing else.
  await hand(2);
  const upgrade = page.getByRole('dialog', { name: `Upgrade ${ID}?` });
  await upgrade.waitFor();
  const heads = await upgrade.getByRole('columnheader').allInnerTexts();
  assert.deepEqual(heads, ['What', 'Was', 'Becomes']);
  const changes = await upgrade.getByRole('table').innerText();
  assert.ok(changes.includes('component') && !changes.includes('x-api-key'), changes);
  await upgrade.getByRole('button', { name: 'Grant and add' }).click();
  const second = await until('new sessions get the other version', async () => {
    const { component } = await detail();
    return component !== first && component;
  });
  await version(second).getByText('Current', { exact: true }).waitFor();
  await version(first).getByText('Earlier', { exact: true }).waitFor();

  // And back.
  await version(first).getByRole('button', { name: /^Roll back to it/ }).click();
  await version(first).getByText('Current', { exact: true }).waitFor();
  assert.equal((await detail()).component, first);
  await version(second).getByRole('button', { name: /^Remove/ }).click();
  await page.getByRole('dialog', { name: 'Remove this version?' }).getByRole('button', { name: 'Remove' }).click();
  await version(second).waitFor({ state: 'detached' });
  assert.deepEqual((await detail()).versions.map(({ component }) => component), [first]);
}, { expected });

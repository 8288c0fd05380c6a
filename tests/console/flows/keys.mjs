// A key is minted, shown once, used, and revoked: whoever watched with it is told so at once.
import assert from 'node:assert/strict';
import { api, base, connected, events, newAgent, newSession, settled, signIn, test } from '../world.mjs';
import { connection, head, watch } from '../watcher.mjs';

// Whoever is signed out is refused by everything, and what they watched breaks off.
const expected = [/\b401\b/, /events\/stream.*ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_INCOMPLETE_CHUNKED_ENCODING.*events\/stream/];
await test(async ({ page, open }) => {
  await connected();
  const mine = await newAgent({ name: 'Mine', owner_id: 'team-a' });
  const others = await newAgent({ name: 'Of others', owner_id: 'team-b' });
  const id = await newSession(mine, 'What is here?');
  const hidden = await newSession(others, 'What is here?');
  await settled(id);

  await page.goto(`${base}/console/keys`);
  await page.getByText('There are no keys beside the master key.').waitFor();
  await page.getByLabel('Label').fill('Night shift');
  await page.getByLabel('Role').selectOption('member');
  await page.getByLabel('Owner').fill('team-a');
  await page.getByLabel('Expires').selectOption({ label: '30 days' });
  await page.getByRole('button', { name: 'Mint the key' }).click();
  const shown = page.getByRole('dialog', { name: 'The new key' });
  const key = await shown.locator('code').innerText();
  assert.match(key, /^sk-[0-9a-f]{64}$/);
  for (const key of ['Escape', 'Escape', 'Escape']) await page.keyboard.press(key);
  await page.mouse.click(5, 5);
  await page.keyboard.press('Escape');
  assert.equal(await shown.locator('code').innerText(), key, 'it is there until somebody says that it is copied');
  await shown.getByRole('button', { name: 'I have copied it' }).click();
  const row = page.getByRole('row', { name: /Night shift/ });
  await row.waitFor();
  const [stored] = (await api('GET', '/api/keys')).keys;
  const days = (stored.expires_at - stored.created_at) / 86_400;
  assert.deepEqual([stored.label, stored.role, stored.owner_id, Math.round(days)], ['Night shift', 'member', 'team-a', 30]);
  assert.ok(!JSON.stringify(stored).includes(key));
  assert.ok(!(await page.content()).includes(key), 'it is gone from the page');
  await page.reload();
  await row.waitFor();
  assert.ok(!(await page.content()).includes(key), 'and does not come back');

  // With it, in another browser: what is its owner's, and nothing else.
  const { page: other } = await open();
  await signIn(other, key, '/console/agents');
  assert.deepEqual(await other.locator('tbody th').allInnerTexts(), ['Mine']);
  assert.equal((await other.goto(`${base}/console/sessions/${hidden}`)).status(), 404);
  assert.equal((await other.goto(`${base}/console/keys`)).status(), 403);
  await watch(other, id);
  await other.getByRole('textbox', { name: 'Prompt', exact: true }).fill('And now?');
  await other.getByRole('button', { name: 'Send' }).click();
  await other.getByText('You said: “And now?” — let me look around.').waitFor();
  await settled(id);

  await row.getByRole('button', { name: 'Revoke' }).click();
  await page.getByRole('dialog', { name: 'Revoke Night shift?' }).getByRole('button', { name: 'Revoke' }).click();
  await page.getByText('There are no keys beside the master key.').waitFor();
  assert.deepEqual((await api('GET', '/api/keys')).keys, []);
  await connection(other, 'signed-out');
  await other.getByRole('link', { name: 'Sign in again' }).waitFor();
  // What was read stays readable.
  await other.getByText('You said: “And now?” — let me look around.').waitFor();
  assert.equal(await head(other), (await events(id)).length);
  await api('GET', '/session', undefined, { key, status: 401 });
}, { expected: [...expected, /\b40[34]\b.*\/console\//] });

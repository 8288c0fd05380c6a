// The list of sessions is live by one feed: what changes, changes where it is. Filters are the host's; many are killed at once.
import assert from 'node:assert/strict';
import { api, base, connected, newAgent, newSession, session, settled, test } from '../world.mjs';

await test(async ({ page }) => {
  await connected();
  const [notes, triage] = [await newAgent({ name: 'Release notes' }), await newAgent({ name: 'Support triage' })];
  const told = await newSession(notes, 'What is here?');
  await settled(told);

  await page.goto(`${base}/console/sessions`);
  await page.getByText('Live', { exact: true }).waitFor();
  const loads = [];
  page.on('framenavigated', (frame) => loads.push(frame.url()));
  const row = (id) => page.locator(`tr[data-session="${id}"]`);
  const shows = (id, word) => row(id).locator('[data-slot="status"]', { hasText: word }).waitFor();
  await shows(told, 'Idle');

  // A session that somebody else starts appears; what becomes of it is shown.
  const asking = await newSession(triage, '/ask Clean up.');
  await shows(asking, 'Needs you');
  assert.match(await row(asking).innerText(), /Support triage/);
  const [{ id: use }] = (await api('GET', `/v1/sessions/${asking}/events?limit=1000`)).data.filter(({ type }) => type === 'agent.tool_use');
  await api('POST', `/v1/sessions/${asking}/events`, { events: [{ type: 'user.tool_confirmation', tool_use_id: use, result: 'allow' }] });
  await shows(asking, 'Idle');
  const running = await newSession(triage, '/long Watch the inbox.');
  await shows(running, 'Running');
  await row(running).getByRole('button', { name: 'Interrupt' }).click();
  await shows(running, 'Idle');
  await settled(running);
  const gone = await newSession(notes);
  await row(gone).waitFor();
  await api('DELETE', `/session/${gone}`);
  await row(gone).waitFor({ state: 'detached' });
  assert.deepEqual(loads, [], 'all of that without loading the page again');

  // What a filter leaves is what the host says.
  await page.getByLabel('Agent', { exact: true }).selectOption({ label: 'Release notes' });
  await page.getByRole('button', { name: 'Filter' }).click();
  await page.waitForURL(/agent=/);
  const shown = () => page.locator('#rows tr').evaluateAll((rows) => rows.map(({ dataset }) => dataset.session));
  assert.deepEqual(await shown(), [told]);
  await page.getByRole('link', { name: 'Clear' }).click();
  await row(asking).waitFor();
  const all = (await api('GET', '/session')).map(({ id }) => id);
  assert.deepEqual(await shown(), all);

  // What is ticked before the feed is open, when the list is read anew, stays so.
  let letIn;
  const gate = new Promise((open) => (letIn = open));
  await page.route('**/api/sessions/stream', async (route) => {
    await gate;
    await route.continue();
  }, { times: 1 });
  await page.reload();
  await row(told).getByRole('checkbox').check();
  await page.locator('#rows').evaluate((rows) => rows.setAttribute('data-before', ''));
  letIn();
  await page.locator('#rows:not([data-before])').waitFor();
  const kill = page.getByRole('button', { name: /Kill selected/ });
  await page.getByRole('button', { name: 'Kill selected (1)' }).waitFor();
  assert.equal(await row(told).getByRole('checkbox').isChecked(), true);
  await row(told).getByRole('checkbox').uncheck();

  // Two are killed, the third is not.
  await page.getByText('Live', { exact: true }).waitFor();
  assert.equal(await kill.isDisabled(), true);
  for (const id of [asking, running]) await row(id).getByRole('checkbox').check();
  await kill.click();
  await page.getByRole('dialog', { name: 'Kill 2 sessions?' }).getByRole('button', { name: 'Kill' }).click();
  const results = page.getByRole('dialog', { name: 'What became of them' });
  await results.waitFor();
  const words = await results.getByRole('listitem').allInnerTexts();
  assert.equal(words.length, 2);
  for (const word of words) assert.match(word, /killed; the vendor confirms it/);
  await results.getByRole('button', { name: 'Close' }).click();
  for (const id of [asking, running]) {
    await shows(id, 'Terminated');
    assert.equal((await session(id)).status, 'terminated');
  }
  assert.equal((await session(told)).status, 'idle');
});

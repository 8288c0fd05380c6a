// Prompts wait for the end of a turn where one sees them; the turn is interrupted; the session is killed.
import assert from 'node:assert/strict';
import { api, connected, events, newAgent, newSession, session, settled, test, until, upstream } from '../world.mjs';
import { status, watch } from '../watcher.mjs';

await test(async ({ page }) => {
  await connected();
  const id = await newSession(await newAgent(), '/long Watch the inbox.');
  await watch(page, id);
  await status(page, 'Running');
  const queue = page.getByRole('list', { name: 'Messages that wait' });
  for (const text of ['First wish', 'Second wish']) {
    await page.getByRole('textbox', { name: 'Prompt', exact: true }).fill(text);
    await page.keyboard.press('Control+Enter');
  }
  await queue.getByText('2 of 2').waitFor();
  assert.deepEqual(await queue.getByRole('listitem').evaluateAll((rows) => rows.map(({ innerText }) => innerText.match(/(First|Second) wish/)[0])), ['First wish', 'Second wish']);
  const waiting = async () => (await api('GET', `/session/${id}/message`)).filter(({ info }) => info.status === 'queued').length;
  assert.equal(await waiting(), 2);

  // An interrupt stops the turn and gives back what waited.
  await page.getByRole('button', { name: 'Interrupt' }).click();
  await status(page, 'Idle');
  await queue.getByText('withdrawn').nth(1).waitFor();
  assert.equal(await waiting(), 0);
  const log = await events(id);
  assert.ok(log.some(({ type }) => type === 'user.interrupt'));
  await queue.getByRole('button', { name: 'Put back' }).first().click();
  assert.equal(await page.getByRole('textbox', { name: 'Prompt', exact: true }).inputValue(), 'First wish');
  await page.getByRole('button', { name: 'Send' }).click();
  await page.getByText('You said: “First wish” — let me look around.').waitFor();
  await settled(id);

  // A kill is asked about, and Enter does not do it by mistake.
  const kill = page.getByRole('button', { name: 'Kill', exact: true });
  const question = page.getByRole('dialog', { name: 'Kill this session?' });
  await kill.click();
  await question.waitFor();
  await page.keyboard.press('Enter');
  await question.waitFor({ state: 'hidden' });
  assert.equal((await session(id)).status, 'idle');
  await kill.click();
  await question.getByRole('button', { name: 'Kill the session' }).click();
  await page.getByText('the vendor confirms it').waitFor();
  await status(page, 'Terminated');
  assert.equal((await session(id)).status, 'terminated');
  assert.equal(await kill.isDisabled(), true);
  assert.ok((await events(id)).length >= log.length, 'the log stays');

  // Upstream it is over, too.
  const { provider_session_id: there } = await session(id);
  const headers = { 'x-api-key': upstream.key, 'anthropic-version': '2026-10-21', 'anthropic-beta': 'managed-agents-2026-04-01' };
  await until('it is over upstream', async () => {
    const answer = await fetch(`${upstream.base}/v1/sessions/${there}`, { headers });
    return answer.status === 404 || ['terminated', 'archived'].includes((await answer.json()).status);
  });
});

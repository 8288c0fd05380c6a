// Somebody else kills the session that one looks at, with a prompt half written and the question about a kill open: the page
// says so, and what was to be said is not lost.
import assert from 'node:assert/strict';
import { api, connected, events, newAgent, newSession, settled, test } from '../world.mjs';
import { status, watch } from '../watcher.mjs';

await test(async ({ page }) => {
  await connected();
  const id = await newSession(await newAgent(), '/long Watch the inbox.');
  await watch(page, id);
  await status(page, 'Running');
  const prompt = page.getByRole('textbox', { name: 'Prompt', exact: true });
  await prompt.fill('One more thing');
  const kill = page.getByRole('button', { name: 'Kill', exact: true });
  const question = page.getByRole('dialog', { name: 'Kill this session?' });
  await kill.click();
  await question.waitFor();

  await api('POST', `/session/${id}/kill`);
  await settled(id, 'terminated');
  await status(page, 'Terminated');
  const log = await events(id);

  // The answer to the question comes too late, which changes nothing.
  await question.getByRole('button', { name: 'Kill the session' }).click();
  await page.locator('.notice').getByText('The session is over').waitFor();
  assert.equal(await kill.isDisabled(), true);
  assert.equal(await page.getByRole('button', { name: 'Interrupt' }).isDisabled(), true);
  assert.deepEqual(await events(id), log, 'a second kill leaves no trace');

  // The host refuses the prompt; its words stay to be taken elsewhere.
  assert.equal(await prompt.inputValue(), 'One more thing');
  await page.getByRole('button', { name: 'Send' }).click();
  const queue = page.getByRole('list', { name: 'Messages that wait' });
  await queue.getByText(/^refused: /).waitFor();
  await queue.getByRole('button', { name: 'Put back' }).click();
  assert.equal(await prompt.inputValue(), 'One more thing');
}, { expected: [/\b4\d\d\b.*prompt_async/] });

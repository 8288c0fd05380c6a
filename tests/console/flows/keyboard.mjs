// From the sign-in to the end of a turn without a mouse.
import assert from 'node:assert/strict';
import { base, connected, events, masterKey, newAgent, session, settled, test, until } from '../world.mjs';
import { complete, connection, status } from '../watcher.mjs';

await test(async ({ page }) => {
  await connected();
  const agent = await newAgent({ name: 'Release notes' });
  const press = (...keys) => keys.reduce((before, key) => before.then(() => page.keyboard.press(key)), Promise.resolve());
  const focused = (locator) => locator.evaluate((element) => element === document.activeElement);
  // Goes on with the Tab key until the focus is there.
  const to = async (locator, key = 'Tab') => {
    await locator.waitFor();
    for (let presses = 0; presses < 80; presses += 1) {
      if (await focused(locator)) return;
      await press(key);
    }
    assert.fail(`the keyboard does not reach ${locator}`);
  };

  await page.goto(`${base}/console/agents`);
  // The field gets the focus by itself.
  await page.locator('input[name="key"]:focus').waitFor();
  await page.keyboard.type(masterKey);
  await press('Enter');
  await page.waitForURL(`${base}/console/agents`);
  await to(page.getByRole('link', { name: 'Release notes' }));
  await press('Enter');
  await page.waitForURL(`${base}/console/agents/${agent}`);
  await to(page.getByRole('textbox', { name: 'Prompt', exact: true }));
  await page.keyboard.type('/ask Clean up.');
  await to(page.getByRole('button', { name: 'Start session' }));
  await press('Space');
  await page.waitForURL(/\/console\/sessions\/ses_/);
  const id = page.url().split('/').at(-1);
  await connection(page, 'live');
  await status(page, 'Needs you');

  // A letter leads to what the agent waits for.
  await press('a');
  assert.equal(await focused(page.getByRole('button', { name: 'Approve' })), true);
  await press('Enter');
  await status(page, 'Idle');
  await until('the focus is not lost', () => page.evaluate(() => document.activeElement !== document.body));

  // The views, a row that opens, and the letters that are letters where somebody writes.
  await to(page.getByRole('tab', { name: 'Conversation' }), 'Shift+Tab');
  await press('3');
  await page.getByRole('tabpanel', { name: 'Events' }).waitFor();
  await press('Home', 'Enter');
  const first = page.locator('#seq-1');
  assert.equal(await first.getByRole('button', { name: 'Hide the JSON of event 1' }).getAttribute('aria-expanded'), 'true');
  await press('j', 'j', 'k');
  assert.equal(await focused(page.locator('#seq-2')), true);
  await press('/');
  await page.keyboard.type('tool_use 123 jk');
  assert.equal(await page.getByLabel('Text in events').inputValue(), 'tool_use 123 jk');
  await press('Control+a', 'Delete', 'Escape', 'c');
  await page.keyboard.type('What is here?');
  await press('Control+Enter');
  await until('the answer is in the log', async () => JSON.stringify(await events(id)).includes('There is a README.md'));
  await settled(id);
  await complete(page, (await events(id)).length);

  // Killed with the keyboard, after the question.
  await to(page.getByRole('button', { name: 'Kill', exact: true }), 'Shift+Tab');
  await press('Enter');
  await page.getByRole('dialog', { name: 'Kill this session?' }).waitFor();
  await press('Tab', 'Enter');
  await status(page, 'Terminated');
  assert.equal((await session(id)).status, 'terminated');
}, { signedIn: false });

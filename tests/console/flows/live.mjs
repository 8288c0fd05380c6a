// A turn is watched as it happens, to its end, without the page being loaded again.
import assert from 'node:assert/strict';
import { connected, events, newAgent, newSession, session, settled, test } from '../world.mjs';
import { complete, status, watch } from '../watcher.mjs';

await test(async ({ page }) => {
  await connected();
  const id = await newSession(await newAgent());
  await watch(page, id);
  await status(page, 'Idle');
  const loads = [];
  page.on('framenavigated', (frame) => loads.push(frame.url()));

  await page.getByRole('textbox', { name: 'Prompt', exact: true }).fill('/slow Build it, please.');
  await page.getByRole('button', { name: 'Send' }).click();
  await status(page, 'Running');
  const conversation = page.getByRole('tabpanel', { name: 'Conversation' });
  await conversation.getByText('First.', { exact: true }).waitFor();
  // What comes later is not there yet, so it came by itself.
  assert.equal(await conversation.getByText('Last.', { exact: true }).count(), 0);
  await conversation.getByText('Last.', { exact: true }).waitFor();
  await status(page, 'Idle');
  await page.getByRole('status').getByText(/Turn 1 has ended/).waitFor();
  assert.deepEqual(loads, []);

  const words = await conversation.getByRole('listitem').allInnerTexts();
  const said = words.map((text) => text.replaceAll('\n', ' '));
  assert.match(said[0], /^User.*Build it, please\./);
  assert.match(said.find((text) => text.startsWith('bash')), /make.*done/);
  assert.match(said.at(-1), /^Turn 1 · end turn/);

  await settled(id);
  const log = await events(id);
  await complete(page, log.length);

  // What the vendor counted is what the page shows.
  const { usage } = await session(id);
  const shown = async (term) => page.locator('dl.facts > div', { hasText: term }).locator('dd').innerText();
  const tokens = usage && usage.input_tokens !== undefined ? /\d.* in.* \/ .*\d.* out/ : /^n\/a$/;
  await page.locator('#tokens', { hasText: tokens }).waitFor();
  assert.equal(await shown('Cost'), 'n/a', 'no runtime has said what it costs');
});

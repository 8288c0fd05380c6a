// The network is lost in the middle of a turn, and then the host itself. The page says so, comes back by itself, and has
// every event once.
import assert from 'node:assert/strict';
import { connected, events, newAgent, newSession, settled, tell, test, until } from '../world.mjs';
import { complete, connection, head, read, states, watch } from '../watcher.mjs';

const expected = [/net::ERR_(CONNECTION|INCOMPLETE|EMPTY|NETWORK|SOCKET|FAILED)/, /^failed: .*\/(events|session|message)/];
await test(async ({ page }) => {
  await connected();
  const id = await newSession(await newAgent());
  await watch(page, id);
  const seen = await states(page);

  await page.getByRole('textbox', { name: 'Prompt', exact: true }).fill('/steady Count.');
  await page.getByRole('button', { name: 'Send' }).click();
  await until('the turn is under way', async () => (await head(page)) > 8);
  await tell(`cut /v1/sessions/${id}/events/stream`);
  await until('the page is back', async () => (await seen()).join() === 'live,waiting,connecting,live');
  const before = await head(page);

  await tell('kill');
  await connection(page, 'waiting');
  assert.match(await page.locator('#connection').innerText(), /reconnecting in \d+ s/);
  // Whatever somebody says meanwhile waits on the page.
  await page.getByRole('textbox', { name: 'Prompt', exact: true }).fill('Are you there?');
  await page.getByRole('button', { name: 'Send' }).click();
  await page.locator('#queue').getByText('Are you there?').waitFor();
  await tell('start');
  await connection(page, 'live');
  await until('the turn went on', async () => (await head(page)) > before);
  const said = (log) => log.filter(({ type }) => type === 'user.message').map(({ content }) => content[0].text);
  await until('both prompts were answered', async () => {
    const log = await events(id);
    return log.filter(({ type }) => type === 'session.status_idle').length >= 2 && said(log).includes('Are you there?');
  });
  await settled(id);
  const log = await events(id);
  const counted = log.filter(({ n }) => n !== undefined).map(({ n }) => n);
  assert.deepEqual(counted, Array.from({ length: 60 }, (_, n) => n), 'the host lost nothing either');
  assert.equal(new Set(log.filter((event) => said([event])[0] === 'Are you there?').map((event) => event.id)).size, 1);
  await page.locator('#queue').waitFor({ state: 'hidden' });
  await complete(page, log.length);
  const marks = (await read(page, 'Events')).filter(({ kind }) => kind.includes('mark'));
  assert.equal(marks.length, 2, JSON.stringify(marks));
  for (const { text } of marks) assert.match(text, /Reconnected at .* nothing lost/);
}, { expected });

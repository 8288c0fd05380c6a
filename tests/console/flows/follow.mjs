// Who is at the end of a log stays there, whatever grows and shrinks below it; who scrolls up by a little stays there, too.
import assert from 'node:assert/strict';
import { connected, newAgent, newSession, settled, test, until } from '../world.mjs';
import { head, watch } from '../watcher.mjs';

await test(async ({ page }) => {
  await connected();
  const agent = await newAgent();
  const id = await newSession(agent, '/fix Find out why.');
  await settled(id);
  await watch(page, id);
  await page.setViewportSize({ width: 1280, height: 480 });
  const scroller = page.locator('#panel-conversation .scroller');
  const below = () => scroller.evaluate((box) => box.scrollHeight - box.scrollTop - box.clientHeight);
  const frames = () => page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));
  const newer = page.locator('#newer');
  await until('the page is at the end', async () => (await below()) < 1);
  assert.ok(await scroller.evaluate((box) => box.scrollHeight > box.clientHeight + 200), 'there is something to scroll');

  // Within one frame, as when a message leaves the queue and another one comes.
  const dock = (padding) => page.evaluate((padding) => {
    document.querySelector('.dock').style.paddingBottom = padding;
    document.body.getBoundingClientRect();
  }, padding);
  await dock('120px');
  await until('the page is at the end with less room', async () => (await below()) < 1);
  await frames();
  await page.evaluate(() => {
    for (const padding of ['0', '120px']) {
      document.querySelector('.dock').style.paddingBottom = padding;
      document.body.getBoundingClientRect();
    }
  });
  await frames();
  await until('the page is at the end again', async () => (await below()) < 1);
  assert.equal(await newer.isVisible(), false);

  const before = await head(page);
  await scroller.hover();
  await page.mouse.wheel(0, -5);
  await newer.waitFor();
  const there = await scroller.evaluate((box) => box.scrollTop);
  await page.getByRole('textbox', { name: 'Prompt', exact: true }).fill('What is here?');
  await page.keyboard.press('Control+Enter');
  await until('more has happened', async () => (await head(page)) > before + 3);
  await frames();
  assert.equal(await scroller.evaluate((box) => box.scrollTop), there);
  await page.getByRole('button', { name: /new events/ }).click();
  await until('the button leads to the end', async () => (await below()) < 1);
});

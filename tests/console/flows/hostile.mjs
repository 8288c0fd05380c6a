// Whatever agents are called and events say is text.
import assert from 'node:assert/strict';
import { base, connected, events, newAgent, newSession, settled, test } from '../world.mjs';
import { complete, view, watch } from '../watcher.mjs';

const NAME = '<img src=x onerror="document.title=\'taken\'">';

await test(async ({ page, open }) => {
  await connected();
  const agent = await newAgent({ name: NAME, system: '</textarea><script>document.title="taken"</script>', owner_id: '"><b>' });
  const id = await newSession(agent, '[script:hostile] <script>document.title="taken"</script>');
  await settled(id);
  const { page: plain } = await open({ javaScriptEnabled: false, storageState: await page.context().storageState() });
  for (const visitor of [page, plain]) {
    for (const path of ['/console', '/console/agents', `/console/agents/${agent}`, '/console/sessions', `/console/sessions/${id}`, `/console/sessions/${id}?view=events`]) {
      await visitor.goto(base + path);
      await visitor.locator('h1').waitFor();
      const made = await visitor.locator('img, iframe, script:not([src]), svg, main b').count();
      assert.equal(made, 0, path);
      assert.notEqual(await visitor.title(), 'taken', path);
    }
  }
  await page.goto(`${base}/console/agents/${agent}`);
  assert.equal(await page.locator('h1').innerText(), NAME);
  assert.equal(await page.getByLabel('System prompt').inputValue(), '</textarea><script>document.title="taken"</script>');

  await watch(page, id);
  await page.getByText('<script>document.title=\'taken\'</script>').first().waitFor();
  for (const name of ['Timeline', 'Events']) await view(page, name);
  await complete(page, (await events(id)).length);
  assert.equal(await page.locator('main img, main iframe, main svg, main b').count(), 0);
});

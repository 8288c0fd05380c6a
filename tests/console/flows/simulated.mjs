// The first steps on a new host: a simulated vendor that does not run yet leaves nothing behind, and one that runs is used.
import assert from 'node:assert/strict';
import { RUNTIME, api, base, test, upstream } from '../world.mjs';

await test(async ({ page }) => {
  const form = page.locator('#simulated');
  const listens = (at) => form.evaluate((form, at) => form.setAttribute('data-base', at), at);
  const use = () => page.getByRole('button', { name: 'Use the simulated vendor' }).click();
  const credential = async () => {
    const { connected, masked_api_key, api_base } = await api('GET', `/api/agent-runtimes/${RUNTIME}`);
    return [connected, masked_api_key !== null, api_base];
  };

  await page.goto(`${base}/console`);
  await page.getByText('lap simulate', { exact: true }).waitFor();
  await listens('http://127.0.0.1:1');
  await use();
  await page.getByText('Does lap simulate run?').waitFor();
  assert.deepEqual(await credential(), [false, false, null]);
  await page.reload();
  await page.getByRole('heading', { name: 'First steps' }).waitFor();

  // That one takes any key; the one of these tests takes its own alone.
  await page.route(`**/api/agent-runtimes/${RUNTIME}/credentials`, (route) => {
    const body = route.request().postDataJSON();
    assert.match(body.api_key, /^sk-simulated-/);
    return route.continue({ postData: JSON.stringify({ ...body, api_key: upstream.key }) });
  });
  await listens(upstream.base);
  await use();
  await page.getByText('the credential is stored and works').waitFor();
  assert.deepEqual(await credential(), [true, true, upstream.base]);
  await page.getByRole('link', { name: 'New agent' }).first().click();
  await page.waitForURL(`${base}/console/agents/new`);
});

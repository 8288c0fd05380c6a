// Without JavaScript every page can be read, and one can sign in and out.
import assert from 'node:assert/strict';
import { base, connected, masterKey, newAgent, newSession, settled, signIn, test } from '../world.mjs';

await test(async ({ page }) => {
  await connected();
  const agent = await newAgent();
  const session = await newSession(agent, 'What is here?');
  await settled(session);

  await signIn(page, masterKey, '/console/sessions');
  const reads = async (path, ...texts) => {
    const answer = await page.goto(base + path);
    assert.equal(answer.status(), 200, path);
    const text = await page.locator('main').innerText();
    for (const expected of texts) assert.ok(text.includes(expected), `${path} has no “${expected}”:\n${text}`);
    // What needs a script cannot be pressed. The filter is a form of the host's own.
    const live = await page.locator('main button:not(:disabled):not(form[method=get] *):visible').evaluateAll((all) => all.map((button) => button.innerText));
    assert.deepEqual(live, [], path);
  };
  await reads('/console', 'Overview', 'Claude Agents');
  await reads('/console/runtimes', 'Claude Agents');
  await reads('/console/runtimes/claude_managed_agents', 'sha256:');
  await reads('/console/settings/credentials', 'Claude Agents');
  await reads('/console/agents', 'Release notes', 'claude-opus-4-5');
  await reads(`/console/agents/${agent}`, 'Release notes');
  await reads('/console/agents/new', 'New agent');
  await reads('/console/sessions', 'Release notes');
  await reads(`/console/sessions/${session}`, 'What is here?', 'README.md', 'There is a README.md and a folder src.');
  await reads('/console/keys', 'Keys');

  await page.getByRole('button', { name: 'Sign out' }).click();
  assert.equal(new URL(page.url()).pathname, '/console/sign-in');
}, { context: { javaScriptEnabled: false }, signedIn: false });

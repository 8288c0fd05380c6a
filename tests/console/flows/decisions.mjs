// The agent asks before it runs a tool: once it may, once it may not.
import assert from 'node:assert/strict';
import { connected, events, newAgent, newSession, settled, test } from '../world.mjs';
import { complete, status, watch } from '../watcher.mjs';

await test(async ({ page }) => {
  await connected();
  const agent = await newAgent();
  const verdicts = async (id) => {
    const given = (await events(id)).filter(({ type }) => type === 'user.tool_confirmation');
    // A client's event comes twice: when it begins to wait, and when it is processed.
    return [...new Map(given.map((event) => [event.id, event])).values()].map(({ result, deny_message }) => [result, deny_message ?? null]);
  };
  const decisions = page.getByRole('region', { name: 'The agent waits for you' });

  const allowed = await newSession(agent, '/ask Clean up.');
  await watch(page, allowed);
  await status(page, 'Needs you');
  assert.match(await decisions.innerText(), /bash wants to run[\s\S]*rm -r build/);
  await decisions.getByRole('button', { name: 'Approve' }).click();
  await status(page, 'Idle');
  await decisions.waitFor({ state: 'hidden' });
  assert.deepEqual(await verdicts(allowed), [['allow', null]]);
  const results = async (id) => (await events(id)).filter(({ type }) => type === 'agent.tool_result');
  const [result] = await results(allowed);
  assert.deepEqual([result.content[0].text, result.is_error ?? false], ['removed', false]);
  await page.getByText('Done.', { exact: true }).waitFor();
  await complete(page, (await events(allowed)).length);

  const denied = await newSession(agent, '/ask Clean up.');
  await watch(page, denied);
  await status(page, 'Needs you');
  await decisions.getByLabel('Reason for a denial').fill('Keep the build, please.');
  await decisions.getByRole('button', { name: 'Deny' }).click();
  await settled(denied);
  await status(page, 'Idle');
  await decisions.waitFor({ state: 'hidden' });
  assert.deepEqual(await verdicts(denied), [['deny', 'Keep the build, please.']]);
  assert.ok((await results(denied)).every(({ content }) => content[0].text !== 'removed'), 'what was denied was not run');
  await page.getByText('denied', { exact: true }).waitFor();
});

// Somebody shows a wrong key, then the right one, and leaves again.
import assert from 'node:assert/strict';
import { base, masterKey, test } from '../world.mjs';

const expected = [/sign-in.*\b401\b|\b401\b.*sign-in/];
await test(async ({ page, context }) => {
  const requests = [];
  page.on('request', (request) => requests.push(request.url()));

  // Whoever wants a page without having signed in comes back to it later.
  await page.goto(`${base}/console?from=here`);
  assert.equal(new URL(page.url()).pathname, '/console/sign-in');
  await page.getByLabel('Key').fill('sk-nobody');
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('alert').waitFor();
  assert.match(await page.getByRole('alert').innerText(), /key/i);
  assert.equal(await page.getByLabel('Key').inputValue(), '', 'a wrong key is not shown again');
  assert.deepEqual(await context.cookies(), []);

  await page.getByLabel('Key').fill(masterKey);
  await page.keyboard.press('Enter');
  await page.waitForURL(`${base}/console?from=here`);

  const cookies = await context.cookies();
  assert.equal(cookies.length, 1);
  const [{ name, value, httpOnly, sameSite, path, domain }] = cookies;
  const pass = { name: 'lap_session', httpOnly: true, sameSite: 'Strict', path: '/', domain: '127.0.0.1' };
  assert.deepEqual({ name, httpOnly, sameSite, path, domain }, pass);
  assert.ok(!value.includes(masterKey));
  const kept = await page.evaluate(async () => {
    const databases = await indexedDB.databases();
    return [document.cookie, JSON.stringify(localStorage), JSON.stringify(sessionStorage), JSON.stringify(databases)];
  });
  for (const place of kept) assert.ok(!place.includes(masterKey) && !place.includes(value), place);
  for (const url of requests) assert.ok(!url.includes(masterKey) && !url.includes(value), url);
  assert.ok(!(await page.content()).includes(masterKey));

  // The pass is good for the API too, and for nobody once it is given back.
  const me = () => fetch(`${base}/api/me`, { headers: { cookie: `lap_session=${value}` } });
  const { name: known, role } = await (await me()).json();
  assert.deepEqual([known, role], ['master', 'admin']);
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.waitForURL((url) => url.pathname === '/console/sign-in');
  assert.deepEqual(await context.cookies(), []);
  assert.equal((await me()).status, 401);
  await page.goto(`${base}/console`);
  assert.equal(new URL(page.url()).pathname, '/console/sign-in');
}, { expected, signedIn: false });

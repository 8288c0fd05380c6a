// The frame of all pages: light and dark, wide and narrow, with a keyboard alone; and the way to it for strangers.
import assert from 'node:assert/strict';
import { accessible, fits, walk } from '../accessibility.mjs';
import { base, masterKey, test } from '../world.mjs';

await test(async ({ page, open }) => {
  await page.goto(`${base}/console?x=1`);
  assert.equal(page.url(), `${base}/console/sign-in?next=%2Fconsole%3Fx%3D1`);
  assert.equal(await page.getByLabel('Key').evaluate((field) => field === document.activeElement), true);

  const { page: known } = await open({ extraHTTPHeaders: { authorization: `Bearer ${masterKey}` } });
  for (const [visitor, path] of [[page, '/console/sign-in'], [known, '/console']]) {
    for (const colorScheme of ['light', 'dark']) {
      await visitor.emulateMedia({ colorScheme });
      await visitor.goto(base + path);
      await accessible(visitor, `${path}, ${colorScheme}`);
    }
    await walk(visitor, path);
    await visitor.setViewportSize({ width: 380, height: 800 });
    assert.deepEqual(await fits(visitor), [], path);
    await accessible(visitor, `${path}, narrow`);
  }
  // The first stop of the keyboard leads past the menu.
  await known.goto(`${base}/console`);
  await known.keyboard.press('Tab');
  await known.keyboard.press('Enter');
  assert.equal(await known.evaluate(() => document.activeElement.id), 'content');
}, { signedIn: false });

// Takes the pictures of docs/console.md: every page, light and dark. LAP_CONSOLE_PICTURES says where to put them; without it
// they are looked at for their size and thrown away.
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { furnished } from '../furniture.mjs';
import { base, test } from '../world.mjs';

const BYTES_MAX = 80 * 1024;
const folder = process.env.LAP_CONSOLE_PICTURES ?? (await mkdtemp(`${tmpdir()}/lap-pictures-`));

async function picture(page, name) {
  const client = await page.context().newCDPSession(page);
  const { data } = await client.send('Page.captureScreenshot', { format: 'webp', quality: 60 });
  await client.detach();
  const bytes = Buffer.from(data, 'base64');
  assert.ok(bytes.length <= BYTES_MAX, `${name} has ${bytes.length} bytes`);
  await writeFile(`${folder}/${name}.webp`, bytes);
}

await test(async ({ page, open }) => {
  const { paths } = await furnished();
  await mkdir(folder, { recursive: true });
  const { page: stranger } = await open();
  const views = Object.entries({ ...paths, timeline: `${paths.session}?view=timeline`, events: `${paths.session}?view=events` });
  for (const colorScheme of ['light', 'dark']) {
    for (const [name, path] of [...views, ['sign-in', '/console/sign-in']]) {
      const visitor = name === 'sign-in' ? stranger : page;
      await visitor.emulateMedia({ colorScheme });
      await visitor.goto(base + path);
      await visitor.locator('h1').waitFor();
      await visitor.evaluate(() => document.fonts.ready);
      await picture(visitor, `${name}-${colorScheme}`);
    }
  }
});

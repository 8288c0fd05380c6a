// Every page, light and dark and narrow: names, labels, headings, landmarks, contrast, sizes, and the focus.
import assert from 'node:assert/strict';
import { fits, focusProblems, problems } from '../accessibility.mjs';
import { furnished } from '../furniture.mjs';
import { base, test } from '../world.mjs';

await test(async ({ page }) => {
  const { paths } = await furnished();
  const { session } = paths;
  // All of what is wrong, not the first of it.
  const wrong = {};
  const note = (where, found) => {
    if (found.length > 0) wrong[where] = found;
  };
  for (const path of [...Object.values(paths), `${session}?view=timeline`, `${session}?view=events`]) {
    for (const colorScheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme });
      await page.goto(base + path);
      await page.locator('h1').waitFor();
      note(`${path}, ${colorScheme}`, await problems(page));
    }
    note(`${path}, by keyboard`, await focusProblems(page));
    await page.setViewportSize({ width: 380, height: 800 });
    note(`${path}, narrow`, [...await problems(page), ...await fits(page)]);
    await page.setViewportSize({ width: 1280, height: 800 });
  }
  assert.ok(Object.keys(wrong).length === 0, JSON.stringify(wrong, null, 2));
});

// What a page must have for those who do not see it, do not use a mouse, or see colours badly. All of it is measured in the
// browser: the tree that it gives to screen readers, the styles that it computed, where the focus goes.
import assert from 'node:assert/strict';

const CONTROLS = new Set([
  'button', 'link', 'textbox', 'searchbox', 'combobox', 'listbox', 'option', 'checkbox', 'radio', 'switch', 'slider',
  'spinbutton', 'tab', 'menuitem', 'dialog', 'img', 'image', 'table', 'group', 'region', 'navigation', 'log', 'feed',
]);
// These need a name only where they have a purpose that is not plain from where they stand.
const MAY_BE_NAMELESS = new Set(['group', 'image', 'table']);

export async function accessible(page, where) {
  assert.deepEqual(await problems(page), [], where);
}

// What is wrong with a page, apart from its focus and its width.
export async function problems(page) {
  return [...await nameless(page), ...await page.evaluate(structure), ...await page.evaluate(contrast)];
}

// Controls without a name in the tree that the browser gives to screen readers.
async function nameless(page) {
  const client = await page.context().newCDPSession(page);
  const { nodes } = await client.send('Accessibility.getFullAXTree');
  await client.detach();
  const named = nodes.filter(({ ignored, role }) => !ignored && CONTROLS.has(role?.value) && !MAY_BE_NAMELESS.has(role.value));
  const found = named.filter(({ name }) => !name?.value?.trim());
  return found.map(({ role, backendDOMNodeId }) => `a ${role.value} without a name (node ${backendDOMNodeId})`);
}

// Runs in the page: labels, headings, landmarks, ids, tables.
function structure() {
  const problems = [];
  const all = (selector) => [...document.querySelectorAll(selector)];
  const seen = (element) => element.checkVisibility({ checkOpacity: true, visibilityProperty: true });
  const shown = (selector) => all(selector).filter(seen);
  const short = (element) => element.cloneNode(false).outerHTML.slice(0, 120);
  const complain = (what, element) => problems.push(element ? `${what}: ${short(element)}` : what);

  for (const field of shown('input:not([type=hidden]), select, textarea')) {
    const labelled = field.labels?.length || field.ariaLabel || field.ariaLabelledByElements?.length;
    if (!labelled) complain('a field without a label', field);
  }
  if (shown('h1').length !== 1) complain(`${shown('h1').length} headings of level 1`);
  let level = 0;
  for (const heading of shown('main h1, main h2, main h3, main h4, main h5, main h6')) {
    const here = Number(heading.tagName[1]);
    if (here > level + 1) complain(`a heading of level ${here} after one of level ${level}`, heading);
    level = here;
  }
  if (shown('main').length !== 1) complain('not one main landmark');
  for (const element of [...document.body.children].filter(seen)) {
    const fits = element.matches('main, header, nav, footer, aside, dialog, .skip, script, [role=status], [role=alert]');
    if (!fits && element.innerText.trim()) complain('outside of every landmark', element);
  }
  const ids = all('[id]').map((element) => element.id);
  for (const id of new Set(ids.filter((id, at) => ids.indexOf(id) !== at))) complain(`two elements have the id ${id}`);
  for (const name of ['for', 'aria-labelledby', 'aria-describedby', 'aria-controls', 'aria-activedescendant', 'list']) {
    for (const element of all(`[${name}]`)) {
      for (const id of element.getAttribute(name).split(/\s+/).filter(Boolean)) {
        if (!document.getElementById(id)) complain(`${name} names ${id}, which is not there`, element);
      }
    }
  }
  if (document.documentElement.lang !== 'en') complain('the page does not say in which language it is');
  if (!document.title.endsWith(' · lap') || document.title.startsWith(' ')) complain(`the title is ${document.title}`);
  for (const heading of shown('th')) if (!heading.scope) complain('a table heading without a scope', heading);
  for (const item of shown('li')) if (!item.closest('ul, ol, menu, [role=list]')) complain('an item of no list', item);
  for (const element of all('[tabindex]')) if (element.tabIndex > 0) complain('an order of its own for the focus', element);
  for (const element of shown('[aria-hidden=true]')) {
    if (element.matches('a, button, input') || element.querySelector('a, button, input')) complain('a hidden control', element);
  }
  // 24 pixels each way, or a link among words (WCAG 2.2, 2.5.8).
  for (const control of shown('button, input:not([type=hidden], [type=checkbox], [type=radio]), select, textarea, summary')) {
    const box = control.getBoundingClientRect();
    if (box.width > 1 && (box.height < 23.5 || box.width < 23.5)) complain(`only ${box.width} × ${box.height} pixels`, control);
  }
  return problems;
}

// Runs in the page: the contrast of every piece of text to what is behind it, and of every field's border.
function contrast() {
  const problems = [];
  const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
  // Whatever the notation of a colour is, the canvas knows its parts.
  const parts = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [red, green, blue, alpha] = canvas.getImageData(0, 0, 1, 1).data;
    return [red, green, blue, alpha / 255];
  };
  const over = ([r, g, b, a], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a), 1];
  const light = (colour) => {
    const [r, g, b] = colour.map((part) => (part /= 255) <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (one, other) => {
    const [dark, bright] = [light(one), light(other)].sort((a, b) => a - b);
    return (bright + 0.05) / (dark + 0.05);
  };
  const ground = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) {
      const style = getComputedStyle(at);
      if (style.backgroundImage !== 'none') problems.push(`text on an image: ${at.className || at.tagName}`);
      const colour = parts(style.backgroundColor);
      if (colour[3] > 0) layers.push(colour);
      if (colour[3] === 1) break;
    }
    const page = matchMedia('(prefers-color-scheme: dark)').matches ? [18, 18, 18, 1] : [255, 255, 255, 1];
    return layers.reduceRight((below, layer) => over(layer, below), page);
  };
  const opacity = (element) => {
    let product = 1;
    for (let at = element; at; at = at.parentElement) product *= Number(getComputedStyle(at).opacity);
    return product;
  };
  const measure = (element, style, text) => {
    if (element.closest(':disabled, [aria-disabled=true]')) return;
    const behind = ground(element);
    const colour = parts(style.color);
    colour[3] *= opacity(element);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const found = ratio(over(colour, behind), behind);
    if (found < (large ? 3 : 4.5)) {
      problems.push(`a contrast of ${found.toFixed(2)}: “${text.trim().slice(0, 40)}” (${element.tagName} ${element.className})`);
    }
  };
  const seen = (element) => element.checkVisibility({ visibilityProperty: true });
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (node.data.trim() && seen(element)) measure(element, getComputedStyle(element), node.data);
  }
  for (const field of [...document.querySelectorAll('input:not([type=hidden]), textarea, select')].filter(seen)) {
    if (field.placeholder) measure(field, getComputedStyle(field, '::placeholder'), field.placeholder);
    if (field.value && !field.matches('[type=checkbox], [type=radio]')) measure(field, getComputedStyle(field), field.value);
    const style = getComputedStyle(field);
    if (parseFloat(style.borderTopWidth) === 0 || field.matches('[type=checkbox], [type=radio], :disabled')) continue;
    const found = ratio(over(parts(style.borderTopColor), ground(field.parentElement)), ground(field.parentElement));
    if (found < 3) problems.push(`a border with a contrast of ${found.toFixed(2)}: ${field.name || field.id}`);
  }
  return [...new Set(problems)];
}

// Walks through a page with the Tab key: every control is reached, in the order of the page, and each shows that it is it.
export async function walk(page, where) {
  assert.deepEqual(await focusProblems(page), [], where);
}

// The same for who collects what is wrong.
export async function focusProblems(page) {
  const expected = await page.evaluate(() => {
    const focusable = 'a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex="0"]';
    // A list or a row of tabs is one stop; what moves within it has the index -1.
    const seen = (element) => element.checkVisibility({ visibilityProperty: true }) && !element.disabled && element.tabIndex >= 0;
    const found = [...document.querySelectorAll(focusable)].filter(seen);
    // Of radio buttons of one name the Tab key reaches one.
    const names = new Set();
    const reached = found.filter(({ type, name }) => type !== 'radio' || (!names.has(name) && names.add(name)));
    for (const [at, element] of reached.entries()) element.dataset.stop = at;
    document.activeElement?.blur();
    // Where the Tab key begins.
    getSelection().removeAllRanges();
    return reached.length;
  });
  const problems = [];
  const stops = new Set();
  for (let presses = 0; presses < expected + 3 && stops.size < expected; presses += 1) {
    await page.keyboard.press('Tab');
    const at = await page.evaluate(() => {
      const element = document.activeElement;
      if (!element || element === document.body) return null;
      const style = getComputedStyle(element);
      const outlined = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 1;
      const box = element.getBoundingClientRect();
      const inside = box.bottom > 0 && box.right > 0 && box.top < innerHeight && box.left < innerWidth;
      return { stop: element.dataset.stop, marked: outlined || style.boxShadow !== 'none', inside, html: element.cloneNode(false).outerHTML.slice(0, 120) };
    });
    if (at === null) continue;
    if (at.stop !== undefined) stops.add(at.stop);
    if (!at.marked) problems.push(`the focus is not seen on ${at.html}`);
    if (!at.inside) problems.push(`the focus is outside of the window on ${at.html}`);
  }
  for (let stop = 0; stop < expected; stop += 1) {
    if (!stops.has(String(stop))) {
      const html = await page.evaluate((stop) => document.querySelector(`[data-stop="${stop}"]`)?.cloneNode(false).outerHTML.slice(0, 120), stop);
      if (html) problems.push(`the Tab key does not reach ${html}`);
    }
  }
  return [...new Set(problems)];
}

// What has to be scrolled sideways.
export async function fits(page) {
  return page.evaluate(() => {
    const { scrollWidth } = document.documentElement;
    if (scrollWidth <= innerWidth) return [];
    const over = [...document.querySelectorAll('body *')].filter((element) => element.getBoundingClientRect().right > innerWidth + 1);
    const widest = over.map((element) => element.cloneNode(false).outerHTML.slice(0, 100)).slice(0, 5);
    return [`${scrollWidth} pixels in a window of ${innerWidth}: ${widest.join(' ')}`];
  });
}

// The demo page in a real browser.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { chromium } from 'playwright-core';
import { BACKENDS } from './lib/backends.mjs';
import { downloadPhoto, makeJpeg, listPhotos, makeFeedId, makePng, uploadPhoto } from './lib/photos.mjs';
import { startServe } from './lib/aws-account.mjs';
import { findFreePort } from './lib/ports.mjs';
import { startDev } from './lib/server.mjs';
import { DEADLINE_MS } from './lib/wait.mjs';

const CHROMIUM_ARGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync'];

const STARTERS = {
  dev: () => startDev(),
  // The bucket has another origin: its CORS rules and the Content-Security-Policy of the page must allow each other.
  serve: async () => {
    const PORT = String(await findFreePort());
    return startServe({
      env: { PORT, DEMO_PAGE: 'true' },
      parameters: { AllowedOrigins: `http://127.0.0.1:${PORT}` },
    });
  },
};

const statusOf = (page) => page.getByRole('status');
const photosOf = (page) => page.getByRole('main').locator('ul > li').filter({ has: page.getByRole('button', { name: /^Delete/ }) });

for (const backend of BACKENDS) describe(`the demo page, ${backend}`, () => testDemoPage(STARTERS[backend]));

function testDemoPage(startServer) {
  let server;
  let browser;
  before(async () => {
    server = await startServer();
    browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: CHROMIUM_ARGS });
  });
  after(async () => {
    await browser?.close();
    await server?.stop();
  });

  /**
   * Opens the page in a browser context of its own, and the feed in it. The test fails on console errors,
   * requests to other hosts and CSP violations that do not match `expected`.
   */
  async function openPage(t, feed, expected = /^$/) {
    const context = await browser.newContext();
    const page = await context.newPage();
    page.setDefaultTimeout(DEADLINE_MS);
    const unexpected = [];
    page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) unexpected.push(message.text());
    });
    page.on('pageerror', (error) => unexpected.push(error.message));
    page.on('request', (request) => {
      const { protocol, hostname } = new URL(request.url());
      if (protocol.startsWith('http') && hostname !== '127.0.0.1') unexpected.push(`requests ${request.url()}`);
    });
    await page.addInitScript(() => {
      document.addEventListener('securitypolicyviolation', (event) => {
        console.error(`CSP: ${event.violatedDirective} ${event.blockedURI}`);
      });
    });
    t.after(async () => {
      await context.close();
      assert.deepEqual(unexpected.filter((message) => !expected.test(message)), []);
    });
    const response = await page.goto(server.url);
    assert.match(response.headers()['content-security-policy'] ?? '', /default-src '(self|none)'/);
    if (feed) {
      await page.getByLabel('Feed', { exact: true }).fill(feed);
      await page.getByRole('button', { name: 'Open' }).click();
      await statusOf(page).filter({ hasText: 'Live' }).waitFor();
    }
    return page;
  }

  const waitForPhotos = (page, count) => page.waitForFunction(
    (expected) => {
      const images = [...document.querySelectorAll('#photos img')];
      return images.length === expected && images.every((image) => image.complete && image.naturalWidth > 0);
    },
    count,
  );

  test('a photo chosen in one page appears in both and, deleted in the other, disappears from both', async (t) => {
    const feed = makeFeedId('Größe 📷');
    const [one, other] = [await openPage(t, feed), await openPage(t, feed)];
    const bytes = makeJpeg({ width: 320, height: 200 });
    await one.locator('input[type=file]').setInputFiles({ name: 'IMG_1.JPG', mimeType: 'image/jpeg', buffer: bytes });
    for (const page of [one, other]) await waitForPhotos(page, 1);
    const { photos: [stored] } = await listPhotos(server.url, feed);
    assert.deepEqual(await downloadPhoto(stored.url), bytes);

    await photosOf(other).getByRole('button', { name: /^Delete/ }).click();
    await other.getByRole('alertdialog').getByRole('button', { name: 'Delete' }).click();
    for (const page of [one, other]) await waitForPhotos(page, 0);
    assert.deepEqual((await listPhotos(server.url, feed)).photos, []);
  });

  test('photos dropped on the page appear in both', async (t) => {
    const feed = makeFeedId();
    const [one, other] = [await openPage(t, feed), await openPage(t, feed)];
    const files = [makeJpeg({ width: 64, height: 64 }), makePng({ width: 64, height: 64 })].map((bytes) => bytes.toString('base64'));
    const dropped = await one.evaluateHandle(([first, second]) => {
      const bytesOf = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
      const transfer = new DataTransfer();
      transfer.items.add(new File([bytesOf(first)], 'a.jpg', { type: 'image/jpeg' }));
      transfer.items.add(new File([bytesOf(second)], 'b.png', { type: 'image/png' }));
      return transfer;
    }, files);
    await one.dispatchEvent('main', 'dragenter', { dataTransfer: dropped });
    await one.dispatchEvent('main', 'drop', { dataTransfer: dropped });
    for (const page of [one, other]) await waitForPhotos(page, 2);
    assert.equal(await one.getByRole('list', { name: 'Uploads' }).getByRole('listitem').count(), 0, 'an announced photo is no longer listed as an upload');
  });

  test('existing photos are shown newest first, and new ones before them', async (t) => {
    const feed = makeFeedId();
    const first = await uploadPhoto(server.url, feed);
    const page = await openPage(t, feed);
    await waitForPhotos(page, 1);
    const second = await uploadPhoto(server.url, feed);
    await waitForPhotos(page, 2);
    const sources = await page.locator('#photos img').evaluateAll((images) => images.map((image) => decodeURIComponent(new URL(image.src).pathname)));
    assert.deepEqual(sources.map((path) => path.split('/').slice(2).join('/')), [second, first].map(({ key }) => key));
  });

  test('a refused file is shown with a retry button, and no photo appears', async (t) => {
    const page = await openPage(t, makeFeedId(), /status of 415/);
    await page.locator('input[type=file]').setInputFiles({ name: 'x.svg', mimeType: 'image/svg+xml', buffer: Buffer.from('<svg xmlns="http://www.w3.org/2000/svg"/>') });
    await page.getByRole('button', { name: 'Retry' }).waitFor();
    assert.equal(await photosOf(page).count(), 0);
  });

  test('every control has an accessible name and can be reached by keyboard', async (t) => {
    const feed = makeFeedId();
    await uploadPhoto(server.url, feed);
    const page = await openPage(t, feed);
    await waitForPhotos(page, 1);
    const nameless = await page.evaluate(() => [...document.querySelectorAll('button, a, input')]
      .filter((control) => control.checkVisibility())
      .filter((control) => !(control.textContent.trim() || control.getAttribute('aria-label') || control.labels?.length || control.querySelector('img[alt]:not([alt=""])')))
      .map((control) => control.outerHTML));
    assert.deepEqual(nameless, []);
    await page.getByLabel('Feed', { exact: true }).focus();
    await page.keyboard.press('Tab');
    assert.equal(await page.evaluate(() => document.activeElement.textContent.trim()), 'Open');
  });

  test('the browser\'s own EventSource receives imageUploaded', async (t) => {
    const feed = makeFeedId();
    const page = await openPage(t);
    await page.evaluate((address) => new Promise((resolve) => {
      globalThis.stream = new EventSource(address);
      globalThis.uploaded = new Promise((resolveUploaded) => {
        globalThis.stream.addEventListener('imageUploaded', (event) => resolveUploaded({ id: event.lastEventId, ...JSON.parse(event.data) }));
      });
      globalThis.stream.addEventListener('joined', resolve);
    }), `/v1/feeds/${feed}/events`);
    const { key } = await uploadPhoto(server.url, feed);
    const event = await page.evaluate(() => globalThis.uploaded);
    assert.equal(event.key, key);
    assert.equal(event.id, event.cursor);
    await page.evaluate(() => globalThis.stream.close());
  });
}

// Uppy with its S3 plugin, in a real browser, against the Companion-compatible endpoints.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';
import { build } from 'esbuild';
import { chromium } from 'playwright-core';
import { describeOnEachBackend } from './lib/backends.mjs';
import { closeAfterTest, connectSocketIo4 } from './lib/clients.mjs';
import { downloadPhoto, makeJpeg, listPhotos, makeFeedId } from './lib/photos.mjs';
import { DEADLINE_MS, waitUntil } from './lib/wait.mjs';

const CHROMIUM_ARGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync'];
const PART_BYTES = 5 * 1024 * 1024;

/** Serves a page with nothing but Uppy, from an origin of its own. */
async function serveUppyPage() {
  const { outputFiles: [script] } = await build({
    stdin: {
      contents: `import Uppy from "@uppy/core"; import AwsS3 from "@uppy/aws-s3"; import GoldenRetriever from "@uppy/golden-retriever";
        Object.assign(globalThis, { Uppy, AwsS3, GoldenRetriever });`,
      resolveDir: import.meta.dirname,
    },
    bundle: true, write: false, format: 'iife',
  });
  const page = createServer(({ url }, response) => {
    const isScript = url === '/uppy.js';
    response.writeHead(200, { 'content-type': isScript ? 'text/javascript' : 'text/html' });
    response.end(isScript ? script.contents : '<!doctype html><title>Uppy</title><link rel="icon" href="data:,"><script src="/uppy.js"></script>');
  }).listen(0, '127.0.0.1');
  await once(page, 'listening');
  return page;
}

describeOnEachBackend('Uppy', (backend) => {
  let site;
  let browser;
  before(async () => {
    site = await serveUppyPage();
    browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: CHROMIUM_ARGS });
  });
  after(async () => {
    await browser?.close();
    site?.close();
  });

  /** Opens the page with an Uppy for `feed`, and records its requests. */
  async function openPage(t, feed) {
    const context = await browser.newContext();
    t.after(() => context.close());
    const page = await context.newPage();
    page.setDefaultTimeout(3 * DEADLINE_MS);
    const requests = [];
    page.on('request', (request) => requests.push(`${request.method()} ${new URL(request.url()).pathname}`));
    await page.goto(`http://127.0.0.1:${site.address().port}/`);
    await startUppy(page, feed);
    return { page, requests };
  }

  /** Starts an Uppy that stores its files in the browser, so that a new one finds them after a reload. */
  const startUppy = (page, feed) => page.evaluate((companionEndpoint) => {
    globalThis.uppy = new Uppy().use(AwsS3, {
      companionEndpoint,
      shouldUseMultipart: (file) => file.size > 5 * 1024 * 1024,
      getChunkSize: () => 5 * 1024 * 1024,
    });
    globalThis.restored = new Promise((resolve) => { uppy.on('restored', resolve); });
    globalThis.completed = new Promise((resolve) => { uppy.on('complete', resolve); });
    uppy.use(GoldenRetriever, { indexedDB: { maxFileSize: 100 * 1024 * 1024 } });
    globalThis.progress = { parts: 0, errors: [] };
    uppy.on('s3-multipart:part-uploaded', () => { progress.parts += 1; });
    uppy.on('upload-error', (file, error) => progress.errors.push(error.message));
  }, `${backend.url}/v1/feeds/${encodeURIComponent(feed)}`);

  /** Whether the browser has stored the file of that size and the id of its multipart upload. */
  const isKept = (page, size) => page.evaluate(async (size) => {
    const done = (request) => new Promise((resolve, reject) => {
      Object.assign(request, { onsuccess: () => resolve(request.result), onerror: () => reject(request.error) });
    });
    const records = [];
    for (const { name } of await indexedDB.databases()) {
      const database = await done(indexedDB.open(name));
      for (const store of database.objectStoreNames) records.push(...await done(database.transaction(store).objectStore(store).getAll()));
      database.close();
    }
    return records.some(({ data }) => data?.size === size) && JSON.stringify(records).includes('uploadId');
  }, size);

  /** Adds a JPEG of `size` bytes: a valid image, then padding. */
  const addFile = (page, size) => page.evaluate(async ([head, size]) => {
    const bytes = new Uint8Array(size).fill(7);
    bytes.set(Uint8Array.from(atob(head), (c) => c.charCodeAt(0)));
    uppy.addFile({ name: 'IMG_1.JPG', type: 'image/jpeg', data: new Blob([bytes], { type: 'image/jpeg' }), meta: { caption: 'By Uppy 🌻' } });
  }, [makeJpeg({ width: 40, height: 30 }).toString('base64'), size]);

  async function joinFeed(t, feed) {
    const client = closeAfterTest(t, connectSocketIo4(backend.url));
    await client.request('join', feed);
    return client;
  }

  async function assertArrived(client, feed, size) {
    const event = await client.inbox.waitFor('imageUploaded');
    assert.equal(event.size, size);
    assert.deepEqual([event.width, event.height, event.filename, event.caption], [40, 30, 'IMG_1.JPG', 'By Uppy 🌻']);
    assert.equal((await downloadPhoto(event.url)).length, size);
    assert.deepEqual((await listPhotos(backend.url, feed)).photos.map(({ key }) => key), [event.key]);
    return event;
  }

  test('sends a small photo by POST', async (t) => {
    const feed = makeFeedId('Größe 1');
    const client = await joinFeed(t, feed);
    const { page, requests } = await openPage(t, feed);
    await addFile(page, 50_000);
    const { successful, failed } = await page.evaluate(async () => {
      const result = await uppy.upload();
      return { successful: result.successful.map(({ response }) => response), failed: result.failed.length, errors: progress.errors };
    });
    assert.equal(failed, 0);
    const event = await assertArrived(client, feed, 50_000);
    assert.equal(successful[0].body.key, event.key);
    assert.ok(!requests.some((request) => request.includes('/multipart')), requests.join('\n'));
  });

  test('sends 30 MB in parts', async (t) => {
    const feed = makeFeedId();
    const client = await joinFeed(t, feed);
    const { page, requests } = await openPage(t, feed);
    const size = 30_000_000;
    await addFile(page, size);
    const result = await page.evaluate(async () => ({ failed: (await uppy.upload()).failed.length, ...globalThis.progress }));
    assert.deepEqual(result, { failed: 0, parts: Math.ceil(size / PART_BYTES), errors: [] });
    const event = await assertArrived(client, feed, size);
    assert.match(event.eTag, /-6$/);
    assert.ok(requests.some((request) => request.endsWith('/complete')));
  });

  test('uploads only the missing parts after a pause', async (t) => {
    const feed = makeFeedId();
    const client = await joinFeed(t, feed);
    const { page, requests } = await openPage(t, feed);
    const size = 30_000_000;
    await addFile(page, size);
    await page.evaluate(() => new Promise((resolve) => {
      uppy.on('s3-multipart:part-uploaded', () => { if (progress.parts === 2) { uppy.pauseAll(); resolve(); } });
      globalThis.uploading = uppy.upload();
    }));
    const before = requests.length;
    const failed = await page.evaluate(async () => {
      uppy.resumeAll();
      return (await globalThis.uploading).failed.length;
    });
    assert.equal(failed, 0);
    await assertArrived(client, feed, size);
    const listed = requests.slice(before).find((request) => /^GET .*\/multipart\/[^/]+$/.test(request));
    assert.ok(listed, 'it lists the uploaded parts');
    const parts = requests.filter((request) => /^GET .*\/multipart\/[^/]+\/\d+$/.test(request)).length;
    assert.ok(parts <= Math.ceil(size / PART_BYTES) + 1, `${parts} parts were signed`);
  });

  test('uploads only the missing parts after the page was reloaded', async (t) => {
    const feed = makeFeedId();
    const client = await joinFeed(t, feed);
    const { page, requests } = await openPage(t, feed);
    const size = 30_000_000;
    await addFile(page, size);
    await page.evaluate(() => new Promise((resolve) => {
      uppy.on('s3-multipart:part-uploaded', () => { if (progress.parts === 2) { uppy.pauseAll(); resolve(); } });
      uppy.upload().catch(() => {});
    }));
    await waitUntil(() => isKept(page, size), 'the browser to store the file');
    await page.reload();
    await startUppy(page, feed);
    const { failed, errors } = await page.evaluate(async () => {
      await restored;
      uppy.emit('restore-confirmed');
      return { failed: (await completed).failed.length, errors: progress.errors };
    });
    assert.deepEqual({ failed, errors }, { failed: 0, errors: [] });
    await assertArrived(client, feed, size);
    assert.equal(requests.filter((request) => /^POST .*\/multipart$/.test(request)).length, 1, 'it continues the same upload');
    assert.ok(requests.some((request) => /^GET .*\/multipart\/[^/]+$/.test(request)), 'it lists the uploaded parts');
    const parts = requests.filter((request) => /^GET .*\/multipart\/[^/]+\/\d+$/.test(request)).length;
    assert.ok(parts <= Math.ceil(size / PART_BYTES) + 1, `${parts} parts were signed`);
  });

  test('aborts a cancelled upload', async (t) => {
    const feed = makeFeedId();
    const { page, requests } = await openPage(t, feed);
    await addFile(page, 30_000_000);
    await page.evaluate(() => new Promise((resolve) => {
      uppy.on('s3-multipart:part-uploaded', () => { uppy.cancelAll(); resolve(); });
      uppy.upload().catch(() => {});
    }));
    await waitUntil(() => requests.some((request) => /^DELETE .*\/multipart\//.test(request)), 'the abort');
    assert.deepEqual((await listPhotos(backend.url, feed)).photos, []);
  });
}, { parameters: { AllowedOrigins: '*' }, env: { ALLOWED_ORIGINS: '*' } });

// The programs in examples/, as a reader would run them.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { copyFile, readFile, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { basename, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { PYTHON } from './lib/clients.mjs';
import { listAllKeys, listPhotos, makeFeedId, makeJpeg, makePng, removePhoto, uploadPhoto } from './lib/photos.mjs';
import { ChildProcess, runCommand } from './lib/process.mjs';
import { createTemporaryFolder, startDev } from './lib/server.mjs';
import { DEADLINE_MS, waitUntil } from './lib/wait.mjs';

const CHROMIUM_ARGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync'];
const findExample = (name) => fileURLToPath(new URL(`../../examples/${name}`, import.meta.url));

let server;
before(async () => {
  server = await startDev();
});
after(() => server?.stop());

describe('watch-feed.mjs', () => {
  /** A folder with the example and the packages that `npm install` would put beside it. */
  async function installWatcher(t) {
    const folder = await createTemporaryFolder(t);
    await copyFile(findExample('watch-feed.mjs'), join(folder, 'watch-feed.mjs'));
    await symlink(fileURLToPath(new URL('node_modules', import.meta.url)), join(folder, 'node_modules'));
    return folder;
  }

  function startWatcher(t, folder, feed) {
    const watcher = new ChildProcess(process.execPath, ['watch-feed.mjs', server.url, feed, 'state.json'], { cwd: folder });
    t.after(() => watcher.stop('SIGKILL'));
    return watcher;
  }

  const linesOf = (watcher) => watcher.log.split('\n').filter((line) => line !== '');

  const waitForLine = (watcher, line) =>
    watcher.rejectOnExit(waitUntil(() => linesOf(watcher).includes(line), `the line ${line}`), `the line ${line}`);

  /** Waits until exactly these photos are stored. */
  async function waitForState(folder, keys) {
    await waitUntil(async () => {
      const state = await readFile(join(folder, 'state.json'), 'utf8').then(JSON.parse).catch(() => undefined);
      return state?.cursor && state.keys.toSorted().join() === keys.toSorted().join();
    }, `the state to hold ${keys.length} photos`);
  }

  test('prints the photos that exist, then each change', async (t) => {
    const feed = makeFeedId('Größe 1');
    const first = await uploadPhoto(server.url, feed);
    await waitUntil(async () => (await listAllKeys(server.url, feed, 50)).length === 1, 'the photo to be listed');
    const watcher = startWatcher(t, await installWatcher(t), feed);
    await waitForLine(watcher, `+ ${first.key}`);
    const second = await uploadPhoto(server.url, feed);
    await waitForLine(watcher, `+ ${second.key}`);
    await removePhoto(server.url, feed, first.key);
    await waitForLine(watcher, `- ${first.key}`);
    // The list's cursor is older than the list, so the join may return the first photo's event again.
    assert.deepEqual([...new Set(linesOf(watcher))], [`+ ${first.key}`, `+ ${second.key}`, `- ${first.key}`]);
  });

  test('started again, prints what happened in between and nothing twice', async (t) => {
    const feed = makeFeedId();
    const folder = await installWatcher(t);
    const watcher = startWatcher(t, folder, feed);
    await waitForState(folder, []);
    const first = await uploadPhoto(server.url, feed);
    await waitForState(folder, [first.key]);
    await watcher.stop('SIGKILL');

    const second = await uploadPhoto(server.url, feed);
    await removePhoto(server.url, feed, first.key);
    const again = startWatcher(t, folder, feed);
    // Events of different photos have no order.
    const expected = [`+ ${second.key}`, `- ${first.key}`];
    for (const line of expected) await waitForLine(again, line);
    await waitForState(folder, [second.key]);
    assert.deepEqual(linesOf(again).toSorted(), expected);
  });

  test('lists the feed if the log does not reach back to its position', async (t) => {
    const feed = makeFeedId();
    const folder = await installWatcher(t);
    const { key } = await uploadPhoto(server.url, feed);
    const state = { cursor: 'of-another-log', keys: [`${feed}/removed-long-ago.jpg`] };
    await writeFile(join(folder, 'state.json'), JSON.stringify(state));
    const watcher = startWatcher(t, folder, feed);
    await waitForLine(watcher, `+ ${key}`);
    await waitForState(folder, [key]);
    assert.deepEqual([...new Set(linesOf(watcher))], [`- ${state.keys[0]}`, `+ ${key}`]);
  });
});

describe('upload_photos.py', () => {
  const uploadFiles = (feed, ...files) => runCommand(PYTHON, [findExample('upload_photos.py'), server.url, feed, ...files]);

  async function writePhoto(t, name, bytes) {
    const file = join(await createTemporaryFolder(t), name);
    await writeFile(file, bytes);
    return file;
  }

  test('uploads each file and returns once it is announced', async (t) => {
    const feed = makeFeedId('Größe 1');
    const files = [await writePhoto(t, 'beach.jpg', makeJpeg()), await writePhoto(t, 'lake 1.png', makePng())];
    const printed = await uploadFiles(feed, ...files);
    const keys = printed.trim().split('\n').map((line) => line.split(' is ')[1]);
    assert.deepEqual(keys.toSorted(), await listAllKeys(server.url, feed, 50));
    assert.deepEqual(keys.map((key) => key.split('.')[1]), ['jpg', 'png']);
  });

  test('prints why a file is refused', async (t) => {
    const file = await writePhoto(t, 'drawing.svg', '<svg xmlns="http://www.w3.org/2000/svg"/>');
    await assert.rejects(uploadFiles(makeFeedId(), file), /the server refused: .*image\/jpeg/s);
  });
});

describe('album.html', () => {
  let site;
  let browser;
  before(async () => {
    site = await startSite();
    browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: CHROMIUM_ARGS });
  });
  after(async () => {
    await browser?.close();
    site?.close();
  });

  /** Serves the page from an origin of its own, with the address of this test's server in it. */
  async function startSite() {
    const page = (await readFile(findExample('album.html'), 'utf8')).replaceAll('http://127.0.0.1:3000', server.url);
    const site = createServer((request, response) => {
      response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' });
      response.end(page);
    }).listen(0, '127.0.0.1');
    await once(site, 'listening');
    return site;
  }

  test('shows, uploads and removes photos', async (t) => {
    const feed = makeFeedId('Größe 1');
    const { key } = await uploadPhoto(server.url, feed);
    const context = await browser.newContext();
    t.after(() => context.close());
    const page = await context.newPage();
    page.setDefaultTimeout(DEADLINE_MS);
    const errors = [];
    page.on('pageerror', (error) => errors.push(error.message));
    page.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
    await page.goto(`http://127.0.0.1:${site.address().port}/album.html?${new URLSearchParams({ feed })}`);

    const waitForImages = (count) => page.waitForFunction((expected) => {
      const images = [...document.images];
      return images.length === expected && images.every(({ complete, naturalWidth }) => complete && naturalWidth > 0);
    }, count);
    await waitForImages(1);
    const file = join(await createTemporaryFolder(t), 'lake.png');
    await writeFile(file, makePng());
    await page.getByLabel('Add photos').setInputFiles(file);
    await waitForImages(2);
    assert.equal(await page.getByRole('img').first().getAttribute('alt'), basename(file));

    await page.getByRole('button', { name: 'Remove' }).last().click();
    await waitForImages(1);
    const { photos } = await listPhotos(server.url, feed);
    assert.equal(photos.length, 1);
    assert.notEqual(photos[0].key, key);
    assert.deepEqual(errors, []);
  });
});

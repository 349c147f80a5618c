// Watches a PhotoShare feed and prints a line for each change: `+ key` for a photo, `- key` for a removal.
// Photos and position are stored in a file. Started again, it prints what happened in between and continues.
//
//     npm install socket.io-client
//     node watch-feed.mjs http://127.0.0.1:3000 summer summer.json
//
// Set PHOTOSHARE_TOKEN if the server requires a token. docs/clients.md explains each step.

import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { io } from 'socket.io-client';

const [server = 'http://127.0.0.1:3000', feed = 'summer', stateFile = 'watch-feed.json'] = process.argv.slice(2);
const token = process.env.PHOTOSHARE_TOKEN;

// The keys of the feed's photos, and the cursor up to which they are complete.
const stored = existsSync(stateFile) ? JSON.parse(readFileSync(stateFile, 'utf8')) : { keys: [] };
let keys = new Set(stored.keys);
let { cursor } = stored;
// Whether live events continue from `cursor`. They do not between a connect and the response to its join.
let following = false;

const socket = io(server, { transports: ['websocket'], auth: token ? { token } : {} });
socket.on('connect', () => (cursor ? join() : list()));
socket.on('imageUploaded', (data) => apply({ event: 'imageUploaded', data }));
socket.on('imageRemoved', (data) => apply({ event: 'imageRemoved', data }));
// The log was lost while connected. Every client receives this at once, so the lists are spread.
socket.on('joined', () => {
  following = false;
  later(2000 * Math.random(), list);
});
// In both cases socket.io-client does not connect again by itself: the token is invalid or has expired.
socket.on('connect_error', (error) => socket.active || fail(error.message));
socket.on('disconnect', (reason) => socket.active || fail(reason));

/** Joins at the stored position. The response and the events after it contain all that followed it. */
function join() {
  const connection = socket.id;
  following = false;
  socket.timeout(15_000).emit('join', { feed, cursor }, (error, answer) => {
    if (socket.id !== connection) return; // the next connection sends its own join
    if (error || [429, 503].includes(answer.status)) {
      later(1000 * (answer?.retryAfter ?? 1) * (1 + Math.random()), join);
    } else if (answer.status) {
      fail(answer.detail);
    } else if (answer.recovered) {
      // Inside the callback: the next live event may follow immediately.
      answer.events.forEach(apply);
      following = true;
      save(answer.cursor);
    } else {
      later(2000 * Math.random(), list); // the log does not reach back to the cursor
    }
  });
}

/** Reads the whole feed, prints what differs from the stored photos, and joins at the list's position. */
async function list() {
  const connection = socket.id;
  following = false;
  try {
    // Without live events in between, the list is the newest state. The join returns what follows it.
    await socket.timeout(15_000).emitWithAck('leave', feed);
    const current = await readFeed();
    if (socket.id !== connection) return;
    for (const key of keys) if (!current.keys.has(key)) print('-', key);
    for (const key of current.keys) if (!keys.has(key)) print('+', key);
    keys = current.keys;
    save(current.cursor);
    join();
  } catch (error) {
    console.error(`failed to list ${feed}: ${error.message}`);
    if (socket.id === connection) later(2000 + 2000 * Math.random(), list);
  }
}

/** Reads all pages. The first page's cursor is older than the list, so no event falls between the two. */
async function readFeed() {
  const found = { keys: new Set(), cursor: undefined };
  let before;
  do {
    const query = new URLSearchParams({ limit: 200, ...(before && { before }) });
    const response = await fetch(`${server}/v1/feeds/${encodeURIComponent(feed)}/photos?${query}`, {
      headers: token ? { authorization: `Bearer ${token}` } : {},
    });
    const page = await response.json();
    if (!response.ok) throw new Error(page.detail);
    for (const { key } of page.photos) found.keys.add(key);
    found.cursor ??= page.cursor;
    before = page.before;
  } while (before);
  return found;
}

function apply({ event, data }) {
  if (event === 'imageUploaded') {
    keys.add(data.key);
    print('+', data.key);
  } else if (keys.delete(data.key)) {
    print('-', data.key);
  }
  if (following) save(data.cursor);
}

/** Stores photos and position together, in one step. */
function save(position) {
  cursor = position;
  writeFileSync(`${stateFile}.new`, JSON.stringify({ cursor, keys: [...keys] }));
  renameSync(`${stateFile}.new`, stateFile);
}

/** Calls `action` after a pause, unless the connection ended in between. */
function later(ms, action) {
  const connection = socket.id;
  setTimeout(() => socket.id === connection && action(), ms);
}

function print(sign, key) {
  console.log(`${sign} ${key}`);
}

function fail(reason) {
  console.error(`the server refused: ${reason}`);
  process.exit(1);
}

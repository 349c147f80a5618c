// Small real photos, and the requests that bring them into the bucket and list them.

import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import { crc32, deflateSync } from 'node:zlib';

/** The id of a feed that no other test uses. */
export function makeFeedId(name = 'feed') {
  return `${name}-${randomUUID().slice(0, 8)}`;
}

/** A grey 8-bit baseline JPEG; the comment makes its bytes unique. */
export function makeJpeg({ width = 8, height = 8, comment = randomBytes(8).toString('hex') } = {}) {
  const segment = (marker, ...bytes) => {
    const body = Buffer.from(bytes.flat());
    const head = Buffer.from([0xff, marker, 0, 0]);
    head.writeUInt16BE(body.length + 2, 2);
    return Buffer.concat([head, body]);
  };
  const be16 = (n) => [n >> 8, n & 0xff];
  // One code of one bit: DC difference 0, and AC end of block. So each 8x8 block is the bits 00.
  const onlySymbol0 = (table) => segment(0xc4, table, [1, ...Array(15).fill(0)], 0);
  const blocks = Math.ceil(width / 8) * Math.ceil(height / 8);
  const bits = '00'.repeat(blocks).padEnd(Math.ceil(blocks / 4) * 8, '1');
  const scan = Buffer.from(bits.match(/.{8}/g).map((byte) => Number.parseInt(byte, 2)));
  return Buffer.concat([
    Buffer.from([0xff, 0xd8]),
    segment(0xe0, [...Buffer.from('JFIF\0')], 1, 1, 0, be16(1), be16(1), 0, 0),
    segment(0xfe, [...Buffer.from(comment)]),
    segment(0xdb, 0, Array(64).fill(1)),
    segment(0xc0, 8, be16(height), be16(width), 1, 1, 0x11, 0),
    onlySymbol0(0x00),
    onlySymbol0(0x10),
    segment(0xda, 1, 1, 0x00, 0, 63, 0),
    scan,
    Buffer.from([0xff, 0xd9]),
  ]);
}

/** An 8-bit greyscale PNG of one shade. */
export function makePng({ width = 8, height = 8, shade = randomBytes(1)[0] } = {}) {
  const chunk = (type, data) => {
    const body = Buffer.concat([Buffer.from(type), data]);
    const length = Buffer.alloc(4);
    length.writeUInt32BE(data.length);
    const sum = Buffer.alloc(4);
    sum.writeUInt32BE(crc32(body));
    return Buffer.concat([length, body, sum]);
  };
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width, 0);
  head.writeUInt32BE(height, 4);
  head[8] = 8;
  const rows = Buffer.concat(Array(height).fill(Buffer.concat([Buffer.from([0]), Buffer.alloc(width, shade)])));
  return Buffer.concat([
    Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]),
    chunk('IHDR', head),
    chunk('IDAT', deflateSync(rows)),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}

/** A photo to upload: its bytes and their type. */
export function makePhoto() {
  return { contentType: 'image/jpeg', bytes: makeJpeg() };
}

/** The address of `/v1/feeds/{feed}` on the given server, followed by `rest`. */
export function buildFeedUrl(base, feed, rest = '') {
  return `${base}/v1/feeds/${encodeURIComponent(feed)}${rest}`;
}

/** The part of the key that the server's addresses call `{name}`. */
export function objectNameOf(feed, key) {
  assert.ok(key.startsWith(`${feed}/`), `${key} is a key of ${feed}`);
  return key.slice(feed.length + 1);
}

/** Requests a grant; the raw response. */
export function postGrantRequest(base, feed, request) {
  return fetch(buildFeedUrl(base, feed, '/uploads'), {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: typeof request === 'string' ? request : JSON.stringify(request),
  });
}

/** A grant for these bytes; fails when the server refuses. */
export async function createGrant(base, feed, { contentType, bytes }, more = {}) {
  const response = await postGrantRequest(base, feed, { contentType, size: bytes.length, ...more });
  const grant = await response.json();
  assert.equal(response.status, 201, JSON.stringify(grant));
  return grant;
}

/** PUTs with only the grant's url and headers; fetch adds Host and Content-Length itself. */
export function putPhoto({ url, headers }, bytes) {
  return fetch(url, { method: 'PUT', headers, body: bytes });
}

/** Requests a grant and PUTs the photo. Returns the grant. */
export async function uploadPhoto(base, feed, picture = makePhoto(), more = {}) {
  const grant = await createGrant(base, feed, picture, more);
  const response = await putPhoto(grant, picture.bytes);
  assert.equal(response.status, 200, await response.text());
  return grant;
}

/** Requests the photo's removal. */
export async function removePhoto(base, feed, key) {
  const response = await fetch(buildFeedUrl(base, feed, `/photos/${encodeURIComponent(objectNameOf(feed, key))}`), {
    method: 'DELETE',
  });
  await response.arrayBuffer();
  assert.equal(response.status, 202);
}

/** One page of the feed's photos. */
export async function listPhotos(base, feed, query = {}) {
  const response = await fetch(buildFeedUrl(base, feed, `/photos?${new URLSearchParams(query)}`));
  const page = await response.json();
  assert.equal(response.status, 200, JSON.stringify(page));
  return page;
}

/** The keys of every page, in the list's order. */
export async function listAllKeys(base, feed, limit) {
  const keys = [];
  let before;
  do {
    const page = await listPhotos(base, feed, { limit, ...(before !== undefined && { before }) });
    keys.push(...page.photos.map(({ key }) => key));
    before = page.before;
  } while (before !== undefined);
  return keys;
}

/** The bytes behind a view URL. */
export async function downloadPhoto(url) {
  const response = await fetch(url);
  const bytes = Buffer.from(await response.arrayBuffer());
  assert.equal(response.status, 200, bytes.toString());
  return bytes;
}

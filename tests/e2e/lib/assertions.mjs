// Assertions on the shapes that the contract defines: times, cursors, keys, events, answers and problems.

import assert from 'node:assert/strict';

const RFC_3339_UTC = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/;
const ISSUED_NAME = /^0[0-9a-f]{12}-[0-9a-f]{20}\.[a-z]+$/;
const VIEW_URL_ROUNDING_SECS = 300;

export function assertTime(value, what) {
  assert.equal(typeof value, 'string', what);
  assert.match(value, RFC_3339_UTC, what);
  assert.ok(!Number.isNaN(Date.parse(value)), `${what}: ${value}`);
}

export function assertCursor(cursor) {
  assert.equal(typeof cursor, 'string', 'cursor');
  assert.match(cursor, /^[\x20-\x7e]{1,128}$/, 'a cursor is at most 128 ASCII characters');
}

/** An issued key: of that feed, with a name that holds its time and nothing that a client sent. */
export function assertIssuedKey(key, feed, extension = 'jpg') {
  assert.equal(typeof key, 'string', 'key');
  assert.ok(key.startsWith(`${feed}/`), `${key} is a key of ${feed}`);
  const name = key.slice(feed.length + 1);
  assert.match(name, ISSUED_NAME);
  assert.equal(name.slice(name.lastIndexOf('.') + 1), extension);
  const issuedAt = 2 ** 48 - 1 - Number.parseInt(name.slice(1, 13), 16);
  assert.ok(Math.abs(Date.now() - issuedAt) < 3_600_000, `${key} was issued at ${new Date(issuedAt).toISOString()}`);
}

/** No field may be null: an optional field that S3 does not send is absent. */
export function assertNoNulls(value, path = '$') {
  assert.notEqual(value, null, `${path} is null`);
  if (typeof value !== 'object') return;
  for (const [name, inner] of Object.entries(value)) assertNoNulls(inner, `${path}.${name}`);
}

export function assertViewUrl(url, expiresAt, now = Date.now()) {
  assert.equal(new URL(url).protocol, 'http:');
  assertTime(expiresAt, 'urlExpiresAt');
  const ttlMs = Date.parse(expiresAt) - now;
  assert.ok(ttlMs > 0, `the URL expired at ${expiresAt}`);
  assert.equal((Date.parse(expiresAt) / 1000) % VIEW_URL_ROUNDING_SECS, 0, `${expiresAt} is rounded to 5 minutes`);
}

/** An `imageUploaded` for that grant. */
export function assertUploaded(event, { feed, key }, size) {
  assertNoNulls(event);
  assert.equal(event.feed, feed);
  assert.equal(event.key, key);
  assert.equal(event.size, size);
  assert.match(event.eTag, /^[0-9a-f]{32}(-\d+)?$/i, 'eTag without quotes');
  assert.match(event.sequencer, /^[0-9A-Fa-f]+$/, 'sequencer');
  assert.match(event.eventName, /^ObjectCreated:\w+$/);
  assertTime(event.eventTime, 'eventTime');
  assertViewUrl(event.url, event.urlExpiresAt);
  assertCursor(event.cursor);
  if ('versionId' in event) assert.equal(typeof event.versionId, 'string');
  if ('contentType' in event) assert.equal(typeof event.contentType, 'string');
}

/** An `imageRemoved` of that key. */
export function assertRemoved(event, { feed, key }) {
  assertNoNulls(event);
  assert.equal(event.feed, feed);
  assert.equal(event.key, key);
  assert.match(event.eventName, /^(ObjectRemoved|LifecycleExpiration):\w+$/);
  assertTime(event.eventTime, 'eventTime');
  assert.match(event.sequencer, /^[0-9A-Fa-f]+$/, 'sequencer');
  assertCursor(event.cursor);
  assert.ok(!('url' in event), 'a removed photo has no URL');
}

/** The answer to a join without a cursor, or with one that can't be recovered from. */
export function assertFreshJoin(answer, feed) {
  assertCursor(answer.cursor);
  assert.deepEqual(answer, { feed, recovered: false, cursor: answer.cursor, events: [] });
}

/** A problem object: over Socket.IO, or the body of an HTTP error response. */
export function assertProblem(problem, name, status) {
  assertNoNulls(problem);
  assert.equal(problem?.type, `urn:photoshare:problem:${name}`, JSON.stringify(problem));
  assert.equal(problem.status, status);
  assert.equal(typeof problem.title, 'string');
  assert.equal(typeof problem.detail, 'string');
  assert.notEqual(problem.title, '');
}

/** An HTTP error response with a problem. Returns the problem. */
export async function assertRefused(response, name, status) {
  const text = await response.text();
  assert.equal(response.status, status, text);
  assert.equal(response.headers.get('content-type')?.split(';')[0], 'application/problem+json');
  const problem = JSON.parse(text);
  assertProblem(problem, name, status);
  return problem;
}

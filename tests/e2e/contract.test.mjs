// The OpenAPI and AsyncAPI documents that the server serves, and whether its messages conform to them.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { chromium } from 'playwright-core';
import { describeOnEachBackend } from './lib/backends.mjs';
import { closeAfterTest, connectSocketIo4 } from './lib/clients.mjs';
import { makeFeedId, removePhoto, uploadPhoto } from './lib/photos.mjs';
import { startDev } from './lib/server.mjs';
import { openEventStream } from './lib/event-stream.mjs';
import { SECRET, epochSeconds, createToken } from './lib/tokens.mjs';

/** The schema without room for unnamed fields: clients ignore those, but the document must name all of them. */
function strict(schema) {
  if (Array.isArray(schema)) return schema.map(strict);
  if (schema === null || typeof schema !== 'object') return schema;
  const inner = Object.fromEntries(Object.entries(schema).map(([name, value]) => [name, strict(value)]));
  return inner.type === 'object' && inner.properties ? { ...inner, additionalProperties: false } : inner;
}

/** Validates each message by the document's schema. Returns the distinct names. */
function validateMessages(messages, validatorOf) {
  const names = new Set();
  for (const { name, data } of messages) {
    if (['connect', 'disconnect'].includes(name)) continue;
    const validate = validatorOf(name);
    assert.ok(validate, `${name} is not in the document`);
    assert.ok(validate(data), `${name} ${JSON.stringify(data)}: ${JSON.stringify(validate.errors)}`);
    names.add(name);
  }
  return [...names].toSorted();
}

/** The AsyncAPI document, and a function from the name of a message to its validator. */
async function loadAsyncApi(url) {
  const document = await (await fetch(`${url}/asyncapi.json`)).json();
  const ajv = new Ajv2020({ strict: false, validateFormats: false });
  ajv.addSchema({ $id: 'https://photoshare.invalid/asyncapi', components: { schemas: strict(document.components.schemas) } });
  const validatorOf = (name) => {
    const message = document.components.messages[name];
    if (message && !message.payload) return (data) => data === undefined;
    return ajv.getSchema(`https://photoshare.invalid/asyncapi#${message?.payload.$ref.slice(1)}`);
  };
  return { document, validatorOf };
}

describeOnEachBackend('the contract', (backend) => {
  test('emitted messages conform to the AsyncAPI document', async (t) => {
    const { document, validatorOf } = await loadAsyncApi(backend.url);
    assert.match(document.asyncapi, /^3\./);
    const feed = makeFeedId('Größe 1');
    const client = closeAfterTest(t, connectSocketIo4(backend.url, { auth: { feeds: [feed] } }));
    await client.inbox.waitFor('joined');
    const stream = closeAfterTest(t, await openEventStream(backend.url, feed));
    const { key } = await uploadPhoto(backend.url, feed, undefined, { filename: 'a.jpg', caption: 'b' });
    // SQS keeps no order: where the removal overtakes the upload, the upload is stale and not announced.
    for (const inbox of [client.inbox, stream.inbox]) await inbox.waitFor('imageUploaded');
    await removePhoto(backend.url, feed, key);
    client.emit('no-such-event');
    const first = await client.inbox.waitFor('joined');
    for (const inbox of [client.inbox, stream.inbox]) await inbox.waitFor('imageRemoved');
    await client.inbox.waitFor('problem');
    const answer = await client.request('join', { feed, cursor: first.cursor });
    const messages = [...client.inbox.events, ...stream.inbox.events, { name: 'joined', data: answer }];
    assert.deepEqual(validateMessages(messages, validatorOf), ['imageRemoved', 'imageUploaded', 'joined', 'problem']);
    assert.equal(validatorOf('imageRemoved')({ ...client.inbox.dataOf('imageRemoved')[0], extra: 1 }), false, 'an unnamed field is an error');
  });

  test('the OpenAPI document is 3.1, has every path, types every error as a problem and has no nulls in responses', async () => {
    const document = await (await fetch(`${backend.url}/openapi.json`)).json();
    for (const path of ['/healthz', '/readyz', '/metrics', '/v1/feeds/{feed}/photos']) assert.ok(document.paths[path], path);
    const { schemas, securitySchemes } = document.components;
    for (const name of ['GrantResponse', 'UploadStatus', 'PhotoPage', 'ListedPhoto', 'ProblemDetails']) assert.doesNotMatch(JSON.stringify(schemas[name]), /"null"/, name);
    assert.ok(schemas.ProblemDetails.properties.retryAfter);
    assert.deepEqual(Object.values(securitySchemes).map((scheme) => scheme.scheme ?? `${scheme.in} ${scheme.name}`), ['bearer', 'query token']);
    assert.match(document.openapi, /^3\.1/);
    for (const [path, calls] of Object.entries(document.paths)) {
      for (const call of Object.values(calls)) assert.ok(call.responses.default.content['application/problem+json'], path);
    }
  });

  test('/docs shows both documents without console output or requests to other hosts', async (t) => {
    const browser = await chromium.launch({
      executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--headless', '--no-sandbox', '--disable-gpu', '--no-first-run'],
    });
    t.after(() => browser.close());
    const page = await browser.newPage();
    const unexpected = [];
    page.on('console', (message) => unexpected.push(message.text()));
    page.on('pageerror', (error) => unexpected.push(error.message));
    page.on('request', (request) => { if (!request.url().startsWith(backend.url) && !request.url().startsWith('data:')) unexpected.push(request.url()); });
    const response = await page.goto(`${backend.url}/docs`);
    assert.match(response.headers()['content-security-policy'], /default-src 'none'/);
    await page.getByRole('heading', { name: 'POST /v1/feeds/{feed}/uploads', exact: true }).waitFor();
    await page.getByRole('heading', { name: 'imageUploaded', exact: true }).waitFor();
    assert.deepEqual(unexpected, []);
  });
});

test('messages about tokens, other connections and shutdown, and all answers, conform to the AsyncAPI document', async (t) => {
  const server = await startDev({ env: { AUTH: 'on', AUTH_JWT_SECRET: SECRET, ANNOUNCE_CONNECTIONS: 'true' } });
  t.after(() => server.child.process.kill('SIGKILL'));
  const { validatorOf } = await loadAsyncApi(server.url);
  const token = (...feeds) => createToken(Object.fromEntries(feeds.map((feed) => [feed, ['view']])), { exp: epochSeconds(50) });
  const client = closeAfterTest(t, connectSocketIo4(server.url, { auth: { token: token('a', 'b'), feeds: ['a', 'b'] } }));
  await client.inbox.waitForCount(2, 'joined');
  await client.inbox.waitFor('tokenExpiring');
  const other = closeAfterTest(t, connectSocketIo4(server.url, { auth: { token: token('a') } }));
  await other.waitForConnect();
  await client.inbox.waitForCount(2, 'aUserHasConnected');
  other.close();
  await client.inbox.waitFor('aUserHasDisconnected');
  const answers = [];
  for (const [request, argument] of [['join', 'a'], ['authenticate', { token: token('a') }], ['leave', 'a'], ['uploadNotification', 'a']]) {
    answers.push({ name: `${request}Answer`, data: await client.request(request, argument) });
  }
  answers.push({ name: 'problem', data: await client.request('authenticate', { token: 'bad' }) });
  await client.inbox.waitFor('left', ({ feed }) => feed === 'b');
  await Promise.all([client.inbox.waitFor('reconnect'), server.stop()]);
  assert.deepEqual(validateMessages([...client.inbox.events, ...answers], validatorOf), [
    'aUserHasConnected', 'aUserHasDisconnected', 'authenticateAnswer', 'joinAnswer', 'joined', 'leaveAnswer', 'left', 'problem',
    'reconnect', 'tokenExpiring', 'uploadNotificationAnswer',
  ]);
});

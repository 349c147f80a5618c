// The documents that the server serves, and the server held to them.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { chromium } from 'playwright-core';
import { onEachBackend } from './lib/backends.mjs';
import { closing, connect4 } from './lib/clients.mjs';
import { newFeed, remove, upload } from './lib/photos.mjs';
import { startDev } from './lib/server.mjs';
import { openStream } from './lib/sse.mjs';
import { SECRET, seconds, tokenFor } from './lib/tokens.mjs';

/** Whatever the document does not name is a mistake here: clients ignore it, the document must not. */
function strict(schema) {
  if (Array.isArray(schema)) return schema.map(strict);
  if (schema === null || typeof schema !== 'object') return schema;
  const inner = Object.fromEntries(Object.entries(schema).map(([name, value]) => [name, strict(value)]));
  return inner.type === 'object' && inner.properties ? { ...inner, additionalProperties: false } : inner;
}

/** The names of what was told, each as the document says. */
function namesOf(told, of) {
  const checked = new Set();
  for (const { name, data } of told) {
    if (['connect', 'disconnect'].includes(name)) continue;
    const valid = of(name);
    assert.ok(valid, `${name} is not in the document`);
    assert.ok(valid(data), `${name} ${JSON.stringify(data)}: ${JSON.stringify(valid.errors)}`);
    checked.add(name);
  }
  return [...checked].toSorted();
}

async function validators(url) {
  const document = await (await fetch(`${url}/asyncapi.json`)).json();
  const ajv = new Ajv2020({ strict: false, validateFormats: false });
  ajv.addSchema({ $id: 'https://photoshare.invalid/told', components: { schemas: strict(document.components.schemas) } });
  const of = (name) => {
    const message = document.components.messages[name];
    if (message && !message.payload) return (data) => data === undefined;
    return ajv.getSchema(`https://photoshare.invalid/told#${message?.payload.$ref.slice(1)}`);
  };
  return { document, of };
}

onEachBackend('the contract', (backend) => {
  test('what is told is what AsyncAPI says', async (t) => {
    const { document, of } = await validators(backend.url);
    assert.match(document.asyncapi, /^3\./);
    const feed = newFeed('Größe 1');
    const client = closing(t, connect4(backend.url, { auth: { feeds: [feed] } }));
    await client.inbox.find('joined');
    const stream = closing(t, await openStream(backend.url, feed));
    const { key } = await upload(backend.url, feed, undefined, { filename: 'a.jpg', caption: 'b' });
    // SQS keeps no order: a removal that overtakes its upload leaves nothing to tell of the upload.
    for (const inbox of [client.inbox, stream.inbox]) await inbox.find('imageUploaded');
    await remove(backend.url, feed, key);
    client.tell('no-such-event');
    const first = await client.inbox.find('joined');
    for (const inbox of [client.inbox, stream.inbox]) await inbox.find('imageRemoved');
    await client.inbox.find('problem');
    const answer = await client.ask('join', { feed, cursor: first.cursor });
    const told = [...client.inbox.told, ...stream.inbox.told, { name: 'joined', data: answer }];
    assert.deepEqual(namesOf(told, of), ['imageRemoved', 'imageUploaded', 'joined', 'problem']);
    assert.equal(of('imageRemoved')({ ...client.inbox.named('imageRemoved')[0], extra: 1 }), false, 'an unnamed field is seen');
  });

  test('OpenAPI is 3.1 and names every problem as one, has every path, and no null in an answer', async () => {
    const document = await (await fetch(`${backend.url}/openapi.json`)).json();
    for (const path of ['/healthz', '/readyz', '/metrics', '/v1/feeds/{feed}/photos']) assert.ok(document.paths[path], path);
    const { schemas, securitySchemes } = document.components;
    for (const name of ['Granted', 'Upload', 'List', 'Photo', 'ProblemDetails']) assert.doesNotMatch(JSON.stringify(schemas[name]), /"null"/, name);
    assert.ok(schemas.ProblemDetails.properties.retryAfter);
    assert.deepEqual(Object.values(securitySchemes).map((scheme) => scheme.scheme ?? `${scheme.in} ${scheme.name}`), ['bearer', 'query token']);
    assert.match(document.openapi, /^3\.1/);
    for (const [path, calls] of Object.entries(document.paths)) {
      for (const call of Object.values(calls)) assert.ok(call.responses.default.content['application/problem+json'], path);
    }
  });

  test('the page shows both without a complaint, and asks nobody else', async (t) => {
    const browser = await chromium.launch({
      executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--headless', '--no-sandbox', '--disable-gpu', '--no-first-run'],
    });
    t.after(() => browser.close());
    const page = await browser.newPage();
    const complaints = [];
    page.on('console', (message) => complaints.push(message.text()));
    page.on('pageerror', (error) => complaints.push(error.message));
    page.on('request', (request) => { if (!request.url().startsWith(backend.url) && !request.url().startsWith('data:')) complaints.push(request.url()); });
    const response = await page.goto(`${backend.url}/docs`);
    assert.match(response.headers()['content-security-policy'], /default-src 'none'/);
    await page.getByRole('heading', { name: 'POST /v1/feeds/{feed}/uploads', exact: true }).waitFor();
    await page.getByRole('heading', { name: 'imageUploaded', exact: true }).waitFor();
    assert.deepEqual(complaints, []);
  });
});

test('what is told of tokens, of others and of the end is what AsyncAPI says, and so are the answers', async (t) => {
  const server = await startDev({ env: { AUTH: 'on', AUTH_JWT_SECRET: SECRET, ANNOUNCE_CONNECTIONS: 'true' } });
  t.after(() => server.child.process.kill('SIGKILL'));
  const { of } = await validators(server.url);
  const token = (...feeds) => tokenFor(Object.fromEntries(feeds.map((feed) => [feed, ['view']])), { exp: seconds(50) });
  const client = closing(t, connect4(server.url, { auth: { token: token('a', 'b'), feeds: ['a', 'b'] } }));
  await client.inbox.first(2, 'joined');
  await client.inbox.find('tokenExpiring');
  const other = closing(t, connect4(server.url, { auth: { token: token('a') } }));
  await other.connected();
  await client.inbox.first(2, 'aUserHasConnected');
  other.close();
  await client.inbox.find('aUserHasDisconnected');
  const answers = [];
  for (const [request, argument] of [['join', 'a'], ['authenticate', { token: token('a') }], ['leave', 'a'], ['uploadNotification', 'a']]) {
    answers.push({ name: `${request}Answer`, data: await client.ask(request, argument) });
  }
  answers.push({ name: 'problem', data: await client.ask('authenticate', { token: 'bad' }) });
  await client.inbox.find('left', ({ feed }) => feed === 'b');
  await Promise.all([client.inbox.find('reconnect'), server.stop()]);
  assert.deepEqual(namesOf([...client.inbox.told, ...answers], of), [
    'aUserHasConnected', 'aUserHasDisconnected', 'authenticateAnswer', 'joinAnswer', 'joined', 'leaveAnswer', 'left', 'problem',
    'reconnect', 'tokenExpiring', 'uploadNotificationAnswer',
  ]);
});

// Recovery by cursor: what a client receives that joins again after it was disconnected.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describeOnEachBackend } from './lib/backends.mjs';
import { closeAfterTest, connectSocketIo2, connectSocketIo4 } from './lib/clients.mjs';
import { RawWebSocket } from './lib/engineio.mjs';
import { makeFeedId, removePhoto, uploadPhoto } from './lib/photos.mjs';
import { RedisServer } from './lib/redis-server.mjs';
import { assertFreshJoin, assertProblem, assertUploaded } from './lib/assertions.mjs';
import { startDev } from './lib/server.mjs';
import { openEventStream } from './lib/event-stream.mjs';
import { mapConcurrently } from './lib/wait.mjs';

const MAX_ANSWER_EVENTS = 100;

/** An event without its URL: that is signed at each delivery, everything else must be the same each time. */
const withoutUrl = ({ event, data }) => {
  const { url, urlExpiresAt, ...rest } = data;
  return { event, data: rest };
};
const fromInbox = ({ name, data }) => withoutUrl({ event: name, data });
const isPhotoEvent = ({ name }) => name === 'imageUploaded' || name === 'imageRemoved';
const photoEventsOf = (client) => client.inbox.events.filter(isPhotoEvent).map(fromInbox);

/** Joins a reference client that receives every event of the feed from here on. Returns it and its first cursor. */
async function joinWitness(t, url, feed) {
  const witness = closeAfterTest(t, connectSocketIo4(url));
  const { cursor } = await witness.request('join', feed);
  return { witness, cursor };
}

async function uploadMany(url, feed, count) {
  await mapConcurrently(8, Array.from({ length: count }), () => uploadPhoto(url, feed));
}

describeOnEachBackend('recovery', (backend) => {
  for (const [version, connect] of Object.entries({ 'socket.io-client 4': connectSocketIo4, 'socket.io-client 2': connectSocketIo2 })) {
    test(`${version} that missed nothing recovers with no events`, async (t) => {
      const feed = makeFeedId();
      const client = closeAfterTest(t, connect(backend.url));
      const { cursor } = await client.request('join', feed);
      assert.deepEqual(await client.request('join', { feed, cursor }), { feed, recovered: true, cursor, events: [] });
    });

    test(`${version} receives what it missed, and continues from the answer's cursor`, async (t) => {
      const feed = makeFeedId();
      const { witness, cursor } = await joinWitness(t, backend.url, feed);
      const grant = await uploadPhoto(backend.url, feed);
      const uploaded = await witness.inbox.waitFor('imageUploaded');
      await removePhoto(backend.url, feed, grant.key);
      const removed = await witness.inbox.waitFor('imageRemoved');

      const client = closeAfterTest(t, connect(backend.url));
      const answer = await client.request('join', { feed, cursor });
      assert.equal(answer.recovered, true);
      assert.deepEqual(answer.events.map(withoutUrl), photoEventsOf(witness));
      assertUploaded(answer.events[0].data, grant, uploaded.size);
      assert.equal(answer.cursor, removed.cursor);

      const later = await client.request('join', { feed, cursor: uploaded.cursor });
      assert.deepEqual(later.events.map(withoutUrl), photoEventsOf(witness).slice(1));
      await client.request('leave', feed);
      assert.deepEqual(photoEventsOf(client), [], 'events of the answer are not emitted again');
    });

    test(`${version} that missed more than ${MAX_ANSWER_EVENTS} receives the first in the answer, the rest as events, then live ones`, async (t) => {
      const feed = makeFeedId();
      const { witness, cursor } = await joinWitness(t, backend.url, feed);
      await uploadMany(backend.url, feed, MAX_ANSWER_EVENTS + 30);
      await witness.inbox.waitForCount(MAX_ANSWER_EVENTS + 30, 'imageUploaded');

      const client = closeAfterTest(t, connect(backend.url));
      const joining = client.request('join', { feed, cursor });
      const live = [uploadPhoto(backend.url, feed), uploadPhoto(backend.url, feed)];
      const answer = await joining;
      await Promise.all(live);
      assert.equal(answer.recovered, true);
      assert.equal(answer.events.length, MAX_ANSWER_EVENTS);
      assert.equal(answer.cursor, answer.events.at(-1).data.cursor);

      await witness.inbox.waitForCount(MAX_ANSWER_EVENTS + 32, 'imageUploaded');
      await client.inbox.waitForCount(32, 'imageUploaded');
      assert.deepEqual([...answer.events.map(withoutUrl), ...photoEventsOf(client)], photoEventsOf(witness));
    });

    test(`${version} recovers in the handshake by feeds in the query`, async (t) => {
      const feed = makeFeedId();
      const { witness, cursor } = await joinWitness(t, backend.url, feed);
      await uploadPhoto(backend.url, feed);
      await witness.inbox.waitFor('imageUploaded');

      const client = closeAfterTest(t, connect(backend.url, { query: { feeds: JSON.stringify([{ feed, cursor }]) } }));
      const answer = await client.inbox.waitFor('joined');
      assert.equal(answer.recovered, true);
      assert.deepEqual(answer.events.map(withoutUrl), photoEventsOf(witness));
    });
  }

  test('the answers of a connection hold at most 1 MiB of events in all; the others are emitted one by one', async (t) => {
    const feed = makeFeedId();
    const { witness, cursor } = await joinWitness(t, backend.url, feed);
    await uploadMany(backend.url, feed, MAX_ANSWER_EVENTS);
    await witness.inbox.waitForCount(MAX_ANSWER_EVENTS, 'imageUploaded');

    const client = closeAfterTest(t, connectSocketIo4(backend.url));
    const answers = await Promise.all(Array.from({ length: 60 }, () => client.request('join', { feed, cursor })));
    assert.equal(answers[0].events.length, MAX_ANSWER_EVENTS);
    const bytes = answers.map(({ events }) => JSON.stringify(events).length).reduce((sum, length) => sum + length);
    assert.ok(bytes < 1.2 * 1024 * 1024, `the answers hold ${bytes} bytes`);

    const { recovered, events, cursor: reached } = answers.at(-1);
    assert.deepEqual([recovered, events, reached], [true, [], cursor]);
    const { cursor: end } = witness.inbox.dataOf('imageUploaded').at(-1);
    await client.inbox.waitFor('imageUploaded', (event) => event.cursor === end);
    assert.deepEqual(photoEventsOf(client).slice(-MAX_ANSWER_EVENTS), photoEventsOf(witness));
  });

  test('auth.feeds recovers in the handshake', async (t) => {
    const feed = makeFeedId();
    const { witness, cursor } = await joinWitness(t, backend.url, feed);
    await uploadMany(backend.url, feed, MAX_ANSWER_EVENTS + 3);
    await witness.inbox.waitForCount(MAX_ANSWER_EVENTS + 3, 'imageUploaded');

    const client = closeAfterTest(t, connectSocketIo4(backend.url, { auth: { feeds: [{ feed, cursor }] } }));
    const answer = await client.inbox.waitFor('joined');
    await client.inbox.waitForCount(3, 'imageUploaded');
    assert.equal(answer.events.length, MAX_ANSWER_EVENTS);
    assert.deepEqual([...answer.events.map(withoutUrl), ...photoEventsOf(client)], photoEventsOf(witness));
  });

  test('joining again without a cursor, or with one that is refused, loses no pending event', async (t) => {
    const feed = makeFeedId();
    const { witness, cursor } = await joinWitness(t, backend.url, feed);
    await uploadMany(backend.url, feed, MAX_ANSWER_EVENTS + 50);
    await witness.inbox.waitForCount(MAX_ANSWER_EVENTS + 50, 'imageUploaded');
    const end = witness.inbox.dataOf('imageUploaded').at(-1).cursor;

    for (const secondJoin of [feed, { feed }, { feed, cursor: 'forged' }]) {
      const client = closeAfterTest(t, connectSocketIo4(backend.url));
      await client.waitForConnect();
      const [answer, second] = await Promise.all([client.request('join', { feed, cursor }), client.request('join', secondJoin)]);
      assert.deepEqual(second, { feed, recovered: false, cursor: end, events: [] });
      await client.inbox.waitForCount(MAX_ANSWER_EVENTS + 50 - answer.events.length, 'imageUploaded');
      assert.deepEqual([...answer.events.map(withoutUrl), ...photoEventsOf(client)], photoEventsOf(witness));
    }
  });

  test('clients that join during a burst of uploads receive each event once, in order', async (t) => {
    const feed = makeFeedId();
    const { witness, cursor } = await joinWitness(t, backend.url, feed);
    const uploading = uploadMany(backend.url, feed, 60);
    const clients = await Promise.all(Array.from({ length: 20 }, async (_, i) => {
      const client = closeAfterTest(t, connectSocketIo4(backend.url));
      await witness.inbox.waitForCount(i * 2, 'imageUploaded');
      return { client, answer: await client.request('join', { feed, cursor }) };
    }));
    await uploading;
    await witness.inbox.waitForCount(60, 'imageUploaded');
    for (const { client, answer } of clients) {
      await client.inbox.waitForCount(60 - answer.events.length, 'imageUploaded');
      assert.deepEqual([...answer.events.map(withoutUrl), ...photoEventsOf(client)], photoEventsOf(witness));
    }
  });

  for (const eio of [3, 4]) {
    test(`a client of Engine.IO ${eio} that stops reading delays no other client and loses no event`, async (t) => {
      const feed = makeFeedId();
      const count = 300;
      const { witness } = await joinWitness(t, backend.url, feed);
      const slow = closeAfterTest(t, new RawWebSocket(backend.url, { eio }));
      await slow.waitForConnect();
      slow.send(`420${JSON.stringify(['join', feed])}`);
      let { answer: { cursor } } = await slow.inbox.waitFor('ack');

      slow.socket.pause();
      await uploadMany(backend.url, feed, count);
      await witness.inbox.waitForCount(count, 'imageUploaded');
      slow.socket.resume();
      await slow.inbox.waitUntil(
        () => slow.inbox.dataOf('imageUploaded').length === count || slow.inbox.dataOf('ended').length > 0,
        'all events or the end of the connection',
      );
      const received = photoEventsOf(slow);
      // Where the server closed its transport, the client returns with the last cursor that it received.
      cursor = received.at(-1)?.data.cursor ?? cursor;
      const returned = closeAfterTest(t, connectSocketIo4(backend.url));
      const { events } = await returned.request('join', { feed, cursor });
      const rest = count - received.length - events.length;
      await returned.inbox.waitForCount(rest, 'imageUploaded');
      assert.deepEqual([...received, ...events.map(withoutUrl), ...photoEventsOf(returned)], photoEventsOf(witness));
    });
  }

  test('a list and a join with its cursor miss no event', async (t) => {
    const feed = makeFeedId();
    const first = await uploadPhoto(backend.url, feed);
    const { witness } = await joinWitness(t, backend.url, feed);
    const response = await fetch(`${backend.url}/v1/feeds/${feed}/photos`);
    const { cursor, photos } = await response.json();
    assert.deepEqual(photos.map(({ key }) => key), [first.key]);
    const second = await uploadPhoto(backend.url, feed);
    await witness.inbox.waitFor('imageUploaded', ({ key }) => key === second.key);

    const client = closeAfterTest(t, connectSocketIo4(backend.url));
    const answer = await client.request('join', { feed, cursor });
    assert.equal(answer.recovered, true);
    assert.ok(answer.events.some(({ data }) => data.key === second.key));
  });

  test('a cursor of another feed is not recovered', async (t) => {
    const [feed, other] = [makeFeedId('one'), makeFeedId('other')];
    const client = closeAfterTest(t, connectSocketIo4(backend.url));
    const { cursor } = await client.request('join', other);
    await uploadPhoto(backend.url, other);
    const event = await client.inbox.waitFor('imageUploaded');
    for (const foreign of [cursor, event.cursor]) {
      assertFreshJoin(await client.request('join', { feed, cursor: foreign }), feed);
    }
  });

  test('forged cursors are not recovered', async (t) => {
    const feed = makeFeedId();
    const client = closeAfterTest(t, connectSocketIo4(backend.url));
    await client.request('join', feed);
    await uploadMany(backend.url, feed, 3);
    const [, { cursor }] = await client.inbox.waitForCount(3, 'imageUploaded');
    const { cursor: end } = (await client.inbox.waitForCount(3, 'imageUploaded')).at(-1);

    const altered = [...cursor].map((c, i) => cursor.slice(0, i) + (c === '1' ? '2' : '1') + cursor.slice(i + 1));
    const forged = ['', 'x', '0', '-1', '..', 'a.b.c', '💥', '\u0000', cursor.slice(1), cursor.slice(0, -1), cursor.repeat(2), 'x'.repeat(10_000), ...altered];
    for (const wrong of forged) {
      const answer = await client.request('join', { feed, cursor: wrong });
      assert.deepEqual(answer, { feed, recovered: false, cursor: end, events: [] }, `cursor ${JSON.stringify(wrong)} of ${cursor}`);
    }
  });

  test('a cursor that is not a string is answered', async (t) => {
    const feed = makeFeedId();
    const client = closeAfterTest(t, connectSocketIo4(backend.url));
    for (const cursor of [7, {}, [], true]) {
      const answer = await client.request('join', { feed, cursor });
      assert.ok(answer.recovered === false || answer.status === 400, JSON.stringify(answer));
    }
  });

  for (const by of ['cursor', 'lastEventId']) {
    test(`server-sent events are recovered by ${by}, more than ${MAX_ANSWER_EVENTS} of them`, async (t) => {
      const feed = makeFeedId();
      const { witness, cursor } = await joinWitness(t, backend.url, feed);
      await uploadMany(backend.url, feed, MAX_ANSWER_EVENTS + 10);
      await witness.inbox.waitForCount(MAX_ANSWER_EVENTS + 10, 'imageUploaded');

      const stream = closeAfterTest(t, await openEventStream(backend.url, feed, { [by]: cursor }));
      await uploadPhoto(backend.url, feed);
      await witness.inbox.waitForCount(MAX_ANSWER_EVENTS + 11, 'imageUploaded');
      await stream.inbox.waitForCount(MAX_ANSWER_EVENTS + 11, 'imageUploaded');
      assert.deepEqual(stream.inbox.dataOf('joined'), [{ feed, recovered: true, cursor, events: [] }]);
      assert.deepEqual(photoEventsOf(stream), photoEventsOf(witness));
      for (const [data, id] of stream.ids) assert.equal(id, data.cursor, 'the id of an event is its cursor');
    });
  }

  test('server-sent events with a forged cursor begin at the end of the log', async (t) => {
    const feed = makeFeedId();
    const { witness } = await joinWitness(t, backend.url, feed);
    await uploadPhoto(backend.url, feed);
    const { cursor } = await witness.inbox.waitFor('imageUploaded');
    const stream = closeAfterTest(t, await openEventStream(backend.url, feed, { lastEventId: 'forged' }));
    assert.deepEqual(stream.inbox.dataOf('joined'), [{ feed, recovered: false, cursor, events: [] }]);
    const grant = await uploadPhoto(backend.url, feed);
    assert.equal((await stream.inbox.waitFor('imageUploaded')).key, grant.key);
  });

  test('server-sent events have the type text/event-stream and are not cached', async (t) => {
    const stream = closeAfterTest(t, await openEventStream(backend.url, makeFeedId()));
    assert.match(stream.response.headers.get('content-type'), /^text\/event-stream/);
    assert.match(stream.response.headers.get('cache-control'), /no-(cache|store)/);
  });
});

test('a join that fails because the log is unavailable leaves the subscription unchanged', async (t) => {
  const redis = await RedisServer.start();
  t.after(() => redis.stop());
  const server = await startDev({ env: { REDIS_URL: redis.url } });
  t.after(() => server.stop());
  const feed = makeFeedId();
  const { witness, cursor } = await joinWitness(t, server.url, feed);
  const first = await uploadPhoto(server.url, feed);
  await witness.inbox.waitFor('imageUploaded');

  redis.pause();
  for (const secondJoin of [feed, { feed, cursor }]) assertProblem(await witness.request('join', secondJoin), 'unavailable', 503);
  redis.resume();
  const second = await uploadPhoto(server.url, feed);
  await witness.inbox.waitForCount(2, 'imageUploaded');
  assert.deepEqual(witness.inbox.dataOf('imageUploaded').map(({ key }) => key), [first.key, second.key]);

  const { recovered, events } = await witness.request('join', { feed, cursor });
  assert.equal(recovered, true);
  assert.deepEqual(events.map(withoutUrl), photoEventsOf(witness));
});

test('a cursor before the trimmed start of the log is not recovered', async (t) => {
  const server = await startDev({ env: { FEED_LOG_LENGTH: '5' } });
  t.after(() => server.stop());
  const feed = makeFeedId();
  const { witness, cursor } = await joinWitness(t, server.url, feed);
  for (let i = 0; i < 8; i += 1) await uploadPhoto(server.url, feed);
  const events = await witness.inbox.waitForCount(8, 'imageUploaded');

  const client = closeAfterTest(t, connectSocketIo4(server.url));
  for (const trimmed of [cursor, events[0].cursor, events[1].cursor]) {
    const answer = await client.request('join', { feed, cursor: trimmed });
    assert.deepEqual(answer, { feed, recovered: false, cursor: events[7].cursor, events: [] });
  }
  const answer = await client.request('join', { feed, cursor: events[5].cursor });
  assert.equal(answer.recovered, true);
  assert.deepEqual(answer.events.map(({ data }) => data.key), events.slice(6).map(({ key }) => key));
});

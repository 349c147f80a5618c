// Cursors: what a client that was away gets when it comes back.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { onEachBackend } from './lib/backends.mjs';
import { closing, connect2, connect4 } from './lib/clients.mjs';
import { RawWebSocket } from './lib/engineio.mjs';
import { newFeed, remove, upload } from './lib/photos.mjs';
import { Redis } from './lib/redis.mjs';
import { assertFreshJoin, assertProblem, assertUploaded } from './lib/shapes.mjs';
import { startDev } from './lib/server.mjs';
import { openStream } from './lib/sse.mjs';
import { inParallel } from './lib/wait.mjs';

const PAGE = 100;

/** URLs are signed at each handing out; everything else of an event must be the same each time. */
const story = ({ event, data }) => {
  const { url, urlExpiresAt, ...rest } = data;
  return { event, data: rest };
};
const asTold = ({ name, data }) => story({ event: name, data });
const isPhotoEvent = ({ name }) => name === 'imageUploaded' || name === 'imageRemoved';
const storiesOf = (client) => client.inbox.told.filter(isPhotoEvent).map(asTold);

/** A client that has watched the feed from its beginning, and the cursor of that beginning. */
async function witnessOf(t, url, feed) {
  const witness = closing(t, connect4(url));
  const { cursor } = await witness.ask('join', feed);
  return { witness, cursor };
}

async function uploadMany(url, feed, count) {
  await inParallel(8, Array.from({ length: count }), () => upload(url, feed));
}

onEachBackend('recovery', (backend) => {
  for (const [version, connect] of Object.entries({ 'socket.io-client 4': connect4, 'socket.io-client 2': connect2 })) {
    test(`${version} that missed nothing recovers nothing`, async (t) => {
      const feed = newFeed();
      const client = closing(t, connect(backend.url));
      const { cursor } = await client.ask('join', feed);
      assert.deepEqual(await client.ask('join', { feed, cursor }), { feed, recovered: true, cursor, events: [] });
    });

    test(`${version} is given what it missed, and goes on from the answer's cursor`, async (t) => {
      const feed = newFeed();
      const { witness, cursor } = await witnessOf(t, backend.url, feed);
      const grant = await upload(backend.url, feed);
      const uploaded = await witness.inbox.find('imageUploaded');
      await remove(backend.url, feed, grant.key);
      const removed = await witness.inbox.find('imageRemoved');

      const client = closing(t, connect(backend.url));
      const answer = await client.ask('join', { feed, cursor });
      assert.equal(answer.recovered, true);
      assert.deepEqual(answer.events.map(story), storiesOf(witness));
      assertUploaded(answer.events[0].data, grant, uploaded.size);
      assert.equal(answer.cursor, removed.cursor);

      const later = await client.ask('join', { feed, cursor: uploaded.cursor });
      assert.deepEqual(later.events.map(story), storiesOf(witness).slice(1));
      await client.ask('leave', feed);
      assert.deepEqual(storiesOf(client), [], 'what the answer holds is not told again');
    });

    test(`${version} that missed more than ${PAGE}: the first in the answer, the rest in order, then live ones`, async (t) => {
      const feed = newFeed();
      const { witness, cursor } = await witnessOf(t, backend.url, feed);
      await uploadMany(backend.url, feed, PAGE + 30);
      await witness.inbox.first(PAGE + 30, 'imageUploaded');

      const client = closing(t, connect(backend.url));
      const joining = client.ask('join', { feed, cursor });
      const live = [upload(backend.url, feed), upload(backend.url, feed)];
      const answer = await joining;
      await Promise.all(live);
      assert.equal(answer.recovered, true);
      assert.equal(answer.events.length, PAGE);
      assert.equal(answer.cursor, answer.events.at(-1).data.cursor);

      await witness.inbox.first(PAGE + 32, 'imageUploaded');
      await client.inbox.first(32, 'imageUploaded');
      assert.deepEqual([...answer.events.map(story), ...storiesOf(client)], storiesOf(witness));
    });

    test(`${version} recovers in the handshake by the query's feeds`, async (t) => {
      const feed = newFeed();
      const { witness, cursor } = await witnessOf(t, backend.url, feed);
      await upload(backend.url, feed);
      await witness.inbox.find('imageUploaded');

      const client = closing(t, connect(backend.url, { query: { feeds: JSON.stringify([{ feed, cursor }]) } }));
      const answer = await client.inbox.find('joined');
      assert.equal(answer.recovered, true);
      assert.deepEqual(answer.events.map(story), storiesOf(witness));
    });
  }

  test('answers hold only so many events in all; the others are told one by one', async (t) => {
    const feed = newFeed();
    const { witness, cursor } = await witnessOf(t, backend.url, feed);
    await uploadMany(backend.url, feed, PAGE);
    await witness.inbox.first(PAGE, 'imageUploaded');

    const client = closing(t, connect4(backend.url));
    const answers = await Promise.all(Array.from({ length: 60 }, () => client.ask('join', { feed, cursor })));
    assert.equal(answers[0].events.length, PAGE);
    const bytes = answers.map(({ events }) => JSON.stringify(events).length).reduce((sum, length) => sum + length);
    assert.ok(bytes < 1.2 * 1024 * 1024, `a connection that doesn't read is owed ${bytes} bytes`);

    const { recovered, events, cursor: reached } = answers.at(-1);
    assert.deepEqual([recovered, events, reached], [true, [], cursor]);
    const { cursor: end } = witness.inbox.named('imageUploaded').at(-1);
    await client.inbox.find('imageUploaded', (event) => event.cursor === end);
    assert.deepEqual(storiesOf(client).slice(-PAGE), storiesOf(witness));
  });

  test('auth.feeds recovers in the handshake', async (t) => {
    const feed = newFeed();
    const { witness, cursor } = await witnessOf(t, backend.url, feed);
    await uploadMany(backend.url, feed, PAGE + 3);
    await witness.inbox.first(PAGE + 3, 'imageUploaded');

    const client = closing(t, connect4(backend.url, { auth: { feeds: [{ feed, cursor }] } }));
    const answer = await client.inbox.find('joined');
    await client.inbox.first(3, 'imageUploaded');
    assert.equal(answer.events.length, PAGE);
    assert.deepEqual([...answer.events.map(story), ...storiesOf(client)], storiesOf(witness));
  });

  test('joining again without a cursor, or with one that is refused, loses nothing of what is still to come', async (t) => {
    const feed = newFeed();
    const { witness, cursor } = await witnessOf(t, backend.url, feed);
    await uploadMany(backend.url, feed, PAGE + 50);
    await witness.inbox.first(PAGE + 50, 'imageUploaded');
    const end = witness.inbox.named('imageUploaded').at(-1).cursor;

    for (const again of [feed, { feed }, { feed, cursor: 'forged' }]) {
      const client = closing(t, connect4(backend.url));
      await client.connected();
      const [answer, second] = await Promise.all([client.ask('join', { feed, cursor }), client.ask('join', again)]);
      assert.deepEqual(second, { feed, recovered: false, cursor: end, events: [] });
      await client.inbox.first(PAGE + 50 - answer.events.length, 'imageUploaded');
      assert.deepEqual([...answer.events.map(story), ...storiesOf(client)], storiesOf(witness));
    }
  });

  test('many clients that join while photos pour in see each event once, in order', async (t) => {
    const feed = newFeed();
    const { witness, cursor } = await witnessOf(t, backend.url, feed);
    const pouring = uploadMany(backend.url, feed, 60);
    const clients = await Promise.all(Array.from({ length: 20 }, async (_, i) => {
      const client = closing(t, connect4(backend.url));
      await witness.inbox.first(i * 2, 'imageUploaded');
      return { client, answer: await client.ask('join', { feed, cursor }) };
    }));
    await pouring;
    await witness.inbox.first(60, 'imageUploaded');
    for (const { client, answer } of clients) {
      await client.inbox.first(60 - answer.events.length, 'imageUploaded');
      assert.deepEqual([...answer.events.map(story), ...storiesOf(client)], storiesOf(witness));
    }
  });

  for (const eio of [3, 4]) {
    test(`trap 35: a client of Engine.IO ${eio} that stops reading holds up nobody and loses nothing`, async (t) => {
      const feed = newFeed();
      const count = 300;
      const { witness } = await witnessOf(t, backend.url, feed);
      const slow = closing(t, new RawWebSocket(backend.url, { eio }));
      await slow.opened();
      slow.send(`420${JSON.stringify(['join', feed])}`);
      let { answer: { cursor } } = await slow.inbox.find('ack');

      slow.socket.pause();
      await uploadMany(backend.url, feed, count);
      await witness.inbox.first(count, 'imageUploaded');
      slow.socket.resume();
      await slow.inbox.until(
        () => slow.inbox.named('imageUploaded').length === count || slow.inbox.named('ended').length > 0,
        'all events or the end',
      );
      const told = storiesOf(slow);
      // Where its transport was closed it comes back with the last cursor that it saw.
      cursor = told.at(-1)?.data.cursor ?? cursor;
      const returned = closing(t, connect4(backend.url));
      const { events } = await returned.ask('join', { feed, cursor });
      const rest = count - told.length - events.length;
      await returned.inbox.first(rest, 'imageUploaded');
      assert.deepEqual([...told, ...events.map(story), ...storiesOf(returned)], storiesOf(witness));
    });
  }

  test('a list and a join with its cursor leave nothing out', async (t) => {
    const feed = newFeed();
    const first = await upload(backend.url, feed);
    const { witness } = await witnessOf(t, backend.url, feed);
    const response = await fetch(`${backend.url}/v1/feeds/${feed}/photos`);
    const { cursor, photos } = await response.json();
    assert.deepEqual(photos.map(({ key }) => key), [first.key]);
    const second = await upload(backend.url, feed);
    await witness.inbox.find('imageUploaded', ({ key }) => key === second.key);

    const client = closing(t, connect4(backend.url));
    const answer = await client.ask('join', { feed, cursor });
    assert.equal(answer.recovered, true);
    assert.ok(answer.events.some(({ data }) => data.key === second.key));
  });

  test('the cursor of another feed is not recovered from', async (t) => {
    const [feed, other] = [newFeed('one'), newFeed('other')];
    const client = closing(t, connect4(backend.url));
    const { cursor } = await client.ask('join', other);
    await upload(backend.url, other);
    const told = await client.inbox.find('imageUploaded');
    for (const foreign of [cursor, told.cursor]) {
      assertFreshJoin(await client.ask('join', { feed, cursor: foreign }), feed);
    }
  });

  test('forged cursors are not recovered from', async (t) => {
    const feed = newFeed();
    const client = closing(t, connect4(backend.url));
    await client.ask('join', feed);
    await uploadMany(backend.url, feed, 3);
    const [, { cursor }] = await client.inbox.first(3, 'imageUploaded');
    const { cursor: end } = (await client.inbox.first(3, 'imageUploaded')).at(-1);

    const altered = [...cursor].map((c, i) => cursor.slice(0, i) + (c === '1' ? '2' : '1') + cursor.slice(i + 1));
    const forged = ['', 'x', '0', '-1', '..', 'a.b.c', '💥', '\u0000', cursor.slice(1), cursor.slice(0, -1), cursor.repeat(2), 'x'.repeat(10_000), ...altered];
    for (const wrong of forged) {
      const answer = await client.ask('join', { feed, cursor: wrong });
      assert.deepEqual(answer, { feed, recovered: false, cursor: end, events: [] }, `cursor ${JSON.stringify(wrong)} of ${cursor}`);
    }
  });

  test('a cursor that is no string is answered', async (t) => {
    const feed = newFeed();
    const client = closing(t, connect4(backend.url));
    for (const cursor of [7, {}, [], true]) {
      const answer = await client.ask('join', { feed, cursor });
      assert.ok(answer.recovered === false || answer.status === 400, JSON.stringify(answer));
    }
  });

  for (const by of ['cursor', 'lastEventId']) {
    test(`server-sent events are recovered by ${by}, more than ${PAGE} of them`, async (t) => {
      const feed = newFeed();
      const { witness, cursor } = await witnessOf(t, backend.url, feed);
      await uploadMany(backend.url, feed, PAGE + 10);
      await witness.inbox.first(PAGE + 10, 'imageUploaded');

      const stream = closing(t, await openStream(backend.url, feed, { [by]: cursor }));
      await upload(backend.url, feed);
      await witness.inbox.first(PAGE + 11, 'imageUploaded');
      await stream.inbox.first(PAGE + 11, 'imageUploaded');
      assert.deepEqual(stream.inbox.named('joined'), [{ feed, recovered: true, cursor, events: [] }]);
      assert.deepEqual(storiesOf(stream), storiesOf(witness));
      for (const [data, id] of stream.ids) assert.equal(id, data.cursor, 'the id of an event is its cursor');
    });
  }

  test('server-sent events with a forged cursor begin at the present end', async (t) => {
    const feed = newFeed();
    const { witness } = await witnessOf(t, backend.url, feed);
    await upload(backend.url, feed);
    const { cursor } = await witness.inbox.find('imageUploaded');
    const stream = closing(t, await openStream(backend.url, feed, { lastEventId: 'forged' }));
    assert.deepEqual(stream.inbox.named('joined'), [{ feed, recovered: false, cursor, events: [] }]);
    const grant = await upload(backend.url, feed);
    assert.equal((await stream.inbox.find('imageUploaded')).key, grant.key);
  });

  test('server-sent events are an event stream that no proxy may keep', async (t) => {
    const stream = closing(t, await openStream(backend.url, newFeed()));
    assert.match(stream.response.headers.get('content-type'), /^text\/event-stream/);
    assert.match(stream.response.headers.get('cache-control'), /no-(cache|store)/);
  });
});

test('a join that fails because the log is away leaves the client where it was', async (t) => {
  const redis = await Redis.start();
  t.after(() => redis.stop());
  const server = await startDev({ env: { REDIS_URL: redis.url } });
  t.after(() => server.stop());
  const feed = newFeed();
  const { witness, cursor } = await witnessOf(t, server.url, feed);
  const first = await upload(server.url, feed);
  await witness.inbox.find('imageUploaded');

  redis.pause();
  for (const again of [feed, { feed, cursor }]) assertProblem(await witness.ask('join', again), 'unavailable', 503);
  redis.resume();
  const second = await upload(server.url, feed);
  await witness.inbox.first(2, 'imageUploaded');
  assert.deepEqual(witness.inbox.named('imageUploaded').map(({ key }) => key), [first.key, second.key]);

  const { recovered, events } = await witness.ask('join', { feed, cursor });
  assert.equal(recovered, true);
  assert.deepEqual(events.map(story), storiesOf(witness));
});

test('a cursor that the log was trimmed past is not recovered from', async (t) => {
  const server = await startDev({ env: { FEED_LOG_LENGTH: '5' } });
  t.after(() => server.stop());
  const feed = newFeed();
  const { witness, cursor } = await witnessOf(t, server.url, feed);
  for (let i = 0; i < 8; i += 1) await upload(server.url, feed);
  const told = await witness.inbox.first(8, 'imageUploaded');

  const client = closing(t, connect4(server.url));
  for (const trimmed of [cursor, told[0].cursor, told[1].cursor]) {
    const answer = await client.ask('join', { feed, cursor: trimmed });
    assert.deepEqual(answer, { feed, recovered: false, cursor: told[7].cursor, events: [] });
  }
  const answer = await client.ask('join', { feed, cursor: told[5].cursor });
  assert.equal(answer.recovered, true);
  assert.deepEqual(answer.events.map(({ data }) => data.key), told.slice(6).map(({ key }) => key));
});

// Joining and leaving feeds over Socket.IO.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Agent, request } from 'node:http';
import { test } from 'node:test';
import { WebSocket } from 'ws';
import { describeOnEachBackend } from './lib/backends.mjs';
import { closeAfterTest, connectSocketIo2, connectSocketIo4 } from './lib/clients.mjs';
import { RawWebSocket } from './lib/engineio.mjs';
import { buildFeedUrl, makeFeedId, uploadPhoto } from './lib/photos.mjs';
import { assertFreshJoin, assertProblem } from './lib/assertions.mjs';
import { waitUntil } from './lib/wait.mjs';

const VERSIONS = { 'socket.io-client 4': connectSocketIo4, 'socket.io-client 2': connectSocketIo2 };
const BAD_FEEDS = ['', '.', '..', '.hidden', '*', 'a/b', '/', 'a\u0000b', 'a\nb', '\u007f', '\u0085', 'x'.repeat(65), '📷'.repeat(17)];

describeOnEachBackend('joining', (backend) => {
  for (const [version, connect] of Object.entries(VERSIONS)) {
    const connected = (t, options) => closeAfterTest(t, connect(backend.url, options));

    test(`${version} joins with a string`, async (t) => {
      const feed = makeFeedId();
      assertFreshJoin(await connected(t).request('join', feed), feed);
    });

    test(`${version} joins with an object`, async (t) => {
      const feed = makeFeedId();
      assertFreshJoin(await connected(t).request('join', { feed }), feed);
    });

    test(`${version} without a callback receives 'joined'`, async (t) => {
      const feed = makeFeedId();
      const client = connected(t);
      client.emit('join', feed);
      assertFreshJoin(await client.inbox.waitFor('joined'), feed);
    });

    test(`${version} without a callback receives an error as 'problem'`, async (t) => {
      const client = connected(t);
      client.emit('join', 'a/b');
      const problem = await client.inbox.waitFor('problem');
      assertProblem(problem, 'invalid-feed', 400);
      assert.equal(problem.feed, 'a/b');
      assert.equal('feed' in (await client.request('join', 'a/b')), false, 'clients recognize a successful answer by its feed');
    });

    test(`${version} joins in the handshake by the query's feed`, async (t) => {
      const feed = makeFeedId('Größe & 100% + 📷');
      const client = connected(t, { query: { feed } });
      assertFreshJoin(await client.inbox.waitFor('joined'), feed);
      const grant = await uploadPhoto(backend.url, feed);
      await client.inbox.waitFor('imageUploaded', ({ key }) => key === grant.key);
    });

    test(`${version} joins in the handshake by the query's feeds, each answered`, async (t) => {
      const [one, other] = [makeFeedId('one'), makeFeedId('other')];
      const client = connected(t, { query: { feeds: JSON.stringify([one, { feed: other }]) } });
      const answers = await client.inbox.waitForCount(2, 'joined');
      assertFreshJoin(answers.find(({ feed }) => feed === one), one);
      assertFreshJoin(answers.find(({ feed }) => feed === other), other);
    });

    test(`${version}: an invalid feed in the handshake is a problem, the others are joined`, async (t) => {
      const feed = makeFeedId();
      const client = connected(t, { query: { feeds: JSON.stringify(['a/b', feed, '*', 'x'.repeat(300)]) } });
      const problems = await client.inbox.waitForCount(3, 'problem');
      for (const problem of problems) assertProblem(problem, 'invalid-feed', 400);
      assert.deepEqual(problems.map((problem) => problem.feed), ['a/b', '*', undefined], 'named, unless it is overlong');
      assertFreshJoin(await client.inbox.waitFor('joined'), feed);
    });

    test(`${version} that joins twice is answered twice and receives each event once`, async (t) => {
      const feed = makeFeedId();
      const client = connected(t);
      const first = await client.request('join', feed);
      const second = await client.request('join', { feed });
      assertFreshJoin(second, feed);
      assert.equal(second.cursor, first.cursor, 'nothing happened in between');

      const grants = [await uploadPhoto(backend.url, feed), await uploadPhoto(backend.url, feed)];
      await client.inbox.waitForCount(2, 'imageUploaded');
      await client.request('leave', feed);
      const received = client.inbox.dataOf('imageUploaded').map(({ key }) => key);
      assert.deepEqual(received.toSorted(), grants.map(({ key }) => key).toSorted());
    });

    test(`${version} leaves, by string and by object`, async (t) => {
      const feed = makeFeedId();
      const client = connected(t);
      const witness = closeAfterTest(t, connectSocketIo4(backend.url));
      await witness.request('join', feed);
      for (const leaving of [feed, { feed }]) {
        await client.request('join', feed);
        assert.deepEqual(await client.request('leave', leaving), { feed });
        const { key } = await uploadPhoto(backend.url, feed);
        await witness.inbox.waitFor('imageUploaded', (event) => event.key === key);
      }
      await client.request('leave', feed);
      assert.deepEqual(client.inbox.dataOf('imageUploaded'), []);
    });

    test(`${version} is answered when it leaves a feed that it did not join`, async (t) => {
      const feed = makeFeedId();
      assert.deepEqual(await connected(t).request('leave', feed), { feed });
    });

    test(`${version}: an unknown event is a problem, with and without a callback`, async (t) => {
      const client = connected(t);
      assertProblem(await client.request('dance', { fast: true }), 'unknown-event', 400);
      client.emit('dance');
      assertProblem(await client.inbox.waitFor('problem'), 'unknown-event', 400);
    });

    test(`${version} receives the answers to 200 concurrent requests in the order of the requests`, async (t) => {
      const client = connected(t);
      await client.waitForConnect();
      const feeds = Array.from({ length: 40 }, (_, i) => makeFeedId(`f${i}`));
      const requests = Array.from({ length: 200 }, (_, i) => [
        ['join', feeds[i % 40]], ['leave', feeds[(i * 7) % 40]], ['uploadNotification', 'x'], ['nothing'], ['join', 'a/b'],
      ][i % 5]);
      const answered = [];
      await Promise.all(requests.map(([event, ...args], i) => client.request(event, ...args).then(() => answered.push(i))));
      assert.deepEqual(answered, requests.map((_, i) => i));
    });

    test(`${version} may join 100 feeds; the next one is too many until one is left`, async (t) => {
      const client = connected(t);
      const feeds = Array.from({ length: 100 }, (_, i) => makeFeedId(`f${i}`));
      const answers = await Promise.all(feeds.map((feed) => client.request('join', feed)));
      for (const [i, answer] of answers.entries()) assertFreshJoin(answer, feeds[i]);

      const more = makeFeedId('more');
      const problem = await client.request('join', more);
      assertProblem(problem, 'too-many-feeds', 429);
      assert.match(problem.detail, /100/, 'the detail states the limit');
      assertFreshJoin(await client.request('join', feeds[0]), feeds[0]);
      await client.request('leave', feeds[1]);
      assertFreshJoin(await client.request('join', more), more);
    });
  }

  for (const feed of BAD_FEEDS) {
    test(`feed id ${JSON.stringify(feed).slice(0, 24)} is refused by join and leave`, async (t) => {
      const client = closeAfterTest(t, connectSocketIo4(backend.url));
      assertProblem(await client.request('join', feed), 'invalid-feed', 400);
      assertProblem(await client.request('join', { feed }), 'invalid-feed', 400);
      assertProblem(await client.request('leave', feed), 'invalid-feed', 400);
    });
  }

  for (const argument of [undefined, null, 7, true, [], {}, { feed: 7 }, { feed: null }, [['summer']]]) {
    test(`a join with ${JSON.stringify(argument)} is answered with a problem`, async (t) => {
      const client = closeAfterTest(t, connectSocketIo4(backend.url));
      const answer = await client.request('join', ...(argument === undefined ? [] : [argument]));
      assert.match(answer.type, /^urn:photoshare:problem:invalid-(feed|body|parameter)$/);
      assert.equal(answer.status, 400);
    });
  }

  test('a join with more arguments than one is answered', async (t) => {
    const client = closeAfterTest(t, connectSocketIo4(backend.url));
    const answer = await client.request('join', makeFeedId(), 'more');
    assert.ok(answer.recovered === false || answer.status === 400, JSON.stringify(answer));
    assert.deepEqual(await client.request('leave', 'summer'), { feed: 'summer' }, 'the connection is still good');
  });

  test('a join with bytes is answered with a problem', async (t) => {
    const client = closeAfterTest(t, connectSocketIo4(backend.url));
    assert.equal((await client.request('join', Buffer.from('summer'))).status, 400);
  });

  test('the handshake takes auth.feeds, strings and objects, of Engine.IO 4', async (t) => {
    const [one, other] = [makeFeedId('one'), makeFeedId('other')];
    const client = closeAfterTest(t, connectSocketIo4(backend.url, { auth: { feeds: [one, { feed: other }] } }));
    const answers = await client.inbox.waitForCount(2, 'joined');
    assertFreshJoin(answers.find(({ feed }) => feed === one), one);
    assertFreshJoin(answers.find(({ feed }) => feed === other), other);
    const grant = await uploadPhoto(backend.url, other);
    await client.inbox.waitFor('imageUploaded', ({ key }) => key === grant.key);
  });

  test('auth.feeds takes precedence over the query', async (t) => {
    const [auth, query] = [makeFeedId('auth'), makeFeedId('query')];
    const client = closeAfterTest(t, connectSocketIo4(backend.url, { auth: { feeds: [auth] }, query: { feed: query } }));
    await client.inbox.waitFor('joined');
    await client.request('leave', 'barrier');
    assert.deepEqual(client.inbox.dataOf('joined').map(({ feed }) => feed), [auth]);
  });

  test('feeds beyond the limit in the handshake are problems, the first 100 are joined', async (t) => {
    const feeds = Array.from({ length: 101 }, (_, i) => makeFeedId(`f${i}`));
    const client = closeAfterTest(t, connectSocketIo4(backend.url, { auth: { feeds } }));
    const problem = await client.inbox.waitFor('problem');
    assertProblem(problem, 'too-many-feeds', 429);
    assert.equal(problem.feed, feeds[100]);
    const joined = await client.inbox.waitForCount(100, 'joined');
    assert.deepEqual(joined.map(({ feed }) => feed), feeds.slice(0, 100));
  });

  for (const [query, name] of [['feed=%FF', 'invalid-feed'], ['feeds=%FF', 'invalid-parameter'], ['feeds=%5B%22%FF%22%5D', 'invalid-parameter']]) {
    test(`a handshake with ${query}, which is not UTF-8, is rejected with a problem`, async (t) => {
      const client = closeAfterTest(t, new RawWebSocket(backend.url, { eio: 4, search: query }));
      assertProblem(await client.inbox.waitFor('problem'), name, 400);
    });
  }

  test('feeds in the query that are not JSON are rejected with a problem', async (t) => {
    const client = closeAfterTest(t, connectSocketIo4(backend.url, { query: { feeds: '["summer"' }, reconnection: false }));
    const refusal = await client.inbox.waitUntil(
      () => client.inbox.dataOf('connect_error')[0]?.message ?? client.inbox.dataOf('problem')[0]?.type.split(':').at(-1),
      'a refusal',
    );
    assert.match(refusal, /^invalid-(parameter|body|feed)$/);
  });

  test('the number of watchers follows joins, leaves and disconnects', async (t) => {
    const feed = makeFeedId();
    const watchers = async () => {
      const response = await fetch(`${backend.url}/v1/feeds/${feed}`);
      assert.equal(response.status, 200);
      const body = await response.json();
      assert.deepEqual(body, { feed, watchers: body.watchers });
      return body.watchers;
    };
    const becomes = (count) => waitUntil(async () => (await watchers()) === count, `${count} watchers`);
    assert.equal(await watchers(), 0);
    const [one, other] = [closeAfterTest(t, connectSocketIo4(backend.url)), closeAfterTest(t, connectSocketIo2(backend.url))];
    await Promise.all([one.request('join', feed), other.request('join', feed), one.request('join', feed)]);
    await becomes(2);
    await one.request('leave', feed);
    await becomes(1);
    other.close();
    await becomes(0);
  });

  test('a session that upgraded to a WebSocket does not close the connection that carried its polls', async (t) => {
    const feed = makeFeedId();
    // As a proxy has it: one connection, for whatever request comes next.
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    t.after(() => agent.destroy());
    const over = async (address, { method = 'GET', body } = {}) => {
      const asking = request(address, { agent, method }).end(body);
      const [response] = await once(asking, 'response');
      response.setEncoding('utf8');
      return { asking, response };
    };
    const poll = async (address, options) => (await (await over(address, options)).response.toArray()).join('');
    const engine = `${backend.url}/socket.io/?EIO=4`;
    const { sid } = JSON.parse((await poll(`${engine}&transport=polling`)).slice(1));
    await poll(`${engine}&transport=polling&sid=${sid}`, { method: 'POST', body: '40' });
    assert.match(await poll(`${engine}&transport=polling&sid=${sid}`), /40/);

    const moved = new WebSocket(`${engine.replace('http', 'ws')}&transport=websocket&sid=${sid}`);
    await once(moved, 'open');
    moved.send('2probe');
    await once(moved, 'message');
    moved.send('5');
    moved.send('41');
    moved.close();
    const { asking, response } = await over(buildFeedUrl(backend.url, feed, '/events'));
    assert.equal(asking.reusedSocket, true);
    let received = '';
    response.on('data', (text) => { received += text; });
    // One that leaves after it is closed by the server after it.
    const later = closeAfterTest(t, new RawWebSocket(backend.url, { eio: 4 }));
    await later.waitForConnect();
    later.send('41');
    await later.inbox.waitFor('ended');

    const { key } = await uploadPhoto(backend.url, feed);
    await waitUntil(() => received.includes(key), 'the photo, over the same connection');
  });
});

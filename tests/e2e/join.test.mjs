// Joining and leaving feeds over Socket.IO.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Agent, request } from 'node:http';
import { test } from 'node:test';
import { WebSocket } from 'ws';
import { onEachBackend } from './lib/backends.mjs';
import { closing, connect2, connect4 } from './lib/clients.mjs';
import { RawWebSocket } from './lib/engineio.mjs';
import { feedUrl, newFeed, upload } from './lib/photos.mjs';
import { assertFreshJoin, assertProblem } from './lib/shapes.mjs';
import { until } from './lib/wait.mjs';

const VERSIONS = { 'socket.io-client 4': connect4, 'socket.io-client 2': connect2 };
const BAD_FEEDS = ['', '.', '..', '.hidden', '*', 'a/b', '/', 'a\u0000b', 'a\nb', '\u007f', '\u0085', 'x'.repeat(65), '📷'.repeat(17)];

onEachBackend('joining', (backend) => {
  for (const [version, connect] of Object.entries(VERSIONS)) {
    const connected = (t, options) => closing(t, connect(backend.url, options));

    test(`${version} joins with a string`, async (t) => {
      const feed = newFeed();
      assertFreshJoin(await connected(t).ask('join', feed), feed);
    });

    test(`${version} joins with an object`, async (t) => {
      const feed = newFeed();
      assertFreshJoin(await connected(t).ask('join', { feed }), feed);
    });

    test(`${version} without a callback is told 'joined'`, async (t) => {
      const feed = newFeed();
      const client = connected(t);
      client.tell('join', feed);
      assertFreshJoin(await client.inbox.find('joined'), feed);
    });

    test(`${version} without a callback is told a refusal as 'problem'`, async (t) => {
      const client = connected(t);
      client.tell('join', 'a/b');
      const problem = await client.inbox.find('problem');
      assertProblem(problem, 'invalid-feed', 400);
      assert.equal(problem.feed, 'a/b');
      assert.equal('feed' in (await client.ask('join', 'a/b')), false, 'who waits for an answer may tell by its feed that it went well');
    });

    test(`${version} joins in the handshake by the query's feed`, async (t) => {
      const feed = newFeed('Größe & 100% + 📷');
      const client = connected(t, { query: { feed } });
      assertFreshJoin(await client.inbox.find('joined'), feed);
      const grant = await upload(backend.url, feed);
      await client.inbox.find('imageUploaded', ({ key }) => key === grant.key);
    });

    test(`${version} joins in the handshake by the query's feeds, each answered`, async (t) => {
      const [one, other] = [newFeed('one'), newFeed('other')];
      const client = connected(t, { query: { feeds: JSON.stringify([one, { feed: other }]) } });
      const answers = await client.inbox.first(2, 'joined');
      assertFreshJoin(answers.find(({ feed }) => feed === one), one);
      assertFreshJoin(answers.find(({ feed }) => feed === other), other);
    });

    test(`${version}: a bad feed in the handshake is a problem, the others are joined`, async (t) => {
      const feed = newFeed();
      const client = connected(t, { query: { feeds: JSON.stringify(['a/b', feed, '*', 'x'.repeat(300)]) } });
      const problems = await client.inbox.first(3, 'problem');
      for (const problem of problems) assertProblem(problem, 'invalid-feed', 400);
      assert.deepEqual(problems.map((problem) => problem.feed), ['a/b', '*', undefined], 'named, unless it is overlong');
      assertFreshJoin(await client.inbox.find('joined'), feed);
    });

    test(`${version} that joins twice is answered anew and told once`, async (t) => {
      const feed = newFeed();
      const client = connected(t);
      const first = await client.ask('join', feed);
      const second = await client.ask('join', { feed });
      assertFreshJoin(second, feed);
      assert.equal(second.cursor, first.cursor, 'nothing happened in between');

      const grants = [await upload(backend.url, feed), await upload(backend.url, feed)];
      await client.inbox.first(2, 'imageUploaded');
      await client.ask('leave', feed);
      const told = client.inbox.named('imageUploaded').map(({ key }) => key);
      assert.deepEqual(told.toSorted(), grants.map(({ key }) => key).toSorted());
    });

    test(`${version} leaves, by string and by object`, async (t) => {
      const feed = newFeed();
      const client = connected(t);
      const witness = closing(t, connect4(backend.url));
      await witness.ask('join', feed);
      for (const leaving of [feed, { feed }]) {
        await client.ask('join', feed);
        assert.deepEqual(await client.ask('leave', leaving), { feed });
        const { key } = await upload(backend.url, feed);
        await witness.inbox.find('imageUploaded', (event) => event.key === key);
      }
      await client.ask('leave', feed);
      assert.deepEqual(client.inbox.named('imageUploaded'), []);
    });

    test(`${version} is answered when it leaves a feed that it did not join`, async (t) => {
      const feed = newFeed();
      assert.deepEqual(await connected(t).ask('leave', feed), { feed });
    });

    test(`${version}: an unknown event is a problem, with and without a callback`, async (t) => {
      const client = connected(t);
      assertProblem(await client.ask('dance', { fast: true }), 'unknown-event', 400);
      client.tell('dance');
      assertProblem(await client.inbox.find('problem'), 'unknown-event', 400);
    });

    test(`${version} is answered in the order in which it asked, 200 times at once`, async (t) => {
      const client = connected(t);
      await client.connected();
      const feeds = Array.from({ length: 40 }, (_, i) => newFeed(`f${i}`));
      const requests = Array.from({ length: 200 }, (_, i) => [
        ['join', feeds[i % 40]], ['leave', feeds[(i * 7) % 40]], ['uploadNotification', 'x'], ['nothing'], ['join', 'a/b'],
      ][i % 5]);
      const answered = [];
      await Promise.all(requests.map(([event, ...args], i) => client.ask(event, ...args).then(() => answered.push(i))));
      assert.deepEqual(answered, requests.map((_, i) => i));
    });

    test(`${version} may join 100 feeds; the next one is too many until one is left`, async (t) => {
      const client = connected(t);
      const feeds = Array.from({ length: 100 }, (_, i) => newFeed(`f${i}`));
      const answers = await Promise.all(feeds.map((feed) => client.ask('join', feed)));
      for (const [i, answer] of answers.entries()) assertFreshJoin(answer, feeds[i]);

      const more = newFeed('more');
      const problem = await client.ask('join', more);
      assertProblem(problem, 'too-many-feeds', 429);
      assert.match(problem.detail, /100/, 'the detail tells the limit');
      assertFreshJoin(await client.ask('join', feeds[0]), feeds[0]);
      await client.ask('leave', feeds[1]);
      assertFreshJoin(await client.ask('join', more), more);
    });
  }

  for (const feed of BAD_FEEDS) {
    test(`feed id ${JSON.stringify(feed).slice(0, 24)} is refused by join and leave`, async (t) => {
      const client = closing(t, connect4(backend.url));
      assertProblem(await client.ask('join', feed), 'invalid-feed', 400);
      assertProblem(await client.ask('join', { feed }), 'invalid-feed', 400);
      assertProblem(await client.ask('leave', feed), 'invalid-feed', 400);
    });
  }

  for (const argument of [undefined, null, 7, true, [], {}, { feed: 7 }, { feed: null }, [['summer']]]) {
    test(`a join with ${JSON.stringify(argument)} is answered with a problem`, async (t) => {
      const client = closing(t, connect4(backend.url));
      const answer = await client.ask('join', ...(argument === undefined ? [] : [argument]));
      assert.match(answer.type, /^urn:photoshare:problem:invalid-(feed|body|parameter)$/);
      assert.equal(answer.status, 400);
    });
  }

  test('a join with more arguments than one is answered', async (t) => {
    const client = closing(t, connect4(backend.url));
    const answer = await client.ask('join', newFeed(), 'more');
    assert.ok(answer.recovered === false || answer.status === 400, JSON.stringify(answer));
    assert.deepEqual(await client.ask('leave', 'summer'), { feed: 'summer' }, 'the connection is still good');
  });

  test('a join with bytes is answered with a problem', async (t) => {
    const client = closing(t, connect4(backend.url));
    assert.equal((await client.ask('join', Buffer.from('summer'))).status, 400);
  });

  test('the handshake takes auth.feeds, strings and objects, of Engine.IO 4', async (t) => {
    const [one, other] = [newFeed('one'), newFeed('other')];
    const client = closing(t, connect4(backend.url, { auth: { feeds: [one, { feed: other }] } }));
    const answers = await client.inbox.first(2, 'joined');
    assertFreshJoin(answers.find(({ feed }) => feed === one), one);
    assertFreshJoin(answers.find(({ feed }) => feed === other), other);
    const grant = await upload(backend.url, other);
    await client.inbox.find('imageUploaded', ({ key }) => key === grant.key);
  });

  test('auth.feeds wins over the query', async (t) => {
    const [auth, query] = [newFeed('auth'), newFeed('query')];
    const client = closing(t, connect4(backend.url, { auth: { feeds: [auth] }, query: { feed: query } }));
    await client.inbox.find('joined');
    await client.ask('leave', 'barrier');
    assert.deepEqual(client.inbox.named('joined').map(({ feed }) => feed), [auth]);
  });

  test('feeds beyond the limit in the handshake are problems, the first 100 are joined', async (t) => {
    const feeds = Array.from({ length: 101 }, (_, i) => newFeed(`f${i}`));
    const client = closing(t, connect4(backend.url, { auth: { feeds } }));
    const problem = await client.inbox.find('problem');
    assertProblem(problem, 'too-many-feeds', 429);
    assert.equal(problem.feed, feeds[100]);
    const joined = await client.inbox.first(100, 'joined');
    assert.deepEqual(joined.map(({ feed }) => feed), feeds.slice(0, 100));
  });

  for (const [query, name] of [['feed=%FF', 'invalid-feed'], ['feeds=%FF', 'invalid-parameter'], ['feeds=%5B%22%FF%22%5D', 'invalid-parameter']]) {
    test(`a handshake with ${query}, which is no UTF-8, is refused aloud`, async (t) => {
      const client = closing(t, new RawWebSocket(backend.url, { eio: 4, search: query }));
      assertProblem(await client.inbox.find('problem'), name, 400);
    });
  }

  test('feeds that are no JSON in the query are refused aloud', async (t) => {
    const client = closing(t, connect4(backend.url, { query: { feeds: '["summer"' }, reconnection: false }));
    const refusal = await client.inbox.until(
      () => client.inbox.named('connect_error')[0]?.message ?? client.inbox.named('problem')[0]?.type.split(':').at(-1),
      'a refusal',
    );
    assert.match(refusal, /^invalid-(parameter|body|feed)$/);
  });

  test('the number of watchers follows joins, leaves and ends', async (t) => {
    const feed = newFeed();
    const watchers = async () => {
      const response = await fetch(`${backend.url}/v1/feeds/${feed}`);
      assert.equal(response.status, 200);
      const body = await response.json();
      assert.deepEqual(body, { feed, watchers: body.watchers });
      return body.watchers;
    };
    const becomes = (count) => until(async () => (await watchers()) === count, `${count} watchers`);
    assert.equal(await watchers(), 0);
    const [one, other] = [closing(t, connect4(backend.url)), closing(t, connect2(backend.url))];
    await Promise.all([one.ask('join', feed), other.ask('join', feed), one.ask('join', feed)]);
    await becomes(2);
    await one.ask('leave', feed);
    await becomes(1);
    other.close();
    await becomes(0);
  });

  test('a session that moved on takes no connection with it that only carried its polls', async (t) => {
    const feed = newFeed();
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
    const { asking, response } = await over(feedUrl(backend.url, feed, '/events'));
    assert.equal(asking.reusedSocket, true);
    let told = '';
    response.on('data', (text) => { told += text; });
    // One that leaves after it is closed by the server after it.
    const later = closing(t, new RawWebSocket(backend.url, { eio: 4 }));
    await later.opened();
    later.send('41');
    await later.inbox.find('ended');

    const { key } = await upload(backend.url, feed);
    await until(() => told.includes(key), 'the photo, over the same connection');
  });
});

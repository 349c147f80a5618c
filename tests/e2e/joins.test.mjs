// Thousands of joins while photos pour in, each from the cursor that the client last saw: every connection
// is told each event once, in the log's order, whatever falls between its leaving and its coming back.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { closing, connect4 } from './lib/clients.mjs';
import { Redis } from './lib/redis.mjs';
import { newFeed, upload } from './lib/photos.mjs';
import { startDev } from './lib/server.mjs';
import { inParallel } from './lib/wait.mjs';

const CONNECTIONS = 60;
const EVENTS = 250;
const JOINS = 2000;

const isTold = ({ name }) => name === 'imageUploaded';
const cursorOf = ({ data }) => data.cursor;

for (const [where, redis] of [['in memory', false], ['in Redis', true]]) {
  test(`no seam: ${JOINS} joins during a burst, the log ${where}`, async (t) => {
    const shared = redis ? await Redis.start() : undefined;
    if (shared) t.after(() => shared.stop());
    const server = await startDev({ env: { JOINS_PER_SECOND: '100000', JOINS_BURST: '100000', ...(shared && { REDIS_URL: shared.url }) } });
    t.after(() => server.stop());
    const feed = newFeed();
    const witness = closing(t, connect4(server.url));
    const { cursor: start } = await witness.ask('join', feed);

    const joiners = await inParallel(10, Array.from({ length: CONNECTIONS }), async () => {
      const client = closing(t, connect4(server.url));
      await client.connected();
      return { client, told: [], cursor: start };
    });
    let joins = 0;
    const pouring = inParallel(6, Array.from({ length: EVENTS }), () => upload(server.url, feed));
    let poured = false;
    const joining = joiners.map(async (joiner) => {
      while (!poured || joins < JOINS) {
        await joinAndLeave(joiner, feed);
        joins += 1;
      }
    });
    await pouring;
    poured = true;
    await Promise.all(joining);
    await witness.inbox.first(EVENTS, 'imageUploaded');
    const log = witness.inbox.told.filter(isTold).map(cursorOf);
    assert.equal(log.length, EVENTS);
    assert.ok(joins >= JOINS, `${joins} joins`);

    // Once more, to be told the rest.
    for (const joiner of joiners) {
      await joinAndLeave(joiner, feed, () => joiner.cursor !== log.at(-1));
      assert.deepEqual(joiner.told, log);
    }
  });
}

/** One stay in the feed; what was told during it is kept. */
async function joinAndLeave(joiner, feed, stay = () => false) {
  const { client } = joiner;
  const before = client.inbox.told.length;
  const answer = await client.ask('join', { feed, cursor: joiner.cursor });
  assert.equal(answer.recovered, true);
  const live = () => client.inbox.told.slice(before).filter(isTold).map(cursorOf);
  const take = () => [...answer.events.map(cursorOf), ...live()];
  await client.inbox.until(() => {
    joiner.cursor = take().at(-1) ?? joiner.cursor;
    return !stay();
  }, 'what follows');
  await client.ask('leave', feed);
  joiner.told.push(...take());
  joiner.cursor = joiner.told.at(-1) ?? joiner.cursor;
}

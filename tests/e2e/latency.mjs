// How long after the answer to the PUT an event arrives.
// usage: node latency.mjs [dev|serve] [photos] [redis]

import { closing, connect4 } from './lib/clients.mjs';
import { startServe } from './lib/ministack.mjs';
import { grantFor, newFeed, photo, put } from './lib/photos.mjs';
import { Redis } from './lib/redis.mjs';
import { startDev } from './lib/server.mjs';

const [command = 'dev', count = '100', log = 'memory'] = process.argv.slice(2);
const ends = [];
const redis = log === 'redis' ? await Redis.start() : undefined;
const env = redis && { REDIS_URL: `redis://127.0.0.1:${redis.port}` };
const server = await { dev: startDev, serve: startServe }[command]({ env });
const client = closing({ after: (end) => ends.push(end) }, connect4(server.url));
const legs = { grant: [], put: [], 'PUT sent to event': [], 'PUT answered to event': [], 'S3 took it (eventTime) to event': [] };
try {
  const feed = newFeed();
  const arrivals = new Map();
  client.socket.on('imageUploaded', ({ key, eventTime }) => {
    arrivals.set(key, { at: performance.now(), sinceTaken: Date.now() - Date.parse(eventTime) });
  });
  await client.ask('join', feed);
  for (let i = 0; i < Number(count); i += 1) await measure(feed, arrivals);
} finally {
  for (const end of ends) end();
  await server.stop();
  await redis?.stop();
}
for (const [leg, times] of Object.entries(legs)) {
  console.log(`${command}, log in ${log}, ${leg}: p50 ${percentile(times, 0.5)} ms, p99 ${percentile(times, 0.99)} ms of ${times.length}`);
}

async function measure(feed, arrivals) {
  const picture = photo();
  const asked = performance.now();
  const grant = await grantFor(server.url, feed, picture);
  const sent = performance.now();
  const response = await put(grant, picture.bytes);
  const answered = performance.now();
  if (response.status !== 200) throw new Error(`PUT: ${response.status} ${await response.text()}`);
  await response.arrayBuffer();
  await client.inbox.find('imageUploaded', ({ key }) => key === grant.key);
  const { at: arrived, sinceTaken } = arrivals.get(grant.key);
  legs.grant.push(sent - asked);
  legs.put.push(answered - sent);
  // Below zero where the event overtook the answer.
  legs['PUT answered to event'].push(arrived - answered);
  legs['PUT sent to event'].push(arrived - sent);
  legs['S3 took it (eventTime) to event'].push(sinceTaken);
}

function percentile(times, share) {
  const sorted = times.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))].toFixed(1);
}

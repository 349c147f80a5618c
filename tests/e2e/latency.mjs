// Measures how long after a PUT its event arrives at a client.
// usage: node latency.mjs [dev|serve] [photos] [redis]

import { closeAfterTest, connectSocketIo4 } from './lib/clients.mjs';
import { startServe } from './lib/aws-account.mjs';
import { createGrant, makeFeedId, makePhoto, putPhoto } from './lib/photos.mjs';
import { RedisServer } from './lib/redis-server.mjs';
import { startDev } from './lib/server.mjs';

const [command = 'dev', count = '100', log = 'memory'] = process.argv.slice(2);
const cleanups = [];
const redis = log === 'redis' ? await RedisServer.start() : undefined;
const env = redis && { REDIS_URL: `redis://127.0.0.1:${redis.port}` };
const server = await { dev: startDev, serve: startServe }[command]({ env });
const client = closeAfterTest({ after: (cleanup) => cleanups.push(cleanup) }, connectSocketIo4(server.url));
const legs = { grant: [], put: [], 'PUT sent to event': [], 'PUT answered to event': [], 'eventTime (S3) to event': [] };
try {
  const feed = makeFeedId();
  const arrivals = new Map();
  client.socket.on('imageUploaded', ({ key, eventTime }) => {
    arrivals.set(key, { at: performance.now(), sinceEventTime: Date.now() - Date.parse(eventTime) });
  });
  await client.request('join', feed);
  for (let i = 0; i < Number(count); i += 1) await measureOne(feed, arrivals);
} finally {
  for (const cleanup of cleanups) cleanup();
  await server.stop();
  await redis?.stop();
}
for (const [leg, times] of Object.entries(legs)) {
  console.log(`${command}, log in ${log}, ${leg}: p50 ${percentile(times, 0.5)} ms, p99 ${percentile(times, 0.99)} ms of ${times.length}`);
}

async function measureOne(feed, arrivals) {
  const picture = makePhoto();
  const requested = performance.now();
  const grant = await createGrant(server.url, feed, picture);
  const sent = performance.now();
  const response = await putPhoto(grant, picture.bytes);
  const answered = performance.now();
  if (response.status !== 200) throw new Error(`PUT: ${response.status} ${await response.text()}`);
  await response.arrayBuffer();
  await client.inbox.waitFor('imageUploaded', ({ key }) => key === grant.key);
  const { at: arrived, sinceEventTime } = arrivals.get(grant.key);
  legs.grant.push(sent - requested);
  legs.put.push(answered - sent);
  // Negative where the event overtook the response.
  legs['PUT answered to event'].push(arrived - answered);
  legs['PUT sent to event'].push(arrived - sent);
  legs['eventTime (S3) to event'].push(sinceEventTime);
}

function percentile(times, fraction) {
  const sorted = times.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(fraction * sorted.length))].toFixed(1);
}

// Server-sent events, parsed here so that tests see ids and comments.
// https://html.spec.whatwg.org/multipage/server-sent-events.html

import assert from 'node:assert/strict';
import { Inbox } from './inbox.mjs';
import { buildFeedUrl } from './photos.mjs';
import { withDeadline } from './wait.mjs';

/** Opens the feed's event stream and waits for its `joined`. */
export async function openEventStream(url, feed, { cursor, lastEventId } = {}) {
  const query = cursor === undefined ? '' : `?${new URLSearchParams({ cursor })}`;
  const stop = new AbortController();
  const response = await withDeadline(
    fetch(buildFeedUrl(url, feed, `/events${query}`), {
      headers: { accept: 'text/event-stream', ...(lastEventId !== undefined && { 'last-event-id': lastEventId }) },
      signal: stop.signal,
    }),
    'the stream to open',
  );
  assert.equal(response.status, 200);
  const stream = { response, inbox: new Inbox(), ids: new Map(), comments: 0, close: () => stop.abort() };
  readEvents(response.body, stream).then(
    () => stream.inbox.push('ended', 'by the server'),
    (error) => stream.inbox.push('ended', error.message),
  );
  await stream.inbox.waitFor('joined');
  return stream;
}

async function readEvents(body, stream) {
  const { inbox, ids } = stream;
  const decoder = new TextDecoder();
  let text = '';
  let lastId = '';
  for await (const chunk of body) {
    text += decoder.decode(chunk, { stream: true });
    const blocks = text.replaceAll('\r\n', '\n').split('\n\n');
    text = blocks.pop();
    for (const block of blocks) {
      if (block.startsWith(':')) stream.comments += 1;
      const fields = parseFields(block);
      if (fields.id !== undefined) lastId = fields.id;
      if (fields.data === undefined) continue;
      const data = JSON.parse(fields.data);
      ids.set(data, lastId);
      inbox.push(fields.event ?? 'message', data);
    }
  }
}

function parseFields(block) {
  const fields = {};
  for (const line of block.split('\n')) {
    const [, name, value] = /^([^:]*):? ?(.*)$/s.exec(line);
    if (name === '') continue;
    fields[name] = name === 'data' && fields.data !== undefined ? `${fields.data}\n${value}` : value;
  }
  return fields;
}

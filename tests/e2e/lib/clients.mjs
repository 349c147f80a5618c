// The client libraries that apps use. Each collects the events that it receives in an Inbox.

import { fileURLToPath } from 'node:url';
import { io as io4 } from 'socket.io-client';
import io2 from 'socket.io-client-2';
import { Inbox } from './inbox.mjs';
import { ChildProcess } from './process.mjs';
import { RawPolling, RawWebSocket } from './engineio.mjs';
import { openEventStream } from './event-stream.mjs';
import { withDeadline } from './wait.mjs';

export const PYTHON = fileURLToPath(new URL('../../../.venv/bin/python', import.meta.url));
const WATCH_PY = fileURLToPath(new URL('../watch.py', import.meta.url));

/** Every event that the server may send by the contract. */
const SERVER_EVENTS = ['imageUploaded', 'imageRemoved', 'joined', 'problem', 'left', 'tokenExpiring', 'reconnect',
  'aUserHasConnected', 'aUserHasDisconnected'];

/** socket.io-client of either version. */
class SocketIoClient {
  inbox = new Inbox();

  constructor(socket) {
    this.socket = socket;
    for (const name of [...SERVER_EVENTS, 'connect', 'connect_error', 'disconnect']) {
      socket.on(name, (data) => this.inbox.push(name, data));
    }
    // socket.io-client 2 has 'error' where 4 has 'connect_error'.
    socket.on('error', (data) => this.inbox.push('error', data));
  }

  /** Emits with an acknowledgement callback; the server's answer. */
  request(event, ...args) {
    return withDeadline(
      new Promise((resolve) => this.socket.emit(event, ...args, resolve)),
      () => `the answer to ${event} ${JSON.stringify(args)}; received so far: ${this.inbox.summary()}`,
    );
  }

  /** Emits without an acknowledgement callback. */
  emit(event, ...args) {
    this.socket.emit(event, ...args);
  }

  waitForConnect() {
    return this.inbox.waitFor('connect');
  }

  close() {
    this.socket.close();
  }
}

/** socket.io-client 4, connecting. */
export function connectSocketIo4(url, options = {}) {
  const client = new SocketIoClient(io4(url, { autoConnect: false, forceNew: true, transports: ['websocket'], ...options }));
  client.socket.connect();
  return client;
}

/** socket.io-client 2 (Engine.IO 3), connecting. */
export function connectSocketIo2(url, options = {}) {
  const client = new SocketIoClient(io2(url, { autoConnect: false, forceNew: true, transports: ['websocket'], ...options }));
  client.socket.connect();
  return client;
}

/** Closes the client when the test ends. Returns the client. */
export function closeAfterTest(t, client) {
  t.after(() => client.close());
  return client;
}

/** A process with python-socketio that has joined the feed. It prints a JSON line for each event. */
export async function joinWithPython(url, feed, transport) {
  const child = new ChildProcess(PYTHON, [WATCH_PY, url, feed, transport]);
  const inbox = new Inbox();
  child.onLine((line) => {
    if (!line.startsWith('{')) return;
    const { event, data } = JSON.parse(line);
    inbox.push(event, data);
  });
  await child.rejectOnExit(inbox.waitFor('answer'), 'the answer to join');
  return { inbox, close: () => child.stop('SIGTERM') };
}

async function joinFeed(client, feed) {
  const answer = await client.request('join', feed);
  if (answer.feed !== feed) throw new Error(`join was refused: ${JSON.stringify(answer)}`);
  return client;
}

async function joinFeedRaw(client, feed) {
  await client.waitForConnect();
  client.send(`420${JSON.stringify(['join', feed])}`);
  await client.inbox.waitFor('ack');
  return client;
}

/** Every kind of client, each as a function that returns a client that has joined the feed. */
export const JOINED_CLIENTS = {
  'socket.io-client 4, WebSocket': (url, feed) => joinFeed(connectSocketIo4(url), feed),
  'socket.io-client 4, polling only': (url, feed) => joinFeed(connectSocketIo4(url, { transports: ['polling'] }), feed),
  'socket.io-client 4, polling upgraded': (url, feed) =>
    joinFeed(connectSocketIo4(url, { transports: ['polling', 'websocket'] }), feed),
  'socket.io-client 2, WebSocket': (url, feed) => joinFeed(connectSocketIo2(url), feed),
  'socket.io-client 2, polling only': (url, feed) => joinFeed(connectSocketIo2(url, { transports: ['polling'] }), feed),
  'socket.io-client 2, polling upgraded': (url, feed) =>
    joinFeed(connectSocketIo2(url, { transports: ['polling', 'websocket'] }), feed),
  'python-socketio, WebSocket': (url, feed) => joinWithPython(url, feed, 'websocket'),
  'python-socketio, polling': (url, feed) => joinWithPython(url, feed, 'polling'),
  'server-sent events': (url, feed) => openEventStream(url, feed),
  'Engine.IO by hand without EIO, polling': (url, feed) => joinFeedRaw(new RawPolling(url), feed),
  'Engine.IO by hand without EIO, WebSocket': (url, feed) => joinFeedRaw(new RawWebSocket(url), feed),
};

// The clients that people really use. Each keeps what it is told in an Inbox.

import { fileURLToPath } from 'node:url';
import { io as io4 } from 'socket.io-client';
import io2 from 'socket.io-client-2';
import { Inbox } from './inbox.mjs';
import { Child } from './process.mjs';
import { RawPolling, RawWebSocket } from './engineio.mjs';
import { openStream } from './sse.mjs';
import { within } from './wait.mjs';

export const PYTHON = fileURLToPath(new URL('../../../.venv/bin/python', import.meta.url));
const WATCH_PY = fileURLToPath(new URL('../watch.py', import.meta.url));

/** Every event that the server may send by the contract. */
const SERVER_EVENTS = ['imageUploaded', 'imageRemoved', 'joined', 'problem', 'left', 'tokenExpiring', 'reconnect',
  'aUserHasConnected', 'aUserHasDisconnected'];

class SocketIo {
  inbox = new Inbox();

  constructor(socket) {
    this.socket = socket;
    for (const name of [...SERVER_EVENTS, 'connect', 'connect_error', 'disconnect']) {
      socket.on(name, (data) => this.inbox.push(name, data));
    }
    // socket.io-client 2 has 'error' where 4 has 'connect_error'.
    socket.on('error', (data) => this.inbox.push('error', data));
  }

  /** Sends with a callback; what the server answers. */
  ask(event, ...args) {
    return within(
      new Promise((resolve) => this.socket.emit(event, ...args, resolve)),
      () => `the answer to ${event} ${JSON.stringify(args)}; told so far: ${this.inbox.summary()}`,
    );
  }

  /** Sends without a callback. */
  tell(event, ...args) {
    this.socket.emit(event, ...args);
  }

  connected() {
    return this.inbox.find('connect');
  }

  close() {
    this.socket.close();
  }
}

/** socket.io-client 4, connecting. */
export function connect4(url, options = {}) {
  const client = new SocketIo(io4(url, { autoConnect: false, forceNew: true, transports: ['websocket'], ...options }));
  client.socket.connect();
  return client;
}

/** socket.io-client 2 (Engine.IO 3), connecting. */
export function connect2(url, options = {}) {
  const client = new SocketIo(io2(url, { autoConnect: false, forceNew: true, transports: ['websocket'], ...options }));
  client.socket.connect();
  return client;
}

/** Closes every client of the test at its end. */
export function closing(t, client) {
  t.after(() => client.close());
  return client;
}

/** python-socketio, joined. It prints a JSON line for everything that it is told. */
export async function watchPython(url, feed, transport) {
  const child = new Child(PYTHON, [WATCH_PY, url, feed, transport]);
  const inbox = new Inbox();
  child.onLine((line) => {
    if (!line.startsWith('{')) return;
    const { event, data } = JSON.parse(line);
    inbox.push(event, data);
  });
  await child.orEnd(inbox.find('answer'), 'the answer to join');
  return { inbox, close: () => child.end('SIGTERM') };
}

async function joined(client, feed) {
  const answer = await client.ask('join', feed);
  if (answer.feed !== feed) throw new Error(`join was refused: ${JSON.stringify(answer)}`);
  return client;
}

async function joinedRaw(client, feed) {
  await client.opened();
  client.send(`420${JSON.stringify(['join', feed])}`);
  await client.inbox.find('ack');
  return client;
}

/** Every kind of client, each as a function that gives a client that has joined the feed. */
export const WATCHERS = {
  'socket.io-client 4, WebSocket': (url, feed) => joined(connect4(url), feed),
  'socket.io-client 4, polling only': (url, feed) => joined(connect4(url, { transports: ['polling'] }), feed),
  'socket.io-client 4, polling upgraded': (url, feed) =>
    joined(connect4(url, { transports: ['polling', 'websocket'] }), feed),
  'socket.io-client 2, WebSocket': (url, feed) => joined(connect2(url), feed),
  'socket.io-client 2, polling only': (url, feed) => joined(connect2(url, { transports: ['polling'] }), feed),
  'socket.io-client 2, polling upgraded': (url, feed) =>
    joined(connect2(url, { transports: ['polling', 'websocket'] }), feed),
  'python-socketio, WebSocket': (url, feed) => watchPython(url, feed, 'websocket'),
  'python-socketio, polling': (url, feed) => watchPython(url, feed, 'polling'),
  'server-sent events': (url, feed) => openStream(url, feed),
  'Engine.IO by hand without EIO, polling': (url, feed) => joinedRaw(new RawPolling(url), feed),
  'Engine.IO by hand without EIO, WebSocket': (url, feed) => joinedRaw(new RawWebSocket(url), feed),
};

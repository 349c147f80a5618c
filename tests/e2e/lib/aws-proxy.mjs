// A proxy in front of AWS that delays, answers or alters the calls that a test chooses.

import { createServer, request } from 'node:http';
import { once } from 'node:events';
import { withDeadline } from './wait.mjs';

const HELD_DEADLINE_MS = 120_000;

export class FaultyProxy {
  #server;
  #rules = new Set();
  #connections = new Set();

  static async open(target) {
    const proxy = new FaultyProxy();
    proxy.#server = createServer((incoming, outgoing) => proxy.#forward(new URL(target), incoming, outgoing));
    proxy.#server.on('connection', (socket) => {
      proxy.#connections.add(socket);
      socket.on('close', () => proxy.#connections.delete(socket));
    });
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    proxy.url = `http://127.0.0.1:${proxy.#server.address().port}`;
    return proxy;
  }

  close() {
    this.#server.close();
    for (const socket of this.#connections) socket.destroy();
  }

  /**
   * Holds calls of that name from now on; `held` resolves with the first. `releaseOne()` forwards the oldest and
   * holds the others, `release()` forwards all, now and later.
   */
  holdCalls(name) {
    const waiting = [];
    const held = createDeferred();
    const rule = async (call) => {
      if (call !== name) return undefined;
      held.resolve();
      const released = createDeferred();
      waiting.push(released);
      await released.promise;
      return undefined;
    };
    this.#rules.add(rule);
    return {
      held: withDeadline(held.promise, `a call of ${name}`, HELD_DEADLINE_MS),
      releaseOne: () => waiting.shift().resolve(),
      release: () => {
        this.#rules.delete(rule);
        for (const released of waiting.splice(0)) released.resolve();
      },
    };
  }

  /** Answers calls of that name itself until `stop()`; `count` is how many. */
  answerCalls(name, status, body = '') {
    const refusal = { count: 0 };
    const rule = async (call) => {
      if (call !== name) return undefined;
      refusal.count += 1;
      return { status, body };
    };
    this.#rules.add(rule);
    refusal.stop = () => this.#rules.delete(rule);
    return refusal;
  }

  /** Forwards every later call unchanged. */
  clearRules() {
    this.#rules.clear();
  }

  /** Sends every response with this `Date`. */
  setResponseDate(date) {
    this.date = date.toUTCString();
  }

  async #forward(target, incoming, outgoing) {
    const name = callNameOf(incoming);
    for (const rule of [...this.#rules]) {
      const answer = await rule(name);
      if (answer) {
        incoming.resume();
        outgoing.writeHead(answer.status, { 'content-type': 'application/x-amz-json-1.0' }).end(answer.body);
        return;
      }
    }
    // The caller disconnected while its call was held.
    if (outgoing.destroyed) return;
    // The Host stays as the caller signed it.
    const forwarded = request({ host: target.hostname, port: target.port, method: incoming.method, path: incoming.url, headers: incoming.headers });
    forwarded.on('response', (response) => {
      const headers = { ...response.headers, ...(this.date && { date: this.date }) };
      outgoing.writeHead(response.statusCode, headers);
      response.pipe(outgoing);
    });
    forwarded.on('error', () => outgoing.destroy());
    outgoing.on('close', () => forwarded.destroy());
    incoming.pipe(forwarded);
  }
}

/** SQS names its operation in a header; a call of S3 is known by its method. */
function callNameOf({ headers, method }) {
  return headers['x-amz-target']?.replace('AmazonSQS.', '') ?? method;
}

/** A promise that is resolved from outside. */
function createDeferred() {
  let resolve;
  const promise = new Promise((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}

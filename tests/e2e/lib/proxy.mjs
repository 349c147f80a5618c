// A proxy in front of AWS that holds, refuses or alters what a test chooses.

import { within } from './wait.mjs';
import { createServer, request } from 'node:http';
import { once } from 'node:events';

export class FaultyProxy {
  #server;
  #rules = new Set();
  #connections = new Set();

  static async open(target) {
    const proxy = new FaultyProxy();
    proxy.#server = createServer((incoming, outgoing) => proxy.#serve(new URL(target), incoming, outgoing));
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

  /** Holds calls of that name from now on; `held` settles with the first, `release()` lets all go on. */
  hold(name) {
    const [released, held] = [opened(), opened()];
    const rule = async (call) => {
      if (call !== name) return undefined;
      held.resolve();
      await released.promise;
      return undefined;
    };
    this.#rules.add(rule);
    return {
      held: within(held.promise, `a call of ${name}`, 120_000),
      release: () => {
        this.#rules.delete(rule);
        released.resolve();
      },
    };
  }

  /** Answers calls of that name itself, until `stop()`; counts them. */
  answer(name, status, body = '') {
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

  /** Forgets all that it was told to hold or answer. */
  behave() {
    this.#rules.clear();
  }

  /** Sends every answer with another time of day. */
  pretendTime(date) {
    this.date = date.toUTCString();
  }

  async #serve(target, incoming, outgoing) {
    const name = nameOf(incoming);
    for (const rule of [...this.#rules]) {
      const answer = await rule(name);
      if (answer) {
        incoming.resume();
        outgoing.writeHead(answer.status, { 'content-type': 'application/x-amz-json-1.0' }).end(answer.body);
        return;
      }
    }
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

/** SQS names its calls in a header; S3's are told by their method. */
function nameOf({ headers, method }) {
  return headers['x-amz-target']?.replace('AmazonSQS.', '') ?? method;
}

/** A promise that is settled from outside. */
function opened() {
  let resolve;
  const promise = new Promise((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}

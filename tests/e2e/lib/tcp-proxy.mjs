// A TCP proxy: the load balancer in front of the web processes, and a faulty network in front of Redis.

import { createConnection, createServer } from 'node:net';
import { once } from 'node:events';

/** Forwards each connection to the first target that accepts it, starting with the next one each time. */
export class TcpProxy {
  #listTargets;
  #nextTarget = 0;
  #pairs = new Set();

  /** `listTargets()` returns the ports of the current targets. */
  static async open(listTargets) {
    const proxy = new TcpProxy();
    proxy.#listTargets = listTargets;
    proxy.server = createServer((client) => proxy.#accept(client)).listen(0, '127.0.0.1');
    await once(proxy.server, 'listening');
    proxy.port = proxy.server.address().port;
    return proxy;
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Closes every connection. */
  abortConnections() {
    for (const { client, server } of this.#pairs) {
      client.destroy();
      server?.destroy();
    }
  }

  /** Keeps the existing connections open and forwards nothing on them any more. */
  stallConnections() {
    for (const pair of this.#pairs) {
      pair.client.unpipe();
      pair.server?.unpipe();
      // Reading goes on, so that the senders see no back-pressure.
      pair.client.on('data', () => {});
      pair.server?.on('data', () => {});
    }
  }

  close() {
    this.abortConnections();
    this.server.close();
  }

  #accept(client) {
    const pair = { client };
    this.#pairs.add(pair);
    const end = () => {
      client.destroy();
      pair.server?.destroy();
      this.#pairs.delete(pair);
    };
    client.setNoDelay(true).on('error', end).on('close', end);
    const ports = this.#listTargets();
    this.#nextTarget += 1;
    this.#connect(pair, ports.map((_, i) => ports[(i + this.#nextTarget) % ports.length]), end);
  }

  #connect(pair, [port, ...others], end) {
    if (port === undefined || pair.client.destroyed) {
      end();
      return;
    }
    const server = createConnection({ port, host: '127.0.0.1', noDelay: true });
    const tryNext = () => this.#connect(pair, others, end);
    server.once('error', tryNext);
    server.once('connect', () => {
      server.off('error', tryNext).on('error', end).on('close', end);
      pair.server = server;
      pair.client.pipe(server);
      server.pipe(pair.client);
    });
  }
}

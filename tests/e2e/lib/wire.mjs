// TCP in between: what stands before the web processes, and what can go wrong on the way to Redis.

import { createConnection, createServer } from 'node:net';
import { once } from 'node:events';

/** Forwards each connection to the first target that takes it, a different one first each time. */
export class Wire {
  #targets;
  #turn = 0;
  #pairs = new Set();

  /** `targets()` gives the ports that there are now. */
  static async open(targets) {
    const wire = new Wire();
    wire.#targets = targets;
    wire.server = createServer((client) => wire.#accept(client)).listen(0, '127.0.0.1');
    await once(wire.server, 'listening');
    wire.port = wire.server.address().port;
    return wire;
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Ends every connection. */
  cut() {
    for (const { client, server } of this.#pairs) {
      client.destroy();
      server?.destroy();
    }
  }

  /** Every connection that there is stays open, and nothing comes through any more. */
  hang() {
    for (const pair of this.#pairs) {
      pair.client.unpipe();
      pair.server?.unpipe();
      // Read on, so that the senders notice nothing.
      pair.client.on('data', () => {});
      pair.server?.on('data', () => {});
    }
  }

  close() {
    this.cut();
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
    const ports = this.#targets();
    this.#turn += 1;
    this.#connect(pair, ports.map((_, i) => ports[(i + this.#turn) % ports.length]), end);
  }

  #connect(pair, [port, ...others], end) {
    if (port === undefined || pair.client.destroyed) {
      end();
      return;
    }
    const server = createConnection({ port, host: '127.0.0.1', noDelay: true });
    const refused = () => this.#connect(pair, others, end);
    server.once('error', refused);
    server.once('connect', () => {
      server.off('error', refused).on('error', end).on('close', end);
      pair.server = server;
      pair.client.pipe(server);
      server.pipe(pair.client);
    });
  }
}

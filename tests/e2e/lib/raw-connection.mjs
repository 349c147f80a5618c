// TCP connections that send bytes as they are: incomplete requests, and several requests on one connection.

import { createConnection } from 'node:net';
import { once } from 'node:events';
import { withDeadline, waitUntil } from './wait.mjs';

/** A connection that collects what it receives. */
export class RawConnection {
  received = '';

  static async open(t, port) {
    const connection = new RawConnection();
    connection.socket = createConnection({ port, host: '127.0.0.1', noDelay: true });
    connection.socket.setEncoding('latin1').on('data', (text) => {
      connection.received += text;
    });
    connection.socket.on('error', () => {});
    /** Resolves when either side has closed the connection. */
    connection.closed = once(connection.socket, 'close').catch(() => {});
    t.after(() => connection.socket.destroy());
    await withDeadline(once(connection.socket, 'connect'), 'the connection');
    return connection;
  }

  send(bytes) {
    if (!this.socket.destroyed) this.socket.write(bytes);
  }

  get status() {
    return Number(/^HTTP\/1\.1 (\d{3}) /.exec(this.received)?.[1]);
  }

  waitFor(pattern) {
    return waitUntil(() => pattern.exec(this.received), () => `${pattern} in ${JSON.stringify(this.received)}`);
  }

  waitForClose() {
    return withDeadline(this.closed, () => `the close of the connection that received ${JSON.stringify(this.received)}`);
  }
}

/** The head of a request to the port on localhost. */
export function buildHead(method, path, ...headers) {
  return [`${method} ${path} HTTP/1.1`, 'Host: localhost', ...headers, '', ''].join('\r\n');
}

/** Sends one request on a connection of its own, and returns the whole response as text. */
export async function sendOnce(t, port, method, path, ...headers) {
  const connection = await RawConnection.open(t, port);
  connection.send(buildHead(method, path, 'Connection: close', ...headers));
  await connection.waitForClose();
  return connection;
}

// A Redis or Valkey process of a test's own, which can be paused, killed, emptied and restored.

import { mkdtemp, rm } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { findFreePort } from './ports.mjs';
import { ChildProcess, runCommand } from './process.mjs';
import { waitUntil, withDeadline } from './wait.mjs';

const VALKEY = fileURLToPath(new URL('../../../.venv/bin/valkey-server', import.meta.url));

export class RedisServer {
  /** `tls` adds a TLS port with a self-signed certificate, which the installed Valkey does not support. */
  static async start({ tls = false, valkey = false } = {}) {
    const redis = new RedisServer();
    redis.program = valkey ? VALKEY : 'redis-server';
    redis.port = await findFreePort();
    redis.folder = await mkdtemp(join(tmpdir(), 'photoshare-redis-'));
    redis.tls = tls ? await redis.#enableTls() : [];
    await redis.#launch();
    return redis;
  }

  get tlsUrl() {
    return `rediss://127.0.0.1:${this.tlsPort}`;
  }

  async #enableTls() {
    this.tlsPort = await findFreePort();
    const [key, certificate] = ['key.pem', 'cert.pem'].map((name) => join(this.folder, name));
    await runCommand('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '1', '-subj', '/CN=redis', '-keyout', key, '-out', certificate]);
    return ['--tls-port', this.tlsPort, '--tls-cert-file', certificate, '--tls-key-file', key, '--tls-ca-cert-file', certificate, '--tls-auth-clients', 'no'];
  }

  get url() {
    return `redis://127.0.0.1:${this.port}`;
  }

  async #launch() {
    this.child = new ChildProcess(this.program, ['--port', this.port, '--bind', '127.0.0.1', '--save', '', '--dir', this.folder, ...this.tls].map(String));
    const answers = () => this.sendCommand('PING').then((reply) => reply === '+PONG', () => false);
    await this.child.rejectOnExit(waitUntil(answers, `${this.program} to answer`), 'it answered a PING');
  }

  /** Sends an inline command; the first line of the reply. */
  async sendCommand(command) {
    const socket = createConnection(this.port, '127.0.0.1');
    try {
      socket.write(`${command}\r\n`);
      const [reply] = await withDeadline(once(socket, 'data'), `Redis to answer ${command}`);
      return reply.toString().split('\r\n')[0];
    } finally {
      socket.destroy();
    }
  }

  /** Stops the process: connections stay open, no command is answered. */
  pause() {
    this.child.process.kill('SIGSTOP');
  }

  resume() {
    this.child.process.kill('SIGCONT');
  }

  /** Saves the data set for the next start. */
  async snapshot() {
    const reply = await this.sendCommand('SAVE');
    if (reply !== '+OK') throw new Error(reply);
  }

  /** Saves and exits: nothing is appended between the snapshot and the exit. */
  async shutDown() {
    const socket = createConnection(this.port, '127.0.0.1');
    socket.on('error', () => {});
    socket.end('SHUTDOWN SAVE\r\n');
    await withDeadline(this.child.exited, 'Redis to shut down');
  }

  /** Kills the process; only the last snapshot remains. */
  kill() {
    return this.child.stop('SIGKILL');
  }

  /** Starts again with the last snapshot, or empty. */
  restart() {
    return this.#launch();
  }

  async stop() {
    this.resume();
    await this.kill();
    await rm(this.folder, { recursive: true, force: true });
  }
}

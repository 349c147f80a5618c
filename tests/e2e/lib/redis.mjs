// A Redis or Valkey of one's own, which can be stopped, emptied and set back.

import { mkdtemp, rm } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort } from './ministack.mjs';
import { Child, run } from './process.mjs';
import { until, within } from './wait.mjs';

const VALKEY = fileURLToPath(new URL('../../../.venv/bin/valkey-server', import.meta.url));

export class Redis {
  /** With `tls`, it listens for TLS as well, with a certificate that it signed itself; the Valkey here can't. */
  static async start({ tls = false, valkey = false } = {}) {
    const redis = new Redis();
    redis.program = valkey ? VALKEY : 'redis-server';
    redis.port = await freePort();
    redis.folder = await mkdtemp(join(tmpdir(), 'photoshare-redis-'));
    redis.tls = tls ? await redis.#certify() : [];
    await redis.#launch();
    return redis;
  }

  get tlsUrl() {
    return `rediss://127.0.0.1:${this.tlsPort}`;
  }

  async #certify() {
    this.tlsPort = await freePort();
    const [key, certificate] = ['key.pem', 'cert.pem'].map((name) => join(this.folder, name));
    await run('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '1', '-subj', '/CN=redis', '-keyout', key, '-out', certificate]);
    return ['--tls-port', this.tlsPort, '--tls-cert-file', certificate, '--tls-key-file', key, '--tls-ca-cert-file', certificate, '--tls-auth-clients', 'no'];
  }

  get url() {
    return `redis://127.0.0.1:${this.port}`;
  }

  async #launch() {
    this.child = new Child(this.program, ['--port', this.port, '--bind', '127.0.0.1', '--save', '', '--dir', this.folder, ...this.tls].map(String));
    const answers = () => this.ask('PING').then((answer) => answer === '+PONG', () => false);
    await this.child.orEnd(until(answers, `${this.program} to answer`), 'it answered');
  }

  /** Asks by an inline command; the first line of the answer. */
  async ask(command) {
    const socket = createConnection(this.port, '127.0.0.1');
    try {
      socket.write(`${command}\r\n`);
      const [answer] = await within(once(socket, 'data'), `Redis to answer ${command}`);
      return answer.toString().split('\r\n')[0];
    } finally {
      socket.destroy();
    }
  }

  /** It hangs: connections stay open, nothing is answered. */
  pause() {
    this.child.process.kill('SIGSTOP');
  }

  resume() {
    this.child.process.kill('SIGCONT');
  }

  /** Keeps what is in it for the next start. */
  async snapshot() {
    const answer = await this.ask('SAVE');
    if (answer !== '+OK') throw new Error(answer);
  }

  /** Ends in order: nothing is appended between the snapshot and the end. */
  async shutDown() {
    const socket = createConnection(this.port, '127.0.0.1');
    socket.on('error', () => {});
    socket.end('SHUTDOWN SAVE\r\n');
    await within(this.child.exited, 'Redis to shut down');
  }

  /** Ends at once, keeping nothing but the last snapshot. */
  kill() {
    return this.child.end('SIGKILL');
  }

  /** Begins with what the last snapshot held. */
  restart() {
    return this.#launch();
  }

  async stop() {
    this.resume();
    await this.kill();
    await rm(this.folder, { recursive: true, force: true });
  }
}

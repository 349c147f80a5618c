// Starts and stops the real binary: the debug build, or the one that PHOTOSHARE_BIN names.

import assert from 'node:assert/strict';
import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ChildProcess, buildMinimalEnv } from './process.mjs';
import { withDeadline } from './wait.mjs';

export const BINARY =
  process.env.PHOTOSHARE_BIN ?? fileURLToPath(new URL('../../../target/debug/photoshare', import.meta.url));

/** A new folder, removed when the test ends. */
export async function createTemporaryFolder(t) {
  const folder = await mkdtemp(join(tmpdir(), 'photoshare-e2e-'));
  t?.after(() => removeFolder(folder));
  return folder;
}

/** Removes a folder, again if a program that still runs writes into it meanwhile. */
function removeFolder(folder) {
  return rm(folder, { recursive: true, force: true, maxRetries: 10 });
}

export class Server {
  constructor(child, url, cleanUp) {
    this.child = child;
    this.url = url;
    this.port = new URL(url).port;
    this.cleanUp = cleanUp;
  }

  get log() {
    return this.child.log;
  }

  /** Memory of the process in MiB: `VmRSS` is in use, `VmHWM` was at the peak. */
  async readMemory(name) {
    const status = await readFile(`/proc/${this.child.process.pid}/status`, 'utf8');
    return Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(status)[1]) / 1024;
  }

  /** Sends the signal and expects exit code 0 and a log that holds no secret. */
  async stop(signal = 'SIGTERM') {
    try {
      const { code } = await this.child.stop(signal);
      assert.equal(code, 0, `exit code after ${signal}; the log:\n${this.log}`);
      assertNoSecrets(this.log);
    } finally {
      await this.cleanUp?.();
    }
  }
}

/** No log line may hold a signature or token, at any level. */
export function assertNoSecrets(log) {
  for (const secret of ['X-Amz-Signature=', 'X-Amz-Security-Token=', 'Bearer ']) {
    assert.ok(!log.includes(secret), `the log holds ${secret}: ${findLineWith(log, secret)}`);
  }
}

function findLineWith(log, text) {
  return log.split('\n').find((line) => line.includes(text));
}

/** `photoshare dev` on a free port. Without a `dataDir`, its data is removed when it stops. */
export async function startDev({ env = {}, dataDir, ...options } = {}) {
  const folder = dataDir ?? (await createTemporaryFolder());
  const cleanUp = dataDir ? undefined : () => removeFolder(folder);
  try {
    const server = await startServer('dev', { DATA_DIR: folder, ...env }, { cleanUp, ...options });
    server.listBucketKeys = () => listFiles(join(folder, 's3', 'photoshare'));
    return server;
  } catch (error) {
    await cleanUp?.();
    throw error;
  }
}

/** The relative path of every file below the folder. */
async function listFiles(folder) {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile());
  return files.map((file) => relative(folder, join(file.parentPath ?? file.path, file.name))).toSorted();
}

/** Starts a command that listens, with only `env` in its environment, and waits until it listens. */
export async function startServer(command, env, { cleanUp, ...options } = {}) {
  const child = spawnServer([command], { PORT: '0', BIND_ADDR: '127.0.0.1', ...env }, options);
  try {
    const address = await child.waitForLine(parseListeningAddress, 'the line "listening"');
    return new Server(child, `http://${address}`, cleanUp);
  } catch (error) {
    child.process.kill('SIGKILL');
    throw error;
  }
}

/** Starts the binary without waiting for anything. `descriptorLimit` limits its file descriptors, soft and hard. */
export function spawnServer(args, env = {}, { descriptorLimit, ...options } = {}) {
  const settings = { env: buildMinimalEnv({ LOG_FORMAT: 'json', ...env }), ...options };
  if (descriptorLimit === undefined) return new ChildProcess(BINARY, args, settings);
  return new ChildProcess('sh', ['-c', `ulimit -n ${descriptorLimit} && exec "$0" "$@"`, BINARY, ...args], settings);
}

/** Runs the binary until it exits by itself; its exit code and output. */
export async function runUntilExit(args, env, options) {
  const child = spawnServer(args, env, options);
  try {
    const { code } = await withDeadline(child.exited, () => `photoshare ${args} to exit:\n${child.log}`);
    return { code, log: child.log };
  } finally {
    child.process.kill('SIGKILL');
  }
}

/** The JSON lines of a log, without the lines that are printed for people. */
export function parseLogLines(log) {
  return log.split('\n').filter((line) => line.startsWith('{')).map((line) => JSON.parse(line));
}

function parseListeningAddress(line) {
  if (!line.startsWith('{')) return undefined;
  const { fields } = JSON.parse(line);
  return fields?.message === 'listening' ? fields.address : undefined;
}

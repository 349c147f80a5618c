// Starts and stops the real binary.

import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Child, bareEnv } from './process.mjs';
import { within } from './wait.mjs';

export const BINARY =
  process.env.PHOTOSHARE_BIN ?? fileURLToPath(new URL('../../../target/debug/photoshare', import.meta.url));

/** A fresh folder, gone again at the test's end. */
export async function temporaryFolder(t) {
  const folder = await mkdtemp(join(tmpdir(), 'photoshare-e2e-'));
  t?.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
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

  /** Signals, waits for the end, and expects an orderly one with a log that holds no secret. */
  async stop(signal = 'SIGTERM') {
    try {
      const { code } = await this.child.end(signal);
      assert.equal(code, 0, `exit code after ${signal}; the log:\n${this.log}`);
      assertNoSecrets(this.log);
    } finally {
      await this.cleanUp?.();
    }
  }
}

/** No log line may hold a signature, whatever the level. */
export function assertNoSecrets(log) {
  for (const secret of ['X-Amz-Signature=', 'X-Amz-Security-Token=', 'Bearer ']) {
    assert.ok(!log.includes(secret), `the log holds ${secret}: ${lineWith(log, secret)}`);
  }
}

function lineWith(log, text) {
  return log.split('\n').find((line) => line.includes(text));
}

/** `photoshare dev` on a free port. Without a `dataDir` its data ends with it. */
export async function startDev({ env = {}, dataDir, cwd } = {}) {
  const folder = dataDir ?? (await temporaryFolder());
  const cleanUp = dataDir ? undefined : () => rm(folder, { recursive: true, force: true });
  try {
    const server = await start('dev', { DATA_DIR: folder, ...env }, { cleanUp, cwd });
    server.bucketKeys = () => filesIn(join(folder, 's3', 'photoshare'));
    return server;
  } catch (error) {
    await cleanUp?.();
    throw error;
  }
}

/** Every file below the folder, by its path from there. */
async function filesIn(folder) {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile());
  return files.map((file) => relative(folder, join(file.parentPath ?? file.path, file.name))).toSorted();
}

/** The binary, with nothing in its environment but what is given; ready to be spoken to. */
export async function start(command, env, { cleanUp, cwd } = {}) {
  const child = launch([command], { PORT: '0', BIND_ADDR: '127.0.0.1', ...env }, { cwd });
  try {
    const address = await child.line(listeningAddress, 'the line "listening"');
    return new Server(child, `http://${address}`, cleanUp);
  } catch (error) {
    child.process.kill('SIGKILL');
    throw error;
  }
}

/** The binary as it is started, not waited for. */
export function launch(args, env = {}, options = {}) {
  return new Child(BINARY, args, { env: bareEnv({ LOG_FORMAT: 'json', ...env }), ...options });
}

/** Exit code and output of a start that is expected to fail by itself. */
export async function failedStart(args, env, options) {
  const child = launch(args, env, options);
  try {
    const { code } = await within(child.exited, () => `photoshare ${args} to refuse to start:\n${child.log}`);
    return { code, log: child.log };
  } finally {
    child.process.kill('SIGKILL');
  }
}

/** The JSON lines of a log; what is printed for people beside them is left out. */
export function logLines(log) {
  return log.split('\n').filter((line) => line.startsWith('{')).map((line) => JSON.parse(line));
}

function listeningAddress(line) {
  if (!line.startsWith('{')) return undefined;
  const { fields } = JSON.parse(line);
  return fields?.message === 'listening' ? fields.address : undefined;
}

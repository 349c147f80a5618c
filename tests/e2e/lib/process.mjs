// Child processes whose output is kept.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { after } from 'node:test';
import { withDeadline } from './wait.mjs';

/** The server stops within 20 seconds of SIGTERM; 5 more let a busy machine report the exit. */
const STOP_DEADLINE_MS = 25_000;
const COMMAND_DEADLINE_MS = 120_000;
/** Time for the last hooks of a test file. */
const HOOKS_DEADLINE_MS = 60_000;

/** The variables without which a program does not run, and `extra`; nothing else of the caller's environment. */
export function buildMinimalEnv(extra) {
  const { PATH, HOME, LANG = 'C.UTF-8', TMPDIR } = process.env;
  return { PATH, HOME, LANG, ...(TMPDIR && { TMPDIR }), ...extra };
}

const running = new Set();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});
// An interrupted test runner ends its files by signal, which alone does not run the exit handlers.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(signal, () => process.exit(1));

// What a failed test leaves open (servers, reconnecting clients) does not keep its file running. Node's own
// --test-force-exit loses the reports of files that are still running.
if (process.env.NODE_TEST_CONTEXT) {
  after(() => {
    setTimeout(() => process.exit(), HOOKS_DEADLINE_MS).unref();
  });
}

/** A process that ends at the latest with the process that started it. */
export class ChildProcess {
  log = '';
  #lineListeners = new Set();

  constructor(file, args, { env, ...options } = {}) {
    this.name = [file, ...args].join(' ');
    this.process = spawn(file, args, { env: env ?? buildMinimalEnv(), stdio: ['pipe', 'pipe', 'pipe'], ...options });
    running.add(this.process);
    const closed = once(this.process, 'close').then(([code, signal]) => ({ code, signal }));
    /** Resolves with `{code, signal}` once the process has exited and its output is read. */
    this.exited = closed.catch((error) => ({ code: null, signal: null, error })).finally(() => running.delete(this.process));
    for (const stream of [this.process.stdout, this.process.stderr]) {
      createInterface({ input: stream }).on('line', (line) => this.#append(line));
    }
  }

  #append(line) {
    this.log += `${line}\n`;
    for (const listener of this.#lineListeners) listener(line);
  }

  /** Calls `listener` with every line printed from now on. */
  onLine(listener) {
    this.#lineListeners.add(listener);
  }

  /** The first truthy `pick(line)` of the lines printed from now on. */
  async waitForLine(pick, what) {
    const found = new Promise((resolve) => {
      this.onLine((line) => {
        const value = pick(line);
        if (value) resolve(value);
      });
    });
    return withDeadline(this.rejectOnExit(found, what), () => `${what} of ${this.name}; it printed:\n${this.log}`);
  }

  /** The promise's outcome, or a rejection when the process exits first. */
  rejectOnExit(promise, what) {
    const exit = this.exited.then(({ code, signal, error }) => {
      throw new Error(`${this.name} ended (${error ?? code ?? signal}) before ${what}:\n${this.log}`);
    });
    exit.catch(() => {});
    return Promise.race([promise, exit]);
  }

  /** Sends the signal and waits for the exit. A process that hangs is killed and reported. */
  async stop(signal = 'SIGTERM') {
    this.process.kill(signal);
    try {
      return await withDeadline(this.exited, () => `${this.name} to end after ${signal}; it printed:\n${this.log}`, STOP_DEADLINE_MS);
    } catch (error) {
      this.process.kill('SIGKILL');
      await this.exited;
      throw error;
    }
  }
}

/** Runs a command to its end; its output. Rejects with the output when the exit code is not 0. */
export async function runCommand(file, args, options) {
  const child = new ChildProcess(file, args, options);
  child.process.stdin.end();
  const { code, error } = await withDeadline(child.exited, () => `the end of ${child.name}:\n${child.log}`, COMMAND_DEADLINE_MS);
  if (code !== 0) throw new Error(`${child.name} ended with ${error ?? code}:\n${child.log}`);
  return child.log;
}

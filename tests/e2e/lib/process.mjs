// A child process whose output is kept.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { within } from './wait.mjs';

/** Nothing of the caller's environment but what a program needs to run at all. */
export function bareEnv(extra) {
  const { PATH, HOME, LANG = 'C.UTF-8', TMPDIR } = process.env;
  return { PATH, HOME, LANG, ...(TMPDIR && { TMPDIR }), ...extra };
}

const running = new Set();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});
// A runner that is interrupted ends its files by signal, which alone would not count as an exit.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(signal, () => process.exit(1));

/** It ends at the latest with the process that started it. */
export class Child {
  log = '';
  #watchers = new Set();

  constructor(file, args, { env, ...options } = {}) {
    this.name = [file, ...args].join(' ');
    this.process = spawn(file, args, { env: env ?? bareEnv(), stdio: ['pipe', 'pipe', 'pipe'], ...options });
    running.add(this.process);
    const closed = once(this.process, 'close').then(([code, signal]) => ({ code, signal }));
    /** Settles with `{code, signal}` once the process ended and its output was read. */
    this.exited = closed.catch((error) => ({ code: null, signal: null, error })).finally(() => running.delete(this.process));
    for (const stream of [this.process.stdout, this.process.stderr]) {
      createInterface({ input: stream }).on('line', (line) => this.#keep(line));
    }
  }

  #keep(line) {
    this.log += `${line}\n`;
    for (const watcher of this.#watchers) watcher(line);
  }

  /** Calls `look` with every line printed from now on. */
  onLine(look) {
    this.#watchers.add(look);
  }

  /** The first truthy `pick(line)` of the lines printed from now on. */
  async line(pick, what) {
    const found = new Promise((resolve) => {
      this.onLine((line) => {
        const value = pick(line);
        if (value) resolve(value);
      });
    });
    return within(this.orEnd(found, what), () => `${what} of ${this.name}; it printed:\n${this.log}`);
  }

  /** The promise's outcome, or a rejection when the process ends first. */
  orEnd(promise, what) {
    const died = this.exited.then(({ code, signal, error }) => {
      throw new Error(`${this.name} ended (${error ?? code ?? signal}) before ${what}:\n${this.log}`);
    });
    died.catch(() => {});
    return Promise.race([promise, died]);
  }

  /** Sends the signal and waits for the end; a process that hangs is killed and reported. */
  async end(signal = 'SIGTERM') {
    this.process.kill(signal);
    try {
      return await within(this.exited, () => `${this.name} to end after ${signal}; it printed:\n${this.log}`);
    } catch (error) {
      this.process.kill('SIGKILL');
      await this.exited;
      throw error;
    }
  }
}

/** Runs to its end; rejects with the output when the exit code is not 0. */
export async function run(file, args, options) {
  const child = new Child(file, args, options);
  child.process.stdin.end();
  const { code, error } = await within(child.exited, () => `the end of ${child.name}:\n${child.log}`, 120_000);
  if (code !== 0) throw new Error(`${child.name} ended with ${error ?? code}:\n${child.log}`);
  return child.log;
}

// Free TCP ports for programs that can't choose one themselves.

import { once } from 'node:events';
import { createServer } from 'node:net';

// Below the range from which the kernel takes ports for connections and for servers that listen on port 0.
// Each test process has ports of its own, so that none is taken between the search and its use.
const FIRST_PORT = 10_000;
const PORTS_PER_PROCESS = 40;
const PROCESSES = 500;

const base = FIRST_PORT + (process.pid % PROCESSES) * PORTS_PER_PROCESS;
let searched = 0;

/** A port of this process that is free now. */
export async function findFreePort() {
  for (let tries = 0; tries < PORTS_PER_PROCESS; tries += 1) {
    const port = base + (searched % PORTS_PER_PROCESS);
    searched += 1;
    if (await isFree(port)) return port;
  }
  throw new Error(`no free port from ${base} on`);
}

async function isFree(port) {
  const probe = createServer().listen(port, '127.0.0.1');
  try {
    await once(probe, 'listening');
  } catch {
    return false;
  }
  probe.close();
  await once(probe, 'close');
  return true;
}

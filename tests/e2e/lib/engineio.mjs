// Engine.IO clients without a library, for packets and sequences that the official clients do not send.
// https://socket.io/docs/v4/engine-io-protocol/ (version 4)
// https://github.com/socketio/engine.io-protocol/tree/v3 (version 3, the default without EIO)

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { WebSocket } from 'ws';
import { Inbox } from './inbox.mjs';
import { DEADLINE_MS, withDeadline } from './wait.mjs';

/** Turns Engine.IO packets into Inbox entries; a Socket.IO event keeps its own name. */
class RawClient {
  inbox = new Inbox();

  /** `search` is appended to the query verbatim; with `manualConnect`, the test calls `connect()`. */
  constructor(url, { eio, query = {}, search = '', manualConnect = false } = {}) {
    this.manualConnect = manualConnect;
    this.base = url;
    this.eio = eio;
    this.search = search && `&${search}`;
    this.query = { ...(eio && { EIO: String(eio) }), ...query };
  }

  /** Resolves when connected to the namespace `/`. */
  async waitForConnect() {
    await this.inbox.waitFor('connected');
  }

  /** Connects to the namespace `/`, in version 4. */
  connect() {
    this.send('40');
  }

  receive(packet) {
    if (packet.startsWith('0')) {
      this.session = JSON.parse(packet.slice(1));
      this.inbox.push('open', this.session);
      if (this.eio === 4 && !this.manualConnect) this.connect();
    } else if (packet === '2' || packet.startsWith('2probe')) {
      this.send(`3${packet.slice(1)}`);
    } else if (packet.startsWith('42')) {
      const [name, data] = JSON.parse(packet.slice(2));
      this.inbox.push(name, data);
    } else if (packet.startsWith('43')) {
      const [, id, args] = /^43(\d+)(.*)$/.exec(packet);
      this.inbox.push('ack', { id: Number(id), answer: JSON.parse(args)[0] });
    } else if (packet.startsWith('40')) {
      this.inbox.push('connected', packet.slice(2));
    } else {
      this.inbox.push('packet', packet);
    }
  }

  buildAddress(more = {}) {
    return `${this.base}/socket.io/?${new URLSearchParams({ ...this.query, ...more })}${this.search}`;
  }
}

/** Long polling with fetch. */
export class RawPolling extends RawClient {
  #stop = new AbortController();
  #sending = Promise.resolve();
  #reading = Promise.resolve();
  #lastPoll = Promise.resolve();

  constructor(url, options) {
    super(url, options);
    this.#poll();
  }

  /** Sends packets in one request, after the previous requests. */
  send(...packets) {
    const body = this.eio === 4 ? packets.join('\x1e') : packets.map((packet) => `${packet.length}:${packet}`).join('');
    this.#sending = this.#sending.then(async () => {
      const response = await this.#fetch({ method: 'POST', headers: { 'content-type': 'text/plain;charset=UTF-8' }, body });
      this.inbox.push('post', { status: response.status, text: await response.text() });
    }).catch((error) => this.inbox.push('ended', error.message));
  }

  /** Stops polling after the poll in flight, until `resume()`. */
  pause() {
    this.#reading = new Promise((resolve) => {
      this.resume = resolve;
    });
  }

  /** Polls once while paused. */
  async poll() {
    const response = await this.#fetch();
    const text = await response.text();
    if (response.status !== 200) throw new Error(`${response.status} ${text}`);
    for (const packet of this.#splitPackets(text)) this.receive(packet);
  }

  /**
   * Upgrades a paused client to a WebSocket. Like official clients, it polls until the server has answered the
   * probe; but its first poll is late, and arrives after the upgrade request.
   */
  async upgrade() {
    await this.#letServerWork();
    const address = this.buildAddress({ transport: 'websocket', sid: this.session.sid }).replace(/^http/, 'ws');
    const socket = new WebSocket(address, { handshakeTimeout: DEADLINE_MS });
    this.#stop.signal.addEventListener('abort', () => socket.terminate());
    const open = withDeadline(once(socket, 'open'), 'the WebSocket');
    await Promise.race([open, this.#letServerWork()]);
    this.resume();
    await open;
    socket.send('2probe');
    const [answer] = await withDeadline(once(socket, 'message'), 'the answer to the probe');
    assert.equal(answer.toString(), '3probe');
    this.pause();
    await this.#lastPoll;
    socket.on('message', (data) => this.receive(data.toString()));
    socket.on('close', (code) => this.inbox.push('ended', code));
    this.send = (...packets) => packets.forEach((packet) => socket.send(packet));
    this.send('5');
  }

  close() {
    this.#stop.abort();
  }

  /** Gives the server time to process what it has received: 50 requests take 50 turns of its event loop. */
  async #letServerWork() {
    for (let count = 0; count < 50; count += 1) await (await fetch(`${this.base}/healthz`)).text();
  }

  async #poll() {
    try {
      while (!this.#stop.signal.aborted) {
        await this.#reading;
        this.#lastPoll = this.poll();
        await this.#lastPoll;
      }
    } catch (error) {
      this.inbox.push('ended', error.message);
    }
  }

  #fetch(init = {}) {
    const address = this.buildAddress({ transport: 'polling', ...(this.session && { sid: this.session.sid }) });
    return fetch(address, { ...init, signal: this.#stop.signal });
  }

  *#splitPackets(text) {
    if (this.eio === 4) {
      yield* text.split('\x1e');
      return;
    }
    for (let rest = text; rest !== '';) {
      const colon = rest.indexOf(':');
      const end = colon + 1 + Number(rest.slice(0, colon));
      yield rest.slice(colon + 1, end);
      rest = rest.slice(end);
    }
  }
}

/** A WebSocket from the start. */
export class RawWebSocket extends RawClient {
  constructor(url, options = {}) {
    super(url, options);
    const address = this.buildAddress({ transport: 'websocket' }).replace(/^http/, 'ws');
    this.socket = new WebSocket(address, { handshakeTimeout: DEADLINE_MS, headers: options.headers });
    this.socket.on('message', (data) => this.receive(data.toString()));
    this.socket.on('close', (code) => this.inbox.push('ended', code));
    this.socket.on('error', (error) => this.inbox.push('ended', error.message));
  }

  send(...packets) {
    for (const packet of packets) this.socket.send(packet);
  }

  /** Stops reading until `resume()`. */
  pause() {
    this.socket.pause();
  }

  resume() {
    this.socket.resume();
  }

  close() {
    this.socket.terminate();
  }
}

// Engine.IO by hand: what goes over the wire when no library helps.
// https://socket.io/docs/v4/engine-io-protocol/ (version 4)
// https://github.com/socketio/engine.io-protocol/tree/v3 (version 3, also meant when no EIO is given)

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { WebSocket } from 'ws';
import { Inbox } from './inbox.mjs';
import { DEADLINE_MS, within } from './wait.mjs';

/** Engine.IO packets to Inbox entries; the Socket.IO event's own name for events. */
class Raw {
  inbox = new Inbox();

  /** `search` is more of the query, as it stands; who `hesitates` asks to be let in by `connect()`. */
  constructor(url, { eio, query = {}, search = '', hesitates = false } = {}) {
    this.hesitates = hesitates;
    this.base = url;
    this.eio = eio;
    this.search = search && `&${search}`;
    this.query = { ...(eio && { EIO: String(eio) }), ...query };
  }

  /** Connected to the namespace `/`. */
  async opened() {
    await this.inbox.find('connected');
  }

  /** Asks to be let in, in version 4. */
  connect() {
    this.send('40');
  }

  receive(packet) {
    if (packet.startsWith('0')) {
      this.session = JSON.parse(packet.slice(1));
      this.inbox.push('open', this.session);
      if (this.eio === 4 && !this.hesitates) this.connect();
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

  address(more = {}) {
    return `${this.base}/socket.io/?${new URLSearchParams({ ...this.query, ...more })}${this.search}`;
  }
}

/** Long-polling with fetch. */
export class RawPolling extends Raw {
  #stop = new AbortController();
  #sending = Promise.resolve();
  #reading = Promise.resolve();
  #polled = Promise.resolve();

  constructor(url, options) {
    super(url, options);
    this.#poll();
  }

  /** Sends packets in one request, after those before. */
  send(...packets) {
    const body = this.eio === 4 ? packets.join('\x1e') : packets.map((packet) => `${packet.length}:${packet}`).join('');
    this.#sending = this.#sending.then(async () => {
      const response = await this.#fetch({ method: 'POST', headers: { 'content-type': 'text/plain;charset=UTF-8' }, body });
      this.inbox.push('post', { status: response.status, text: await response.text() });
    }).catch((error) => this.inbox.push('ended', error.message));
  }

  /** Polls no more once the poll that is under way has come back, until `resume()`. */
  pause() {
    this.#reading = new Promise((resolve) => {
      this.resume = resolve;
    });
  }

  /** One poll of a client that is paused. */
  async poll() {
    const response = await this.#fetch();
    const text = await response.text();
    if (response.status !== 200) throw new Error(`${response.status} ${text}`);
    for (const packet of this.#packets(text)) this.receive(packet);
  }

  /**
   * A client that is paused goes on as a WebSocket. As official clients do, it polls until the server has
   * answered there; but its first poll is a slow one, and comes after the server knows what it wants.
   */
  async upgrade() {
    await this.#meanwhile();
    const address = this.address({ transport: 'websocket', sid: this.session.sid }).replace(/^http/, 'ws');
    const socket = new WebSocket(address, { handshakeTimeout: DEADLINE_MS });
    this.#stop.signal.addEventListener('abort', () => socket.terminate());
    const open = within(once(socket, 'open'), 'the WebSocket');
    await Promise.race([open, this.#meanwhile()]);
    this.resume();
    await open;
    socket.send('2probe');
    const [answer] = await within(once(socket, 'message'), 'the answer to the probe');
    assert.equal(answer.toString(), '3probe');
    this.pause();
    await this.#polled;
    socket.on('message', (data) => this.receive(data.toString()));
    socket.on('close', (code) => this.inbox.push('ended', code));
    this.send = (...packets) => packets.forEach((packet) => socket.send(packet));
    this.send('5');
  }

  close() {
    this.#stop.abort();
  }

  /** Time for the server to do what there is to do. */
  async #meanwhile() {
    for (let asked = 0; asked < 50; asked += 1) await (await fetch(`${this.base}/healthz`)).text();
  }

  async #poll() {
    try {
      while (!this.#stop.signal.aborted) {
        await this.#reading;
        this.#polled = this.poll();
        await this.#polled;
      }
    } catch (error) {
      this.inbox.push('ended', error.message);
    }
  }

  #fetch(init = {}) {
    const address = this.address({ transport: 'polling', ...(this.session && { sid: this.session.sid }) });
    return fetch(address, { ...init, signal: this.#stop.signal });
  }

  *#packets(text) {
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

/** A WebSocket from the first byte. */
export class RawWebSocket extends Raw {
  constructor(url, options = {}) {
    super(url, options);
    const address = this.address({ transport: 'websocket' }).replace(/^http/, 'ws');
    this.socket = new WebSocket(address, { handshakeTimeout: DEADLINE_MS, headers: options.headers });
    this.socket.on('message', (data) => this.receive(data.toString()));
    this.socket.on('close', (code) => this.inbox.push('ended', code));
    this.socket.on('error', (error) => this.inbox.push('ended', error.message));
  }

  send(...packets) {
    for (const packet of packets) this.socket.send(packet);
  }

  /** Reads nothing more, until `resume()`. */
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

// A client that keeps a feed as the contract describes: it stores the cursor, resumes with it, and lists the
// feed again where the log can't prove what it missed.

import { io } from 'socket.io-client';
import { listPhotos } from './photos.mjs';
import { withDeadline } from './wait.mjs';

const RETRY_DELAY_MS = 250;
const JOIN_TIMEOUT_MS = 15_000;

export class Follower {
  /** Every event received, in order, repetitions included. */
  events = [];
  /** The keys that an app would show. */
  keys = new Set();
  /** For each join that was not recovered after the first one: how many events came before it, and its cursor. */
  resets = [];
  /** How many joins were recovered. */
  recoveries = 0;
  reconnectHints = 0;

  constructor(url, feed) {
    this.url = url;
    this.feed = feed;
    this.socket = io(url, {
      autoConnect: false, forceNew: true, transports: ['websocket'], reconnectionDelay: 50, reconnectionDelayMax: 500,
    });
    for (const event of ['imageUploaded', 'imageRemoved']) this.socket.on(event, (data) => this.#apply({ event, data }));
    this.socket.on('reconnect', () => { this.reconnectHints += 1; });
    // The server sends it when the log was lost while the connection stayed open.
    this.socket.on('joined', (answer) => this.#onJoined(answer));
    this.socket.on('connect', () => this.#join());
  }

  static async open(url, feed) {
    const follower = new Follower(url, feed);
    await withDeadline(new Promise((resolve) => {
      follower.ready = resolve;
      follower.socket.connect();
    }), 'a follower to join');
    return follower;
  }

  close() {
    this.closed = true;
    this.socket.close();
  }

  /** The same string for the same event. */
  static identify = ({ event, data }) => `${event} ${data.key} ${data.sequencer}`;

  /** How many events were received more than once. */
  get duplicates() {
    const identities = this.events.map(Follower.identify);
    return identities.length - new Set(identities).size;
  }

  /** Like `duplicates`, without those of the last `allowed` events before a loss of the log that came once more after it. */
  countDuplicatesExcept(allowed) {
    const losses = this.resets.map(({ received }) => received);
    const mayRepeat = (index) => losses.some((loss) => index >= loss - allowed && index < loss);
    const last = new Map();
    return this.events.filter((event, index) => {
      const identity = Follower.identify(event);
      const before = last.get(identity);
      last.set(identity, index);
      const fromSameLog = !losses.some((loss) => loss > before && loss <= index);
      return before !== undefined && (fromSameLog || !mayRepeat(before));
    }).length;
  }

  /** The events since the last reset. */
  get eventsSinceReset() {
    return this.events.slice(this.resets.at(-1)?.received ?? 0);
  }

  #join() {
    const connection = this.socket.id;
    this.socket.timeout(JOIN_TIMEOUT_MS).emit('join', this.cursor ? { feed: this.feed, cursor: this.cursor } : this.feed, (error, answer) => {
      if (this.closed || this.socket.id !== connection) return;
      if (error || answer.feed === undefined) {
        // Unavailable now: the join is repeated while this connection lasts.
        this.refusal = answer;
        setTimeout(() => this.socket.id === connection && !this.closed && this.#join(), RETRY_DELAY_MS);
      } else {
        this.#onJoined(answer);
      }
    });
  }

  #onJoined(answer) {
    const first = this.cursor === undefined;
    this.cursor = answer.cursor;
    if (answer.recovered) {
      this.recoveries += 1;
      for (const event of answer.events) this.#apply(event);
    } else {
      if (!first) this.resets.push({ received: this.events.length, cursor: answer.cursor });
      this.firstCursor ??= answer.cursor;
      this.#listFeed();
    }
    this.ready();
  }

  /** The list is newer than the join; events that arrive meanwhile are newer still, key by key. */
  async #listFeed() {
    const changes = new Map();
    this.changes = changes;
    try {
      const keys = new Set();
      for (let before, page; page === undefined || before !== undefined; before = page.before) {
        page = await listPhotos(this.url, this.feed, { limit: 200, ...(before && { before }) });
        for (const { key } of page.photos) keys.add(key);
      }
      if (this.changes !== changes) return;
      for (const [key, present] of changes) keys[present ? 'add' : 'delete'](key);
      this.keys = keys;
      this.changes = undefined;
    } catch {
      if (this.changes === changes && !this.closed) setTimeout(() => this.changes === changes && this.#listFeed(), RETRY_DELAY_MS);
    }
  }

  #apply({ event, data }) {
    this.events.push({ event, data });
    this.cursor = data.cursor;
    this.changes?.set(data.key, event === 'imageUploaded');
    this.keys[event === 'imageUploaded' ? 'add' : 'delete'](data.key);
  }
}

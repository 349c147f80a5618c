// A client that keeps a feed as the contract says: it stores the cursor, comes back with it, and lists
// anew where the log can't prove what it missed.

import { io } from 'socket.io-client';
import { listPhotos } from './photos.mjs';
import { within } from './wait.mjs';

export class Follower {
  /** Every event told, in order, each time it was told. */
  told = [];
  /** The keys that it shows. */
  shown = new Set();
  /** How often it was told that the log was lost, and where it began again. */
  restarts = [];
  /** How often it came back and recovered. */
  recoveries = 0;
  reconnectHints = 0;

  constructor(url, feed) {
    this.url = url;
    this.feed = feed;
    this.socket = io(url, {
      autoConnect: false, forceNew: true, transports: ['websocket'], reconnectionDelay: 50, reconnectionDelayMax: 500,
    });
    for (const event of ['imageUploaded', 'imageRemoved']) this.socket.on(event, (data) => this.#take({ event, data }));
    this.socket.on('reconnect', () => { this.reconnectHints += 1; });
    // The log was lost while the connection lived.
    this.socket.on('joined', (answer) => this.#joined(answer));
    this.socket.on('connect', () => this.#join());
  }

  static async open(url, feed) {
    const follower = new Follower(url, feed);
    await within(new Promise((resolve) => {
      follower.ready = resolve;
      follower.socket.connect();
    }), 'a follower to join');
    return follower;
  }

  close() {
    this.closed = true;
    this.socket.close();
  }

  /** A string for each event: the same one, if it is told again. */
  static storyOf = ({ event, data }) => `${event} ${data.key} ${data.sequencer}`;

  /** How many events it was told again, of all. */
  get duplicates() {
    const stories = this.told.map(Follower.storyOf);
    return stories.length - new Set(stories).size;
  }

  /** How many it was told again, but for the last `forgotten` before each loss of the log, told once more after it. */
  duplicatesBeyond(forgotten) {
    const losses = this.restarts.map(({ told }) => told);
    const mayComeAgain = (index) => losses.some((loss) => index >= loss - forgotten && index < loss);
    const last = new Map();
    return this.told.filter((event, index) => {
      const story = Follower.storyOf(event);
      const before = last.get(story);
      last.set(story, index);
      const byOneLog = !losses.some((loss) => loss > before && loss <= index);
      return before !== undefined && (byOneLog || !mayComeAgain(before));
    }).length;
  }

  /** What it was told since the log last began anew for it. */
  get sinceRestart() {
    return this.told.slice(this.restarts.at(-1)?.told ?? 0);
  }

  #join() {
    const connection = this.socket.id;
    this.socket.timeout(15_000).emit('join', this.cursor ? { feed: this.feed, cursor: this.cursor } : this.feed, (error, answer) => {
      if (this.closed || this.socket.id !== connection) return;
      if (error || answer.feed === undefined) {
        // Not available now: asked again in a while, as long as this connection lives.
        this.refused = answer;
        setTimeout(() => this.socket.id === connection && !this.closed && this.#join(), 250);
      } else {
        this.#joined(answer);
      }
    });
  }

  #joined(answer) {
    const first = this.cursor === undefined;
    this.cursor = answer.cursor;
    if (answer.recovered) {
      this.recoveries += 1;
      for (const event of answer.events) this.#take(event);
    } else {
      if (!first) this.restarts.push({ told: this.told.length, cursor: answer.cursor });
      this.first ??= answer.cursor;
      this.#list();
    }
    this.ready();
  }

  /** The list is newer than the join; what is told meanwhile is newer still, key by key. */
  async #list() {
    const changes = new Map();
    this.changes = changes;
    try {
      const keys = new Set();
      for (let before, page; page === undefined || before !== undefined; before = page.before) {
        page = await listPhotos(this.url, this.feed, { limit: 200, ...(before && { before }) });
        for (const { key } of page.photos) keys.add(key);
      }
      if (this.changes !== changes) return;
      for (const [key, there] of changes) keys[there ? 'add' : 'delete'](key);
      this.shown = keys;
      this.changes = undefined;
    } catch {
      if (this.changes === changes && !this.closed) setTimeout(() => this.changes === changes && this.#list(), 250);
    }
  }

  #take({ event, data }) {
    this.told.push({ event, data });
    this.cursor = data.cursor;
    this.changes?.set(data.key, event === 'imageUploaded');
    this.shown[event === 'imageUploaded' ? 'add' : 'delete'](data.key);
  }
}

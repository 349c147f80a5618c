/**
 * A client for one PhotoShare feed, for any browser app.
 *
 * It has no dependencies and imports nothing: hand in the `io` function of
 * socket.io-client 4 (or a socket that you made), so that it works with a bundler,
 * an import map or a plain script.
 *
 *     import { io } from "socket.io-client";
 *     import { PhotoFeed } from "./photoshare-client.js";
 *
 *     const feed = new PhotoFeed("summer", { io, baseUrl: "https://photos.example" });
 *     feed.addEventListener("change", () => show(feed.photos));
 *     feed.addEventListener("state", () => console.log(feed.state));
 *     feed.addEventListener("problem", (event) => console.warn(event.detail));
 *     await feed.upload(file, { onProgress: ({ loaded, total }) => {} });
 *
 * How it keeps the album right:
 *
 * - A *cursor* is a position in the feed's log. Each event carries one; the newest is kept.
 * - After a reconnect it joins with that cursor and the server tells what was missed.
 * - Where the server can't (`recovered: false`), the feed is listed and joined with the list's
 *   cursor. The server takes that cursor before it reads the bucket, so the list and the events
 *   after the cursor overlap and nothing falls between.
 * - What was told live while a list was being read is applied on top of the list, never under it.
 *
 * Types: photoshare-client.d.ts.
 */

const PROBLEM = "urn:photoshare:problem:";
const ANSWER_TIMEOUT_MS = 15_000;
const PAGE_SIZE = 200;
const RELIST_JITTER_MS = 2_000;
const MIN_REFRESH_INTERVAL_MS = 5_000;
const URL_MARGIN_MS = 60_000;
/** Listing again at once is tried this often; after that once in a while. */
const RECOVERY_ATTEMPTS = 5;
const RECOVERY_PAUSE_MS = 60_000;
const REQUEST_ATTEMPTS = 5;
const BACKOFF_MIN_MS = 500;
const BACKOFF_MAX_MS = 30_000;
const MAX_FILENAME_BYTES = 255;

const TYPE_BY_EXTENSION = {
  jpg: "image/jpeg", jpeg: "image/jpeg", png: "image/png", webp: "image/webp", gif: "image/gif",
  heic: "image/heic", heif: "image/heif", avif: "image/avif",
};

/** A failure that carries an RFC 9457 problem object, the server's or one of this module. */
export class PhotoShareError extends Error {
  constructor(problem, options) {
    super(problem.detail ?? problem.title ?? problem.type, options);
    this.name = "PhotoShareError";
    this.problem = problem;
  }

  /** The kebab-name at the end of the problem's `type`, for example `token-expired`. */
  get kind() {
    return problemKind(this.problem);
  }
}

/** The kebab-name at the end of a problem's `type`. */
export function problemKind(problem) {
  return String(problem?.type ?? "").split(":").at(-1);
}

/** The content type of a file; by its extension where the browser knows none (often HEIC). */
export function contentTypeOf(file) {
  const declared = (file.type ?? "").split(";")[0].trim().toLowerCase();
  if (declared === "image/jpg") return "image/jpeg";
  const extension = (file.name ?? "").split(".").at(-1).toLowerCase();
  return declared || (TYPE_BY_EXTENSION[extension] ?? "");
}

/**
 * Keeps a feed's snapshot (cursor and photos) in `localStorage`, so that a reload within the
 * life of the signed URLs needs no list. The snapshot holds those URLs: leave it out where
 * other people use the same browser profile.
 */
export function localStorageSnapshots(prefix = "photoshare:", storage = globalThis.localStorage) {
  return {
    load(feed) {
      try {
        return JSON.parse(storage.getItem(prefix + feed));
      } catch {
        return null;
      }
    },
    save(feed, snapshot) {
      try {
        storage.setItem(prefix + feed, JSON.stringify(snapshot));
      } catch {
        // Full or forbidden: an old snapshot is still a consistent one, so it may stay.
      }
    },
  };
}

/**
 * One feed: its photos, its connection, uploads and removals.
 *
 * Events: `change` (`detail: {added, updated, removed}`, keys), `state` (`detail`: the state),
 * `problem` (`detail`: a problem object).
 */
export class PhotoFeed extends EventTarget {
  #feed;
  #env;
  #album = new Album();
  #credentials;
  #api;
  #storage;
  #maxPhotos;
  #keyPrefix;
  #state = "connecting";
  #truncated = false;

  #socket;
  #ownsSocket;
  #handlers = [];
  #closed = new AbortController();
  /** Aborted when the connection ends: whatever was being done on it ends too. */
  #connection = null;
  #refusals = 0;
  #delays = null;

  /** The position up to which `#album` is complete; null while that isn't known. */
  #cursor = null;
  /** Whether what is told follows #cursor: not before the answer to the connection's last join was taken. */
  #follows = false;
  /** The last position told on this connection, even while the album isn't complete. */
  #told = null;
  /** What was told live since a list began; null when none is being read. */
  #journal = null;
  /** Cursors of journal events already applied, which a join may tell again. */
  #applied = new Set();
  #syncing = null;
  #listedAt = -Infinity;
  #saving = false;

  /** @param {string} feed  @param {import("./photoshare-client.js").PhotoFeedOptions} options */
  constructor(feed, options) {
    super();
    this.#feed = feed;
    this.#env = { ...browserEnvironment(), ...options.environment };
    this.#credentials = new Credentials(options.token, options.getToken);
    this.#api = new Api(options.baseUrl ?? "", this.#credentials, this.#env);
    this.#maxPhotos = options.maxPhotos ?? 1_000;
    this.#keyPrefix = options.keyPrefix;
    this.#storage = options.storage;
    this.#restore();
    this.#ownsSocket = !options.socket;
    this.#socket = options.socket ?? this.#makeSocket(options);
    this.#listen();
    if (this.#socket.connected) this.#onConnect();
    else this.#socket.connect();
  }

  /** The feed's id. */
  get feed() {
    return this.#feed;
  }

  /** A snapshot, sorted by key: names issued by the server come newest first, others after. */
  get photos() {
    return this.#album.photos;
  }

  /** `connecting`, `live`, `recovering` or `offline`. */
  get state() {
    return this.#state;
  }

  /** Whether the feed holds more photos than `maxPhotos`, so that the oldest aren't in `photos`. */
  get truncated() {
    return this.#truncated;
  }

  /** The newest cursor up to which `photos` is complete, or null. */
  get cursor() {
    return this.#cursor;
  }

  /**
   * Makes the signed URLs fresh by listing the feed again; call it when an image fails to load
   * after its `urlExpiresAt`, or before a URL is used late. Calls during a list share it.
   *
   * @param {string} [key] resolves at once if this photo's URL is good for another minute
   * @returns the photo with that key, if it is there
   */
  async refresh(key) {
    const photo = this.#album.get(key);
    if (photo && this.#goodFor(photo, URL_MARGIN_MS)) return photo;
    if (!this.#connection) throw problemError("offline", "The server can't be reached.");
    if (this.#syncing) await this.#syncing;
    else if (this.#env.now() - this.#listedAt > MIN_REFRESH_INTERVAL_MS) await this.#sync();
    return this.#album.get(key);
  }

  /**
   * Uploads a photo. It is in the feed when the bucket says so, which a `change` event tells;
   * this only tells that the bucket took it.
   *
   * @returns {Promise<{feed: string, key: string}>}
   * @throws {PhotoShareError} with the server's problem
   */
  async upload(file, { onProgress, signal, caption, filename = file.name, contentType } = {}) {
    const body = {
      contentType: contentType ?? contentTypeOf(file),
      size: file.size,
      filename: fits(filename) ? filename : undefined,
      caption: caption || undefined,
    };
    const grant = await this.#api.call("POST", this.#path("uploads"), { signal, body });
    const renew = () => this.#api.call("POST", this.#path("uploads", this.#nameOf(grant.key), "renew"), { signal, body });
    await putFile(file, grant, { onProgress, signal, renew, env: this.#env });
    return { feed: this.#feed, key: grant.key };
  }

  /** Asks for a photo's removal; it leaves `photos` when the bucket says that it is gone. */
  async remove(key, { signal } = {}) {
    await this.#api.call("DELETE", this.#path("photos", this.#nameOf(key)), { signal });
  }

  /** Ends everything. A socket that was handed in stays open; the feed is left. */
  close() {
    if (this.#closed.signal.aborted) return;
    this.#save();
    this.#endConnection();
    this.#closed.abort();
    for (const [event, handler] of this.#handlers) this.#socket.off(event, handler);
    if (this.#ownsSocket) this.#socket.disconnect();
    else if (this.#socket.connected) this.#socket.emit("leave", { feed: this.#feed });
    this.#setState("offline");
  }

  // ── the connection ────────────────────────────────────────────────────────────────────────

  #makeSocket({ io, baseUrl }) {
    const settings = {
      transports: ["websocket", "polling"],
      // Without it socket.io-client stays with the first transport, even behind a proxy that refuses it.
      tryAllTransports: true,
      auth: (send) => send(this.#credentials.token ? { token: this.#credentials.token } : {}),
      autoConnect: false,
      // A connection of its own, so that close() ends no other code's.
      forceNew: true,
    };
    return baseUrl ? io(baseUrl, settings) : io(settings);
  }

  #listen() {
    const handlers = {
      connect: () => this.#onConnect(),
      disconnect: (reason) => this.#onDisconnect(reason),
      connect_error: (error) => this.#onConnectError(error),
      imageUploaded: (data) => this.#onEvent({ event: "imageUploaded", data }),
      imageRemoved: (data) => this.#onEvent({ event: "imageRemoved", data }),
      joined: (answer) => this.#onJoined(answer),
      left: (notice) => this.#onLeft(notice),
      problem: (problem) => this.#tellProblem(problem),
      tokenExpiring: () => this.#onTokenExpiring(),
      reconnect: (hint) => this.#onReconnectHint(hint),
    };
    this.#handlers = Object.entries(handlers);
    for (const [event, handler] of this.#handlers) this.#socket.on(event, handler);
  }

  #onConnect() {
    this.#refusals = 0;
    this.#endConnection();
    this.#restoreDelays();
    this.#connection = new AbortController();
    this.#setState(this.#state === "connecting" ? "connecting" : "recovering");
    this.#inBackground((signal) => this.#enter(signal));
  }

  #onDisconnect(reason) {
    this.#endConnection();
    this.#setState("offline");
    // The server ends a connection in this way when its token ends; the client library stays away.
    if (reason === "io server disconnect") this.#connectWithFreshToken(problemOf("token-expired"));
  }

  #onConnectError(error) {
    this.#setState("offline");
    // An active socket comes back by itself; a refused one is ours to bring back.
    if (this.#socket.active) return;
    const problem = error.data?.type ? error.data : problemOf(error.message);
    if (isTokenProblem(problem)) this.#connectWithFreshToken(problem);
    else this.#reconnectLater(problem);
  }

  async #connectWithFreshToken(problem) {
    try {
      await this.#pauseAfterRefusal();
      await this.#credentials.renew(problem);
      if (!this.#closed.signal.aborted) this.#socket.connect();
    } catch (error) {
      this.#tellFailure(error);
    }
  }

  async #reconnectLater(problem) {
    this.#tellProblem(problem);
    if (!mayPass(problem)) return;
    try {
      this.#refusals = Math.max(this.#refusals, 1);
      await this.#pauseAfterRefusal();
      this.#socket.connect();
    } catch {
      // Closed meanwhile.
    }
  }

  /** The first refusal is answered at once; a row of them ever more slowly. */
  async #pauseAfterRefusal() {
    const refusals = this.#refusals++;
    if (refusals > 0) await sleep(this.#env, backoff(this.#env, refusals - 1), this.#closed.signal);
  }

  #endConnection() {
    this.#connection?.abort();
    this.#connection = null;
    this.#told = null;
    this.#follows = false;
    this.#journal = null;
    this.#applied.clear();
  }

  /** Runs `work` for as long as this connection lasts; a failure that can't pass ends the feed. */
  async #inBackground(work) {
    const { signal } = this.#connection;
    try {
      await work(signal);
    } catch (error) {
      if (signal.aborted) return;
      this.#endConnection();
      this.#setState("offline");
      if (this.#ownsSocket) this.#socket.disconnect();
      this.#tellFailure(error);
    }
  }

  /**
   * A server that is about to go says when to come back. The transport then closes by itself and
   * the client library returns; only its first pause is made as long as the server asked.
   */
  #onReconnectHint(hint) {
    const manager = this.#socket.io;
    const afterMs = Number(hint?.afterMs);
    if (!(afterMs > 0) || !manager?.reconnectionDelay) return;
    this.#delays ??= { min: manager.reconnectionDelay(), max: manager.reconnectionDelayMax() };
    const delay = Math.min(afterMs, BACKOFF_MAX_MS);
    manager.reconnectionDelay(Math.max(delay, this.#delays.min));
    manager.reconnectionDelayMax(Math.max(delay, this.#delays.max));
  }

  #restoreDelays() {
    if (!this.#delays) return;
    this.#socket.io.reconnectionDelay(this.#delays.min);
    this.#socket.io.reconnectionDelayMax(this.#delays.max);
    this.#delays = null;
  }

  async #onTokenExpiring() {
    const signal = this.#connection?.signal;
    try {
      await this.#authenticate(problemOf("token-expired"), signal);
    } catch (error) {
      if (!signal?.aborted) this.#tellFailure(error);
    }
  }

  async #authenticate(problem, signal) {
    const token = await this.#credentials.renew(problem);
    await this.#askOnce("authenticate", { token }, signal);
  }

  // ── joining and recovering ────────────────────────────────────────────────────────────────

  async #enter(signal) {
    if (this.#cursor !== null) {
      const { recovered } = await this.#join(this.#cursor, signal, (answer) => this.#takeAnswer(answer));
      if (recovered) return;
      await this.#relistJitter(signal);
    }
    await this.#sync();
  }

  /** Many clients hear of a lost log at the same moment; they shouldn't list at the same moment. */
  #relistJitter(signal) {
    return sleep(this.#env, this.#env.random() * RELIST_JITTER_MS, signal);
  }

  /** Lists and joins, once at a time: callers during a run share it. */
  #sync() {
    const { signal } = this.#connection;
    const run = this.#syncing ?? this.#listAndJoin(signal);
    this.#syncing = run;
    const done = () => {
      if (this.#syncing === run) this.#syncing = null;
    };
    run.then(done, done);
    // A new connection must not wait for a run of the old one.
    signal.addEventListener("abort", done, { once: true });
    return run;
  }

  async #listAndJoin(signal) {
    for (let attempt = 0; ; attempt++) {
      this.#journal = new Journal(this.#told);
      const list = await this.#tryList(signal);
      const take = (answer) => this.#takeListAndAnswer(list, answer);
      const { recovered } = await this.#join(list?.cursor, signal, take);
      if (list && recovered) return;
      const isLast = attempt === RECOVERY_ATTEMPTS - 1;
      if (isLast) this.#tellProblem(problemOf("recovery-incomplete", "Some photos may be missing; trying again."));
      const pause = attempt < RECOVERY_ATTEMPTS - 1 ? backoff(this.#env, attempt) : RECOVERY_PAUSE_MS;
      await sleep(this.#env, pause, signal);
    }
  }

  /** The list, or null where reading it failed in a way that may pass. */
  async #tryList(signal) {
    try {
      return await this.#list(signal);
    } catch (error) {
      if (signal.aborted || !mayPass(error.problem)) throw error;
      this.#tellFailure(error);
      return null;
    }
  }

  async #list(signal) {
    const photos = [];
    let cursor;
    let before;
    do {
      const query = new URLSearchParams({ limit: String(PAGE_SIZE), ...(before && { before }) });
      const page = await this.#api.call("GET", `${this.#path("photos")}?${query}`, { signal, attempts: 1 });
      // The first page's: what came while later pages were read lies after it.
      cursor ??= page.cursor;
      photos.push(...page.photos);
      before = page.before;
    } while (before && photos.length < this.#maxPhotos);
    this.#listedAt = this.#env.now();
    return { cursor, photos: photos.slice(0, this.#maxPhotos), truncated: Boolean(before) || photos.length > this.#maxPhotos };
  }

  /** Asks to join; a token that the server no longer takes is renewed once. */
  async #join(cursor, signal, take) {
    const request = { feed: this.#feed, ...(cursor != null && { cursor }) };
    this.#follows = false;
    try {
      return await this.#askPatiently("join", request, signal, take);
    } catch (error) {
      if (signal.aborted || !isTokenProblem(error.problem)) throw error;
      await this.#authenticate(error.problem, signal);
      return this.#askOnce("join", request, signal, take);
    }
  }

  async #askPatiently(event, argument, signal, take) {
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.#askOnce(event, argument, signal, take);
      } catch (error) {
        if (signal.aborted || !mayPass(error.problem)) throw error;
        if (attempt === RECOVERY_ATTEMPTS) this.#tellFailure(error);
        await sleep(this.#env, backoff(this.#env, attempt), signal);
      }
    }
  }

  /**
   * One request and its answer. `take` is called within the answer's callback: a promise's
   * continuation could run after an event that follows the answer in the same packet.
   */
  #askOnce(event, argument, signal, take) {
    return new Promise((resolve, reject) => {
      const forget = onAbort(signal, reject);
      this.#socket.timeout(ANSWER_TIMEOUT_MS).emit(event, argument, (failure, answer) => {
        forget();
        if (signal?.aborted) return;
        if (failure) return reject(problemError("unavailable", "The server did not answer.", failure));
        if (isProblem(answer)) return reject(new PhotoShareError(answer));
        take?.(answer);
        resolve(answer);
      });
    });
  }

  #takeAnswer({ recovered, cursor, events }) {
    this.#told = cursor;
    if (!recovered) return this.#lost();
    this.#follow(cursor);
    this.#change(() => events.forEach((event) => this.#album.apply(event)));
    this.#setState("live");
  }

  /** The list, what was told live after it, then what the answer adds: the order of the log. */
  #takeListAndAnswer(list, answer) {
    const told = list ? this.#journal.after(list.cursor) : [];
    this.#applied = new Set(told.map(({ data }) => data.cursor));
    const fresh = answer.events.filter(({ data }) => !this.#applied.has(data.cursor));
    // Where the answer ends within what was told live, the live position is the newer one.
    this.#told = fresh.length > 0 || told.length === 0 ? answer.cursor : told.at(-1).data.cursor;
    this.#journal = null;
    if (list) this.#replacePhotos(list, [...told, ...fresh]);
    if (!list || !answer.recovered) return this.#lost();
    this.#follow(this.#told);
    this.#setState("live");
  }

  #follow(cursor) {
    this.#cursor = cursor;
    this.#follows = true;
  }

  #replacePhotos({ photos, truncated }, events) {
    this.#truncated = truncated;
    this.#change(() => {
      this.#album.replace(photos);
      events.forEach((event) => this.#album.apply(event));
    });
  }

  #lost() {
    this.#cursor = null;
    this.#follows = false;
    if (this.#state === "live") this.#setState("recovering");
  }

  // ── what the server tells ─────────────────────────────────────────────────────────────────

  #onEvent(event) {
    const { feed, cursor } = event.data;
    if (feed !== this.#feed || !this.#connection) return;
    if (this.#applied.delete(cursor)) return;
    this.#told = cursor;
    this.#journal?.add(event);
    // A position is worth keeping only if everything before it is in the album.
    if (this.#follows) this.#cursor = cursor;
    this.#change(() => this.#album.apply(event));
  }

  /** A join answer that nobody asked for: the server lost the log, or caught this client up. */
  #onJoined(answer) {
    if (answer.feed !== this.#feed || !this.#connection) return;
    if (this.#syncing || this.#cursor === null) return this.#restartJournal(answer);
    this.#takeAnswer(answer);
    if (answer.recovered) return;
    this.#inBackground(async (signal) => {
      await this.#relistJitter(signal);
      await this.#sync();
    });
  }

  /** While a list is being read, its own join decides; positions told before no longer count. */
  #restartJournal({ cursor }) {
    this.#told = cursor;
    if (this.#journal) this.#journal = new Journal(cursor);
  }

  #onLeft({ feed, reason }) {
    if (feed !== this.#feed) return;
    this.#endConnection();
    this.#setState("offline");
    this.#tellProblem(problemOf("forbidden", `The feed is no longer open to this token (${reason}).`));
  }

  // ── telling the app ───────────────────────────────────────────────────────────────────────

  #change(edit) {
    const difference = this.#album.edit(edit);
    if (difference) this.#dispatch("change", difference);
    this.#saveSoon();
  }

  #setState(state) {
    if (state === this.#state) return;
    this.#state = state;
    this.#dispatch("state", state);
  }

  #tellFailure(error) {
    if (error.name === "AbortError") return;
    this.#tellProblem(error.problem ?? problemOf("unavailable", error.message));
  }

  #tellProblem(problem) {
    this.#dispatch("problem", problem);
  }

  #dispatch(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  // ── keeping ───────────────────────────────────────────────────────────────────────────────

  /** Expired URLs would show nothing: such a snapshot is as good as none. */
  #restore() {
    const snapshot = this.#storage?.load(this.#feed);
    if (!snapshot?.cursor || !snapshot.photos.every((photo) => this.#goodFor(photo, URL_MARGIN_MS))) return;
    this.#cursor = snapshot.cursor;
    this.#truncated = Boolean(snapshot.truncated);
    this.#album.edit(() => this.#album.replace(snapshot.photos));
  }

  #saveSoon() {
    if (!this.#storage || this.#saving) return;
    this.#saving = true;
    const save = () => {
      this.#saving = false;
      this.#save();
    };
    sleep(this.#env, 1_000, this.#closed.signal).then(save, () => {});
  }

  #save() {
    // Cursor and photos belong together: without a cursor there is nothing to come back to.
    if (!this.#storage || this.#cursor === null) return;
    this.#storage.save(this.#feed, { cursor: this.#cursor, photos: this.photos, truncated: this.#truncated });
  }

  #goodFor(photo, ms) {
    return Date.parse(photo.urlExpiresAt) - this.#env.now() > ms;
  }

  // ── names ─────────────────────────────────────────────────────────────────────────────────

  #path(...segments) {
    const encoded = segments.map((segment) => segment.split("/").map(encodeURIComponent).join("/"));
    return `/v1/feeds/${encodeURIComponent(this.#feed)}/${encoded.join("/")}`;
  }

  #nameOf(key) {
    return nameOfKey(key, this.#feed, this.#keyPrefix);
  }
}

const ISSUED_NAME = /^0[0-9a-f]{12}-[0-9a-f]{20}\.\w+$/;

/**
 * The photo's name within its feed: what follows the feed's slash in the key. Where the bucket
 * prefix isn't known, the feed is looked for in the key. A foreign name may hold the feed's own
 * name as a segment: rather than guess, and delete another photo, that is refused.
 */
function nameOfKey(key, feed, prefix) {
  if (prefix !== undefined) return key.slice(`${prefix}${feed}/`.length);
  const segments = key.split("/");
  const places = segments.flatMap((segment, index) => (segment === feed && index < segments.length - 1 ? [index] : []));
  const isIssued = ISSUED_NAME.test(segments.at(-1)) && segments.at(-2) === feed;
  if (places.length === 1 || isIssued) return segments.slice(places.at(-1) + 1).join("/");
  throw problemError("invalid-key", `The feed's place in "${key}" is not clear; set keyPrefix.`);
}

/** The photos by key, and what an edit changed. */
class Album {
  #photos = new Map();
  #sorted = null;

  get photos() {
    this.#sorted ??= Object.freeze([...this.#photos.values()].sort((a, b) => (a.key < b.key ? -1 : 1)));
    return this.#sorted;
  }

  get(key) {
    return this.#photos.get(key);
  }

  apply({ event, data }) {
    if (event === "imageRemoved") this.#photos.delete(data.key);
    else if (event === "imageUploaded") this.#photos.set(data.key, photoOf(data));
  }

  /** A list knows less of a photo than its event did: what an unchanged photo had is kept. */
  replace(listed) {
    const known = this.#photos;
    this.#photos = new Map(listed.map((photo) => {
      const old = known.get(photo.key);
      return [photo.key, Object.freeze(old && old.eTag === photo.eTag ? { ...old, ...photo } : { ...photo })];
    }));
  }

  /** Runs `change`; tells the keys that it added, updated and removed, or null if none. */
  edit(change) {
    const before = new Map(this.#photos);
    change();
    const after = this.#photos;
    const added = [...after.keys()].filter((key) => !before.has(key));
    const removed = [...before.keys()].filter((key) => !after.has(key));
    const updated = [...after].filter(([key, photo]) => before.has(key) && before.get(key) !== photo).map(([key]) => key);
    if (added.length + removed.length + updated.length === 0) return null;
    this.#sorted = null;
    return { added, updated, removed };
  }
}

/** What is the photo's in an event, without what is the event's. */
function photoOf({ feed, eventName, eventTime, sequencer, cursor, ...photo }) {
  return Object.freeze({ lastModified: eventTime, ...photo });
}

/** The events told on a connection since the position `start`, in the order of the log. */
class Journal {
  #start;
  #events = [];

  constructor(start) {
    this.#start = start;
  }

  add(event) {
    this.#events.push(event);
  }

  /** Those after `cursor`. One that was not told here is ahead of all: nothing follows it. */
  after(cursor) {
    if (cursor === this.#start) return this.#events;
    const index = this.#events.findIndex(({ data }) => data.cursor === cursor);
    return index < 0 ? [] : this.#events.slice(index + 1);
  }
}

/** The token, and how to get another; several who need one share a single `getToken` call. */
class Credentials {
  #getToken;
  #pending = null;

  constructor(token, getToken) {
    this.token = token ?? null;
    this.#getToken = getToken;
  }

  async renew(problem) {
    if (!this.#getToken) throw new PhotoShareError(problem);
    this.#pending ??= Promise.resolve(this.#getToken({ problem })).finally(() => (this.#pending = null));
    const token = await this.#pending;
    if (!token) throw new PhotoShareError(problem);
    this.token = token;
    return token;
  }
}

/** JSON over HTTP: retries what may pass, renews a token once, throws problems. */
class Api {
  #baseUrl;
  #credentials;
  #env;

  constructor(baseUrl, credentials, env) {
    this.#baseUrl = baseUrl.replace(/\/$/, "");
    this.#credentials = credentials;
    this.#env = env;
  }

  async call(method, path, { body, signal, attempts = REQUEST_ATTEMPTS } = {}) {
    let renewed = false;
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#once(method, path, body, signal);
      } catch (error) {
        if (signal?.aborted || !error.problem) throw error;
        if (isTokenProblem(error.problem) && !renewed) {
          renewed = true;
          await this.#credentials.renew(error.problem);
        } else if (mayPass(error.problem) && attempt < attempts) {
          await sleep(this.#env, error.retryAfterMs ?? backoff(this.#env, attempt - 1), signal);
        } else {
          throw error;
        }
      }
    }
  }

  async #once(method, path, body, signal) {
    const headers = { accept: "application/json" };
    if (body) headers["content-type"] = "application/json";
    if (this.#credentials.token) headers.authorization = `Bearer ${this.#credentials.token}`;
    const request = { method, headers, signal, cache: "no-store", body: body && JSON.stringify(body) };
    const response = await this.#env.fetch(this.#baseUrl + path, request).catch((error) => {
      throw error.name === "AbortError" ? error : problemError("offline", "The server can't be reached.", error);
    });
    if (!response.ok) throw await errorOf(response);
    return response.json().catch(() => ({}));
  }
}

async function errorOf(response) {
  const problem = await response.json().catch(() => null);
  const fallback = { ...problemOf(response.status >= 500 ? "unavailable" : "invalid-answer"), status: response.status };
  const error = new PhotoShareError(isProblem(problem) ? problem : { ...fallback, title: `HTTP ${response.status}` });
  const seconds = Number(response.headers.get("retry-after") ?? NaN);
  if (seconds >= 0) error.retryAfterMs = Math.min(seconds * 1_000, BACKOFF_MAX_MS);
  return error;
}

/** Sends a file with a grant until the bucket has it: 412 says that an earlier try got through. */
async function putFile(file, grant, { onProgress, signal, renew, env }) {
  for (let attempt = 1; ; attempt++) {
    const status = await putOnce(file, grant, { onProgress, signal, env });
    if ((status >= 200 && status < 300) || status === 412) return;
    const expired = Date.parse(grant.expiresAt) <= env.now();
    // 409: an earlier try is still under way.
    const passing = status === 0 || status === 409 || status === 429 || status >= 500 || expired;
    if (!passing || attempt === REQUEST_ATTEMPTS) throw storageError(status);
    await sleep(env, backoff(env, attempt - 1), signal);
    if (!expired) continue;
    try {
      grant = await renew();
    } catch (error) {
      if (error.kind === "already-stored") return;
      throw error;
    }
  }
}

/** One PUT with exactly the grant's URL and headers; resolves to its status, 0 if there was none. */
function putOnce(file, { method, url, headers }, { onProgress, signal, env }) {
  return new Promise((resolve, reject) => {
    const request = new env.XMLHttpRequest();
    if (signal?.aborted) return reject(signal.reason);
    const forget = onAbort(signal, (reason) => {
      request.abort();
      reject(reason);
    });
    const end = (status) => {
      forget();
      resolve(status);
    };
    request.open(method, url);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    if (onProgress) {
      request.upload.onprogress = ({ loaded, total }) => onProgress({ loaded, total: total || file.size });
    }
    request.onload = () => end(request.status);
    request.onerror = () => end(0);
    request.ontimeout = () => end(0);
    request.send(file);
  });
}

function storageError(status) {
  return status === 0
    ? problemError("storage-unreachable", "The photo store can't be reached (or its CORS rules refuse this page).")
    : problemError("storage-refused", `The photo store refused the upload (HTTP ${status}).`, undefined, status);
}

function isProblem(answer) {
  return typeof answer?.type === "string" && typeof answer?.status === "number";
}

function problemOf(kind, detail) {
  return { type: PROBLEM + kind, title: kind.replaceAll("-", " "), ...(detail && { detail }) };
}

function problemError(kind, detail, cause, status) {
  return new PhotoShareError({ ...problemOf(kind, detail), ...(status && { status }) }, { cause });
}

function isTokenProblem(problem) {
  return ["token-missing", "token-invalid", "token-expired"].includes(problemKind(problem));
}

/** Whether trying again later can help. */
function mayPass(problem) {
  const kinds = ["offline", "unavailable", "too-many-requests", "too-many-connections"];
  return kinds.includes(problemKind(problem)) || problem?.status >= 500;
}

function fits(filename) {
  return Boolean(filename) && new TextEncoder().encode(filename).length <= MAX_FILENAME_BYTES;
}

/** Doubling pauses with jitter: between half and the whole of 0.5 s, 1 s, 2 s … 30 s. */
function backoff(env, attempt) {
  const whole = Math.min(BACKOFF_MIN_MS * 2 ** attempt, BACKOFF_MAX_MS);
  return whole * (0.5 + env.random() / 2);
}

function sleep(env, ms, signal) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const forget = onAbort(signal, (reason) => {
      env.clearTimeout(timer);
      reject(reason);
    });
    const timer = env.setTimeout(() => {
      forget();
      resolve();
    }, ms);
  });
}

/** Calls back when `signal` aborts, unless the returned function was called before. */
function onAbort(signal, callback) {
  const listener = () => callback(signal.reason);
  if (signal?.aborted) listener();
  signal?.addEventListener("abort", listener, { once: true });
  return () => signal?.removeEventListener("abort", listener);
}

/** What the module takes from its surroundings; tests hand in their own. */
function browserEnvironment() {
  return {
    fetch: (...request) => globalThis.fetch(...request),
    XMLHttpRequest: globalThis.XMLHttpRequest,
    setTimeout: (callback, ms) => globalThis.setTimeout(callback, ms),
    clearTimeout: (timer) => globalThis.clearTimeout(timer),
    random: () => Math.random(),
    now: () => Date.now(),
  };
}

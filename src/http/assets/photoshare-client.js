/**
 * A client for one PhotoShare feed, for any browser app.
 *
 * It has no dependencies and imports nothing. Pass the `io` function of socket.io-client 4
 * (or a socket that you created): the module then works with a bundler, an import map or a
 * plain script.
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
 * How it keeps `photos` complete:
 *
 * - A *cursor* is a position in the feed's log. Each event carries one; the client keeps the newest.
 * - After a reconnect the client joins with that cursor, and the server sends the missed events.
 * - If the server can't (`recovered: false`), the client lists the feed and joins with the list's
 *   cursor. The server reads that cursor before it reads the bucket, so the list and the events
 *   after the cursor overlap and no event is lost between them.
 * - Events that arrive while a list is being read are applied on top of the list, never under it.
 *
 * Types: photoshare-client.d.ts.
 */

const PROBLEM = "urn:photoshare:problem:";
const RESPONSE_TIMEOUT_MS = 15_000;
const PAGE_SIZE = 200;
const RELIST_JITTER_MS = 2_000;
const MIN_REFRESH_INTERVAL_MS = 5_000;
const URL_MARGIN_MS = 60_000;
/** Attempts with exponential backoff; later attempts are RECOVERY_PAUSE_MS apart. */
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

/** An error that carries an RFC 9457 problem object, from the server or from this module. */
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

/** The content type of a file; derived from its extension if the browser reports none (often HEIC). */
export function contentTypeOf(file) {
  const declared = (file.type ?? "").split(";")[0].trim().toLowerCase();
  if (declared === "image/jpg") return "image/jpeg";
  const extension = (file.name ?? "").split(".").at(-1).toLowerCase();
  return declared || (TYPE_BY_EXTENSION[extension] ?? "");
}

/**
 * Stores a feed's snapshot (cursor and photos) in `localStorage`, so that a reload while the
 * signed URLs are valid needs no list. The snapshot contains those URLs: do not use it where
 * other people share the browser profile.
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
        // Storage is full or forbidden. An older snapshot stays: it is still consistent.
      }
    },
  };
}

/**
 * One feed: its photos, its connection, uploads and removals.
 *
 * Events: `change` (`detail`: the keys that were `added`, `updated` and `removed`), `state`
 * (`detail`: the new state), `problem` (`detail`: a problem object).
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
  /** Aborted when the connection ends, which cancels the work started on it. */
  #connection = null;
  #rejections = 0;
  #delays = null;

  /** The position up to which `#album` is complete; null while it is unknown. */
  #cursor = null;
  /** Whether incoming events continue from #cursor; true once the latest join response was applied. */
  #isContiguous = false;
  /** The last position received on this connection, even while the album is incomplete. */
  #received = null;
  /** The events received since a list began; null while no list is being read. */
  #journal = null;
  /** Cursors of journal events that are already applied, which the server may send again. */
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

  /** A frozen array, sorted by key: names issued by the server come first, newest first. */
  get photos() {
    return this.#album.photos;
  }

  /** `connecting`, `live`, `recovering` or `offline`. */
  get state() {
    return this.#state;
  }

  /** Whether the feed holds more than `maxPhotos` photos, so that `photos` lacks the oldest. */
  get truncated() {
    return this.#truncated;
  }

  /** The newest cursor up to which `photos` is complete, or null. */
  get cursor() {
    return this.#cursor;
  }

  /**
   * Renews the signed URLs by listing the feed again. Call it when an image fails to load after
   * its `urlExpiresAt`, or before using a URL that is about to expire. Concurrent calls share one
   * list.
   *
   * @param {string} [key] resolves immediately if this photo's URL is valid for another minute
   * @returns the photo with that key, or undefined if the feed has none
   */
  async refresh(key) {
    const photo = this.#album.get(key);
    if (photo && this.#isUrlValidFor(photo, URL_MARGIN_MS)) return photo;
    if (!this.#connection) throw problemError("offline", "The server can't be reached.");
    if (this.#syncing) await this.#syncing;
    else if (this.#env.now() - this.#listedAt > MIN_REFRESH_INTERVAL_MS) await this.#sync();
    return this.#album.get(key);
  }

  /**
   * Uploads a photo. Resolves when the bucket has stored it; the photo appears in `photos` with the
   * `change` event that follows.
   *
   * @returns {Promise<{feed: string, key: string}>}
   * @throws {PhotoShareError} with the problem that the server returned
   */
  async upload(file, { onProgress, signal, caption, filename = file.name, contentType } = {}) {
    const body = {
      contentType: contentType ?? contentTypeOf(file),
      size: file.size,
      filename: isValidFilename(filename) ? filename : undefined,
      caption: caption || undefined,
    };
    const grant = await this.#api.call("POST", this.#path("uploads"), { signal, body });
    const renew = () => this.#api.call("POST", this.#path("uploads", this.#nameOf(grant.key), "renew"), { signal, body });
    await putFile(file, grant, { onProgress, signal, renew, env: this.#env });
    return { feed: this.#feed, key: grant.key };
  }

  /** Requests a photo's removal; it leaves `photos` when the bucket confirms the removal. */
  async remove(key, { signal } = {}) {
    await this.#api.call("DELETE", this.#path("photos", this.#nameOf(key)), { signal });
  }

  /** Leaves the feed and stops all work. A socket that was passed in stays open. */
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
      // Without it socket.io-client retries only the first transport, even behind a proxy that rejects it.
      tryAllTransports: true,
      auth: (send) => send(this.#credentials.token ? { token: this.#credentials.token } : {}),
      autoConnect: false,
      // A dedicated connection, so that close() does not close a connection that other code uses.
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
      joined: (response) => this.#onJoined(response),
      left: (notice) => this.#onLeft(notice),
      problem: (problem) => this.#emitProblem(problem),
      tokenExpiring: () => this.#onTokenExpiring(),
      reconnect: (hint) => this.#onReconnectHint(hint),
    };
    this.#handlers = Object.entries(handlers);
    for (const [event, handler] of this.#handlers) this.#socket.on(event, handler);
  }

  #onConnect() {
    this.#rejections = 0;
    this.#endConnection();
    this.#restoreDelays();
    this.#connection = new AbortController();
    this.#setState(this.#state === "connecting" ? "connecting" : "recovering");
    this.#runOnConnection((signal) => this.#joinAndRecover(signal));
  }

  #onDisconnect(reason) {
    this.#endConnection();
    this.#setState("offline");
    // The server disconnects this way when the token expires; the client library does not reconnect then.
    if (reason === "io server disconnect") this.#connectWithFreshToken(makeProblem("token-expired"));
  }

  #onConnectError(error) {
    this.#setState("offline");
    // An active socket reconnects by itself; a rejected one does not.
    if (this.#socket.active) return;
    const problem = error.data?.type ? error.data : makeProblem(error.message);
    if (isTokenProblem(problem)) this.#connectWithFreshToken(problem);
    else this.#reconnectLater(problem);
  }

  async #connectWithFreshToken(problem) {
    try {
      await this.#backOffAfterRejection();
      await this.#credentials.renew(problem);
      if (!this.#closed.signal.aborted) this.#socket.connect();
    } catch (error) {
      this.#emitError(error);
    }
  }

  async #reconnectLater(problem) {
    this.#emitProblem(problem);
    if (!isTransient(problem)) return;
    try {
      this.#rejections = Math.max(this.#rejections, 1);
      await this.#backOffAfterRejection();
      this.#socket.connect();
    } catch {
      // The feed was closed during the pause.
    }
  }

  /** Retries immediately after the first rejection, with exponential backoff after further ones. */
  async #backOffAfterRejection() {
    const rejections = this.#rejections++;
    if (rejections > 0) await sleep(this.#env, backoff(this.#env, rejections - 1), this.#closed.signal);
  }

  #endConnection() {
    this.#connection?.abort();
    this.#connection = null;
    this.#received = null;
    this.#isContiguous = false;
    this.#journal = null;
    this.#applied.clear();
  }

  /** Runs `work` while this connection lasts; a permanent error disconnects the feed. */
  async #runOnConnection(work) {
    const { signal } = this.#connection;
    try {
      await work(signal);
    } catch (error) {
      if (signal.aborted) return;
      this.#endConnection();
      this.#setState("offline");
      if (this.#ownsSocket) this.#socket.disconnect();
      this.#emitError(error);
    }
  }

  /**
   * A server that shuts down sends the delay before reconnecting. The transport then closes and
   * the client library reconnects; only its first delay is set to what the server requested.
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
      await this.#authenticate(makeProblem("token-expired"), signal);
    } catch (error) {
      if (!signal?.aborted) this.#emitError(error);
    }
  }

  async #authenticate(problem, signal) {
    const token = await this.#credentials.renew(problem);
    await this.#request("authenticate", { token }, signal);
  }

  // ── joining and recovery ────────────────────────────────────────────────────────────────

  async #joinAndRecover(signal) {
    if (this.#cursor !== null) {
      const { recovered } = await this.#join(this.#cursor, signal, (response) => this.#applyJoinResponse(response));
      if (recovered) return;
      await this.#relistJitter(signal);
    }
    await this.#sync();
  }

  /** All clients learn of a lost log at the same moment; jitter spreads their list requests. */
  #relistJitter(signal) {
    return sleep(this.#env, this.#env.random() * RELIST_JITTER_MS, signal);
  }

  /** Lists and joins; concurrent callers share one run. */
  #sync() {
    const { signal } = this.#connection;
    const run = this.#syncing ?? this.#listAndJoin(signal);
    this.#syncing = run;
    const done = () => {
      if (this.#syncing === run) this.#syncing = null;
    };
    run.then(done, done);
    // A new connection must not wait for a run of the previous one.
    signal.addEventListener("abort", done, { once: true });
    return run;
  }

  async #listAndJoin(signal) {
    for (let attempt = 0; ; attempt++) {
      this.#journal = new Journal(this.#received);
      const list = await this.#tryList(signal);
      const onResponse = (response) => this.#applyListAndJoinResponse(list, response);
      const { recovered } = await this.#join(list?.cursor, signal, onResponse);
      if (list && recovered) return;
      const isLast = attempt === RECOVERY_ATTEMPTS - 1;
      if (isLast) this.#emitProblem(makeProblem("recovery-incomplete", "Some photos may be missing; retrying."));
      const pause = attempt < RECOVERY_ATTEMPTS - 1 ? backoff(this.#env, attempt) : RECOVERY_PAUSE_MS;
      await sleep(this.#env, pause, signal);
    }
  }

  /** The list, or null after a transient error. */
  async #tryList(signal) {
    try {
      return await this.#list(signal);
    } catch (error) {
      if (signal.aborted || !isTransient(error.problem)) throw error;
      this.#emitError(error);
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
      // The first page's cursor: events during the later pages come after it.
      cursor ??= page.cursor;
      photos.push(...page.photos);
      before = page.before;
    } while (before && photos.length < this.#maxPhotos);
    this.#listedAt = this.#env.now();
    return { cursor, photos: photos.slice(0, this.#maxPhotos), truncated: Boolean(before) || photos.length > this.#maxPhotos };
  }

  /** Joins the feed; renews the token once if the server no longer accepts it. */
  async #join(cursor, signal, onResponse) {
    const request = { feed: this.#feed, ...(cursor != null && { cursor }) };
    this.#isContiguous = false;
    try {
      return await this.#requestWithRetry("join", request, signal, onResponse);
    } catch (error) {
      if (signal.aborted || !isTokenProblem(error.problem)) throw error;
      await this.#authenticate(error.problem, signal);
      return this.#request("join", request, signal, onResponse);
    }
  }

  async #requestWithRetry(event, argument, signal, onResponse) {
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.#request(event, argument, signal, onResponse);
      } catch (error) {
        if (signal.aborted || !isTransient(error.problem)) throw error;
        if (attempt === RECOVERY_ATTEMPTS) this.#emitError(error);
        await sleep(this.#env, backoff(this.#env, attempt), signal);
      }
    }
  }

  /**
   * Sends one request and resolves to its response. `onResponse` runs inside the acknowledgement
   * callback: a promise's continuation could run after an event that follows in the same packet.
   */
  #request(event, argument, signal, onResponse) {
    return new Promise((resolve, reject) => {
      const removeListener = onAbort(signal, reject);
      this.#socket.timeout(RESPONSE_TIMEOUT_MS).emit(event, argument, (error, response) => {
        removeListener();
        if (signal?.aborted) return;
        if (error) return reject(problemError("unavailable", "The server did not respond.", error));
        if (isProblem(response)) return reject(new PhotoShareError(response));
        onResponse?.(response);
        resolve(response);
      });
    });
  }

  #applyJoinResponse({ recovered, cursor, events }) {
    this.#received = cursor;
    if (!recovered) return this.#onLogLost();
    this.#followFrom(cursor);
    this.#change(() => events.forEach((event) => this.#album.apply(event)));
    this.#setState("live");
  }

  /** Applies the list, the events received after it, then those the response adds: the log's order. */
  #applyListAndJoinResponse(list, response) {
    const live = list ? this.#journal.after(list.cursor) : [];
    this.#applied = new Set(live.map(({ data }) => data.cursor));
    const missed = response.events.filter(({ data }) => !this.#applied.has(data.cursor));
    // If the live events already cover the response, the live position is the newer one.
    this.#received = missed.length > 0 || live.length === 0 ? response.cursor : live.at(-1).data.cursor;
    this.#journal = null;
    if (list) this.#replacePhotos(list, [...live, ...missed]);
    if (!list || !response.recovered) return this.#onLogLost();
    this.#followFrom(this.#received);
    this.#setState("live");
  }

  #followFrom(cursor) {
    this.#cursor = cursor;
    this.#isContiguous = true;
  }

  #replacePhotos({ photos, truncated }, events) {
    this.#truncated = truncated;
    this.#change(() => {
      this.#album.replace(photos);
      events.forEach((event) => this.#album.apply(event));
    });
  }

  #onLogLost() {
    this.#cursor = null;
    this.#isContiguous = false;
    if (this.#state === "live") this.#setState("recovering");
  }

  // ── events from the server ────────────────────────────────────────────────────────────────

  #onEvent(event) {
    const { feed, cursor } = event.data;
    if (feed !== this.#feed || !this.#connection) return;
    if (this.#applied.delete(cursor)) return;
    this.#received = cursor;
    this.#journal?.add(event);
    // Keep a position only if the album holds everything before it.
    if (this.#isContiguous) this.#cursor = cursor;
    this.#change(() => this.#album.apply(event));
  }

  /** An unsolicited join response: the server lost the log, or caught this client up. */
  #onJoined(response) {
    if (response.feed !== this.#feed || !this.#connection) return;
    if (this.#syncing || this.#cursor === null) return this.#restartJournal(response);
    this.#applyJoinResponse(response);
    if (response.recovered) return;
    this.#runOnConnection(async (signal) => {
      await this.#relistJitter(signal);
      await this.#sync();
    });
  }

  /** While a list is being read, its own join decides; earlier positions are no longer valid. */
  #restartJournal({ cursor }) {
    this.#received = cursor;
    if (this.#journal) this.#journal = new Journal(cursor);
  }

  #onLeft({ feed, reason }) {
    if (feed !== this.#feed) return;
    this.#endConnection();
    this.#setState("offline");
    this.#emitProblem(makeProblem("forbidden", `This token no longer grants access to the feed (${reason}).`));
  }

  // ── events to the app ─────────────────────────────────────────────────────────────────────

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

  #emitError(error) {
    if (error.name === "AbortError") return;
    this.#emitProblem(error.problem ?? makeProblem("unavailable", error.message));
  }

  #emitProblem(problem) {
    this.#dispatch("problem", problem);
  }

  #dispatch(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  // ── snapshots ─────────────────────────────────────────────────────────────────────────────

  /** Ignores a snapshot with expired URLs: its photos could not be displayed. */
  #restore() {
    const snapshot = this.#storage?.load(this.#feed);
    if (!snapshot?.cursor || !snapshot.photos.every((photo) => this.#isUrlValidFor(photo, URL_MARGIN_MS))) return;
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
    // Without a cursor a snapshot can't be continued.
    if (!this.#storage || this.#cursor === null) return;
    this.#storage.save(this.#feed, { cursor: this.#cursor, photos: this.photos, truncated: this.#truncated });
  }

  #isUrlValidFor(photo, ms) {
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
 * The photo's name within its feed: the part of the key after the feed id and its slash. Without
 * `prefix` the feed id is searched for in the key. If it matches more than one segment and the
 * name was not issued by the server, this throws instead of guessing and deleting another photo.
 */
function nameOfKey(key, feed, prefix) {
  if (prefix !== undefined) return key.slice(`${prefix}${feed}/`.length);
  const segments = key.split("/");
  const positions = segments.flatMap((segment, index) => (segment === feed && index < segments.length - 1 ? [index] : []));
  const isIssued = ISSUED_NAME.test(segments.at(-1)) && segments.at(-2) === feed;
  if (positions.length === 1 || isIssued) return segments.slice(positions.at(-1) + 1).join("/");
  throw problemError("invalid-key", `The feed's position in "${key}" is ambiguous; set keyPrefix.`);
}

/** The photos by key; computes what an edit changed. */
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

  /** A list has fewer fields than an event: the fields of an unchanged photo are kept. */
  replace(listed) {
    const known = this.#photos;
    this.#photos = new Map(listed.map((photo) => {
      const old = known.get(photo.key);
      return [photo.key, Object.freeze(old && old.eTag === photo.eTag ? { ...old, ...photo } : { ...photo })];
    }));
  }

  /** Runs `change`; returns the keys that it added, updated and removed, or null if none. */
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

/** The photo of an event, without the fields of the event itself. */
function photoOf({ feed, eventName, eventTime, sequencer, cursor, ...photo }) {
  return Object.freeze({ lastModified: eventTime, ...photo });
}

/** The events received on a connection since the position `start`, in the log's order. */
class Journal {
  #start;
  #events = [];

  constructor(start) {
    this.#start = start;
  }

  add(event) {
    this.#events.push(event);
  }

  /** The events after `cursor`. An unknown cursor is ahead of all of them: no event follows it. */
  after(cursor) {
    if (cursor === this.#start) return this.#events;
    const index = this.#events.findIndex(({ data }) => data.cursor === cursor);
    return index < 0 ? [] : this.#events.slice(index + 1);
  }
}

/** Holds the token and renews it; concurrent renewals share one `getToken` call. */
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

/** JSON over HTTP: retries transient errors, renews the token once, throws problems. */
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
        return await this.#fetchJson(method, path, body, signal);
      } catch (error) {
        if (signal?.aborted || !error.problem) throw error;
        if (isTokenProblem(error.problem) && !renewed) {
          renewed = true;
          await this.#credentials.renew(error.problem);
        } else if (isTransient(error.problem) && attempt < attempts) {
          await sleep(this.#env, error.retryAfterMs ?? backoff(this.#env, attempt - 1), signal);
        } else {
          throw error;
        }
      }
    }
  }

  async #fetchJson(method, path, body, signal) {
    const headers = { accept: "application/json" };
    if (body) headers["content-type"] = "application/json";
    if (this.#credentials.token) headers.authorization = `Bearer ${this.#credentials.token}`;
    const request = { method, headers, signal, cache: "no-store", body: body && JSON.stringify(body) };
    const response = await this.#env.fetch(this.#baseUrl + path, request).catch((error) => {
      throw error.name === "AbortError" ? error : problemError("offline", "The server can't be reached.", error);
    });
    if (!response.ok) throw await readError(response);
    return response.json().catch(() => ({}));
  }
}

async function readError(response) {
  const problem = await response.json().catch(() => null);
  const fallback = { ...makeProblem(response.status >= 500 ? "unavailable" : "invalid-answer"), status: response.status };
  const error = new PhotoShareError(isProblem(problem) ? problem : { ...fallback, title: `HTTP ${response.status}` });
  const seconds = Number(response.headers.get("retry-after") ?? NaN);
  if (seconds >= 0) error.retryAfterMs = Math.min(seconds * 1_000, BACKOFF_MAX_MS);
  return error;
}

/** Sends a file with a grant until the bucket has stored it; 412 means that an earlier attempt succeeded. */
async function putFile(file, grant, { onProgress, signal, renew, env }) {
  for (let attempt = 1; ; attempt++) {
    const status = await sendFile(file, grant, { onProgress, signal, env });
    if ((status >= 200 && status < 300) || status === 412) return;
    const expired = Date.parse(grant.expiresAt) <= env.now();
    // 409: an earlier attempt is still in progress.
    const transient = status === 0 || status === 409 || status === 429 || status >= 500 || expired;
    if (!transient || attempt === REQUEST_ATTEMPTS) throw storageError(status);
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

/** Sends one PUT with exactly the grant's URL and headers; resolves to its status, 0 on a network error. */
function sendFile(file, { method, url, headers }, { onProgress, signal, env }) {
  return new Promise((resolve, reject) => {
    const request = new env.XMLHttpRequest();
    if (signal?.aborted) return reject(signal.reason);
    const removeListener = onAbort(signal, (reason) => {
      request.abort();
      reject(reason);
    });
    const end = (status) => {
      removeListener();
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
    ? problemError("storage-unreachable", "The photo store can't be reached, or its CORS rules do not allow this page.")
    : problemError("storage-refused", `The photo store rejected the upload (HTTP ${status}).`, undefined, status);
}

function isProblem(response) {
  return typeof response?.type === "string" && typeof response?.status === "number";
}

function makeProblem(kind, detail) {
  return { type: PROBLEM + kind, title: kind.replaceAll("-", " "), ...(detail && { detail }) };
}

function problemError(kind, detail, cause, status) {
  return new PhotoShareError({ ...makeProblem(kind, detail), ...(status && { status }) }, { cause });
}

function isTokenProblem(problem) {
  return ["token-missing", "token-invalid", "token-expired"].includes(problemKind(problem));
}

/** Whether a retry can succeed. */
function isTransient(problem) {
  const kinds = ["offline", "unavailable", "request-timeout", "too-many-requests", "too-many-connections"];
  return kinds.includes(problemKind(problem)) || problem?.status >= 500;
}

function isValidFilename(filename) {
  return Boolean(filename) && new TextEncoder().encode(filename).length <= MAX_FILENAME_BYTES;
}

/** Exponential backoff with jitter: between 50 % and 100 % of 0.5 s, 1 s, 2 s … 30 s. */
function backoff(env, attempt) {
  const maxMs = Math.min(BACKOFF_MIN_MS * 2 ** attempt, BACKOFF_MAX_MS);
  return maxMs * (0.5 + env.random() / 2);
}

function sleep(env, ms, signal) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const removeListener = onAbort(signal, (reason) => {
      env.clearTimeout(timer);
      reject(reason);
    });
    const timer = env.setTimeout(() => {
      removeListener();
      resolve();
    }, ms);
  });
}

/** Calls `callback` when `signal` aborts; the returned function removes the listener. */
function onAbort(signal, callback) {
  const listener = () => callback(signal.reason);
  if (signal?.aborted) listener();
  signal?.addEventListener("abort", listener, { once: true });
  return () => signal?.removeEventListener("abort", listener);
}

/** The browser APIs that the module uses; tests replace them. */
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

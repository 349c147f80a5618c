/**
 * Tests of photoshare-client.js: `node --test tests/client/`.
 *
 * The server's side of the socket is a fake, since what is tested is the order of things that a
 * real server can't be made to show at will. Time is the test's: no timer runs by itself.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  PhotoFeed, contentTypeOf, localStorageSnapshots, problemKind,
} from "../../src/http/assets/photoshare-client.js";

const NOW = Date.parse("2026-11-22T18:40:00Z");
const LATER = "2026-11-22T19:40:00Z";

// ── the fake surroundings ───────────────────────────────────────────────────────────────────

/** Lets every promise that can settle do so; nothing here waits for time. */
async function settle() {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
}

class FakeTimers {
  pending = new Map();
  next = 1;
  setTimeout = (callback, ms) => {
    this.pending.set(this.next, { callback, ms });
    return this.next++;
  };
  clearTimeout = (timer) => this.pending.delete(timer);
  get delays() {
    return [...this.pending.values()].map(({ ms }) => ms);
  }
  async runAll() {
    const due = [...this.pending.values()];
    this.pending.clear();
    due.forEach(({ callback }) => callback());
    await settle();
  }
}

/** What the client sees of a socket of socket.io-client 4. Requests wait to be answered. */
class FakeSocket {
  connected = false;
  active = true;
  handlers = new Map();
  requests = [];
  connects = 0;
  delays = { min: 1_000, max: 5_000 };
  io = {
    reconnectionDelay: (ms) => (ms === undefined ? this.delays.min : (this.delays.min = ms)),
    reconnectionDelayMax: (ms) => (ms === undefined ? this.delays.max : (this.delays.max = ms)),
  };

  on(event, handler) {
    this.handlers.set(event, [...(this.handlers.get(event) ?? []), handler]);
  }
  off(event, handler) {
    this.handlers.set(event, (this.handlers.get(event) ?? []).filter((other) => other !== handler));
  }
  tell(event, ...values) {
    (this.handlers.get(event) ?? []).forEach((handler) => handler(...values));
  }
  emit(event, argument, answer) {
    this.requests.push({ event, argument, answer: (value) => answer?.(null, value), fail: (error) => answer?.(error) });
  }
  timeout() {
    return this;
  }
  connect() {
    this.connects++;
  }
  disconnect() {
    this.connected = false;
  }

  async open() {
    this.connected = true;
    this.tell("connect");
    await settle();
  }
  async lose(reason = "transport close") {
    this.connected = false;
    this.tell("disconnect", reason);
    await settle();
  }
  take(event) {
    const index = this.requests.findIndex((request) => request.event === event);
    assert.notEqual(index, -1, `no ${event} request`);
    return this.requests.splice(index, 1)[0];
  }
}

/** HTTP requests wait to be answered, in the order in which the test wants. */
class FakeHttp {
  requests = [];
  fetch = (url, init) => new Promise((resolve, reject) => {
    init.signal?.addEventListener("abort", () => reject(init.signal.reason), { once: true });
    const answer = async (status, body, headers = {}) => {
      resolve(new Response(JSON.stringify(body), { status, headers }));
      await settle();
    };
    const fail = async () => {
      reject(new TypeError("fetch failed"));
      await settle();
    };
    this.requests.push({ url, ...init, answer, fail });
  });
  take() {
    assert.notEqual(this.requests.length, 0, "no HTTP request");
    return this.requests.shift();
  }
}

/** An XMLHttpRequest whose outcome is given beforehand. */
function fakeXhr(outcomes, sent) {
  return class {
    upload = {};
    headers = {};
    open(method, url) {
      Object.assign(this, { method, url });
    }
    setRequestHeader(name, value) {
      this.headers[name] = value;
    }
    abort() {}
    send(body) {
      sent.push({ method: this.method, url: this.url, headers: this.headers, body });
      const outcome = outcomes.shift();
      this.upload.onprogress?.({ loaded: body.size, total: body.size });
      if (outcome === "network") return this.onerror();
      this.status = outcome;
      this.onload();
    }
  };
}

function world(options = {}) {
  const socket = new FakeSocket();
  const http = new FakeHttp();
  const timers = new FakeTimers();
  const sent = [];
  const environment = {
    fetch: http.fetch,
    XMLHttpRequest: fakeXhr(options.puts ?? [], sent),
    setTimeout: timers.setTimeout,
    clearTimeout: timers.clearTimeout,
    random: () => 0.5,
    now: () => options.clock?.now ?? NOW,
  };
  const feed = new PhotoFeed("summer", { socket, environment, ...options.feed });
  const problems = [];
  const states = [];
  feed.addEventListener("problem", ({ detail }) => problems.push(problemKind(detail)));
  feed.addEventListener("state", ({ detail }) => states.push(detail));
  return { socket, http, timers, feed, problems, states, sent };
}

const key = (name) => `summer/${name}`;
const listed = (...names) => names.map((name) => ({
  key: key(name), size: 1, eTag: name, url: `https://b/${name}?list`, urlExpiresAt: LATER,
}));
const up = (name, cursor, more = {}) => ({
  feed: "summer", key: key(name), size: 1, eTag: name, url: `https://b/${name}?event`, urlExpiresAt: LATER,
  eventTime: "2026-11-22T18:40:00Z", cursor, ...more,
});
const gone = (name, cursor) => ({ feed: "summer", key: key(name), cursor });
const uploaded = (...values) => ({ event: "imageUploaded", data: up(...values) });
const removed = (...values) => ({ event: "imageRemoved", data: gone(...values) });
const recovered = (cursor, ...events) => ({ feed: "summer", recovered: true, cursor, events });
const lost = (cursor) => ({ feed: "summer", recovered: false, cursor, events: [] });
const page = (cursor, names, before) => ({ feed: "summer", cursor, photos: listed(...names), ...(before && { before }) });
const names = (feed) => feed.photos.map((photo) => photo.key.slice("summer/".length));
const problem = (kind, status) => ({ type: `urn:photoshare:problem:${kind}`, title: kind, status, detail: `said: ${kind}` });

/** A feed that is live with these photos at this cursor. */
async function liveWith(cursor, photoNames, options) {
  const w = world(options);
  await w.socket.open();
  await w.http.take().answer(200, page(cursor, photoNames));
  w.socket.take("join").answer(recovered(cursor));
  await settle();
  assert.equal(w.feed.state, "live");
  return w;
}

// ── the first visit ─────────────────────────────────────────────────────────────────────────

test("lists first, then joins with the list's cursor", async () => {
  const { socket, http, feed } = world();
  await socket.open();
  const request = http.take();
  assert.equal(request.url, "/v1/feeds/summer/photos?limit=200");
  assert.equal(socket.requests.length, 0, "nothing is joined before the list is there");
  await request.answer(200, page("c5", ["b", "a"]));
  const join = socket.take("join");
  assert.deepEqual(join.argument, { feed: "summer", cursor: "c5" });
  join.answer(recovered("c6", uploaded("c", "c6")));
  assert.deepEqual(names(feed), ["a", "b", "c"]);
  assert.equal(feed.cursor, "c6");
  assert.equal(feed.state, "live");
});

test("the cursor of the first page counts, since photos came while later pages were read", async () => {
  const { socket, http, feed } = world();
  await socket.open();
  await http.take().answer(200, page("c1", ["a"], "next page"));
  const second = http.take();
  assert.match(second.url, /before=next\+page/);
  await second.answer(200, page("c9", ["b"]));
  assert.equal(socket.take("join").argument.cursor, "c1");
  assert.equal(feed.truncated, false);
});

test("a list stops at maxPhotos and says so", async () => {
  const { socket, http, feed } = world({ feed: { maxPhotos: 2 } });
  await socket.open();
  await http.take().answer(200, page("c1", ["a", "b", "c"], "more"));
  socket.take("join").answer(recovered("c1"));
  assert.deepEqual(names(feed), ["a", "b"]);
  assert.equal(feed.truncated, true);
});

test("an odd feed name is one encoded segment", async () => {
  const socket = new FakeSocket();
  const http = new FakeHttp();
  new PhotoFeed("été #1?", { socket, environment: { fetch: http.fetch } });
  await socket.open();
  assert.match(http.take().url, /^\/v1\/feeds\/%C3%A9t%C3%A9%20%231%3F\/photos/);
});

// ── events ──────────────────────────────────────────────────────────────────────────────────

test("events are applied by key, and those of other feeds are not", async () => {
  const { socket, feed } = await liveWith("c1", ["a"]);
  const changes = [];
  feed.addEventListener("change", ({ detail }) => changes.push(detail));
  socket.tell("imageUploaded", up("b", "c2", { caption: "B" }));
  socket.tell("imageUploaded", up("b", "c3", { caption: "B again" }));
  socket.tell("imageUploaded", { ...up("x", "z9"), feed: "winter" });
  socket.tell("imageRemoved", gone("a", "c4"));
  assert.deepEqual(names(feed), ["b"]);
  assert.equal(feed.photos[0].caption, "B again");
  assert.equal(feed.cursor, "c4");
  assert.deepEqual(changes, [
    { added: ["summer/b"], removed: [], updated: [] },
    { added: [], removed: [], updated: ["summer/b"] },
    { added: [], removed: ["summer/a"], updated: [] },
  ]);
});

test("an event right behind the join answer is applied after it", async () => {
  const { socket, http, feed } = world();
  await socket.open();
  await http.take().answer(200, page("c1", ["a"]));
  // One packet may hold both, so that no promise continues between them.
  socket.take("join").answer(recovered("c2", uploaded("b", "c2")));
  socket.tell("imageRemoved", gone("b", "c3"));
  await settle();
  assert.deepEqual(names(feed), ["a"]);
  assert.equal(feed.cursor, "c3");
});

// ── reconnecting ────────────────────────────────────────────────────────────────────────────

test("a reconnect joins with the newest cursor and lists nothing", async () => {
  const { socket, http, feed, states } = await liveWith("c1", ["a"]);
  socket.tell("imageUploaded", up("b", "c2"));
  await socket.lose();
  await socket.open();
  const join = socket.take("join");
  assert.deepEqual(join.argument, { feed: "summer", cursor: "c2" });
  join.answer(recovered("c4", removed("a", "c3"), uploaded("c", "c4")));
  await settle();
  assert.deepEqual(names(feed), ["b", "c"]);
  assert.equal(http.requests.length, 0);
  assert.deepEqual(states, ["live", "offline", "recovering", "live"]);
});

test("a reconnect that can't be recovered lists, after a jittered pause, and joins from the list", async () => {
  const { socket, http, feed, timers } = await liveWith("c1", ["a", "b"]);
  await socket.lose();
  await socket.open();
  socket.take("join").answer(lost("n7"));
  await settle();
  assert.equal(feed.state, "recovering");
  assert.equal(http.requests.length, 0);
  assert.deepEqual(timers.delays, [1_000], "half of the two seconds");
  await timers.runAll();
  await http.take().answer(200, page("n8", ["b", "c"]));
  const join = socket.take("join");
  assert.equal(join.argument.cursor, "n8");
  join.answer(recovered("n8"));
  assert.deepEqual(names(feed), ["b", "c"]);
  assert.equal(feed.state, "live");
});

test("a connection lost during the list begins anew and keeps no cursor of the unproven stretch", async () => {
  const { socket, http, feed, timers } = await liveWith("c1", ["a"]);
  socket.tell("joined", lost("n1"));
  await timers.runAll();
  socket.tell("imageUploaded", up("z", "n2"));
  assert.equal(feed.cursor, null, "n2 is told, but what lies before it is not known");
  http.take();
  await socket.lose();
  await socket.open();
  assert.equal(socket.requests.length, 0, "no join by a cursor that proves nothing");
  await http.take().answer(200, page("n3", ["b", "z"]));
  socket.take("join").answer(recovered("n3"));
  assert.deepEqual(names(feed), ["b", "z"]);
});

test("an answer of an earlier connection is ignored", async () => {
  const { socket, feed } = await liveWith("c1", ["a"]);
  await socket.lose();
  await socket.open();
  const stale = socket.take("join");
  await socket.lose();
  await socket.open();
  stale.answer(recovered("c9", uploaded("ghost", "c9")));
  assert.deepEqual(names(feed), ["a"]);
  assert.equal(feed.cursor, "c1");
});

test("an answer that came too late is asked for again, and what follows it is no position yet", async () => {
  const { socket, feed, timers } = await liveWith("c1", ["a"]);
  await socket.lose();
  await socket.open();
  socket.take("join").fail(new Error("operation has timed out"));
  await settle();
  socket.tell("imageUploaded", up("d", "c4"));
  assert.equal(feed.cursor, "c1", "c2 and c3 were in the answer");
  await socket.lose();
  await socket.open();
  assert.equal(socket.take("join").argument.cursor, "c1");
  await socket.lose();
  await socket.open();
  socket.take("join").fail(new Error("operation has timed out"));
  await settle();
  await timers.runAll();
  const events = [uploaded("b", "c2"), uploaded("c", "c3"), uploaded("d", "c4")];
  socket.take("join").answer(recovered("c4", ...events));
  socket.tell("imageUploaded", up("e", "c5"));
  assert.deepEqual(names(feed), ["a", "b", "c", "d", "e"]);
  assert.equal(feed.cursor, "c5");
});

test("an answer to refresh() that came too late keeps the position where it was", async () => {
  const clock = { now: NOW };
  const { socket, http, feed } = await liveWith("c1", ["a"], { clock });
  clock.now = Date.parse(LATER);
  const refreshing = feed.refresh(key("a")).catch(() => {});
  await settle();
  await http.take().answer(200, page("c2", ["a", "b"]));
  socket.take("join").fail(new Error("operation has timed out"));
  await settle();
  socket.tell("imageUploaded", up("d", "c4"));
  await socket.lose();
  await refreshing;
  await socket.open();
  assert.equal(socket.take("join").argument.cursor, "c1");
});

// ── a lost log on a live connection, and lists racing with events ───────────────────────────

/** Live, told that the log is lost, and past the jitter: the list is being read. */
async function relisting(photoNames = ["a"]) {
  const w = await liveWith("c1", photoNames);
  w.socket.tell("joined", lost("n1"));
  assert.equal(w.feed.state, "recovering");
  await w.timers.runAll();
  return w;
}

test("an upload told during the list is shown at once and is not overwritten by the older list", async () => {
  const { socket, http, feed } = await relisting();
  const list = http.take();
  socket.tell("imageUploaded", up("b", "n2", { caption: "new" }));
  assert.deepEqual(names(feed), ["a", "b"], "shown while the list is under way");
  await list.answer(200, page("n1", ["a"]));
  socket.take("join").answer(recovered("n2", uploaded("b", "n2", { caption: "new" })));
  assert.deepEqual(names(feed), ["a", "b"]);
  assert.equal(feed.photos[1].caption, "new");
  assert.equal(feed.cursor, "n2");
});

test("a removal told during the list is not undone by it", async () => {
  const { socket, http, feed } = await relisting(["a", "b"]);
  const list = http.take();
  socket.tell("imageRemoved", gone("b", "n2"));
  // The page was read before the removal: b is still in it.
  await list.answer(200, page("n1", ["a", "b"]));
  assert.deepEqual(names(feed), ["a"], "not even for a moment");
  socket.take("join").answer(recovered("n2", removed("b", "n2")));
  assert.deepEqual(names(feed), ["a"]);
});

test("a server that doesn't repeat what it told live loses nothing either", async () => {
  const { socket, http, feed } = await relisting();
  const list = http.take();
  socket.tell("imageUploaded", up("b", "n2"));
  await list.answer(200, page("n1", ["a"]));
  socket.tell("imageUploaded", up("c", "n3"));
  socket.take("join").answer(recovered("n3"));
  assert.deepEqual(names(feed), ["a", "b", "c"]);
  assert.equal(feed.cursor, "n3");
});

test("what was told before the list's cursor does not come back over the list", async () => {
  const { socket, http, feed } = await relisting(["a"]);
  const list = http.take();
  socket.tell("imageUploaded", up("b", "n2"));
  // The server removed b (n3) before it took the cursor n3, and its list knows that.
  await list.answer(200, page("n3", ["a"]));
  socket.take("join").answer(recovered("n3"));
  assert.deepEqual(names(feed), ["a"]);
});

test("events that the join repeats beyond its first hundred are applied once, in order", async () => {
  const { socket, http, feed } = await relisting();
  const list = http.take();
  socket.tell("imageUploaded", up("x", "n2"));
  socket.tell("imageUploaded", up("b", "n3"));
  socket.tell("imageRemoved", gone("b", "n4"));
  await list.answer(200, page("n1", ["a"]));
  const changes = [];
  feed.addEventListener("change", ({ detail }) => changes.push(detail));
  socket.take("join").answer(recovered("n2", uploaded("x", "n2")));
  assert.equal(feed.cursor, "n4", "the answer ends before what was told live");
  socket.tell("imageUploaded", up("b", "n3"));
  assert.deepEqual(names(feed), ["a", "x"], "b does not come back until n4 is told again");
  socket.tell("imageRemoved", gone("b", "n4"));
  socket.tell("imageUploaded", up("c", "n5"));
  assert.deepEqual(names(feed), ["a", "c", "x"]);
  assert.equal(feed.cursor, "n5");
  assert.deepEqual(changes.flatMap(({ added }) => added), ["summer/c"]);
});

test("a log lost again during the list: the list's own join decides, and it is repeated with backoff", async () => {
  const { socket, http, feed, timers } = await relisting();
  const list = http.take();
  socket.tell("joined", lost("m0"));
  await list.answer(200, page("n1", ["a"]));
  socket.take("join").answer(lost("m0"));
  await settle();
  assert.equal(feed.state, "recovering");
  assert.deepEqual(timers.delays, [375], "the first backoff: 0.5 s, jittered");
  await timers.runAll();
  await http.take().answer(200, page("m1", ["a", "b"]));
  socket.take("join").answer(recovered("m1"));
  assert.equal(feed.state, "live");
  assert.deepEqual(names(feed), ["a", "b"]);
});

test("recovery is tried a bounded number of times in a row, says so, and comes back later", async () => {
  const { socket, http, feed, timers, problems } = await relisting();
  const pauses = [];
  for (let attempt = 0; attempt < 5; attempt++) {
    await http.take().answer(200, page(`n${attempt}`, ["a", "b"]));
    socket.take("join").answer(lost("n9"));
    await settle();
    pauses.push(...timers.delays);
    if (attempt < 4) await timers.runAll();
  }
  assert.deepEqual(pauses, [375, 750, 1_500, 3_000, 60_000]);
  assert.deepEqual(problems, ["recovery-incomplete"]);
  assert.deepEqual(names(feed), ["a", "b"], "the list is shown meanwhile");
  socket.tell("imageUploaded", up("c", "p1"));
  assert.deepEqual(names(feed), ["a", "b", "c"], "and live events still arrive");
});

test("a list that fails for now still leaves live events, and is read later", async () => {
  const { socket, http, feed, timers, problems } = world();
  await socket.open();
  await http.take().answer(503, problem("unavailable", 503));
  const join = socket.take("join");
  assert.deepEqual(join.argument, { feed: "summer" });
  join.answer(lost("c3"));
  await settle();
  socket.tell("imageUploaded", up("b", "c4"));
  assert.deepEqual(names(feed), ["b"]);
  assert.notEqual(feed.state, "live");
  await timers.runAll();
  await http.take().answer(200, page("c4", ["a", "b"]));
  socket.take("join").answer(recovered("c4"));
  assert.deepEqual(names(feed), ["a", "b"]);
  assert.equal(feed.state, "live");
  assert.deepEqual(problems, ["unavailable"]);
});

// ── signed URLs ─────────────────────────────────────────────────────────────────────────────

test("refresh makes URLs fresh, keeps what only events know, and is shared by callers", async () => {
  const clock = { now: NOW };
  const { socket, http, feed } = await liveWith("c1", ["a"], { clock });
  socket.tell("imageUploaded", up("b", "c2", { caption: "kept" }));
  assert.equal((await feed.refresh("summer/b")).caption, "kept", "good for another hour: no list");
  clock.now = Date.parse(LATER);
  const both = Promise.all([feed.refresh("summer/b"), feed.refresh()]);
  await settle();
  const list = http.take();
  assert.equal(http.requests.length, 0, "one list for both");
  assert.equal(feed.state, "live");
  await list.answer(200, page("c2", ["a", "b"]));
  socket.take("join").answer(recovered("c2"));
  const [photo] = await both;
  assert.equal(photo.url, "https://b/b?list");
  assert.equal(photo.caption, "kept");
});

test("refresh without a connection is refused at once", async () => {
  const { feed } = world();
  await assert.rejects(feed.refresh(), (error) => error.kind === "offline");
});

// ── tokens and refusals ─────────────────────────────────────────────────────────────────────

test("connect_error token-expired: a fresh token is fetched and the socket connects again", async () => {
  const asked = [];
  const getToken = ({ problem: reason }) => (asked.push(problemKind(reason)), Promise.resolve("t2"));
  const { socket } = world({ feed: { getToken } });
  socket.active = false;
  socket.tell("connect_error", new Error("token-expired"));
  await settle();
  assert.deepEqual(asked, ["token-expired"]);
  assert.equal(socket.connects, 2);
});

test("refused tokens in a row are answered ever more slowly", async () => {
  const { socket, timers } = world({ feed: { getToken: () => "still wrong" } });
  socket.active = false;
  for (let refusal = 0; refusal < 3; refusal++) {
    socket.tell("connect_error", new Error("token-invalid"));
    await settle();
    if (refusal > 0) await timers.runAll();
  }
  assert.equal(socket.connects, 4);
  socket.tell("connect_error", new Error("token-invalid"));
  await settle();
  assert.deepEqual(timers.delays, [1_500]);
});

test("without getToken a refusal is told and left alone", async () => {
  const { socket, problems, feed } = world();
  socket.active = false;
  socket.tell("connect_error", Object.assign(new Error("token-missing"), { data: problem("token-missing", 401) }));
  await settle();
  assert.deepEqual(problems, ["token-missing"]);
  assert.equal(socket.connects, 1);
  assert.equal(feed.state, "offline");
});

test("a network connect_error is the client library's to mend", async () => {
  const { socket, feed } = world();
  socket.tell("connect_error", new Error("xhr poll error"));
  await settle();
  assert.equal(feed.state, "offline");
  assert.equal(socket.connects, 1);
});

test("tokenExpiring sends a fresh token on the live connection", async () => {
  const { socket, feed } = await liveWith("c1", ["a"], { feed: { token: "t1", getToken: async () => "t2" } });
  socket.tell("tokenExpiring", { expiresAt: LATER });
  await settle();
  const request = socket.take("authenticate");
  assert.deepEqual(request.argument, { token: "t2" });
  request.answer({ expiresAt: LATER });
  assert.equal(feed.state, "live");
});

test("a server disconnect (the token's end) comes back with a fresh token", async () => {
  const { socket } = await liveWith("c1", ["a"], { feed: { getToken: async () => "t2" } });
  await socket.lose("io server disconnect");
  assert.equal(socket.connects, 2);
});

test("a join refused for its token is repeated once with a fresh one", async () => {
  const { socket, feed } = await liveWith("c1", ["a"], { feed: { getToken: async () => "t2" } });
  await socket.lose();
  await socket.open();
  socket.take("join").answer(problem("token-expired", 401));
  await settle();
  socket.take("authenticate").answer({ expiresAt: LATER });
  await settle();
  socket.take("join").answer(recovered("c1"));
  assert.equal(feed.state, "live");
});

test("a forbidden feed is told and not tried again", async () => {
  const { socket, http, feed, problems, timers } = world();
  await socket.open();
  await http.take().answer(403, problem("forbidden", 403));
  assert.deepEqual(problems, ["forbidden"]);
  assert.equal(feed.state, "offline");
  assert.deepEqual(timers.delays, []);
});

test("left ends the feed until the next connection", async () => {
  const { socket, feed, problems } = await liveWith("c1", ["a"]);
  socket.tell("left", { feed: "summer", reason: "token" });
  assert.deepEqual(problems, ["forbidden"]);
  assert.equal(feed.state, "offline");
});

test("a reconnect hint stretches the first pause and is forgotten afterwards", async () => {
  const { socket, feed } = await liveWith("c1", ["a"]);
  socket.tell("reconnect", { afterMs: 12_000 });
  assert.deepEqual(socket.delays, { min: 12_000, max: 12_000 });
  assert.equal(feed.state, "live", "nothing is torn down");
  await socket.lose();
  await socket.open();
  assert.deepEqual(socket.delays, { min: 1_000, max: 5_000 });
});

// ── uploads and removals ────────────────────────────────────────────────────────────────────

const file = { name: "IMG_1.HEIC", type: "", size: 7 };
const grant = {
  feed: "summer", key: "summer/0abc-1.heic", method: "PUT", url: "https://bucket/put?sig",
  headers: { "content-type": "image/heic", "if-none-match": "*" }, expiresAt: LATER,
};

/** Runs an upload to its end, with every pause cut short. */
async function uploading(w, options) {
  const outcome = w.feed.upload(file, options).then((value) => ({ value }), (error) => ({ error }));
  await settle();
  const request = w.http.take();
  await request.answer(201, grant);
  for (let turn = 0; turn < 6; turn++) await w.timers.runAll();
  return { request, ...(await outcome) };
}

test("an upload asks for a grant and sends exactly its URL and headers", async () => {
  const w = world({ puts: [200] });
  const progress = [];
  const { request, value } = await uploading(w, { caption: "Hi", onProgress: (step) => progress.push(step) });
  assert.equal(request.url, "/v1/feeds/summer/uploads");
  assert.deepEqual(JSON.parse(request.body), { contentType: "image/heic", size: 7, filename: "IMG_1.HEIC", caption: "Hi" });
  assert.deepEqual(w.sent, [{ method: "PUT", url: grant.url, headers: grant.headers, body: file }]);
  assert.deepEqual(progress, [{ loaded: 7, total: 7 }]);
  assert.deepEqual(value, { feed: "summer", key: grant.key });
});

test("412 means that the bucket has it, also after a try whose answer was lost", async () => {
  const w = world({ puts: ["network", 503, 409, 412] });
  const { value } = await uploading(w);
  assert.equal(value.key, grant.key);
  assert.equal(w.sent.length, 4);
});

test("a refusal by the bucket is not repeated; an outage is, a bounded number of times", async () => {
  const refused = world({ puts: [403] });
  assert.equal((await uploading(refused)).error.kind, "storage-refused");
  assert.equal(refused.sent.length, 1);
  const away = world({ puts: Array(9).fill("network") });
  assert.equal((await uploading(away)).error.kind, "storage-unreachable");
  assert.equal(away.sent.length, 5);
});

test("an expired grant is renewed; already-stored is success", async () => {
  const clock = { now: NOW };
  const w = world({ puts: ["network"], clock });
  const outcome = w.feed.upload(file, { caption: "Hi" });
  await settle();
  clock.now = Date.parse(LATER) + 1;
  const request = w.http.take();
  await request.answer(201, grant);
  await w.timers.runAll();
  const renewal = w.http.take();
  assert.equal(renewal.body, request.body, "or the caption would be lost");
  assert.equal(renewal.url, "/v1/feeds/summer/uploads/0abc-1.heic/renew");
  await renewal.answer(409, problem("already-stored", 409));
  assert.equal((await outcome).key, grant.key);
});

test("problems of the server are thrown as they are", async () => {
  const w = world();
  const outcome = w.feed.upload(file);
  await settle();
  const checked = assert.rejects(outcome, (error) => {
    assert.deepEqual(error.problem, problem("too-large", 413));
    assert.equal(error.message, "said: too-large");
    assert.equal(error.kind, "too-large");
    return true;
  });
  await w.http.take().answer(413, problem("too-large", 413));
  await checked;
});

test("Retry-After is honoured, and a network failure retried", async () => {
  const w = world({ puts: [200] });
  const outcome = w.feed.upload(file);
  await settle();
  await w.http.take().answer(429, problem("too-many-requests", 429), { "retry-after": "7" });
  assert.deepEqual(w.timers.delays, [7_000]);
  await w.timers.runAll();
  await w.http.take().fail();
  await w.timers.runAll();
  await w.http.take().answer(201, grant);
  assert.equal((await outcome).key, grant.key);
});

test("an aborted upload rejects with the abort", async () => {
  const w = world();
  const abort = new AbortController();
  const outcome = w.feed.upload(file, { signal: abort.signal });
  await settle();
  abort.abort();
  await assert.rejects(outcome, { name: "AbortError" });
});

test("a 401 over HTTP is answered once with a fresh token, shared by all who need it", async () => {
  let asked = 0;
  const w = world({ feed: { token: "t1", getToken: async () => `t${++asked + 1}` } });
  const removals = [w.feed.remove("summer/a"), w.feed.remove("summer/b")];
  await settle();
  const requests = [w.http.take(), w.http.take()];
  assert.equal(requests[0].headers.authorization, "Bearer t1");
  requests.forEach((request) => request.answer(401, problem("token-expired", 401)));
  await settle();
  const again = [w.http.take(), w.http.take()];
  assert.deepEqual(again.map(({ headers }) => headers.authorization), ["Bearer t2", "Bearer t2"]);
  again.forEach((request) => request.answer(202, {}));
  await Promise.all(removals);
  assert.equal(asked, 1);
});

test("the name within a feed is found in the key, with and without a prefix", async () => {
  const cases = [
    ["summer/a.jpg", undefined, "a.jpg"],
    ["app/photos/summer/a.jpg", undefined, "a.jpg"],
    ["summer/summer/0ffffabcdef01-0123456789abcdef0123.jpg", undefined, "0ffffabcdef01-0123456789abcdef0123.jpg"],
    ["summer/summer/a.jpg", "", "summer/a.jpg"],
    ["summer/2026/a b.jpg", undefined, "2026/a%20b.jpg"],
    ["app/summer/2026/a.jpg", "app/", "2026/a.jpg"],
  ];
  for (const [photoKey, keyPrefix, name] of cases) {
    const w = world({ feed: { keyPrefix } });
    w.feed.remove(photoKey);
    await settle();
    const request = w.http.take();
    assert.equal(request.method, "DELETE");
    assert.equal(request.url, `/v1/feeds/summer/photos/${name}`);
  }
});

test("a key in which the feed could stand in two places is refused, not guessed", async () => {
  const { feed, http } = world();
  await assert.rejects(feed.remove("summer/summer/a.jpg"), (error) => error.kind === "invalid-key");
  assert.equal(http.requests.length, 0);
});

test("the content type is the browser's, else by extension", () => {
  const cases = [
    [{ type: "image/PNG; x=1", name: "a" }, "image/png"],
    [{ type: "image/jpg", name: "a.jpg" }, "image/jpeg"],
    [{ type: "", name: "IMG.HEIC" }, "image/heic"],
    [{ type: "", name: "notes.txt" }, ""],
    [{ type: "", name: "noextension" }, ""],
  ];
  for (const [source, expected] of cases) assert.equal(contentTypeOf(source), expected);
});

// ── keeping and closing ─────────────────────────────────────────────────────────────────────

test("a kept snapshot is shown at once and recovered by its cursor, unless its URLs have expired", async () => {
  const kept = new Map();
  const storage = localStorageSnapshots("p:", { getItem: (name) => kept.get(name) ?? null, setItem: (name, value) => kept.set(name, value) });
  const before = await liveWith("c1", ["a"], { feed: { storage } });
  before.feed.close();

  const after = world({ feed: { storage } });
  assert.deepEqual(names(after.feed), ["a"]);
  await after.socket.open();
  assert.equal(after.socket.take("join").argument.cursor, "c1");

  const late = world({ feed: { storage }, clock: { now: Date.parse(LATER) } });
  assert.deepEqual(names(late.feed), []);
  await late.socket.open();
  assert.equal(late.http.requests.length, 1, "listed anew");
});

test("close leaves the feed, hears nothing more and ends what is under way", async () => {
  const { socket, feed, timers } = await liveWith("c1", ["a"]);
  socket.tell("joined", lost("n1"));
  feed.close();
  assert.deepEqual(socket.take("leave").argument, { feed: "summer" });
  socket.tell("imageUploaded", up("b", "c2"));
  await settle();
  assert.deepEqual(names(feed), ["a"]);
  assert.deepEqual(timers.delays, []);
  assert.equal(socket.connected, true, "a socket that was handed in is the app's");
});

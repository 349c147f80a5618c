/**
 * Tests of photoshare-client.js: `node --test tests/client/`.
 *
 * The socket, HTTP, XMLHttpRequest and the timers are fakes: the tests cover interleavings that a real
 * server can't be made to produce. Timers run only when a test runs them.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  PhotoFeed, contentTypeOf, localStorageSnapshots, problemKind,
} from "../../src/http/assets/photoshare-client.js";

const NOW = Date.parse("2026-11-22T18:40:00Z");
const LATER = "2026-11-22T19:40:00Z";

// ── the fake environment ────────────────────────────────────────────────────────────────────

/** Runs until all promises that can settle have settled. */
async function settle() {
  for (let round = 0; round < 5; round++) await new Promise((resolve) => setImmediate(resolve));
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

/** A socket of socket.io-client 4, as far as the client uses it. The test answers its requests. */
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
  receive(event, ...values) {
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
    this.receive("connect");
    await settle();
  }
  async lose(reason = "transport close") {
    this.connected = false;
    this.receive("disconnect", reason);
    await settle();
  }
  take(event) {
    const index = this.requests.findIndex((request) => request.event === event);
    assert.notEqual(index, -1, `no ${event} request`);
    return this.requests.splice(index, 1)[0];
  }
}

/** Collects HTTP requests, which the test answers in any order. */
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

/** An XMLHttpRequest class with predefined outcomes: a status, or "network" for an error. */
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

/** A PhotoFeed with a fake environment, and what it dispatched and sent. */
function setUp(options = {}) {
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
const listedPhotos = (...names) => names.map((name) => ({
  key: key(name), size: 1, eTag: name, url: `https://b/${name}?list`, urlExpiresAt: LATER,
}));
const photoEvent = (name, cursor, more = {}) => ({
  feed: "summer", key: key(name), size: 1, eTag: name, url: `https://b/${name}?event`, urlExpiresAt: LATER,
  eventTime: "2026-11-22T18:40:00Z", cursor, ...more,
});
const removalEvent = (name, cursor) => ({ feed: "summer", key: key(name), cursor });
const uploaded = (...values) => ({ event: "imageUploaded", data: photoEvent(...values) });
const removed = (...values) => ({ event: "imageRemoved", data: removalEvent(...values) });
const recovered = (cursor, ...events) => ({ feed: "summer", recovered: true, cursor, events });
const lost = (cursor) => ({ feed: "summer", recovered: false, cursor, events: [] });
const page = (cursor, names, before) => ({ feed: "summer", cursor, photos: listedPhotos(...names), ...(before && { before }) });
const names = (feed) => feed.photos.map((photo) => photo.key.slice("summer/".length));
const problem = (kind, status) => ({ type: `urn:photoshare:problem:${kind}`, title: kind, status, detail: `detail of ${kind}` });

/** A feed that is live with these photos at this cursor. */
async function liveWith(cursor, photoNames, options) {
  const env = setUp(options);
  await env.socket.open();
  await env.http.take().answer(200, page(cursor, photoNames));
  env.socket.take("join").answer(recovered(cursor));
  await settle();
  assert.equal(env.feed.state, "live");
  return env;
}

// ── the first visit ─────────────────────────────────────────────────────────────────────────

test("lists first, then joins with the list's cursor", async () => {
  const { socket, http, feed } = setUp();
  await socket.open();
  const request = http.take();
  assert.equal(request.url, "/v1/feeds/summer/photos?limit=200");
  assert.equal(socket.requests.length, 0, "the join waits for the list");
  await request.answer(200, page("c5", ["b", "a"]));
  const join = socket.take("join");
  assert.deepEqual(join.argument, { feed: "summer", cursor: "c5" });
  join.answer(recovered("c6", uploaded("c", "c6")));
  assert.deepEqual(names(feed), ["a", "b", "c"]);
  assert.equal(feed.cursor, "c6");
  assert.equal(feed.state, "live");
});

test("the join uses the cursor of the first page, since photos may arrive while later pages are read", async () => {
  const { socket, http, feed } = setUp();
  await socket.open();
  await http.take().answer(200, page("c1", ["a"], "next page"));
  const second = http.take();
  assert.match(second.url, /before=next\+page/);
  await second.answer(200, page("c9", ["b"]));
  assert.equal(socket.take("join").argument.cursor, "c1");
  assert.equal(feed.truncated, false);
});

test("a list stops at maxPhotos and sets truncated", async () => {
  const { socket, http, feed } = setUp({ feed: { maxPhotos: 2 } });
  await socket.open();
  await http.take().answer(200, page("c1", ["a", "b", "c"], "more"));
  socket.take("join").answer(recovered("c1"));
  assert.deepEqual(names(feed), ["a", "b"]);
  assert.equal(feed.truncated, true);
});

test("a feed id is percent-encoded as one path segment", async () => {
  const socket = new FakeSocket();
  const http = new FakeHttp();
  new PhotoFeed("été #1?", { socket, environment: { fetch: http.fetch } });
  await socket.open();
  assert.match(http.take().url, /^\/v1\/feeds\/%C3%A9t%C3%A9%20%231%3F\/photos/);
});

// ── events ──────────────────────────────────────────────────────────────────────────────────

test("events are applied by key, and events of other feeds are ignored", async () => {
  const { socket, feed } = await liveWith("c1", ["a"]);
  const changes = [];
  feed.addEventListener("change", ({ detail }) => changes.push(detail));
  socket.receive("imageUploaded", photoEvent("b", "c2", { caption: "B" }));
  socket.receive("imageUploaded", photoEvent("b", "c3", { caption: "B again" }));
  socket.receive("imageUploaded", { ...photoEvent("x", "z9"), feed: "winter" });
  socket.receive("imageRemoved", removalEvent("a", "c4"));
  assert.deepEqual(names(feed), ["b"]);
  assert.equal(feed.photos[0].caption, "B again");
  assert.equal(feed.cursor, "c4");
  assert.deepEqual(changes, [
    { added: ["summer/b"], removed: [], updated: [] },
    { added: [], removed: [], updated: ["summer/b"] },
    { added: [], removed: ["summer/a"], updated: [] },
  ]);
});

test("an event that follows the join answer at once is applied after it", async () => {
  const { socket, http, feed } = setUp();
  await socket.open();
  await http.take().answer(200, page("c1", ["a"]));
  // Both may arrive in one packet, so that no promise continuation runs between them.
  socket.take("join").answer(recovered("c2", uploaded("b", "c2")));
  socket.receive("imageRemoved", removalEvent("b", "c3"));
  await settle();
  assert.deepEqual(names(feed), ["a"]);
  assert.equal(feed.cursor, "c3");
});

// ── reconnecting ────────────────────────────────────────────────────────────────────────────

test("a reconnect joins with the newest cursor and requests no list", async () => {
  const { socket, http, feed, states } = await liveWith("c1", ["a"]);
  socket.receive("imageUploaded", photoEvent("b", "c2"));
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

test("a reconnect that is not recovered lists after a jittered pause, and joins with the list's cursor", async () => {
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

test("a connection lost during the list starts over and keeps no cursor from before the list was joined", async () => {
  const { socket, http, feed, timers } = await liveWith("c1", ["a"]);
  socket.receive("joined", lost("n1"));
  await timers.runAll();
  socket.receive("imageUploaded", photoEvent("z", "n2"));
  assert.equal(feed.cursor, null, "n2 was received, but events before it may be missing");
  http.take();
  await socket.lose();
  await socket.open();
  assert.equal(socket.requests.length, 0, "no join with a cursor that would hide a gap");
  await http.take().answer(200, page("n3", ["b", "z"]));
  socket.take("join").answer(recovered("n3"));
  assert.deepEqual(names(feed), ["b", "z"]);
});

test("an answer to a join of an earlier connection is ignored", async () => {
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

test("a join that timed out is sent again, and events received meanwhile do not advance the cursor", async () => {
  const { socket, feed, timers } = await liveWith("c1", ["a"]);
  await socket.lose();
  await socket.open();
  socket.take("join").fail(new Error("operation has timed out"));
  await settle();
  socket.receive("imageUploaded", photoEvent("d", "c4"));
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
  socket.receive("imageUploaded", photoEvent("e", "c5"));
  assert.deepEqual(names(feed), ["a", "b", "c", "d", "e"]);
  assert.equal(feed.cursor, "c5");
});

test("a join of refresh() that timed out leaves the cursor unchanged", async () => {
  const clock = { now: NOW };
  const { socket, http, feed } = await liveWith("c1", ["a"], { clock });
  clock.now = Date.parse(LATER);
  const refreshing = feed.refresh(key("a")).catch(() => {});
  await settle();
  await http.take().answer(200, page("c2", ["a", "b"]));
  socket.take("join").fail(new Error("operation has timed out"));
  await settle();
  socket.receive("imageUploaded", photoEvent("d", "c4"));
  await socket.lose();
  await refreshing;
  await socket.open();
  assert.equal(socket.take("join").argument.cursor, "c1");
});

// ── a lost log on a live connection, and lists racing with events ───────────────────────────

/** A live feed that received `recovered: false` and is now requesting the list, after the jittered pause. */
async function liveThenRelisting(photoNames = ["a"]) {
  const env = await liveWith("c1", photoNames);
  env.socket.receive("joined", lost("n1"));
  assert.equal(env.feed.state, "recovering");
  await env.timers.runAll();
  return env;
}

test("an upload received during the list is shown at once and is not overwritten by the older list", async () => {
  const { socket, http, feed } = await liveThenRelisting();
  const list = http.take();
  socket.receive("imageUploaded", photoEvent("b", "n2", { caption: "new" }));
  assert.deepEqual(names(feed), ["a", "b"], "shown while the list is pending");
  await list.answer(200, page("n1", ["a"]));
  socket.take("join").answer(recovered("n2", uploaded("b", "n2", { caption: "new" })));
  assert.deepEqual(names(feed), ["a", "b"]);
  assert.equal(feed.photos[1].caption, "new");
  assert.equal(feed.cursor, "n2");
});

test("a removal received during the list is not undone by the list", async () => {
  const { socket, http, feed } = await liveThenRelisting(["a", "b"]);
  const list = http.take();
  socket.receive("imageRemoved", removalEvent("b", "n2"));
  // The page was read before the removal: b is still in it.
  await list.answer(200, page("n1", ["a", "b"]));
  assert.deepEqual(names(feed), ["a"], "the list does not bring b back");
  socket.take("join").answer(recovered("n2", removed("b", "n2")));
  assert.deepEqual(names(feed), ["a"]);
});

test("live events that the join answer does not repeat are kept", async () => {
  const { socket, http, feed } = await liveThenRelisting();
  const list = http.take();
  socket.receive("imageUploaded", photoEvent("b", "n2"));
  await list.answer(200, page("n1", ["a"]));
  socket.receive("imageUploaded", photoEvent("c", "n3"));
  socket.take("join").answer(recovered("n3"));
  assert.deepEqual(names(feed), ["a", "b", "c"]);
  assert.equal(feed.cursor, "n3");
});

test("an event from before the list's cursor is not applied on top of the list", async () => {
  const { socket, http, feed } = await liveThenRelisting(["a"]);
  const list = http.take();
  socket.receive("imageUploaded", photoEvent("b", "n2"));
  // The server removed b (n3) before it took the cursor n3, so b is not in its list.
  await list.answer(200, page("n3", ["a"]));
  socket.take("join").answer(recovered("n3"));
  assert.deepEqual(names(feed), ["a"]);
});

test("events that the server repeats after the join answer are applied once, in order", async () => {
  const { socket, http, feed } = await liveThenRelisting();
  const list = http.take();
  socket.receive("imageUploaded", photoEvent("x", "n2"));
  socket.receive("imageUploaded", photoEvent("b", "n3"));
  socket.receive("imageRemoved", removalEvent("b", "n4"));
  await list.answer(200, page("n1", ["a"]));
  const changes = [];
  feed.addEventListener("change", ({ detail }) => changes.push(detail));
  socket.take("join").answer(recovered("n2", uploaded("x", "n2")));
  assert.equal(feed.cursor, "n4", "the answer ends before the last live event");
  socket.receive("imageUploaded", photoEvent("b", "n3"));
  assert.deepEqual(names(feed), ["a", "x"], "b does not come back before n4 is repeated");
  socket.receive("imageRemoved", removalEvent("b", "n4"));
  socket.receive("imageUploaded", photoEvent("c", "n5"));
  assert.deepEqual(names(feed), ["a", "c", "x"]);
  assert.equal(feed.cursor, "n5");
  assert.deepEqual(changes.flatMap(({ added }) => added), ["summer/c"]);
});

test("after another loss of the log during the list, the join of the list is not recovered and the list is repeated with backoff", async () => {
  const { socket, http, feed, timers } = await liveThenRelisting();
  const list = http.take();
  socket.receive("joined", lost("m0"));
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

test("recovery is attempted a bounded number of times, then dispatches recovery-incomplete and continues later", async () => {
  const { socket, http, feed, timers, problems } = await liveThenRelisting();
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
  assert.deepEqual(names(feed), ["a", "b"], "the list is shown in the meantime");
  socket.receive("imageUploaded", photoEvent("c", "p1"));
  assert.deepEqual(names(feed), ["a", "b", "c"], "and live events still arrive");
});

test("when the list is unavailable, live events are still applied and the list is requested later", async () => {
  const { socket, http, feed, timers, problems } = setUp();
  await socket.open();
  await http.take().answer(503, problem("unavailable", 503));
  const join = socket.take("join");
  assert.deepEqual(join.argument, { feed: "summer" });
  join.answer(lost("c3"));
  await settle();
  socket.receive("imageUploaded", photoEvent("b", "c4"));
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

test("refresh fetches fresh URLs by one list for all callers and keeps the fields that only events carry", async () => {
  const clock = { now: NOW };
  const { socket, http, feed } = await liveWith("c1", ["a"], { clock });
  socket.receive("imageUploaded", photoEvent("b", "c2", { caption: "kept" }));
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

test("refresh without a connection rejects at once", async () => {
  const { feed } = setUp();
  await assert.rejects(feed.refresh(), (error) => error.kind === "offline");
});

// ── tokens and refusals ─────────────────────────────────────────────────────────────────────

test("connect_error token-expired: a fresh token is fetched and the socket connects again", async () => {
  const tokenRequests = [];
  const getToken = ({ problem: reason }) => (tokenRequests.push(problemKind(reason)), Promise.resolve("t2"));
  const { socket } = setUp({ feed: { getToken } });
  socket.active = false;
  socket.receive("connect_error", new Error("token-expired"));
  await settle();
  assert.deepEqual(tokenRequests, ["token-expired"]);
  assert.equal(socket.connects, 2);
});

test("consecutive token refusals are followed by growing pauses", async () => {
  const { socket, timers } = setUp({ feed: { getToken: () => "still wrong" } });
  socket.active = false;
  for (let refusal = 0; refusal < 3; refusal++) {
    socket.receive("connect_error", new Error("token-invalid"));
    await settle();
    if (refusal > 0) await timers.runAll();
  }
  assert.equal(socket.connects, 4);
  socket.receive("connect_error", new Error("token-invalid"));
  await settle();
  assert.deepEqual(timers.delays, [1_500]);
});

test("without getToken a refusal is dispatched as a problem and not retried", async () => {
  const { socket, problems, feed } = setUp();
  socket.active = false;
  socket.receive("connect_error", Object.assign(new Error("token-missing"), { data: problem("token-missing", 401) }));
  await settle();
  assert.deepEqual(problems, ["token-missing"]);
  assert.equal(socket.connects, 1);
  assert.equal(feed.state, "offline");
});

test("a network connect_error is left to the reconnection of socket.io-client", async () => {
  const { socket, feed } = setUp();
  socket.receive("connect_error", new Error("xhr poll error"));
  await settle();
  assert.equal(feed.state, "offline");
  assert.equal(socket.connects, 1);
});

test("tokenExpiring sends a fresh token on the live connection", async () => {
  const { socket, feed } = await liveWith("c1", ["a"], { feed: { token: "t1", getToken: async () => "t2" } });
  socket.receive("tokenExpiring", { expiresAt: LATER });
  await settle();
  const request = socket.take("authenticate");
  assert.deepEqual(request.argument, { token: "t2" });
  request.answer({ expiresAt: LATER });
  assert.equal(feed.state, "live");
});

test("after a disconnect by the server (the token expired) the feed reconnects with a fresh token", async () => {
  const { socket } = await liveWith("c1", ["a"], { feed: { getToken: async () => "t2" } });
  await socket.lose("io server disconnect");
  assert.equal(socket.connects, 2);
});

test("a join refused with token-expired is repeated once with a fresh token", async () => {
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

test("a forbidden feed is dispatched as a problem and not retried", async () => {
  const { socket, http, feed, problems, timers } = setUp();
  await socket.open();
  await http.take().answer(403, problem("forbidden", 403));
  assert.deepEqual(problems, ["forbidden"]);
  assert.equal(feed.state, "offline");
  assert.deepEqual(timers.delays, []);
});

test("left ends the feed until the next connection", async () => {
  const { socket, feed, problems } = await liveWith("c1", ["a"]);
  socket.receive("left", { feed: "summer", reason: "token" });
  assert.deepEqual(problems, ["forbidden"]);
  assert.equal(feed.state, "offline");
});

test("a reconnect event sets the first reconnection delay and is reset after the reconnect", async () => {
  const { socket, feed } = await liveWith("c1", ["a"]);
  socket.receive("reconnect", { afterMs: 12_000 });
  assert.deepEqual(socket.delays, { min: 12_000, max: 12_000 });
  assert.equal(feed.state, "live", "the connection stays open");
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

/** Runs an upload to its end without waiting for its pauses. */
async function runUpload(env, options) {
  const outcome = env.feed.upload(file, options).then((value) => ({ value }), (error) => ({ error }));
  await settle();
  const request = env.http.take();
  await request.answer(201, grant);
  for (let round = 0; round < 6; round++) await env.timers.runAll();
  return { request, ...(await outcome) };
}

test("an upload requests a grant and sends the file with exactly its URL and headers", async () => {
  const env = setUp({ puts: [200] });
  const progress = [];
  const { request, value } = await runUpload(env, { caption: "Hi", onProgress: (step) => progress.push(step) });
  assert.equal(request.url, "/v1/feeds/summer/uploads");
  assert.deepEqual(JSON.parse(request.body), { contentType: "image/heic", size: 7, filename: "IMG_1.HEIC", caption: "Hi" });
  assert.deepEqual(env.sent, [{ method: "PUT", url: grant.url, headers: grant.headers, body: file }]);
  assert.deepEqual(progress, [{ loaded: 7, total: 7 }]);
  assert.deepEqual(value, { feed: "summer", key: grant.key });
});

test("412 means that the photo is stored, also after an attempt whose response was lost", async () => {
  const env = setUp({ puts: ["network", 503, 409, 412] });
  const { value } = await runUpload(env);
  assert.equal(value.key, grant.key);
  assert.equal(env.sent.length, 4);
});

test("an upload that the bucket refuses is not retried; an outage is retried a bounded number of times", async () => {
  const refused = setUp({ puts: [403] });
  assert.equal((await runUpload(refused)).error.kind, "storage-refused");
  assert.equal(refused.sent.length, 1);
  const unreachable = setUp({ puts: Array(9).fill("network") });
  assert.equal((await runUpload(unreachable)).error.kind, "storage-unreachable");
  assert.equal(unreachable.sent.length, 5);
});

test("an expired grant is renewed; already-stored is success", async () => {
  const clock = { now: NOW };
  const env = setUp({ puts: ["network"], clock });
  const outcome = env.feed.upload(file, { caption: "Hi" });
  await settle();
  clock.now = Date.parse(LATER) + 1;
  const request = env.http.take();
  await request.answer(201, grant);
  await env.timers.runAll();
  const renewal = env.http.take();
  assert.equal(renewal.body, request.body, "without it the caption would be lost");
  assert.equal(renewal.url, "/v1/feeds/summer/uploads/0abc-1.heic/renew");
  await renewal.answer(409, problem("already-stored", 409));
  assert.equal((await outcome).key, grant.key);
});

test("an upload rejects with the server's problem", async () => {
  const env = setUp();
  const outcome = env.feed.upload(file);
  await settle();
  const checked = assert.rejects(outcome, (error) => {
    assert.deepEqual(error.problem, problem("too-large", 413));
    assert.equal(error.message, "detail of too-large");
    assert.equal(error.kind, "too-large");
    return true;
  });
  await env.http.take().answer(413, problem("too-large", 413));
  await checked;
});

test("Retry-After is honored, and a network failure is retried", async () => {
  const env = setUp({ puts: [200] });
  const outcome = env.feed.upload(file);
  await settle();
  await env.http.take().answer(429, problem("too-many-requests", 429), { "retry-after": "7" });
  assert.deepEqual(env.timers.delays, [7_000]);
  await env.timers.runAll();
  await env.http.take().fail();
  await env.timers.runAll();
  await env.http.take().answer(201, grant);
  assert.equal((await outcome).key, grant.key);
});

test("an aborted upload rejects with an AbortError", async () => {
  const env = setUp();
  const abort = new AbortController();
  const outcome = env.feed.upload(file, { signal: abort.signal });
  await settle();
  abort.abort();
  await assert.rejects(outcome, { name: "AbortError" });
});

test("after a 401 over HTTP one fresh token is fetched for all pending requests", async () => {
  let tokenRequests = 0;
  const env = setUp({ feed: { token: "t1", getToken: async () => `t${++tokenRequests + 1}` } });
  const removals = [env.feed.remove("summer/a"), env.feed.remove("summer/b")];
  await settle();
  const requests = [env.http.take(), env.http.take()];
  assert.equal(requests[0].headers.authorization, "Bearer t1");
  requests.forEach((request) => request.answer(401, problem("token-expired", 401)));
  await settle();
  const again = [env.http.take(), env.http.take()];
  assert.deepEqual(again.map(({ headers }) => headers.authorization), ["Bearer t2", "Bearer t2"]);
  again.forEach((request) => request.answer(202, {}));
  await Promise.all(removals);
  assert.equal(tokenRequests, 1);
});

test("the name within a feed is derived from the key, with and without a prefix", async () => {
  const cases = [
    ["summer/a.jpg", undefined, "a.jpg"],
    ["app/photos/summer/a.jpg", undefined, "a.jpg"],
    ["summer/summer/0ffffabcdef01-0123456789abcdef0123.jpg", undefined, "0ffffabcdef01-0123456789abcdef0123.jpg"],
    ["summer/summer/a.jpg", "", "summer/a.jpg"],
    ["summer/2026/a b.jpg", undefined, "2026/a%20b.jpg"],
    ["app/summer/2026/a.jpg", "app/", "2026/a.jpg"],
  ];
  for (const [photoKey, keyPrefix, name] of cases) {
    const env = setUp({ feed: { keyPrefix } });
    env.feed.remove(photoKey);
    await settle();
    const request = env.http.take();
    assert.equal(request.method, "DELETE");
    assert.equal(request.url, `/v1/feeds/summer/photos/${name}`);
  }
});

test("an ambiguous key, in which the feed occurs twice, is refused", async () => {
  const { feed, http } = setUp();
  await assert.rejects(feed.remove("summer/summer/a.jpg"), (error) => error.kind === "invalid-key");
  assert.equal(http.requests.length, 0);
});

test("the content type is that of the browser, else derived from the extension", () => {
  const cases = [
    [{ type: "image/PNG; x=1", name: "a" }, "image/png"],
    [{ type: "image/jpg", name: "a.jpg" }, "image/jpeg"],
    [{ type: "", name: "IMG.HEIC" }, "image/heic"],
    [{ type: "", name: "notes.txt" }, ""],
    [{ type: "", name: "noextension" }, ""],
  ];
  for (const [source, expected] of cases) assert.equal(contentTypeOf(source), expected);
});

// ── storage and closing ─────────────────────────────────────────────────────────────────────

test("a stored snapshot is shown at once and recovered by its cursor, unless its URLs have expired", async () => {
  const items = new Map();
  const storage = localStorageSnapshots("p:", { getItem: (name) => items.get(name) ?? null, setItem: (name, value) => items.set(name, value) });
  const before = await liveWith("c1", ["a"], { feed: { storage } });
  before.feed.close();

  const after = setUp({ feed: { storage } });
  assert.deepEqual(names(after.feed), ["a"]);
  await after.socket.open();
  assert.equal(after.socket.take("join").argument.cursor, "c1");

  const late = setUp({ feed: { storage }, clock: { now: Date.parse(LATER) } });
  assert.deepEqual(names(late.feed), []);
  await late.socket.open();
  assert.equal(late.http.requests.length, 1, "the feed is listed again");
});

test("close leaves the feed, ignores later events and cancels its timers", async () => {
  const { socket, feed, timers } = await liveWith("c1", ["a"]);
  socket.receive("joined", lost("n1"));
  feed.close();
  assert.deepEqual(socket.take("leave").argument, { feed: "summer" });
  socket.receive("imageUploaded", photoEvent("b", "c2"));
  await settle();
  assert.deepEqual(names(feed), ["a"]);
  assert.deepEqual(timers.delays, []);
  assert.equal(socket.connected, true, "a socket that the app passed in stays open");
});

/**
 * The demo page: shows one feed and uploads photos to it. photoshare-client.js implements the
 * PhotoShare protocol; this file implements the user interface.
 */
import { io } from "./socket.io.esm.min.js";
import { PhotoFeed, PhotoShareError, problemKind } from "/photoshare-client.js";

const PARALLEL_UPLOADS = 3;
const LAST_FEED = "photoshare.lastFeed";
const TOKEN = "photoshare.token";

const STATES = {
  idle: "No feed open",
  connecting: "Connecting…",
  live: "Live",
  recovering: "Catching up…",
  offline: "Offline – reconnecting…",
  denied: "Access denied",
  token: "Token needed",
};

const TOKEN_REASONS = {
  "token-missing": "This server requires an access token.",
  "token-expired": "Your token has expired or is about to expire.",
  "token-invalid": "The server did not accept the token.",
  forbidden: "Your token does not allow this.",
};

const $ = (id) => document.getElementById(id);

/** @type {PhotoFeed | null} */
let feed = null;
/** Whether the server denied access to the feed, for example because the token does not cover it. */
let isDenied = false;

// ── opening a feed ──────────────────────────────────────────────────────────────────────────

function openFeed(name) {
  if (feed?.feed === name && !isDenied) return;
  feed?.close();
  uploads.clear();
  gallery.clear();
  notice.hide();
  tokenForm.hide();
  isDenied = false;
  store(localStorage, LAST_FEED, name);
  showFeedName(name);
  feed = new PhotoFeed(name, { io, token: load(sessionStorage, TOKEN), getToken: tokenForm.request });
  listenTo(feed);
  showState(feed.state);
}

function listenTo(opened) {
  // Ignore events of a feed that the user has left.
  const on = (type, handler) => opened.addEventListener(type, (event) => opened === feed && handler(event.detail));
  on("change", (change) => {
    gallery.show(opened, change);
    uploads.settle(opened.photos);
  });
  on("state", (state) => {
    showState(state);
    if (state === "live") gallery.show(opened);
  });
  on("problem", showProblem);
}

function showFeedName(name) {
  $("feed-name").value = name;
  $("feed-title").textContent = name;
  $("welcome").hidden = true;
  $("feed").hidden = false;
  document.title = `${name} · PhotoShare`;
  const hash = `#feed=${encodeURIComponent(name)}`;
  if (location.hash !== hash) history.pushState(null, "", hash);
}

function feedInHash() {
  return new URLSearchParams(location.hash.slice(1)).get("feed");
}

function showState(state) {
  const reason = state !== "offline" ? state : tokenForm.isOpen ? "token" : isDenied ? "denied" : "offline";
  $("state").dataset.state = state;
  $("state-text").textContent = STATES[reason];
  if (reason === "offline") {
    notice.show("The server can’t be reached. The photos shown may be out of date; this page reconnects automatically.", "offline");
  } else {
    notice.hide("offline");
  }
}

function showProblem(problem) {
  const kind = problemKind(problem);
  // The connection state already shows these transient problems.
  if (["offline", "unavailable"].includes(kind) && feed.state !== "live") return;
  if ([400, 401, 403].includes(problem.status) || kind.startsWith("token-") || kind === "forbidden") {
    isDenied = true;
    if (problem.status !== 400) tokenForm.offer(problem);
    showState(feed.state);
  }
  notice.show(problem.detail ?? problem.title, isDenied ? "error" : "problem");
}

// ── messages ────────────────────────────────────────────────────────────────────────────────

const notice = {
  kind: "",
  show(text, kind) {
    // Keep an error from the server: it is more specific than "offline".
    if (kind === "offline" && this.kind === "error") return;
    this.kind = kind;
    $("notice").dataset.kind = kind === "offline" ? "warning" : "error";
    $("notice-text").textContent = text;
    $("notice").hidden = false;
  },
  /** Hides a notice of that kind, or any notice. */
  hide(kind = this.kind) {
    if (kind !== this.kind) return;
    this.kind = "";
    $("notice").hidden = true;
  },
};

function announce(text) {
  $("announcer").textContent = text;
}

function messageOf(error) {
  return error instanceof PhotoShareError ? error.message : "Something went wrong.";
}

// ── the token ───────────────────────────────────────────────────────────────────────────────

const tokenForm = {
  /** Resolvers of the `getToken` calls that wait for the form. */
  waiting: [],
  get isOpen() {
    return !$("token-form").hidden;
  },
  request: ({ problem }) => new Promise((resolve) => {
    tokenForm.waiting.push(resolve);
    tokenForm.offer(problem);
    showState(feed.state);
  }),
  offer(problem) {
    $("token-reason").textContent = TOKEN_REASONS[problemKind(problem)] ?? TOKEN_REASONS["token-missing"];
    if (this.isOpen) return;
    $("token-form").hidden = false;
    $("token").focus();
  },
  hide() {
    $("token-form").hidden = true;
    $("token").value = "";
    this.waiting.splice(0).forEach((resolve) => resolve(null));
  },
  submit() {
    const token = $("token").value.trim();
    if (!token) return;
    store(sessionStorage, TOKEN, token);
    const waiting = this.waiting.splice(0);
    this.hide();
    notice.hide();
    waiting.forEach((resolve) => resolve(token));
    // After access was denied no call is waiting: reopen the feed with the new token.
    if (waiting.length === 0 || isDenied) reopen();
  },
};

function reopen() {
  isDenied = true;
  openFeed(feed.feed);
}

// ── photos ──────────────────────────────────────────────────────────────────────────────────

const gallery = {
  /** Tiles by key: a photo that stays keeps its element, its focus and its loaded image. */
  tiles: new Map(),

  clear() {
    this.tiles.clear();
    $("photos").replaceChildren();
    $("count").textContent = "";
    $("empty").hidden = true;
  },

  show(opened, change = { added: [], removed: [], updated: [] }) {
    const { photos } = opened;
    const wasEmpty = this.tiles.size === 0;
    change.removed.forEach((key) => this.remove(key));
    photos.forEach((photo, index) => this.insertTile(photo, index, !wasEmpty));
    $("count").textContent = photos.length === 1 ? "1 photo" : `${photos.length} photos`;
    $("empty").hidden = photos.length > 0;
    $("truncated").hidden = !opened.truncated;
    if (!wasEmpty) this.announce(change);
    viewer.update(change);
  },

  announce({ added, removed }) {
    const messages = [];
    if (added.length > 0) messages.push(added.length === 1 ? "A new photo." : `${added.length} new photos.`);
    if (removed.length > 0) messages.push(removed.length === 1 ? "A photo was deleted." : `${removed.length} photos were deleted.`);
    if (messages.length > 0) announce(messages.join(" "));
  },

  insertTile(photo, index, isNew) {
    const tile = this.tiles.get(photo.key) ?? this.makeTile(photo, isNew);
    updateTile(tile, photo);
    const list = $("photos");
    if (list.children[index] !== tile) list.insertBefore(tile, list.children[index] ?? null);
  },

  makeTile(photo, isNew) {
    const tile = $("photo-template").content.firstElementChild.cloneNode(true);
    tile.classList.toggle("new", isNew);
    tile.querySelector(".open").addEventListener("click", () => viewer.open(photo.key));
    tile.querySelector(".delete").addEventListener("click", () => confirmDeletion(photo.key));
    const image = tile.querySelector("img");
    image.addEventListener("error", () => onImageError(photo.key, () => showUnshowable(tile)));
    this.tiles.set(photo.key, tile);
    return tile;
  },

  /** Moves the focus of a removed tile to its neighbor, not to the top of the page. */
  remove(key) {
    const tile = this.tiles.get(key);
    if (!tile) return;
    const hadFocus = tile.contains(document.activeElement);
    const neighbor = tile.nextElementSibling ?? tile.previousElementSibling;
    tile.remove();
    this.tiles.delete(key);
    if (hadFocus) (neighbor?.querySelector(".open") ?? $("photos")).focus();
  },
};

function updateTile(tile, photo) {
  const image = tile.querySelector("img");
  const label = describe(photo);
  if (image.getAttribute("src") !== photo.url) {
    tile.querySelector(".open").hidden = false;
    tile.querySelector(".unshowable").hidden = true;
    image.src = photo.url;
    tile.querySelector(".unshowable a").href = photo.url;
  }
  image.alt = label;
  tile.querySelector(".delete").setAttribute("aria-label", `Delete: ${label}`);
}

function showUnshowable(tile) {
  tile.querySelector(".open").hidden = true;
  tile.querySelector(".unshowable").hidden = false;
}

function describe({ caption, filename, uploadedBy, lastModified }) {
  const when = lastModified && new Date(lastModified).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
  const what = caption || filename || "Photo";
  return [what, uploadedBy && `by ${uploadedBy}`, when].filter(Boolean).join(", ");
}

/** Renews an expired URL; on any other error the browser does not support the format. */
function onImageError(key, showFailure) {
  const photo = photoWith(key);
  if (!photo) return;
  if (Date.parse(photo.urlExpiresAt) <= Date.now()) feed.refresh(key).catch(() => {});
  else showFailure();
}

function photoWith(key) {
  return feed?.photos.find((photo) => photo.key === key);
}

async function confirmDeletion(key) {
  const photo = photoWith(key);
  if (!photo) return;
  $("confirm-image").src = photo.url;
  $("confirm-image").alt = describe(photo);
  $("confirm").returnValue = "cancel";
  $("confirm").showModal();
  await new Promise((resolve) => $("confirm").addEventListener("close", resolve, { once: true }));
  if ($("confirm").returnValue === "delete") await deletePhoto(key);
}

async function deletePhoto(key) {
  const tile = gallery.tiles.get(key);
  tile?.classList.add("leaving");
  try {
    await feed.remove(key);
    viewer.close(key);
  } catch (error) {
    tile?.classList.remove("leaving");
    notice.show(`The photo was not deleted: ${messageOf(error)}`, "problem");
  }
}

// ── one photo, large ────────────────────────────────────────────────────────────────────────

const viewer = {
  key: "",

  open(key) {
    this.key = key;
    this.show();
    if (!$("viewer").open) $("viewer").showModal();
  },

  async show() {
    const { key } = this;
    const photo = await feed.refresh(key).catch(() => photoWith(key));
    if (!photo || key !== this.key) return;
    $("viewer-image").src = photo.url;
    $("viewer-image").alt = describe(photo);
    $("viewer-caption").textContent = describe(photo);
    const index = this.index();
    $("viewer-previous").disabled = index <= 0;
    $("viewer-next").disabled = index >= feed.photos.length - 1;
  },

  index() {
    return feed.photos.findIndex(({ key }) => key === this.key);
  },

  step(by) {
    const next = feed.photos[this.index() + by];
    if (next) this.open(next.key);
  },

  update({ removed }) {
    if (!$("viewer").open) return;
    if (removed.includes(this.key)) this.close();
    else this.show();
  },

  close(key = this.key) {
    if (key === this.key) $("viewer").close();
  },
};

// ── uploads ─────────────────────────────────────────────────────────────────────────────────

const uploads = {
  waiting: [],
  running: 0,
  /** Uploads by key that are stored but not yet in the feed. */
  stored: new Map(),

  add(files) {
    if (!feed) return;
    [...files].forEach((file) => this.enqueue(makeUpload(file, feed)));
  },

  enqueue(upload) {
    setStep(upload, "waiting", "Waiting…");
    this.waiting.push(upload);
    this.next();
  },

  next() {
    while (this.running < PARALLEL_UPLOADS && this.waiting.length > 0) this.run(this.waiting.shift());
  },

  async run(upload) {
    this.running++;
    upload.abort = new AbortController();
    setStep(upload, "sending", "Sending…");
    try {
      const onProgress = ({ loaded, total }) => showProgress(upload, loaded, total);
      const { key } = await upload.feed.upload(upload.file, { onProgress, signal: upload.abort.signal });
      this.keepUntilInFeed(upload, key);
    } catch (error) {
      this.fail(upload, error);
    }
    this.running--;
    this.next();
  },

  /** The feed's event may arrive before or after the PUT completes. */
  keepUntilInFeed(upload, key) {
    if (upload.feed !== feed) return discard(upload);
    setStep(upload, "stored", "Stored. Waiting for the feed…");
    this.stored.set(key, upload);
    this.settle(feed.photos);
  },

  settle(photos) {
    for (const { key } of photos) {
      const upload = this.stored.get(key);
      if (!upload) continue;
      this.stored.delete(key);
      discard(upload);
    }
  },

  fail(upload, error) {
    if (error.name === "AbortError") return discard(upload);
    setStep(upload, "failed", messageOf(error));
    announce(`${upload.file.name} was not uploaded: ${messageOf(error)}`);
  },

  cancel(upload) {
    this.waiting = this.waiting.filter((other) => other !== upload);
    upload.abort?.abort();
    discard(upload);
  },

  /** Called on a change of feed: running uploads continue to their own feed without being shown. */
  clear() {
    this.waiting = [];
    this.stored.clear();
    $("uploads").replaceChildren();
  },
};

function makeUpload(file, target) {
  const item = $("upload-template").content.firstElementChild.cloneNode(true);
  const upload = { file, item, feed: target, preview: URL.createObjectURL(file), abort: null };
  const thumb = item.querySelector(".thumb");
  thumb.addEventListener("error", () => thumb.classList.add("none"));
  thumb.src = upload.preview;
  item.querySelector(".upload-name").textContent = file.name;
  item.querySelector("progress").setAttribute("aria-label", `Upload of ${file.name}`);
  item.querySelector(".retry").addEventListener("click", () => uploads.enqueue(upload));
  item.querySelector(".cancel").addEventListener("click", () => uploads.cancel(upload));
  $("uploads").append(item);
  return upload;
}

function setStep({ item }, step, text) {
  item.dataset.step = step;
  item.querySelector(".upload-status").textContent = text;
  item.querySelector(".retry").hidden = step !== "failed";
  item.querySelector(".cancel").textContent = step === "failed" || step === "stored" ? "Dismiss" : "Cancel";
}

function showProgress(upload, loaded, total) {
  const percent = Math.round((loaded / total) * 100);
  upload.item.querySelector("progress").value = percent;
  upload.item.querySelector(".upload-status").textContent = `${percent} % of ${megabytes(total)}`;
}

function megabytes(bytes) {
  return bytes < 100_000 ? `${Math.ceil(bytes / 1_000)} kB` : `${(bytes / 1_000_000).toFixed(1)} MB`;
}

function discard({ item, preview }) {
  item.remove();
  URL.revokeObjectURL(preview);
}

// ── user actions ────────────────────────────────────────────────────────────────────────────

/** Does nothing if storage is forbidden (private windows, policies). */
function store(storage, name, value) {
  try {
    storage.setItem(name, value);
  } catch { /* see above */ }
}

function load(storage, name) {
  try {
    return storage.getItem(name);
  } catch {
    return null;
  }
}

async function copyLink() {
  const button = $("share");
  try {
    await navigator.clipboard.writeText(location.href);
    button.textContent = "Link copied";
    announce("Link copied.");
  } catch {
    // Without https or permission there is no clipboard: show the link to copy manually.
    notice.show(`Copy this link: ${location.href}`, "offline");
  }
  setTimeout(() => (button.textContent = "Copy link"), 2_000);
}

function hasFiles(event) {
  return Boolean(feed) && [...(event.dataTransfer?.types ?? [])].includes("Files");
}

function bindDragAndDrop() {
  let depth = 0;
  const show = (by) => {
    depth = Math.max(0, depth + by);
    document.body.classList.toggle("dropping", depth > 0);
  };
  addEventListener("dragenter", (event) => hasFiles(event) && show(1));
  addEventListener("dragleave", (event) => hasFiles(event) && show(-1));
  addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    show(-depth);
    uploads.add(event.dataTransfer.files);
  });
}

function bindForms() {
  $("feed-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const name = $("feed-name").value.trim();
    if (name) openFeed(name);
  });
  $("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    tokenForm.submit();
  });
  $("files").addEventListener("change", () => {
    uploads.add($("files").files);
    // Otherwise choosing the same file again fires no change event.
    $("files").value = "";
  });
  $("share").addEventListener("click", copyLink);
  $("notice-close").addEventListener("click", () => notice.hide());
}

function bindViewer() {
  $("viewer-close").addEventListener("click", () => viewer.close());
  $("viewer-previous").addEventListener("click", () => viewer.step(-1));
  $("viewer-next").addEventListener("click", () => viewer.step(1));
  $("viewer-delete").addEventListener("click", () => confirmDeletion(viewer.key));
  $("viewer").addEventListener("keydown", ({ key }) => {
    if (key === "ArrowLeft") viewer.step(-1);
    if (key === "ArrowRight") viewer.step(1);
  });
  // A click whose target is the dialog itself hit its backdrop; the content consists of its children.
  $("viewer").addEventListener("click", (event) => event.target === $("viewer") && viewer.close());
  $("viewer").addEventListener("close", () => gallery.tiles.get(viewer.key)?.querySelector(".open").focus());
}

function openFromHash() {
  const name = feedInHash() ?? "";
  if (name) openFeed(name);
}

bindForms();
bindDragAndDrop();
bindViewer();
addEventListener("hashchange", openFromHash);
addEventListener("popstate", openFromHash);

const first = feedInHash() || load(localStorage, LAST_FEED);
if (first) openFeed(first);
else $("feed-name").focus();

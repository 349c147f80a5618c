/** A photo of a feed. What a list doesn't know (caption, sizes …) may be missing. */
export interface Photo {
  readonly key: string;
  readonly size: number;
  /** A signed URL that shows the photo until `urlExpiresAt`. */
  readonly url: string;
  readonly urlExpiresAt: string;
  readonly lastModified?: string;
  readonly eTag?: string;
  readonly versionId?: string;
  readonly contentType?: string;
  readonly width?: number;
  readonly height?: number;
  readonly filename?: string;
  readonly caption?: string;
  readonly uploadedBy?: string;
}

/** An RFC 9457 problem; `type` is `urn:photoshare:problem:<kebab-name>`. */
export interface Problem {
  readonly type: string;
  readonly title?: string;
  readonly status?: number;
  readonly detail?: string;
  readonly [member: string]: unknown;
}

export class PhotoShareError extends Error {
  constructor(problem: Problem, options?: ErrorOptions);
  readonly problem: Problem;
  /** The kebab-name at the end of `problem.type`. */
  readonly kind: string;
}

export type FeedState = "connecting" | "live" | "recovering" | "offline";

/** Keys that a change touched. */
export interface PhotoChange {
  readonly added: readonly string[];
  readonly updated: readonly string[];
  readonly removed: readonly string[];
}

/** A feed's photos and the position in its log up to which they are complete. */
export interface Snapshot {
  readonly cursor: string;
  readonly photos: readonly Photo[];
  readonly truncated?: boolean;
}

/** Where snapshots are kept between visits. Cursor and photos must be kept together. */
export interface SnapshotStorage {
  load(feed: string): Snapshot | null;
  save(feed: string, snapshot: Snapshot): void;
}

/** What is used of a socket of socket.io-client 4. */
export interface FeedSocket {
  readonly connected: boolean;
  readonly active: boolean;
  on(event: string, handler: (...args: any[]) => void): unknown;
  off(event: string, handler: (...args: any[]) => void): unknown;
  emit(event: string, ...args: any[]): unknown;
  timeout(ms: number): { emit(event: string, ...args: any[]): unknown };
  connect(): unknown;
  disconnect(): unknown;
}

export interface CommonOptions {
  /** The server's origin; default: the page's own. */
  baseUrl?: string;
  /** A token to begin with. */
  token?: string | null;
  /**
   * Asked for another token when the server says that it is missing, refused, at its end or soon
   * at its end. `null` means that there is none.
   */
  getToken?: (reason: { problem: Problem }) => string | null | Promise<string | null>;
  /** Default: nothing is kept between visits. */
  storage?: SnapshotStorage;
  /** How many photos a list reads at most; default 1000. */
  maxPhotos?: number;
  /** The server's bucket prefix, where one is set and a feed has the name of one of its parts. */
  keyPrefix?: string;
  /** For tests. */
  environment?: Partial<Environment>;
}

/** With `io` the feed has a connection of its own; a handed-in `socket` may be shared by feeds. */
export type PhotoFeedOptions = CommonOptions &
  ({ io: (...args: any[]) => any; socket?: undefined } | { socket: FeedSocket; io?: undefined });

export interface UploadOptions {
  onProgress?: (progress: { loaded: number; total: number }) => void;
  signal?: AbortSignal;
  caption?: string;
  /** Default: the file's own name. */
  filename?: string;
  /** Default: the file's own type, else by its extension. */
  contentType?: string;
}

export interface FeedEventMap {
  change: CustomEvent<PhotoChange>;
  state: CustomEvent<FeedState>;
  problem: CustomEvent<Problem>;
}

export class PhotoFeed extends EventTarget {
  constructor(feed: string, options: PhotoFeedOptions);
  readonly feed: string;
  /** Sorted by key: names issued by the server come newest first, others after them. */
  readonly photos: readonly Photo[];
  readonly state: FeedState;
  /** Whether the feed holds more than `maxPhotos`. */
  readonly truncated: boolean;
  readonly cursor: string | null;
  /** Makes signed URLs fresh; resolves at once if the named photo's is good for another minute. */
  refresh(key?: string): Promise<Photo | undefined>;
  /** Resolves when the bucket has the file; rejects with a `PhotoShareError`. */
  upload(file: File | Blob, options?: UploadOptions): Promise<{ feed: string; key: string }>;
  /** Resolves when the server took the wish; the photo leaves `photos` when it is gone. */
  remove(key: string, options?: { signal?: AbortSignal }): Promise<void>;
  close(): void;

  addEventListener<K extends keyof FeedEventMap>(
    type: K,
    listener: (this: PhotoFeed, event: FeedEventMap[K]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
}

/** What the module takes from its surroundings. */
export interface Environment {
  fetch: typeof fetch;
  XMLHttpRequest: new () => XMLHttpRequest;
  setTimeout(callback: () => void, ms: number): unknown;
  clearTimeout(timer: unknown): void;
  random(): number;
  now(): number;
}

/** The kebab-name at the end of a problem's `type`. */
export function problemKind(problem: Problem | undefined): string;

/** A file's content type; by its extension where the browser knows none. */
export function contentTypeOf(file: { type?: string; name?: string }): string;

/** Keeps snapshots, signed URLs included, in `localStorage`. */
export function localStorageSnapshots(prefix?: string, storage?: Pick<globalThis.Storage, "getItem" | "setItem">): SnapshotStorage;

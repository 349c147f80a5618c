/** A photo of a feed. Fields that a list does not return (caption, dimensions …) may be missing. */
export interface Photo {
  readonly key: string;
  readonly size: number;
  /** A signed URL of the image, valid until `urlExpiresAt`. */
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

/** The keys that a change affected. */
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

/** Storage for snapshots between visits. Cursor and photos must be stored together. */
export interface SnapshotStorage {
  load(feed: string): Snapshot | null;
  save(feed: string, snapshot: Snapshot): void;
}

/** The part of a socket.io-client 4 socket that the module uses. */
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
  /** The server's origin; default: the page's origin. */
  baseUrl?: string;
  /** The initial token. */
  token?: string | null;
  /**
   * Called for another token when the current one is missing, invalid, expired or about to expire.
   * Return `null` if there is none.
   */
  getToken?: (reason: { problem: Problem }) => string | null | Promise<string | null>;
  /** Default: nothing is stored between visits. */
  storage?: SnapshotStorage;
  /** The maximum number of photos that a list reads; default 1000. */
  maxPhotos?: number;
  /** The server's bucket prefix. Needed if one of its segments equals a feed's id. */
  keyPrefix?: string;
  /** For tests. */
  environment?: Partial<Environment>;
}

/** With `io` the feed opens its own connection; a `socket` can be shared by several feeds. */
export type PhotoFeedOptions = CommonOptions &
  ({ io: (...args: any[]) => any; socket?: undefined } | { socket: FeedSocket; io?: undefined });

export interface UploadOptions {
  onProgress?: (progress: { loaded: number; total: number }) => void;
  signal?: AbortSignal;
  caption?: string;
  /** Default: the name of the file. */
  filename?: string;
  /** Default: the type of the file, or the type of its extension. */
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
  /** Sorted by key: names issued by the server come first, newest first. */
  readonly photos: readonly Photo[];
  readonly state: FeedState;
  /** Whether the feed holds more than `maxPhotos` photos. */
  readonly truncated: boolean;
  readonly cursor: string | null;
  /** Renews the signed URLs; resolves immediately if this photo's URL is valid for another minute. */
  refresh(key?: string): Promise<Photo | undefined>;
  /** Resolves when the bucket has stored the file; rejects with a `PhotoShareError`. */
  upload(file: File | Blob, options?: UploadOptions): Promise<{ feed: string; key: string }>;
  /** Resolves when the server has accepted the request; the photo leaves `photos` once it is deleted. */
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

/** The browser APIs that the module uses. */
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

/** A file's content type; derived from its extension if the browser reports none. */
export function contentTypeOf(file: { type?: string; name?: string }): string;

/** Stores snapshots, including the signed URLs, in `localStorage`. */
export function localStorageSnapshots(prefix?: string, storage?: Pick<globalThis.Storage, "getItem" | "setItem">): SnapshotStorage;

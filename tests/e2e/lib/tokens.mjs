// JSON Web Tokens, signed here so that tests can make invalid ones, and a server that publishes key sets.

import { createHmac, generateKeyPairSync, sign } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { findFreePort } from './ports.mjs';

export const SECRET = 'end-to-end-secret-of-more-than-32-bytes';

/** How far clocks may differ, by the contract. */
export const LEEWAY_SECS = 30;

const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

/** Seconds since 1970, plus `offset`. */
export function epochSeconds(offset = 0) {
  return Math.floor(Date.now() / 1000) + offset;
}

/** Time for a client of a busy machine to connect with a token that is about to expire. */
const CONNECT_MARGIN_SECS = 5;

/** An `exp` that has passed and whose leeway ends soon: `secs` seconds later than that of `nearlyExpired(0)`. */
export function nearlyExpired(secs = 0) {
  return epochSeconds(secs + CONNECT_MARGIN_SECS - LEEWAY_SECS);
}

/** Claims that are valid for an hour. */
export function buildClaims(feeds, more = {}) {
  return { sub: 'test-user', exp: epochSeconds(3600), feeds, ...more };
}

/** A token signed with a shared secret. */
export function signHs256(payload, { secret = SECRET, header = {} } = {}) {
  const message = `${encode({ alg: 'HS256', typ: 'JWT', ...header })}.${encode(payload)}`;
  return `${message}.${createHmac('sha256', secret).update(message).digest('base64url')}`;
}

/** A token with these permissions, by feed. */
export function createToken(feeds, more) {
  return signHs256(buildClaims(feeds, more));
}

const PAIRS = {
  RS256: () => generateKeyPairSync('rsa', { modulusLength: 2048 }),
  ES256: () => generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  EdDSA: () => generateKeyPairSync('ed25519'),
};

/** A key pair of one algorithm. */
export class SigningKey {
  constructor(alg, kid, published = {}) {
    this.alg = alg;
    this.kid = kid;
    Object.assign(this, PAIRS[alg]());
    this.jwk = { ...this.publicKey.export({ format: 'jwk' }), kid, alg, use: 'sig', ...published };
  }

  /** A token signed with this key. */
  sign(payload, header = {}) {
    const message = Buffer.from(`${encode({ alg: this.alg, kid: this.kid, ...header })}.${encode(payload)}`);
    const signature = sign(this.alg === 'EdDSA' ? null : 'sha256', message, { key: this.privateKey, dsaEncoding: 'ieee-p1363' });
    return `${message}.${signature.toString('base64url')}`;
  }
}

/** Serves a key set over HTTP. `respond` may be replaced; `requestCount` counts the requests. */
export class KeySetServer {
  requestCount = 0;

  constructor(...keys) {
    this.keys = keys;
  }

  static async start(t, ...keys) {
    const issuer = new KeySetServer(...keys);
    await issuer.listen();
    t.after(() => issuer.stop());
    return issuer;
  }

  get url() {
    return `http://127.0.0.1:${this.port}/jwks.json`;
  }

  respond = (request, response) => {
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify({ keys: this.keys.map((key) => key.jwk ?? key) }));
  };

  async listen() {
    this.port ??= await findFreePort();
    this.server = createServer((request, response) => {
      this.requestCount += 1;
      this.respond(request, response);
    }).listen(this.port, '127.0.0.1');
    await once(this.server, 'listening');
  }

  async stop() {
    if (!this.server?.listening) return;
    this.server.closeAllConnections();
    this.server.close();
    await once(this.server, 'close');
  }
}

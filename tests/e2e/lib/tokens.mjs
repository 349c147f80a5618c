// JSON Web Tokens, signed by hand so that they can be wrong in every way, and an issuer that publishes
// its keys.

import { createHmac, generateKeyPairSync, sign } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { freePort } from './ministack.mjs';

export const SECRET = 'end-to-end-secret-of-more-than-32-bytes';

/** How far apart clocks may be, by the contract. */
export const LEEWAY_SECS = 30;

const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

/** Seconds since 1970, `offset` from now. */
export function seconds(offset = 0) {
  return Math.floor(Date.now() / 1000) + offset;
}

/** An `exp` that is past and whose leeway ends in a moment. */
export function nearlyOver(secs = 1) {
  return seconds(secs - LEEWAY_SECS);
}

/** Claims that let in for an hour. */
export function claims(feeds, more = {}) {
  return { sub: 'somebody', exp: seconds(3600), feeds, ...more };
}

/** A token signed with a shared secret. */
export function hs256(payload, { secret = SECRET, header = {} } = {}) {
  const message = `${encode({ alg: 'HS256', typ: 'JWT', ...header })}.${encode(payload)}`;
  return `${message}.${createHmac('sha256', secret).update(message).digest('base64url')}`;
}

/** A token for these feeds' rights. */
export function tokenFor(feeds, more) {
  return hs256(claims(feeds, more));
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

/** Serves a key set. `answer` may be replaced; `asked` counts the requests. */
export class Issuer {
  asked = 0;

  constructor(...keys) {
    this.keys = keys;
  }

  static async start(t, ...keys) {
    const issuer = new Issuer(...keys);
    await issuer.listen();
    t.after(() => issuer.stop());
    return issuer;
  }

  get url() {
    return `http://127.0.0.1:${this.port}/jwks.json`;
  }

  answer = (request, response) => {
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify({ keys: this.keys.map((key) => key.jwk ?? key) }));
  };

  async listen() {
    this.port ??= await freePort();
    this.server = createServer((request, response) => {
      this.asked += 1;
      this.answer(request, response);
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

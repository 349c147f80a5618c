// HTTP requests that fetch would not send as they are, since it normalizes paths.

import { request } from 'node:http';
import { withDeadline } from './wait.mjs';

/** Sends `path` verbatim, and keeps the request open where `content-length` promises more than `body` holds. */
export function sendRawRequest(base, method, path, { headers = {}, body } = {}) {
  const { hostname, port } = new URL(base);
  let endRequest;
  const answer = new Promise((resolve, reject) => {
    const outgoing = request({ hostname, port, method, path, headers }, async (response) => {
      let text = '';
      try {
        for await (const chunk of response.setEncoding('utf8')) text += chunk;
        resolve(new Response(text || null, { status: response.statusCode, headers: flattenHeaders(response.headers) }));
      } catch (error) {
        reject(error);
      }
    });
    outgoing.on('error', reject);
    if (headers['content-length'] > (body?.length ?? 0)) outgoing.write(body);
    else outgoing.end(body);
    endRequest = () => outgoing.destroy();
  });
  return withDeadline(answer.finally(endRequest), `the answer to ${method} ${path}`);
}

function flattenHeaders(headers) {
  return Object.entries(headers).flatMap(([name, value]) => [value].flat().map((one) => [name, one]));
}

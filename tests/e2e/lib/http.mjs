// Requests as they are, where fetch would tidy the path.

import { request } from 'node:http';
import { within } from './wait.mjs';

/** Sends `path` to the letter, and all of the body but what `headers` promise beyond it. */
export function rawRequest(base, method, path, { headers = {}, body } = {}) {
  const { hostname, port } = new URL(base);
  let answered;
  const answer = new Promise((resolve, reject) => {
    const asking = request({ hostname, port, method, path, headers }, async (response) => {
      let text = '';
      try {
        for await (const chunk of response.setEncoding('utf8')) text += chunk;
        resolve(new Response(text || null, { status: response.statusCode, headers: plain(response.headers) }));
      } catch (error) {
        reject(error);
      }
    });
    asking.on('error', reject);
    if (headers['content-length'] > (body?.length ?? 0)) asking.write(body);
    else asking.end(body);
    answered = () => asking.destroy();
  });
  return within(answer.finally(answered), `the answer to ${method} ${path}`);
}

function plain(headers) {
  return Object.entries(headers).flatMap(([name, value]) => [value].flat().map((one) => [name, one]));
}

// Signed calls of AWS, for what tests call often: starting the AWS CLI takes a second of CPU time.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html

import { createHash, createHmac } from 'node:crypto';

const sha256 = (text) => createHash('sha256').update(text).digest('hex');
const hmac = (key, text) => createHmac('sha256', key).update(text).digest();

/** One AWS account at `endpoint`, called with `credentials`, named as in the environment. */
export class AwsClient {
  constructor(endpoint, region, credentials) {
    this.endpoint = endpoint;
    this.region = region;
    this.credentials = credentials;
  }

  /** Calls an operation of SQS; the parsed response. */
  async callSqs(operation, parameters) {
    const text = await this.#post('sqs', JSON.stringify(parameters), {
      'content-type': 'application/x-amz-json-1.0',
      'x-amz-target': `AmazonSQS.${operation}`,
    });
    return text === '' ? {} : JSON.parse(text);
  }

  /** Calls an operation of a service with a query API (CloudFormation, IAM); the response's XML. */
  callQueryApi(service, version, operation, parameters) {
    const body = new URLSearchParams({ Action: operation, Version: version, ...parameters });
    return this.#post(service, body.toString(), { 'content-type': 'application/x-www-form-urlencoded' });
  }

  async #post(service, body, contentHeaders) {
    const time = new Date().toISOString().replace(/[-:]|\.\d+/g, '');
    const headers = { ...contentHeaders, host: new URL(this.endpoint).host, 'x-amz-date': time };
    const names = Object.keys(headers).toSorted();
    const canonicalHeaders = names.map((name) => `${name}:${headers[name]}\n`).join('');
    const request = ['POST', '/', '', canonicalHeaders, names.join(';'), sha256(body)].join('\n');
    const scope = [time.slice(0, 8), this.region, service, 'aws4_request'];
    const key = scope.reduce(hmac, `AWS4${this.credentials.AWS_SECRET_ACCESS_KEY}`);
    const toSign = ['AWS4-HMAC-SHA256', time, scope.join('/'), sha256(request)].join('\n');
    const authorization = `AWS4-HMAC-SHA256 Credential=${this.credentials.AWS_ACCESS_KEY_ID}/${scope.join('/')}, `
      + `SignedHeaders=${names.join(';')}, Signature=${hmac(key, toSign).toString('hex')}`;
    const response = await fetch(this.endpoint, { method: 'POST', headers: { ...headers, authorization }, body });
    const text = await response.text();
    if (!response.ok) throw new Error(`${service} returned ${response.status}: ${text}`);
    return text;
  }
}

// AWS on this machine: ministack, set up by the project's own templates, and `photoshare serve` on it
// under the key of the IAM user that those templates make.

import { createServer } from 'node:net';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { Child, bareEnv, run } from './process.mjs';
import { start } from './server.mjs';
import { until } from './wait.mjs';

const REGION = 'eu-central-1';
const ROOT_KEY = { AWS_ACCESS_KEY_ID: 'test', AWS_SECRET_ACCESS_KEY: 'test' };

const fromRoot = (path) => fileURLToPath(new URL(`../../../${path}`, import.meta.url));

/** A port that is free now. */
export async function freePort() {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address();
  probe.close();
  await once(probe, 'close');
  return port;
}

/** ministack on a free port, checking signatures and policies. */
async function startMinistack() {
  const port = await freePort();
  const endpoint = `http://127.0.0.1:${port}`;
  const child = new Child(fromRoot('.venv/bin/ministack'), [], {
    env: bareEnv({
      AUTH: 'true',
      BIND_HOST: '127.0.0.1',
      MINISTACK_HOST: '127.0.0.1',
      GATEWAY_PORT: String(port),
      LOG_LEVEL: 'WARNING',
    }),
  });
  const healthy = () => fetch(`${endpoint}/_ministack/health`).then((response) => response.ok, () => false);
  try {
    await child.orEnd(until(healthy, 'ministack to be healthy'), 'it was healthy');
  } catch (error) {
    child.process.kill('SIGKILL');
    throw error;
  }
  return { endpoint, stop: () => child.end() };
}

/** An AWS account of its own: bucket, queue, notification and user as the templates make them. */
export class Account {
  /** `rights` are parameters of what the user may do; by default, what the server alone does. */
  static async open(parameters, rights) {
    const account = new Account();
    account.ministack = await startMinistack();
    try {
      await account.#setUp(parameters, rights);
    } catch (error) {
      await account.close();
      throw error;
    }
    return account;
  }

  close() {
    return this.ministack.stop();
  }

  /** Runs the AWS CLI, as the account's root unless another key is given; what it printed, parsed. */
  async aws(args, key = ROOT_KEY) {
    const printed = await run(fromRoot('.venv/bin/aws'), [...args, '--endpoint-url', this.ministack.endpoint, '--output', 'json'], {
      env: bareEnv({ ...key, AWS_DEFAULT_REGION: REGION }),
    });
    return printed.trim().startsWith('{') ? JSON.parse(printed) : printed;
  }

  /** The key of the IAM user, as environment variables. */
  get key() {
    const { AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY } = this.env;
    return { AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY };
  }

  /** How many messages wait in the queue, and how many were received and not yet deleted. */
  async queued(queueUrl = this.env.SQS_QUEUE_URL) {
    const { Attributes } = await this.aws(['sqs', 'get-queue-attributes', '--queue-url', queueUrl, '--attribute-names', 'All']);
    return {
      visible: Number(Attributes.ApproximateNumberOfMessages),
      invisible: Number(Attributes.ApproximateNumberOfMessagesNotVisible),
    };
  }

  /** The key of every object in the bucket. */
  async bucketKeys() {
    const { Contents = [] } = await this.aws(['s3api', 'list-objects-v2', '--bucket', this.env.S3_BUCKET]);
    return Contents.map(({ Key }) => Key).toSorted();
  }

  /** Starts `photoshare serve` here. */
  serve({ env = {}, cleanUp } = {}) {
    return start('serve', { ...this.env, AUTH: 'off', ...env }, { cleanUp });
  }

  /** Sends the bucket's events another way, as the template's parameters say. */
  async deliver(parameters) {
    if (parameters.Delivery === 'topic') {
      const topic = await this.#deploy('topic', 'infra/topic.yaml', { BucketName: 'photos', RequireTls: 'false' });
      await this.#deploy('photos', 'infra/photos.yaml', { TopicArn: topic.TopicArn, ...parameters });
    } else {
      await this.#deploy('photos', 'infra/photos.yaml', parameters);
    }
  }

  async #setUp(parameters, rights) {
    const photos = await this.#deploy('photos', 'infra/photos.yaml', { BucketName: 'photos', RequireTls: 'false', ...parameters });
    const access = await this.#deploy('access', 'infra/access.yaml', {
      BucketName: photos.BucketName,
      QueueArn: photos.QueueArn,
      DeadLetterQueueArn: photos.DeadLetterQueueArn,
      // The server alone: what other commands call is not its own.
      AllowDoctor: 'false',
      AllowRedrive: 'false',
      ...rights,
    });
    const { AccessKey: key } = await this.aws(['iam', 'create-access-key', '--user-name', access.UserName]);
    this.deadLetterQueueUrl = photos.DeadLetterQueueUrl;
    this.queueArn = photos.QueueArn;
    this.deadLetterQueueArn = photos.DeadLetterQueueArn;
    this.env = {
      S3_BUCKET: photos.BucketName,
      SQS_QUEUE_URL: photos.QueueUrl,
      AWS_REGION: REGION,
      AWS_ENDPOINT_URL: this.ministack.endpoint,
      AWS_ACCESS_KEY_ID: key.AccessKeyId,
      AWS_SECRET_ACCESS_KEY: key.SecretAccessKey,
    };
  }

  /** Changes what the user may do. */
  allow(rights) {
    return this.#deploy('access', 'infra/access.yaml', rights);
  }

  async #deploy(stack, template, parameters) {
    const overrides = Object.entries(parameters).map(([name, value]) => `${name}=${value}`);
    await this.aws(['cloudformation', 'deploy', '--stack-name', stack, '--template-file', fromRoot(template),
      '--capabilities', 'CAPABILITY_NAMED_IAM', '--no-fail-on-empty-changeset', '--parameter-overrides', ...overrides]);
    const { Stacks: [{ Outputs }] } = await this.aws(['cloudformation', 'describe-stacks', '--stack-name', stack]);
    return Object.fromEntries(Outputs.map(({ OutputKey, OutputValue }) => [OutputKey, OutputValue]));
  }
}

/** `photoshare serve` in an account of its own, which ends with it. */
export async function startServe({ env, parameters } = {}) {
  const account = await Account.open(parameters);
  try {
    const server = await account.serve({ env, cleanUp: () => account.close() });
    server.bucketKeys = () => account.bucketKeys();
    return server;
  } catch (error) {
    await account.close();
    throw error;
  }
}

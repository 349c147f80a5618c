// AWS on this machine: a ministack emulator, set up by the project's own templates, and `photoshare serve`
// on it with the key of the IAM user that the templates make.

import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { AwsClient } from './aws-client.mjs';
import { findFreePort } from './ports.mjs';
import { ChildProcess, buildMinimalEnv, runCommand } from './process.mjs';
import { startServer } from './server.mjs';
import { waitUntil } from './wait.mjs';

const REGION = 'eu-central-1';
const ROOT_KEY = { AWS_ACCESS_KEY_ID: 'test', AWS_SECRET_ACCESS_KEY: 'test' };

const resolveFromRoot = (path) => fileURLToPath(new URL(`../../../${path}`, import.meta.url));

/** ministack on a free port; it checks signatures and policies. */
async function startMinistack() {
  const port = await findFreePort();
  const endpoint = `http://127.0.0.1:${port}`;
  const child = new ChildProcess(resolveFromRoot('.venv/bin/ministack'), [], {
    env: buildMinimalEnv({
      AUTH: 'true',
      BIND_HOST: '127.0.0.1',
      MINISTACK_HOST: '127.0.0.1',
      GATEWAY_PORT: String(port),
      LOG_LEVEL: 'WARNING',
    }),
  });
  const isHealthy = () => fetch(`${endpoint}/_ministack/health`).then((response) => response.ok, () => false);
  try {
    await child.rejectOnExit(waitUntil(isHealthy, 'ministack to be healthy'), 'it was healthy');
  } catch (error) {
    child.process.kill('SIGKILL');
    throw error;
  }
  return { endpoint, stop: () => child.stop() };
}

/** An AWS account of its own: bucket, queue, notification and user as the templates make them. */
export class AwsAccount {
  /** The parameters of each stack. */
  #stacks = {};

  /** `permissions` are the parameters of access.yaml; by default, the user may do what `serve` does. */
  static async open(parameters, permissions) {
    const account = new AwsAccount();
    account.ministack = await startMinistack();
    account.client = new AwsClient(account.ministack.endpoint, REGION, ROOT_KEY);
    try {
      await account.#setUp(parameters, permissions);
    } catch (error) {
      await account.close();
      throw error;
    }
    return account;
  }

  close() {
    return this.ministack.stop();
  }

  /** Runs the AWS CLI, as the account's root unless another key is given; its output, parsed. */
  async runAwsCli(args, key = ROOT_KEY) {
    const output = await runCommand(resolveFromRoot('.venv/bin/aws'), [...args, '--endpoint-url', this.ministack.endpoint, '--output', 'json'], {
      env: buildMinimalEnv({ ...key, AWS_DEFAULT_REGION: REGION }),
    });
    return output.trim().startsWith('{') ? JSON.parse(output) : output;
  }

  /** The key of the IAM user, as environment variables. */
  get key() {
    const { AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY } = this.env;
    return { AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY };
  }

  /** How many messages of the queue are visible, and how many are received but not deleted. */
  async countMessages(queueUrl = this.env.SQS_QUEUE_URL) {
    const attributes = await this.getQueueAttributes(queueUrl);
    return {
      visible: Number(attributes.ApproximateNumberOfMessages),
      invisible: Number(attributes.ApproximateNumberOfMessagesNotVisible),
    };
  }

  /** Every attribute of the queue, by name. */
  async getQueueAttributes(queueUrl = this.env.SQS_QUEUE_URL) {
    const { Attributes } = await this.client.callSqs('GetQueueAttributes', { QueueUrl: queueUrl, AttributeNames: ['All'] });
    return Attributes;
  }

  async setQueueAttributes(attributes) {
    await this.client.callSqs('SetQueueAttributes', { QueueUrl: this.env.SQS_QUEUE_URL, Attributes: attributes });
  }

  /** Sends a message to the queue. */
  sendMessage(body, queueUrl = this.env.SQS_QUEUE_URL) {
    return this.client.callSqs('SendMessage', { QueueUrl: queueUrl, MessageBody: body });
  }

  /** Deletes every message of the queue. */
  async purgeQueue(queueUrl = this.env.SQS_QUEUE_URL) {
    await this.client.callSqs('PurgeQueue', { QueueUrl: queueUrl });
  }

  /** The key of every object in the bucket. */
  async listBucketKeys() {
    const { Contents = [] } = await this.runAwsCli(['s3api', 'list-objects-v2', '--bucket', this.env.S3_BUCKET]);
    return Contents.map(({ Key }) => Key).toSorted();
  }

  /** Starts `photoshare serve` in this account. */
  startServer({ env = {}, cleanUp } = {}) {
    return startServer('serve', { ...this.env, AUTH: 'off', ...env }, { cleanUp });
  }

  /** Changes how the bucket's events reach the queue, by parameters of photos.yaml. */
  async setDelivery(parameters) {
    if (parameters.Delivery === 'topic') {
      const topic = await this.#deploy('topic', 'infra/topic.yaml', { BucketName: 'photos', RequireTls: 'false' });
      await this.#deploy('photos', 'infra/photos.yaml', { TopicArn: topic.TopicArn, ...parameters });
    } else {
      await this.#deploy('photos', 'infra/photos.yaml', parameters);
    }
  }

  /** Changes what the user may do, by parameters of access.yaml. */
  setPermissions(permissions) {
    return this.#deploy('access', 'infra/access.yaml', permissions);
  }

  async #setUp(parameters, permissions) {
    const photos = await this.#deploy('photos', 'infra/photos.yaml', { BucketName: 'photos', RequireTls: 'false', ...parameters });
    const access = await this.#deploy('access', 'infra/access.yaml', {
      BucketName: photos.BucketName,
      QueueArn: photos.QueueArn,
      DeadLetterQueueArn: photos.DeadLetterQueueArn,
      // The server needs none of the permissions of other commands.
      AllowDoctor: 'false',
      AllowRedrive: 'false',
      ...permissions,
    });
    const key = await this.client.callQueryApi('iam', '2010-05-08', 'CreateAccessKey', { UserName: access.UserName });
    this.deadLetterQueueUrl = photos.DeadLetterQueueUrl;
    this.queueArn = photos.QueueArn;
    this.deadLetterQueueArn = photos.DeadLetterQueueArn;
    this.env = {
      S3_BUCKET: photos.BucketName,
      SQS_QUEUE_URL: photos.QueueUrl,
      AWS_REGION: REGION,
      AWS_ENDPOINT_URL: this.ministack.endpoint,
      AWS_ACCESS_KEY_ID: readElements(key, 'AccessKeyId')[0],
      AWS_SECRET_ACCESS_KEY: readElements(key, 'SecretAccessKey')[0],
    };
  }

  /** Creates or updates a stack; its outputs. Parameters that are not given keep their values. */
  async #deploy(stack, template, parameters) {
    const existing = this.#stacks[stack];
    const values = Object.entries({ ...existing, ...parameters });
    const request = {
      StackName: stack,
      TemplateBody: await readFile(resolveFromRoot(template), 'utf8'),
      'Capabilities.member.1': 'CAPABILITY_NAMED_IAM',
      ...Object.fromEntries(values.flatMap(([name, value], i) => [
        [`Parameters.member.${i + 1}.ParameterKey`, name], [`Parameters.member.${i + 1}.ParameterValue`, value],
      ])),
    };
    await this.#callCloudFormation(existing ? 'UpdateStack' : 'CreateStack', request).catch((error) => {
      if (!error.message.includes('No updates are to be performed')) throw error;
    });
    this.#stacks[stack] = Object.fromEntries(values);
    return this.#waitForStack(stack);
  }

  async #waitForStack(stack) {
    const description = await waitUntil(async () => {
      const xml = await this.#callCloudFormation('DescribeStacks', { StackName: stack });
      const [status] = readElements(xml, 'StackStatus');
      if (/FAILED|ROLLBACK/.test(status)) throw new Error(`stack ${stack} is ${status}: ${xml}`);
      return status.endsWith('_COMPLETE') && xml;
    }, `stack ${stack} to be complete`);
    const [keys, values] = ['OutputKey', 'OutputValue'].map((name) => readElements(description, name));
    return Object.fromEntries(keys.map((key, i) => [key, values[i]]));
  }

  #callCloudFormation(operation, parameters) {
    return this.client.callQueryApi('cloudformation', '2010-05-15', operation, parameters);
  }
}

/** The texts of all elements of that name; the values that are read here hold no entities. */
function readElements(xml, name) {
  return [...xml.matchAll(new RegExp(`<${name}>([^<]*)</${name}>`, 'g'))].map(([, text]) => text);
}

/** `photoshare serve` in an account of its own, which closes with the server. */
export async function startServe({ env, parameters } = {}) {
  const account = await AwsAccount.open(parameters);
  try {
    const server = await account.startServer({ env, cleanUp: () => account.close() });
    server.listBucketKeys = () => account.listBucketKeys();
    return server;
  } catch (error) {
    await account.close();
    throw error;
  }
}

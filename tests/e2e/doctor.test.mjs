// `photoshare doctor` and `photoshare redrive`: each checked item is broken once; the doctor must report it
// together with a fix.

import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { closeAfterTest, connectSocketIo4 } from './lib/clients.mjs';
import { AwsAccount } from './lib/aws-account.mjs';
import { makeJpeg, makeFeedId, uploadPhoto } from './lib/photos.mjs';
import { FaultyProxy } from './lib/aws-proxy.mjs';
import { RedisServer } from './lib/redis-server.mjs';
import { spawnServer, createTemporaryFolder } from './lib/server.mjs';
import { waitUntil, withDeadline } from './lib/wait.mjs';

const chosen = process.env.BACKENDS?.split(',') ?? ['serve'];
const ORIGIN = 'https://photos.example.com';
const EXIT = { ok: 0, warning: 1, failure: 2 };

describe('operators', { skip: !chosen.includes('serve') }, () => {
  let account;
  let bucket;
  before(async () => {
    account = await AwsAccount.open({ AllowedOrigins: ORIGIN }, { AllowDoctor: 'true', AllowRedrive: 'true' });
    bucket = ['--bucket', account.env.S3_BUCKET];
    // The emulator's CloudFormation ignores it.
    await putLifecycle();
  });
  after(() => account?.close());
  // Messages that one test leaves would be received by later ones and end up in the dead-letter queue.
  afterEach(() => Promise.all([account.env.SQS_QUEUE_URL, account.deadLetterQueueUrl].map((url) => account.purgeQueue(url))));

  const s3 = (call, ...args) => account.runAwsCli(['s3api', call, ...bucket, ...args]);
  const setQueue = (attributes) => account.setQueueAttributes(attributes);
  const putLifecycle = () => s3('put-bucket-lifecycle-configuration', '--lifecycle-configuration', JSON.stringify({
    Rules: [{ ID: 'sweep', Status: 'Enabled', Filter: { Prefix: '' }, AbortIncompleteMultipartUpload: { DaysAfterInitiation: 1 } }],
  }));

  async function photoshare(args, env = {}) {
    const child = spawnServer(args, { ...account.env, ALLOWED_ORIGINS: ORIGIN, DOCTOR_WAIT_SECS: '6', ...env });
    const { code } = await withDeadline(child.exited, () => `the end of ${args}:\n${child.log}`, 60_000);
    return { code, output: child.log };
  }

  /** The doctor's findings, by check. */
  async function examine(env) {
    const { code, output } = await photoshare(['doctor', '--json'], env);
    assert.ok(output.startsWith('{'), output);
    const { checks } = JSON.parse(output);
    const worst = Math.max(...checks.map(({ level }) => EXIT[level]));
    assert.equal(code, worst, output);
    for (const { level, fix } of checks) {
      assert.equal(fix !== undefined, level !== 'ok', output);
      assert.doesNotMatch(fix ?? '', /[…<>]/, 'a fix can be pasted as it stands');
    }
    return Object.fromEntries(checks.map((check) => [check.check, check]));
  }

  /** Asserts that this is the only finding. The round trip is left out: it is skipped after an earlier failure. */
  async function assertFinds(check, level, found, env) {
    const checks = await examine(env);
    const findings = Object.values(checks).filter((finding) => finding.level !== 'ok' && finding.check !== 'round-trip');
    assert.deepEqual(findings.map((finding) => [finding.check, finding.level]), [[check, level]], JSON.stringify(checks, null, 1));
    assert.match(checks[check].found, found);
    return checks;
  }

  /** The same for a fault that does not keep events from arriving. */
  async function assertFindsWithDeliveryOk(...expected) {
    const checks = await assertFinds(...expected);
    assert.equal(checks['round-trip'].level, 'ok', JSON.stringify(checks['round-trip']));
    return checks;
  }

  /** Runs `check` while the queue's attribute has another value, and restores it in any case. */
  async function withQueueAttribute(attribute, value, check) {
    const attributes = await account.getQueueAttributes();
    await setQueue({ [attribute]: value });
    try {
      await check();
    } finally {
      await setQueue({ [attribute]: attributes[attribute] ?? '' });
    }
  }

  async function withNotification(configuration, check) {
    const before = await s3('get-bucket-notification-configuration');
    await s3('put-bucket-notification-configuration', '--notification-configuration', JSON.stringify(configuration(before)));
    try {
      await check();
    } finally {
      await s3('put-bucket-notification-configuration', '--notification-configuration', JSON.stringify(before));
    }
  }

  async function withCors(rules, check) {
    const before = await s3('get-bucket-cors');
    if (rules) await s3('put-bucket-cors', '--cors-configuration', JSON.stringify({ CORSRules: rules }));
    else await s3('delete-bucket-cors');
    try {
      await check();
    } finally {
      await s3('put-bucket-cors', '--cors-configuration', JSON.stringify(before));
    }
  }

  test('doctor: a healthy deployment without a server is ok in every check, and its queue and bucket are left unchanged', async () => {
    const checks = await examine();
    for (const check of Object.values(checks)) assert.equal(check.level, 'ok', JSON.stringify(check));
    assert.match(checks['round-trip'].found, /PUT \d+ ms, event \d+ ms \(received by the doctor itself.*DELETE \d+ ms/);
    assert.equal(checks.redis.found, 'not configured, the log is in memory');
    assert.doesNotMatch(JSON.stringify(await s3('list-objects-v2')), /doctor/);
  });

  test('doctor: messages that it received but did not send are visible again at once', async () => {
    for (const body of ['one', 'two', 'three']) await account.sendMessage(body);
    const { visible } = await account.countMessages();
    const checks = await examine();
    assert.match(checks['round-trip'].found, /received by the doctor itself/);
    const queued = await account.countMessages();
    assert.equal(queued.invisible, 0);
    assert.ok(queued.visible >= visible, `${queued.visible} of ${visible} are left`);
  });

  test('doctor: without --json it prints lines for people', async () => {
    await withQueueAttribute('VisibilityTimeout', '10', async () => {
      const { code, output } = await photoshare(['doctor']);
      assert.equal(code, 1);
      assert.match(output, /^ok {6}.*bucket/m);
      assert.match(output, /^warning {2}visibility +10 s.*\n +fix: aws sqs set-queue-attributes --queue-url \S+ --attributes VisibilityTimeout=60/m);
    });
  });

  test('doctor: a bucket without a notification', () => withNotification(() => ({}), async () => {
    const checks = await assertFinds('notification', 'failure', /the bucket sends no events/);
    assert.match(checks.notification.fix, /Delivery=direct/);
    assert.match(checks['round-trip'].found, /not waited for/);
  }));

  test('doctor: a notification without removals', () => withNotification(({ QueueConfigurations }) => ({
    QueueConfigurations: QueueConfigurations.filter(({ Events }) => !Events[0].includes('Removed')),
  }), () => assertFinds('notification', 'failure', /ObjectRemoved events of keys/)));

  test('doctor: a notification without expirations', () => withNotification(({ QueueConfigurations }) => ({
    QueueConfigurations: QueueConfigurations.filter(({ Events }) => !Events[0].includes('Lifecycle')),
  }), () => assertFindsWithDeliveryOk('notification', 'warning', /LifecycleExpiration events of keys.*not announced as removed/)));

  test('doctor: a notification to a topic without removals', async () => {
    const { TopicArn } = await account.runAwsCli(['sns', 'create-topic', '--name', 'photos']);
    const configurations = [{ TopicArn, Events: ['s3:ObjectCreated:*', 's3:LifecycleExpiration:*'] }];
    await withNotification(() => ({ TopicConfigurations: configurations }), async () => {
      const { notification } = await examine();
      assert.equal(notification.level, 'failure');
      assert.match(notification.found, new RegExp(`ObjectRemoved events of keys .* do not go to ${TopicArn}`));
    });
  });

  test('doctor: a notification for another prefix', () => withNotification(({ QueueConfigurations }) => ({
    QueueConfigurations: QueueConfigurations.map((to) => ({ ...to, Filter: { Key: { FilterRules: [{ Name: 'prefix', Value: 'other/' }] } } })),
  }), () => assertFinds('notification', 'failure', /do not go to/)));

  test('doctor: a notification to another queue', () => assertFinds('notification', 'failure', /not to/, { SQS_QUEUE_URL: account.deadLetterQueueUrl }).catch((error) => {
    // The dead-letter queue has other faults, too: it is enough that this one is reported.
    assert.match(error.message, /not to/);
  }));

  /** A queue policy that lets an AWS service send on this condition. */
  const queuePolicy = (condition, service = 's3') => JSON.stringify({
    Version: '2012-10-17',
    Statement: [{ Effect: 'Allow', Principal: { Service: `${service}.amazonaws.com` }, Action: 'sqs:SendMessage', Resource: account.queueArn, Condition: condition }],
  });

  test('doctor: events go to EventBridge, where no rule forwards them to the queue', () => withNotification(() => ({ EventBridgeConfiguration: {} }), async () => {
    assert.match((await examine())['queue-policy'].found, /events.amazonaws.com may not send/);
    await withQueueAttribute('Policy', queuePolicy({ ArnEquals: { 'aws:SourceArn': 'arn:aws:events:eu-central-1:000000000000:rule/photos' } }, 'events'), async () => {
      const checks = await examine({ DOCTOR_WAIT_SECS: '3' });
      assert.equal(checks.notification.level, 'ok');
      assert.equal(checks['round-trip'].level, 'failure', JSON.stringify(checks));
      assert.match(checks['round-trip'].found, /did not arrive/);
    });
  }));

  test('doctor: a queue policy for another bucket', () => withQueueAttribute('Policy', queuePolicy({ ArnEquals: { 'aws:SourceArn': 'arn:aws:s3:::other' } }), async () => {
    const checks = await assertFinds('queue-policy', 'failure', /may not send/);
    assert.match(checks['queue-policy'].fix, /EventQueuePolicy/);
  }));

  test('doctor: a queue policy without a condition on the account', () => withQueueAttribute('Policy', queuePolicy({ ArnEquals: { 'aws:SourceArn': `arn:aws:s3:::${account.env.S3_BUCKET}` } }), () =>
    assertFinds('queue-policy', 'warning', /SourceAccount/)));

  test('doctor: a queue policy without a condition on the bucket', () => withQueueAttribute('Policy', queuePolicy({ StringEquals: { 'aws:SourceAccount': '000000000000' } }), () =>
    assertFindsWithDeliveryOk('queue-policy', 'warning', /aws:SourceArn/)));

  test('doctor: a queue policy for another account', () => withQueueAttribute('Policy', queuePolicy({ StringEquals: { 'aws:SourceAccount': '444455556666' } }), () =>
    assertFinds('queue-policy', 'failure', /of account 000000000000/)));

  test('doctor: a queue policy that denies what it allows', async () => {
    const { Statement: [allow] } = JSON.parse(queuePolicy({}));
    const deny = { ...allow, Sid: 'NoBuckets', Effect: 'Deny', Principal: '*', Action: 'sqs:SendMessage' };
    await withQueueAttribute('Policy', JSON.stringify({ Version: '2012-10-17', Statement: [allow, deny] }), () =>
      assertFinds('queue-policy', 'failure', /NoBuckets denies/));
  });

  test('doctor: a FIFO queue', async () => {
    const { QueueUrl } = await account.runAwsCli(['sqs', 'create-queue', '--queue-name', 'photos.fifo', '--attributes', 'FifoQueue=true']);
    const root = { AWS_ACCESS_KEY_ID: 'test', AWS_SECRET_ACCESS_KEY: 'test' };
    const { queue } = await examine({ SQS_QUEUE_URL: QueueUrl, ...root });
    assert.equal(queue.level, 'failure');
    assert.match(queue.found, /FIFO/);
  });

  test('doctor: a KMS key of the queue that may not be used by S3', async () => {
    const { KeyMetadata } = await account.runAwsCli(['kms', 'create-key']);
    await withQueueAttribute('KmsMasterKeyId', KeyMetadata.Arn, async () => {
      const delivered = await examine();
      assert.equal(delivered['queue-encryption'].level, 'ok', 'the event arrived');
      await withNotification(() => ({}), async () => {
        const { 'queue-encryption': unproven } = await examine();
        assert.equal(unproven.level, 'warning');
        assert.match(unproven.fix, /describe-key/);
      });
    });
  });

  test('doctor: a bucket encrypted with the AWS-managed key', async () => {
    await s3('put-bucket-encryption', '--server-side-encryption-configuration', JSON.stringify({
      Rules: [{ ApplyServerSideEncryptionByDefault: { SSEAlgorithm: 'aws:kms' } }],
    }));
    try {
      assert.match((await examine())['bucket-encryption'].found, /aws\/s3/);
    } finally {
      await s3('delete-bucket-encryption');
    }
  });

  test('doctor: a queue encrypted with the AWS-managed key, which S3 can\'t use', () => withQueueAttribute('KmsMasterKeyId', 'alias/aws/sqs', () =>
    assertFinds('queue-encryption', 'failure', /its events are lost/)));

  test('doctor: a maximum message size below the size of an event', () => withQueueAttribute('MaximumMessageSize', '1024', () =>
    assertFinds('message-size', 'failure', /1024/)));

  test('doctor: no dead-letter queue', () => withQueueAttribute('RedrivePolicy', '', () =>
    assertFindsWithDeliveryOk('dead-letter-queue', 'failure', /no dead-letter queue/)));

  test('doctor: a dead-letter queue that does not exist', async () => {
    await account.runAwsCli(['sqs', 'delete-queue', '--queue-url', account.deadLetterQueueUrl]);
    try {
      await assertFindsWithDeliveryOk('dead-letter-queue', 'failure', /DeadLetterQueue\S* could not be read/);
    } finally {
      await account.runAwsCli(['sqs', 'create-queue', '--queue-name', account.deadLetterQueueArn.split(':').at(-1)]);
    }
  });

  test('doctor: a maxReceiveCount that is too low', () => withQueueAttribute('RedrivePolicy', JSON.stringify({
    deadLetterTargetArn: account.deadLetterQueueArn, maxReceiveCount: 2,
  }), () => assertFindsWithDeliveryOk('dead-letter-queue', 'warning', /after 2 receives/)));

  test('doctor: no CORS', () => withCors(undefined, () => assertFindsWithDeliveryOk('cors', 'failure', /no rule names it/)));
  test('doctor: CORS for another origin', () => withCors([{ AllowedOrigins: ['https://other.example.com'], AllowedMethods: ['PUT'] }], () =>
    assertFindsWithDeliveryOk('cors', 'failure', /no rule names it/)));
  test('doctor: CORS without ETag', () => withCors([{ AllowedOrigins: ['https://*.example.com'], AllowedMethods: ['PUT', 'POST', 'GET'], AllowedHeaders: ['*'] }], () =>
    assertFindsWithDeliveryOk('cors', 'failure', /ETag/)));
  test('doctor: CORS without a signed header', () => withCors([{ AllowedOrigins: [ORIGIN], AllowedMethods: ['PUT', 'POST', 'GET'], AllowedHeaders: ['content-type'], ExposeHeaders: ['ETag'] }], () =>
    assertFindsWithDeliveryOk('cors', 'failure', /if-none-match/)));

  test('doctor: no lifecycle rule', async () => {
    await s3('delete-bucket-lifecycle');
    try {
      await assertFindsWithDeliveryOk('lifecycle', 'warning', /never aborted/);
    } finally {
      await putLifecycle();
    }
  });

  test('doctor: a clock that differs from that of AWS', async (t) => {
    const proxy = await FaultyProxy.open(account.ministack.endpoint);
    t.after(() => proxy.close());
    proxy.setResponseDate(new Date(Date.now() - 5 * 60_000));
    await assertFinds('clock', 'warning', /30\d s|29\d s/, { AWS_ENDPOINT_URL: proxy.url });
    proxy.setResponseDate(new Date(Date.now() + 30 * 60_000));
    // The SDK corrects its clock by the answer and signs with that time, so other requests are refused, too.
    const { clock } = await examine({ AWS_ENDPOINT_URL: proxy.url });
    assert.equal(clock.level, 'failure');
    assert.match(clock.found, /refused/);
  });

  test('doctor: missing credentials, and a wrong bucket, queue or region', async () => {
    const none = { AWS_ACCESS_KEY_ID: '', AWS_SECRET_ACCESS_KEY: '', AWS_EC2_METADATA_DISABLED: 'true' };
    assert.equal((await examine(none)).credentials.level, 'failure');
    assert.equal((await examine({ S3_BUCKET: 'not-there' })).bucket.level, 'failure');
    // The policy does not cover this queue: neither its attributes nor its messages can be read.
    const wrongQueue = await examine({ SQS_QUEUE_URL: `${account.env.SQS_QUEUE_URL}-not-there` });
    assert.match(wrongQueue.queue.fix, /AllowDoctor=true QueueArn=/);
    assert.equal(wrongQueue['round-trip'].level, 'failure');
    assert.match(wrongQueue['round-trip'].found, /ReceiveMessage/);
    assert.match(wrongQueue['round-trip'].fix, /access\.yaml.* QueueArn=/);
    assert.match((await examine({ AWS_REGION: 'us-west-2' })).bucket.found, /not in us-west-2, the configured region/);
  });

  test('doctor: an access key that S3 refuses', async (t) => {
    const proxy = await FaultyProxy.open(account.ministack.endpoint);
    t.after(() => proxy.close());
    proxy.answerCalls('GET', 400, '<Error><Code>ExpiredToken</Code></Error>');
    for (const [env, code, fix] of [
      [{ AWS_ACCESS_KEY_ID: 'AKIAUNKNOWN' }, /InvalidAccessKeyId/, /aws iam create-access-key --user-name/],
      [{ AWS_SECRET_ACCESS_KEY: 'wrong' }, /SignatureDoesNotMatch/, /aws iam create-access-key --user-name/],
      [{ AWS_ENDPOINT_URL: proxy.url }, /ExpiredToken/, /AWS_SESSION_TOKEN/],
    ]) {
      const { credentials, bucket, queue, ...others } = await examine(env);
      assert.equal(credentials.level, 'failure');
      assert.match(credentials.found, code);
      assert.match(credentials.fix, fix);
      for (const { level, found } of [bucket, queue, others['round-trip']]) {
        assert.deepEqual([level, found], ['warning', 'not checked']);
      }
    }
  });

  test('doctor: a refused upload', async () => {
    const Statement = [{ Effect: 'Deny', Principal: '*', Action: 's3:PutObject', Resource: `arn:aws:s3:::${account.env.S3_BUCKET}/*` }];
    await s3('put-bucket-policy', '--policy', JSON.stringify({ Version: '2012-10-17', Statement }));
    try {
      const { 'round-trip': trip } = await examine();
      assert.equal(trip.level, 'failure');
      assert.match(trip.found, /the presigned PUT was refused: 403/);
    } finally {
      await s3('delete-bucket-policy');
    }
  });

  test('doctor: an identity without the permissions of the doctor', async () => {
    await account.setPermissions({ AllowDoctor: 'false', AllowRedrive: 'false' });
    try {
      const checks = await examine();
      for (const check of ['bucket', 'notification', 'bucket-encryption', 'cors', 'lifecycle', 'queue']) {
        assert.equal(checks[check].level, 'warning', check);
        assert.match(checks[check].found, /could not be read/);
        assert.match(checks[check].fix, /--parameter-overrides AllowDoctor=true/);
      }
      assert.equal(checks['round-trip'].level, 'ok');
    } finally {
      await account.setPermissions({ AllowDoctor: 'true', AllowRedrive: 'true' });
    }
  });

  describe('with Redis', () => {
    let redis;
    before(async () => {
      redis = await RedisServer.start({ tls: true });
    });
    after(() => redis?.stop());

    test('doctor: a Redis that supports all that the log needs, and is left unchanged', async () => {
      const checks = await examine({ REDIS_URL: redis.url });
      for (const check of ['redis', 'redis-memory', 'redis-replicas']) assert.equal(checks[check].level, 'ok', JSON.stringify(checks[check]));
      assert.match(checks.redis.found, /\d responds in [\d.]+ ms and runs scripts on streams/);
      assert.equal(await redis.sendCommand('DBSIZE'), ':0');
    });

    test('doctor: a Valkey is reported with its own version', async (t) => {
      const valkey = await RedisServer.start({ valkey: true });
      t.after(() => valkey.stop());
      const checks = await examine({ REDIS_URL: valkey.url });
      for (const check of ['redis', 'redis-memory', 'redis-replicas']) assert.equal(checks[check].level, 'ok', JSON.stringify(checks[check]));
      assert.match(checks.redis.found, /^Valkey 8\.[\d.]+ responds in/);
    });

    test('doctor: a Redis with an untrusted certificate', async () => {
      const { redis: found } = await assertFindsWithDeliveryOk('redis', 'failure', /certificate is not trusted/, { REDIS_URL: redis.tlsUrl });
      assert.match(found.fix, /^REDIS_TLS_INSECURE=true/);
      assert.equal((await examine({ REDIS_URL: redis.tlsUrl, REDIS_TLS_INSECURE: 'true' })).redis.level, 'ok');
    });

    test('doctor: a Redis that evicts keys when its memory is full', async () => {
      await redis.sendCommand('CONFIG SET maxmemory 100mb maxmemory-policy allkeys-lru');
      try {
        await assertFindsWithDeliveryOk('redis-memory', 'warning', /allkeys-lru/, { REDIS_URL: redis.url });
      } finally {
        await redis.sendCommand('CONFIG SET maxmemory 0 maxmemory-policy noeviction');
      }
    });

    test('doctor: a Redis with fewer replicas than REDIS_WAIT_REPLICAS', () =>
      assertFindsWithDeliveryOk('redis-replicas', 'failure', /0 replicas are connected/, { REDIS_URL: redis.url, REDIS_WAIT_REPLICAS: '1' }));

    test('doctor: a Redis whose user may not run scripts', async () => {
      await redis.sendCommand('ACL SETUSER reader on >very-secret ~* +@all -@scripting');
      const REDIS_URL = `redis://reader:very-secret@127.0.0.1:${redis.port}`;
      const { redis: found } = await assertFindsWithDeliveryOk('redis', 'failure', /a script that adds to a stream/, { REDIS_URL });
      assert.match(found.fix, /ACL SETUSER/);
      assert.doesNotMatch(JSON.stringify(found), /very-secret/);
    });

    test('doctor: a Redis that hangs, and one that is down', async () => {
      redis.pause();
      try {
        await assertFindsWithDeliveryOk('redis', 'failure', /failed to connect to Redis/, { REDIS_URL: redis.url });
      } finally {
        redis.resume();
      }
      await redis.kill();
      await assertFindsWithDeliveryOk('redis', 'failure', /failed to connect to Redis/, { REDIS_URL: redis.url });
    });
  });

  // Near the end, since the emulator may still deliver messages to a stopped server.
  test('doctor: a running server confirms the event of the round trip, and announces its photos meanwhile', async (t) => {
    const server = await account.startServer();
    t.after(() => server.stop());
    const client = closeAfterTest(t, connectSocketIo4(server.url));
    const feed = makeFeedId();
    await client.request('join', feed);
    const [checks, { key }] = await Promise.all([examine(), uploadPhoto(server.url, feed)]);
    assert.match(checks['round-trip'].found, /received by a running server/);
    await client.inbox.waitFor('imageUploaded', (event) => event.key === key);
    assert.equal(client.inbox.dataOf('imageUploaded').length, 1);
  });

  test('doctor and redrive: an invalid configuration is reported at startup', async () => {
    for (const args of [['doctor'], ['redrive']]) {
      const { code, output } = await photoshare(args, { S3_BUCKET: '', SQS_QUEUE_URL: '' });
      assert.equal(code, 78, output);
      assert.match(output, /S3_BUCKET[^]*SQS_QUEUE_URL/);
    }
  });

  test('redrive: a dry run explains each dead letter, and the real run moves them back to the queue', async (t) => {
    const feed = makeFeedId();
    const bytes = makeJpeg();
    const file = join(await createTemporaryFolder(t), 'late.jpg');
    await writeFile(file, bytes);
    await s3('put-object', '--key', `${feed}/late.jpg`, '--body', file, '--content-type', 'image/jpeg');
    const record = {
      eventVersion: '2.1', eventName: 'ObjectCreated:Put', eventTime: '2200-01-01T00:00:00Z',
      s3: { bucket: { name: account.env.S3_BUCKET }, object: { key: `${feed}/late.jpg`, size: bytes.length, sequencer: 'FFFFFFFFFFFFFFFF' } },
    };
    for (const body of ['very secret', JSON.stringify({ Records: [record] })]) {
      await account.sendMessage(body, account.deadLetterQueueUrl);
    }
    await assertFinds('dead-letter-queue', 'warning', /2 messages/);

    const dry = await photoshare(['redrive', '--dry-run']);
    assert.equal(dry.code, 0, dry.output);
    assert.match(dry.output, /body is not JSON/);
    assert.match(dry.output, /readable/);
    assert.match(dry.output, /2 messages would be moved back/);
    assert.doesNotMatch(dry.output, /secret/);
    assert.deepEqual(await account.countMessages(account.deadLetterQueueUrl), { visible: 2, invisible: 0 });

    const server = await account.startServer();
    t.after(() => server.stop());
    const client = closeAfterTest(t, connectSocketIo4(server.url));
    await client.request('join', feed);
    const { code, output } = await photoshare(['redrive']);
    assert.equal(code, 0, output);
    assert.match(output, /2 messages moved back/);
    const event = await client.inbox.waitFor('imageUploaded', ({ sequencer }) => sequencer === 'FFFFFFFFFFFFFFFF');
    assert.equal(event.key, `${feed}/late.jpg`);
    assert.deepEqual(await account.countMessages(account.deadLetterQueueUrl), { visible: 0, invisible: 0 });
    await waitUntil(() => /unreadable/.test(server.log), 'the unreadable message to be refused again');
    assert.doesNotMatch(server.log, /very secret/);
  });
});

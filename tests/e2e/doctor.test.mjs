// Each thing that the doctor looks at is broken once, and it says so and how to mend it.

import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { closing, connect4 } from './lib/clients.mjs';
import { Account } from './lib/ministack.mjs';
import { jpeg, newFeed, upload } from './lib/photos.mjs';
import { FaultyProxy } from './lib/proxy.mjs';
import { Redis } from './lib/redis.mjs';
import { launch, temporaryFolder } from './lib/server.mjs';
import { until, within } from './lib/wait.mjs';

const chosen = process.env.BACKENDS?.split(',') ?? ['serve'];
const ORIGIN = 'https://photos.example.com';
const EXIT = { ok: 0, warning: 1, failure: 2 };

describe('operators', { skip: !chosen.includes('serve') }, () => {
  let account;
  let bucket;
  let queueUrl;
  before(async () => {
    account = await Account.open({ AllowedOrigins: ORIGIN }, { AllowDoctor: 'true', AllowRedrive: 'true' });
    bucket = ['--bucket', account.env.S3_BUCKET];
    queueUrl = ['--queue-url', account.env.SQS_QUEUE_URL];
    // The emulator's templates leave it out.
    await lifecycle();
  });
  after(() => account?.close());
  // What one test leaves would be received by others so often that it is given up.
  afterEach(() => Promise.all([account.env.SQS_QUEUE_URL, account.deadLetterQueueUrl].map((url) =>
    account.aws(['sqs', 'purge-queue', '--queue-url', url]))));

  const s3 = (call, ...args) => account.aws(['s3api', call, ...bucket, ...args]);
  const setQueue = (attributes) => account.aws(['sqs', 'set-queue-attributes', ...queueUrl, '--attributes', JSON.stringify(attributes)]);
  const lifecycle = () => s3('put-bucket-lifecycle-configuration', '--lifecycle-configuration', JSON.stringify({
    Rules: [{ ID: 'sweep', Status: 'Enabled', Filter: { Prefix: '' }, AbortIncompleteMultipartUpload: { DaysAfterInitiation: 1 } }],
  }));

  async function photoshare(args, env = {}) {
    const child = launch(args, { ...account.env, ALLOWED_ORIGINS: ORIGIN, DOCTOR_WAIT_SECS: '6', ...env });
    const { code } = await within(child.exited, () => `the end of ${args}:\n${child.log}`, 60_000);
    return { code, said: child.log };
  }

  /** What it says, by check. */
  async function examine(env) {
    const { code, said } = await photoshare(['doctor', '--json'], env);
    assert.ok(said.startsWith('{'), said);
    const { checks } = JSON.parse(said);
    const worst = Math.max(...checks.map(({ level }) => EXIT[level]));
    assert.equal(code, worst, said);
    for (const { level, mend } of checks) {
      assert.equal(mend !== undefined, level !== 'ok', said);
      assert.doesNotMatch(mend ?? '', /[…<>]/, 'a mend can be pasted as it stands');
    }
    return Object.fromEntries(checks.map((check) => [check.check, check]));
  }

  /** Nothing but this is wrong; the round trip is not waited for where something failed before it. */
  async function assertFinds(check, level, found, env) {
    const checks = await examine(env);
    const wrong = Object.values(checks).filter((finding) => finding.level !== 'ok' && finding.check !== 'round-trip');
    assert.deepEqual(wrong.map((finding) => [finding.check, finding.level]), [[check, level]], JSON.stringify(checks, null, 1));
    assert.match(checks[check].found, found);
    return checks;
  }

  /** As above, of something that does not keep events from arriving. */
  async function assertFindsBesideTheWay(...what) {
    const checks = await assertFinds(...what);
    assert.equal(checks['round-trip'].level, 'ok', JSON.stringify(checks['round-trip']));
    return checks;
  }

  /** Breaks, looks, and mends again whatever came of it. */
  async function broken(attribute, value, look) {
    const { Attributes } = await account.aws(['sqs', 'get-queue-attributes', ...queueUrl, '--attribute-names', 'All']);
    await setQueue({ [attribute]: value });
    try {
      await look();
    } finally {
      await setQueue({ [attribute]: Attributes[attribute] ?? '' });
    }
  }

  async function withNotification(configuration, look) {
    const before = await s3('get-bucket-notification-configuration');
    await s3('put-bucket-notification-configuration', '--notification-configuration', JSON.stringify(configuration(before)));
    try {
      await look();
    } finally {
      await s3('put-bucket-notification-configuration', '--notification-configuration', JSON.stringify(before));
    }
  }

  async function withCors(rules, look) {
    const before = await s3('get-bucket-cors');
    if (rules) await s3('put-bucket-cors', '--cors-configuration', JSON.stringify({ CORSRules: rules }));
    else await s3('delete-bucket-cors');
    try {
      await look();
    } finally {
      await s3('put-bucket-cors', '--cors-configuration', JSON.stringify(before));
    }
  }

  test('doctor: a healthy deployment without a server is all ok, and its queue and bucket are left as they were', async () => {
    const checks = await examine();
    for (const check of Object.values(checks)) assert.equal(check.level, 'ok', JSON.stringify(check));
    assert.match(checks['round-trip'].found, /PUT \d+ ms, event \d+ ms \(seen by the doctor itself.*DELETE \d+ ms/);
    assert.equal(checks.redis.found, 'not configured: one process');
    assert.doesNotMatch(JSON.stringify(await s3('list-objects-v2')), /doctor/);
  });

  test('doctor: what others have in the queue can be received again at once', async () => {
    for (const body of ['one', 'two', 'three']) await account.aws(['sqs', 'send-message', ...queueUrl, '--message-body', body]);
    const { visible } = await account.queued();
    const checks = await examine();
    assert.match(checks['round-trip'].found, /seen by the doctor itself/);
    const queued = await account.queued();
    assert.equal(queued.invisible, 0);
    assert.ok(queued.visible >= visible, `${queued.visible} of ${visible} are left`);
  });

  test('doctor says it in lines for people, too', async () => {
    await broken('VisibilityTimeout', '10', async () => {
      const { code, said } = await photoshare(['doctor']);
      assert.equal(code, 1);
      assert.match(said, /^ok {6}.*bucket/m);
      assert.match(said, /^warning {2}visibility +10 s.*\n +mend: aws sqs set-queue-attributes --queue-url \S+ --attributes VisibilityTimeout=60/m);
    });
  });

  test('doctor: no notification', () => withNotification(() => ({}), async () => {
    const checks = await assertFinds('notification', 'failure', /tells nobody/);
    assert.match(checks.notification.mend, /Delivery=direct/);
    assert.match(checks['round-trip'].found, /not waited for/);
  }));

  test('doctor: a notification without removals', () => withNotification(({ QueueConfigurations }) => ({
    QueueConfigurations: QueueConfigurations.filter(({ Events }) => !Events[0].includes('Removed')),
  }), () => assertFinds('notification', 'failure', /ObjectRemoved of keys/)));

  test('doctor: a notification without expirations', () => withNotification(({ QueueConfigurations }) => ({
    QueueConfigurations: QueueConfigurations.filter(({ Events }) => !Events[0].includes('Lifecycle')),
  }), () => assertFindsBesideTheWay('notification', 'warning', /LifecycleExpiration of keys.*not told to be gone/)));

  test('doctor: a notification of a topic without removals', async () => {
    const { TopicArn } = await account.aws(['sns', 'create-topic', '--name', 'photos']);
    const told = [{ TopicArn, Events: ['s3:ObjectCreated:*', 's3:LifecycleExpiration:*'] }];
    await withNotification(() => ({ TopicConfigurations: told }), async () => {
      const { notification } = await examine();
      assert.equal(notification.level, 'failure');
      assert.match(notification.found, new RegExp(`ObjectRemoved of keys .* do not go to ${TopicArn}`));
    });
  });

  test('doctor: a notification of another prefix', () => withNotification(({ QueueConfigurations }) => ({
    QueueConfigurations: QueueConfigurations.map((to) => ({ ...to, Filter: { Key: { FilterRules: [{ Name: 'prefix', Value: 'other/' }] } } })),
  }), () => assertFinds('notification', 'failure', /do not go to/)));

  test('doctor: a notification to another queue', () => assertFinds('notification', 'failure', /not to/, { SQS_QUEUE_URL: account.deadLetterQueueUrl }).catch((error) => {
    // The dead-letter queue has more faults than that: it is enough that this one is named.
    assert.match(error.message, /not to/);
  }));

  const letting = (condition, service = 's3') => JSON.stringify({
    Version: '2012-10-17',
    Statement: [{ Effect: 'Allow', Principal: { Service: `${service}.amazonaws.com` }, Action: 'sqs:SendMessage', Resource: account.queueArn, Condition: condition }],
  });

  test('doctor: events go to EventBridge, where nobody hands them on', () => withNotification(() => ({ EventBridgeConfiguration: {} }), async () => {
    assert.match((await examine())['queue-policy'].found, /events.amazonaws.com may not send/);
    await broken('Policy', letting({ ArnEquals: { 'aws:SourceArn': 'arn:aws:events:eu-central-1:000000000000:rule/photos' } }, 'events'), async () => {
      const checks = await examine({ DOCTOR_WAIT_SECS: '3' });
      assert.equal(checks.notification.level, 'ok');
      assert.equal(checks['round-trip'].level, 'failure', JSON.stringify(checks));
      assert.match(checks['round-trip'].found, /did not arrive/);
    });
  }));

  test('doctor: a queue policy for another bucket', () => broken('Policy', letting({ ArnEquals: { 'aws:SourceArn': 'arn:aws:s3:::other' } }), async () => {
    const checks = await assertFinds('queue-policy', 'failure', /may not send/);
    assert.match(checks['queue-policy'].mend, /EventQueuePolicy/);
  }));

  test('doctor: a queue policy that lets in every account', () => broken('Policy', letting({ ArnEquals: { 'aws:SourceArn': `arn:aws:s3:::${account.env.S3_BUCKET}` } }), () =>
    assertFinds('queue-policy', 'warning', /SourceAccount/)));

  test('doctor: a queue policy that lets in everybody\'s buckets', () => broken('Policy', letting({ StringEquals: { 'aws:SourceAccount': '000000000000' } }), () =>
    assertFindsBesideTheWay('queue-policy', 'warning', /aws:SourceArn/)));

  test('doctor: a queue policy for another account', () => broken('Policy', letting({ StringEquals: { 'aws:SourceAccount': '444455556666' } }), () =>
    assertFinds('queue-policy', 'failure', /of account 000000000000/)));

  test('doctor: a queue policy that denies what it allows', async () => {
    const { Statement: [allowing] } = JSON.parse(letting({}));
    const denying = { ...allowing, Sid: 'NoBuckets', Effect: 'Deny', Principal: '*', Action: 'sqs:SendMessage' };
    await broken('Policy', JSON.stringify({ Version: '2012-10-17', Statement: [allowing, denying] }), () =>
      assertFinds('queue-policy', 'failure', /NoBuckets denies/));
  });

  test('doctor: a FIFO queue', async () => {
    const { QueueUrl } = await account.aws(['sqs', 'create-queue', '--queue-name', 'photos.fifo', '--attributes', 'FifoQueue=true']);
    const root = { AWS_ACCESS_KEY_ID: 'test', AWS_SECRET_ACCESS_KEY: 'test' };
    const { queue } = await examine({ SQS_QUEUE_URL: QueueUrl, ...root });
    assert.equal(queue.level, 'failure');
    assert.match(queue.found, /FIFO/);
  });

  test('doctor: a key of the queue that may be any', async () => {
    const { KeyMetadata } = await account.aws(['kms', 'create-key']);
    await broken('KmsMasterKeyId', KeyMetadata.Arn, async () => {
      const settled = await examine();
      assert.equal(settled['queue-encryption'].level, 'ok', 'the event came');
      await withNotification(() => ({}), async () => {
        const { 'queue-encryption': unsettled } = await examine();
        assert.equal(unsettled.level, 'warning');
        assert.match(unsettled.mend, /describe-key/);
      });
    });
  });

  test('doctor: a bucket under the key that AWS manages', async () => {
    await s3('put-bucket-encryption', '--server-side-encryption-configuration', JSON.stringify({
      Rules: [{ ApplyServerSideEncryptionByDefault: { SSEAlgorithm: 'aws:kms' } }],
    }));
    try {
      assert.match((await examine())['bucket-encryption'].found, /aws\/s3/);
    } finally {
      await s3('delete-bucket-encryption');
    }
  });

  test('doctor: the AWS-managed key, which S3 can\'t use', () => broken('KmsMasterKeyId', 'alias/aws/sqs', () =>
    assertFinds('queue-encryption', 'failure', /vanish/)));

  test('doctor: messages too small for an event', () => broken('MaximumMessageSize', '1024', () =>
    assertFinds('message-size', 'failure', /1024/)));

  test('doctor: no dead-letter queue', () => broken('RedrivePolicy', '', () =>
    assertFindsBesideTheWay('dead-letter-queue', 'failure', /none/)));

  test('doctor: a dead-letter queue that is not there', async () => {
    await account.aws(['sqs', 'delete-queue', '--queue-url', account.deadLetterQueueUrl]);
    try {
      await assertFindsBesideTheWay('dead-letter-queue', 'failure', /DeadLetterQueue\S* can't be seen/);
    } finally {
      await account.aws(['sqs', 'create-queue', '--queue-name', account.deadLetterQueueArn.split(':').at(-1)]);
    }
  });

  test('doctor: messages that are given up at once', () => broken('RedrivePolicy', JSON.stringify({
    deadLetterTargetArn: account.deadLetterQueueArn, maxReceiveCount: 2,
  }), () => assertFindsBesideTheWay('dead-letter-queue', 'warning', /after 2 receives/)));

  test('doctor: no CORS', () => withCors(undefined, () => assertFindsBesideTheWay('cors', 'failure', /no rule names it/)));
  test('doctor: CORS for another origin', () => withCors([{ AllowedOrigins: ['https://other.example.com'], AllowedMethods: ['PUT'] }], () =>
    assertFindsBesideTheWay('cors', 'failure', /no rule names it/)));
  test('doctor: CORS without ETag', () => withCors([{ AllowedOrigins: ['https://*.example.com'], AllowedMethods: ['PUT', 'POST', 'GET'], AllowedHeaders: ['*'] }], () =>
    assertFindsBesideTheWay('cors', 'failure', /ETag/)));
  test('doctor: CORS without a signed header', () => withCors([{ AllowedOrigins: [ORIGIN], AllowedMethods: ['PUT', 'POST', 'GET'], AllowedHeaders: ['content-type'], ExposeHeaders: ['ETag'] }], () =>
    assertFindsBesideTheWay('cors', 'failure', /if-none-match/)));

  test('doctor: no lifecycle rule', async () => {
    await s3('delete-bucket-lifecycle');
    try {
      await assertFindsBesideTheWay('lifecycle', 'warning', /given up stay/);
    } finally {
      await lifecycle();
    }
  });

  test('doctor: a wrong clock', async (t) => {
    const proxy = await FaultyProxy.open(account.ministack.endpoint);
    t.after(() => proxy.close());
    proxy.pretendTime(new Date(Date.now() - 5 * 60_000));
    await assertFinds('clock', 'warning', /30\d s|29\d s/, { AWS_ENDPOINT_URL: proxy.url });
    proxy.pretendTime(new Date(Date.now() + 30 * 60_000));
    // Believing that time, the SDK signs with it: other things are refused, too.
    const { clock } = await examine({ AWS_ENDPOINT_URL: proxy.url });
    assert.equal(clock.level, 'failure');
    assert.match(clock.found, /refused/);
  });

  test('doctor: no credentials, another bucket, another queue, another region', async () => {
    const none = { AWS_ACCESS_KEY_ID: '', AWS_SECRET_ACCESS_KEY: '', AWS_EC2_METADATA_DISABLED: 'true' };
    assert.equal((await examine(none)).credentials.level, 'failure');
    assert.equal((await examine({ S3_BUCKET: 'not-there' })).bucket.level, 'failure');
    // Which the policy does not name: nothing of it may be seen, and nothing received.
    const elsewhere = await examine({ SQS_QUEUE_URL: `${account.env.SQS_QUEUE_URL}-not-there` });
    assert.match(elsewhere.queue.mend, /AllowDoctor=true QueueArn=/);
    assert.equal(elsewhere['round-trip'].level, 'failure');
    assert.match(elsewhere['round-trip'].found, /ReceiveMessage/);
    assert.match(elsewhere['round-trip'].mend, /access\.yaml.* QueueArn=/);
    assert.match((await examine({ AWS_REGION: 'us-west-2' })).bucket.found, /not in us-west-2, which AWS_REGION says/);
  });

  test('doctor: a key that S3 does not take', async (t) => {
    const proxy = await FaultyProxy.open(account.ministack.endpoint);
    t.after(() => proxy.close());
    proxy.answer('GET', 400, '<Error><Code>ExpiredToken</Code></Error>');
    for (const [env, code, mend] of [
      [{ AWS_ACCESS_KEY_ID: 'AKIAUNKNOWN' }, /InvalidAccessKeyId/, /aws iam create-access-key --user-name/],
      [{ AWS_SECRET_ACCESS_KEY: 'wrong' }, /SignatureDoesNotMatch/, /aws iam create-access-key --user-name/],
      [{ AWS_ENDPOINT_URL: proxy.url }, /ExpiredToken/, /AWS_SESSION_TOKEN/],
    ]) {
      const { credentials, bucket, queue, ...others } = await examine(env);
      assert.equal(credentials.level, 'failure');
      assert.match(credentials.found, code);
      assert.match(credentials.mend, mend);
      for (const { level, found } of [bucket, queue, others['round-trip']]) {
        assert.deepEqual([level, found], ['warning', 'could not be looked at']);
      }
    }
  });

  test('doctor: an upload that is refused', async () => {
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

  test('doctor: a server that may not be examined', async () => {
    await account.allow({ AllowDoctor: 'false', AllowRedrive: 'false' });
    try {
      const checks = await examine();
      for (const check of ['bucket', 'notification', 'bucket-encryption', 'cors', 'lifecycle', 'queue']) {
        assert.equal(checks[check].level, 'warning', check);
        assert.match(checks[check].found, /can't be told/);
        assert.match(checks[check].mend, /--parameter-overrides AllowDoctor=true/);
      }
      assert.equal(checks['round-trip'].level, 'ok');
    } finally {
      await account.allow({ AllowDoctor: 'true', AllowRedrive: 'true' });
    }
  });

  describe('with Redis', () => {
    let redis;
    before(async () => {
      redis = await Redis.start({ tls: true });
    });
    after(() => redis?.stop());

    test('doctor: a Redis that does all that the log needs, and is left as it was', async () => {
      const checks = await examine({ REDIS_URL: redis.url });
      for (const check of ['redis', 'redis-memory', 'redis-replicas']) assert.equal(checks[check].level, 'ok', JSON.stringify(checks[check]));
      assert.match(checks.redis.found, /\d answers in [\d.]+ ms, and runs scripts on streams/);
      assert.equal(await redis.ask('DBSIZE'), ':0');
    });

    test('doctor: a Valkey, by its own version', async (t) => {
      const valkey = await Redis.start({ valkey: true });
      t.after(() => valkey.stop());
      const checks = await examine({ REDIS_URL: valkey.url });
      for (const check of ['redis', 'redis-memory', 'redis-replicas']) assert.equal(checks[check].level, 'ok', JSON.stringify(checks[check]));
      assert.match(checks.redis.found, /^Valkey 8\.[\d.]+ answers in/);
    });

    test('doctor: a certificate that nobody vouches for', async () => {
      const { redis: found } = await assertFindsBesideTheWay('redis', 'failure', /certificate is not trusted/, { REDIS_URL: redis.tlsUrl });
      assert.match(found.mend, /^REDIS_TLS_INSECURE=true/);
      assert.equal((await examine({ REDIS_URL: redis.tlsUrl, REDIS_TLS_INSECURE: 'true' })).redis.level, 'ok');
    });

    test('doctor: a Redis that forgets when it is full', async () => {
      await redis.ask('CONFIG SET maxmemory 100mb maxmemory-policy allkeys-lru');
      try {
        await assertFindsBesideTheWay('redis-memory', 'warning', /allkeys-lru/, { REDIS_URL: redis.url });
      } finally {
        await redis.ask('CONFIG SET maxmemory 0 maxmemory-policy noeviction');
      }
    });

    test('doctor: a Redis without the replicas that are waited for', () =>
      assertFindsBesideTheWay('redis-replicas', 'failure', /0 follow/, { REDIS_URL: redis.url, REDIS_WAIT_REPLICAS: '1' }));

    test('doctor: a Redis whose user may not run scripts', async () => {
      await redis.ask('ACL SETUSER reader on >very-secret ~* +@all -@scripting');
      const REDIS_URL = `redis://reader:very-secret@127.0.0.1:${redis.port}`;
      const { redis: found } = await assertFindsBesideTheWay('redis', 'failure', /a script that adds to a stream/, { REDIS_URL });
      assert.match(found.mend, /ACL SETUSER/);
      assert.doesNotMatch(JSON.stringify(found), /very-secret/);
    });

    test('doctor: a Redis that hangs, and one that is not there', async () => {
      redis.pause();
      try {
        await assertFindsBesideTheWay('redis', 'failure', /can't be connected to/, { REDIS_URL: redis.url });
      } finally {
        redis.resume();
      }
      await redis.kill();
      await assertFindsBesideTheWay('redis', 'failure', /can't be connected to/, { REDIS_URL: redis.url });
    });
  });

  // Late, since the emulator may still hand messages to a server that was stopped.
  test('doctor: beside a running server, that server says that the event came, and no photo is kept from it', async (t) => {
    const server = await account.serve();
    t.after(() => server.stop());
    const client = closing(t, connect4(server.url));
    const feed = newFeed();
    await client.ask('join', feed);
    const [checks, { key }] = await Promise.all([examine(), upload(server.url, feed)]);
    assert.match(checks['round-trip'].found, /seen by a running server/);
    await client.inbox.find('imageUploaded', (event) => event.key === key);
    assert.equal(client.inbox.named('imageUploaded').length, 1);
  });

  test('doctor and redrive: a wrong configuration is said at once', async () => {
    for (const args of [['doctor'], ['redrive']]) {
      const { code, said } = await photoshare(args, { S3_BUCKET: '', SQS_QUEUE_URL: '' });
      assert.equal(code, 78, said);
      assert.match(said, /S3_BUCKET[^]*SQS_QUEUE_URL/);
    }
  });

  test('redrive: a dry run says why, and the real one brings back what can be read now', async (t) => {
    const dead = ['--queue-url', account.deadLetterQueueUrl];
    const feed = newFeed();
    const bytes = jpeg();
    const file = join(await temporaryFolder(t), 'late.jpg');
    await writeFile(file, bytes);
    await s3('put-object', '--key', `${feed}/late.jpg`, '--body', file, '--content-type', 'image/jpeg');
    const event = {
      eventVersion: '2.1', eventName: 'ObjectCreated:Put', eventTime: '2200-01-01T00:00:00Z',
      s3: { bucket: { name: account.env.S3_BUCKET }, object: { key: `${feed}/late.jpg`, size: bytes.length, sequencer: 'FFFFFFFFFFFFFFFF' } },
    };
    for (const body of ['very secret', JSON.stringify({ Records: [event] })]) {
      await account.aws(['sqs', 'send-message', ...dead, '--message-body', body]);
    }
    await assertFinds('dead-letter-queue', 'warning', /2 messages/);

    const dry = await photoshare(['redrive', '--dry-run']);
    assert.equal(dry.code, 0, dry.said);
    assert.match(dry.said, /body is not JSON/);
    assert.match(dry.said, /readable/);
    assert.match(dry.said, /2 messages would be moved back/);
    assert.doesNotMatch(dry.said, /secret/);
    assert.deepEqual(await account.queued(account.deadLetterQueueUrl), { visible: 2, invisible: 0 });

    const server = await account.serve();
    t.after(() => server.stop());
    const client = closing(t, connect4(server.url));
    await client.ask('join', feed);
    const { code, said } = await photoshare(['redrive']);
    assert.equal(code, 0, said);
    assert.match(said, /2 messages moved back/);
    const told = await client.inbox.find('imageUploaded', ({ sequencer }) => sequencer === 'FFFFFFFFFFFFFFFF');
    assert.equal(told.key, `${feed}/late.jpg`);
    assert.deepEqual(await account.queued(account.deadLetterQueueUrl), { visible: 0, invisible: 0 });
    await until(() => /unreadable/.test(server.log), 'the other one to be refused again');
    assert.doesNotMatch(server.log, /very secret/);
  });
});

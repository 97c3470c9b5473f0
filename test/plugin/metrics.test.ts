import assert from 'node:assert/strict';
import { existsSync, mkdirSync, statSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { DomainFigures } from '#vm';
import { Driver } from '../../src/plugin/gen/driver_pb.ts';
import { MetricsEndpoint } from '../../src/plugin/metrics/endpoint.ts';
import { formatMetrics } from '../../src/plugin/metrics/exposition.ts';
import { figureAttributes } from '../../src/plugin/tasks/figure-attributes.ts';
import { patient } from '../support/patience.ts';
import { tmpDir } from '../support/tmp.ts';
import { collect, eventually } from '../support/vm.ts';
import { freshId, installEmulator, processPlugin, task } from './requests.ts';

const identity = {
  taskId: 'a/web/1',
  taskName: 'web',
  allocId: 'a1b2',
  groupName: 'g',
  jobId: 'shop "x"\\\n',
  jobName: 'shop',
  namespace: 'default',
  nodeName: '',
  nodeId: '',
};

const traffic = { bytes: 5, packets: 6, errors: 7, drops: 8 };

const figures: DomainFigures = {
  identity,
  usage: {
    atMs: 0,
    cpuUserNs: 1.5e9,
    cpuSystemNs: 0,
    rssBytes: 4096,
    guestUsedBytes: undefined,
    guestTotalBytes: undefined,
    swapBytes: undefined,
    maxRssBytes: undefined,
    throttling: { periods: 8, throttledPeriods: 3, throttledNs: 25e7 },
    pids: [1],
  },
  vcpus: [{ index: 1, runNs: 2e9, stealNs: 5e8 }],
  disks: [
    {
      name: 'vda',
      readBytes: 512,
      writtenBytes: 0,
      reads: 1,
      writes: 0,
      flushes: 2,
      readErrors: 0,
      writeErrors: 9,
    },
  ],
  nics: [{ name: 'net0', received: traffic, sent: { ...traffic, bytes: 50 } }],
  guest: { totalBytes: 1024, majorFaults: 3 },
};

test('V-103: the figures as OpenMetrics, with the labels of the task and what is measured alone', async () => {
  const bare = { ...figures, disks: [], nics: [], guest: {}, vcpus: [] };
  const text = (await formatMetrics([figures, bare])).toString();
  const own = 'namespace="default",job="shop \\"x\\"\\\\\\n",group="g",task="web",alloc="a1b2"';
  for (const line of [
    '# TYPE nomad_vm_disk_bytes counter',
    `nomad_vm_cpu_seconds_total{${own},mode="user"} 1.5`,
    `nomad_vm_cpu_throttled_seconds_total{${own}} 0.25`,
    `nomad_vm_vcpu_steal_seconds_total{${own},device="vcpu1"} 0.5`,
    `nomad_vm_memory_rss_bytes{${own}} 4096`,
    `nomad_vm_disk_bytes_total{${own},device="vda",operation="read"} 512`,
    `nomad_vm_disk_operations_total{${own},device="vda",operation="flush"} 2`,
    `nomad_vm_disk_errors_total{${own},device="vda",operation="write"} 9`,
    `nomad_vm_network_bytes_total{${own},device="net0",direction="sent"} 50`,
    `nomad_vm_guest_memory_bytes{${own},state="total"} 1024`,
    `nomad_vm_guest_page_faults_total{${own},kind="major"} 3`,
  ]) {
    assert.ok(text.includes(`${line}\n`), `${line}\nin\n${text}`);
  }
  assert.doesNotMatch(text, /swap_bytes\{|undefined|NaN/);
  assert.ok(text.endsWith('# EOF\n'));
  // Each family once, its samples behind it, and no line of another form.
  const types = [...text.matchAll(/^# TYPE (\S+) /gm)].map(([, name]) => name);
  assert.equal(new Set(types).size, types.length);
  for (const line of text.trimEnd().split('\n')) {
    assert.match(line, /^(# (TYPE|HELP|EOF)|nomad_vm_[a-z_]+\{.*\} [\d.e+-]+$)/);
  }
});

test('V-103: a VM that left is no longer in the text, and a counter is what it is now, also when it is less', async () => {
  const left = { ...figures, identity: { ...identity, allocId: 'c3d4' } };
  await formatMetrics([left, figures]);
  const usage = { ...figures.usage, cpuUserNs: 5e8 };
  const text = (await formatMetrics([{ ...figures, usage }])).toString();
  assert.doesNotMatch(text, /c3d4/);
  const values = [...text.matchAll(/^nomad_vm_cpu_seconds_total.*mode="user"\} (.+)$/gm)];
  assert.deepEqual(
    values.map(([, value]) => value),
    ['0.5'],
  );
});

test('V-103: what InspectTask has of it, throttling by the CPU quota included where it is counted', () => {
  const attributes = figureAttributes(figures);
  assert.deepEqual(attributes, {
    'vcpu.1.run_ns': '2000000000',
    'vcpu.1.steal_ns': '500000000',
    'disk.vda.read_bytes': '512',
    'disk.vda.written_bytes': '0',
    'disk.vda.reads': '1',
    'disk.vda.writes': '0',
    'disk.vda.flushes': '2',
    'disk.vda.read_errors': '0',
    'disk.vda.write_errors': '9',
    'net0.received.bytes': '5',
    'net0.received.packets': '6',
    'net0.received.errors': '7',
    'net0.received.drops': '8',
    'net0.sent.bytes': '50',
    'net0.sent.packets': '6',
    'net0.sent.errors': '7',
    'net0.sent.drops': '8',
    'guest.total_bytes': '1024',
    'guest.major_faults': '3',
    'throttling.periods': '8',
    'throttling.throttled_periods': '3',
    'throttling.throttled_ns': '250000000',
  });
  const usage = { ...figures.usage, throttling: undefined };
  const without = Object.keys(figureAttributes({ ...figures, usage }));
  assert.deepEqual(
    without.filter((name) => name.startsWith('throttling')),
    [],
  );
});

async function scrape(socketPath: string, path = '/metrics'): Promise<[number, string]> {
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    request({ socketPath, path, signal: AbortSignal.timeout(5000) }, resolve)
      .on('error', reject)
      .end();
  });
  let text = '';
  for await (const chunk of response) text += chunk;
  return [response.statusCode ?? 0, text];
}

async function pluginAt(t: TestContext, dir: string, name: string, socket: string) {
  const dataDir = join(dir, name);
  mkdirSync(dataDir);
  installEmulator(dataDir);
  const { plugin, client } = await processPlugin({
    dataDir,
    config: { metrics: { listen: `unix:${socket}` } },
  });
  t.after(() => plugin[Symbol.asyncDispose]());
  return { plugin, client };
}

test('V-103: one place is served by one plugin, and by the next when that has ended', async (t) => {
  const dir = tmpDir(t);
  const socket = join(dir, 'metrics.sock');
  const first = await pluginAt(t, dir, 'first', socket);
  const taskId = freshId();
  await first.client.call(Driver.method.startTask, { task: task({ id: taskId }) });
  const until = async (isRight: (text: string) => boolean): Promise<string> => {
    const deadline = performance.now() + 20_000;
    for (;;) {
      const [, text] = await scrape(socket).catch(() => [0, ''] as const);
      if (isRight(text)) return text;
      assert.ok(performance.now() < deadline, `not in time, but: ${text}`);
      await sleep(50);
    }
  };
  await until((text) => /nomad_vm_memory_rss_bytes\{.*task="task".*\} \d+/.test(text));
  assert.equal(statSync(socket).mode & 0o777, 0o600);
  assert.equal((await scrape(socket, '/'))[0], 404);
  const second = await pluginAt(t, dir, 'second', socket);
  await second.client.call(Driver.method.startTask, { task: task({ id: freshId() }) });
  await until((text) => text.includes('task="task"'));
  await first.client.call(Driver.method.destroyTask, { taskId, force: true });
  await until((text) => !text.includes('task="task"'));
  await first.plugin[Symbol.asyncDispose]();
  await until((text) => text.includes('task="task"'));
});

/** A connection of a client that harms, and what comes on it until it is closed. */
async function hostile(path: string, text: string): Promise<string> {
  const socket = connect(path);
  socket.on('error', () => {});
  socket.write(text);
  let got = '';
  try {
    for await (const chunk of socket) got += chunk;
  } catch {
    // Closed with unread input.
  }
  return got;
}

test('V-103: many who ask at once cost one measurement; a connection has one answer, whatever it sends', async (t) => {
  const path = join(tmpDir(t), 'metrics.sock');
  let measured = 0;
  const domain = {
    figures: async () => {
      measured += 1;
      return figures;
    },
  };
  const place = { kind: 'unix', path } as const;
  using _endpoint = MetricsEndpoint.open({ place, domains: () => [domain], log: collect([]) });
  await eventually(() => existsSync(path), 'the socket');
  const get = 'GET /metrics?x=1 HTTP/1.1\r\nhost: x\r\n\r\n';
  const whole = await Promise.all(Array.from({ length: 8 }, () => hostile(path, get.repeat(2000))));
  for (const text of whole) assert.equal(text.match(/^HTTP\/1\.1 200 OK\r$/gm)?.length, 1);
  assert.ok(measured < whole.length, `measured ${measured} times`);
  assert.equal(await hostile(path, 'x'.repeat(100_000)), '');
  assert.equal(await hostile(path, 'GET / SPDY\r\n\r\n'), '');
  // Sixteen that ask for nothing are closed, so that others have their turn.
  const silent = Array.from({ length: 16 }, () => hostile(path, 'GET /metr'));
  assert.deepEqual(new Set(await Promise.all(silent)), new Set(['']));
  assert.equal((await scrape(path))[0], 200);
});

test('V-103: two hundred VMs are measured and written in turns, between which all else goes on', async (t) => {
  const path = join(tmpDir(t), 'metrics.sock');
  let [turn, measured] = [0, 0];
  const turns = new Set<number>();
  const domain = {
    figures: async () => {
      turns.add(turn);
      measured += 1;
      return figures;
    },
  };
  const place = { kind: 'unix', path } as const;
  const domains = Array.from({ length: 200 }, () => domain);
  using _endpoint = MetricsEndpoint.open({ place, domains: () => domains, log: collect([]) });
  await eventually(() => existsSync(path), 'the socket');
  let counting = true;
  const count = (): void => {
    turn += 1;
    if (counting) setImmediate(count);
  };
  count();
  const [status, text] = await scrape(path);
  counting = false;
  assert.equal(status, 200);
  assert.equal(measured, 200);
  assert.equal(text.match(/^nomad_vm_memory_rss_bytes\{/gm)?.length, 200);
  assert.ok(turns.size >= 10, `measured in ${turns.size} turns of the event loop`);
});

test('V-103: a long request of any form is read in linear time', async (t) => {
  const path = join(tmpDir(t), 'metrics.sock');
  const place = { kind: 'unix', path } as const;
  using _endpoint = MetricsEndpoint.open({ place, domains: () => [], log: collect([]) });
  await eventually(() => existsSync(path), 'the socket');
  const delay = monitorEventLoopDelay({ resolution: 10 });
  delay.enable();
  const bytes = 60_000;
  for (const text of ['/', 'A', ' ', '?', '/ ', '\r', '\n ', ' HTTP/1.1']) {
    for (const before of ['', 'GET ', 'GET /']) {
      await hostile(path, `${before}${text.repeat(bytes / text.length)} X\r\n\r\n`);
    }
  }
  delay.disable();
  assert.ok(delay.max / 1e6 < patient(1000), `the event loop stopped for ${delay.max / 1e6} ms`);
});

test('V-103: figures that can not be formatted end the connection, not the plugin', async (t) => {
  const path = join(tmpDir(t), 'metrics.sock');
  const place = { kind: 'unix', path } as const;
  const bug = (): never => assert.fail('a bug');
  const unreadable = Object.defineProperty({ ...figures }, 'nics', { get: bug });
  for (const domains of [bug, () => [{ figures: async () => unreadable }]]) {
    using _endpoint = MetricsEndpoint.open({ place, domains, log: collect([]) });
    await eventually(() => existsSync(path), 'the socket');
    assert.equal(await hostile(path, 'GET /metrics HTTP/1.1\r\n\r\n'), '');
  }
});

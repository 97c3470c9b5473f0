import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { chmod, mkdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Logger } from '#host';
import { primaryDisk, type VmSpec } from '#spec';
import { type Domain, QemuVirtualizer } from '#vm';
import { ConsolePipe } from './console-pipe.ts';
import { fetchPage } from './page.ts';
import type { Report } from './report.ts';
import type { Stage } from './stage.ts';

const hostPort = 18080;
const MiB = 1024 * 1024;
const bootMs = 90_000;
const stopMs = 20_000;

/** What the guest runs at its first boot, by way of the seed. */
const userData = `#!/bin/sh
echo "Hello from $(hostname): $(uname -sr), up $(cut -d' ' -f1 /proc/uptime) s." > /www/index.html
echo "user data has run"
`;

/** Boots one VM through the driver's own code and shows it from start to removal. */
export async function runVm(stage: Stage): Promise<void> {
  const { report, dir, image, signal } = stage;
  const name = `hello-${randomBytes(4).toString('hex')}`;
  await chmod(dir, 0o711);
  await using virtualizer = QemuVirtualizer.create({
    dataDir: join(dir, 'data'),
    runDir: '/run/nomad-driver-qmp',
    imagePaths: [dirname(image)],
    uidRange: { min: 1_900_000_000, max: 1_900_065_535 },
    managedNetworks: [{ bridge: 'virbr0', address: '192.168.122.1', prefix: 24 }],
    bridges: [],
    maxConnections: 8192,
    maxImageBytes: 2048 * MiB,
    log: problemsOnly(report),
  });
  virtualizer.onEvent((_vm, { message, annotations }) => {
    report.event(`${message}${formatAnnotations(annotations)}`);
  });
  await showHost(report, virtualizer, signal);

  report.step('Start: undo log, tap and bridge, overlay, seed, then QEMU');
  const allocDir = await makeAllocDir(dir);
  using console = ConsolePipe.open(join(allocDir, 'alloc/stdout.fifo'), (line) =>
    report.console(line),
  );
  using messages = ConsolePipe.open(join(allocDir, 'alloc/stderr.fifo'), (line) =>
    report.line(`QEMU reports: ${line}`),
  );
  try {
    const spec = makeSpec({ name, image, allocDir, pipes: [console.path, messages.path] });
    const domain = await virtualizer.createDomain(spec, { signal });
    await tour(stage, virtualizer, domain);
  } finally {
    report.step('Remove: everything in the undo log, newest first');
    const undoLog = join(dir, 'data/vms', name, 'undo.jsonl');
    for (const step of (await readSteps(undoLog)).toReversed()) report.line(step);
    await virtualizer.destroyDomain(name);
  }
}

async function tour(
  { report, signal }: Stage,
  virtualizer: QemuVirtualizer,
  domain: Domain,
): Promise<void> {
  const url = `http://127.0.0.1:${hostPort}/`;
  report.step(`Fetch a page from the guest: ${url} on the host → port 80 in the guest`);
  const ended = domain.wait({ signal }).then(({ reason, error }) => {
    throw new Error(`the VM ended early (${reason}): ${error ?? 'without an error'}`);
  });
  ended.catch(() => {});
  const page = await Promise.race([fetchPage(url, bootMs, { signal }), ended]);
  report.line(`HTTP ${page.status} after ${page.tookMs.toFixed(0)} ms: ${page.text.trim()}`);

  report.step('What is on this host now');
  for (const line of describeDomain(domain)) report.line(line);
  for (const line of describeNetwork()) report.line(line);

  report.step('Statistics');
  const usage = await domain.usage({ signal });
  const cpu = (usage.cpuUserNs + usage.cpuSystemNs) / 1e9;
  report.line(`CPU time ${cpu.toFixed(2)} s, QEMU's memory ${mib(usage.rssBytes)}`);
  if (usage.guestUsedBytes !== undefined) {
    report.line(
      `in use inside the guest ${mib(usage.guestUsedBytes)} of ${mib(usage.guestTotalBytes)}`,
    );
  }

  report.step('Stop: ask the guest to power off and wait for it');
  const begin = performance.now();
  await virtualizer.stopDomain(domain.name, { graceMs: stopMs, immediately: false });
  const exit = await domain.wait({ signal });
  report.line(
    `ended after ${((performance.now() - begin) / 1000).toFixed(2)} s: reason ${exit.reason}, exit code ${exit.exitCode}, signal ${exit.signal}`,
  );
  if (exit.error !== undefined || exit.exitCode !== 0) {
    throw new Error(`the guest did not power off in order: ${exit.error ?? exit.reason}`);
  }
}

async function showHost(
  report: Report,
  virtualizer: QemuVirtualizer,
  signal: AbortSignal,
): Promise<void> {
  report.step('This host, as the driver reports it to Nomad');
  // The first query does not wait for the probe of KVM; one a few seconds later has its answer.
  let info = await virtualizer.getInfo({ signal });
  for (let queries = 0; queries < 40 && !('emulator.kvm' in info.attributes); queries += 1) {
    info = await virtualizer.getInfo({ signal });
  }
  const { attributes } = info;
  report.line(`${info.description}: QEMU ${attributes['emulator.version.readable']}`);
  const kvm = attributes['emulator.kvm'] === true;
  report.line(
    kvm
      ? 'KVM works: a guest ran on it just now'
      : `KVM does not work here (${attributes['emulator.kvm.reason'] ?? 'still being probed'}): QEMU will interpret, slower`,
  );
  if (!info.healthy) throw new Error(`this host can't run VMs: ${info.description}`);
}

/** One line for each undo step of a VM, oldest first. */
async function readSteps(path: string): Promise<readonly string[]> {
  const text = await readFile(path, 'utf8').catch(() => '');
  return [...text.matchAll(/^\{"do":(.*)\}$/gm)].map(([, step]) => formatStep(step ?? ''));
}

/** `{"kind":"mount","target":"/run/x"}` → `mount: target /run/x`. */
function formatStep(json: string): string {
  const step: unknown = JSON.parse(json);
  const entries = Object.entries(typeof step === 'object' && step !== null ? step : {});
  const inner = entries.find(([key]) => key === 'step')?.[1];
  if (inner !== undefined) return formatStep(JSON.stringify(inner));
  const kind = entries.find(([key]) => key === 'kind')?.[1];
  const rest = entries.filter(([key]) => key !== 'kind').map(([key, value]) => `${key} ${value}`);
  return `${String(kind).padEnd(10)} ${rest.join(', ')}`;
}

/** The directories that Nomad makes for an allocation. */
async function makeAllocDir(dir: string): Promise<string> {
  const allocDir = join(dir, 'alloc');
  for (const path of ['alloc', 'hello/local', 'hello/secrets']) {
    await mkdir(join(allocDir, path), { recursive: true, mode: 0o755 });
  }
  return allocDir;
}

function makeSpec({
  name,
  image,
  allocDir,
  pipes: [stdoutPath, stderrPath],
}: {
  readonly name: string;
  readonly image: string;
  readonly allocDir: string;
  readonly pipes: readonly [string, string];
}): VmSpec {
  return {
    name,
    identity: {
      taskId: `demo/hello/${name.slice(-8)}`,
      taskName: 'hello',
      allocId: 'demo',
      groupName: 'demo',
      jobId: 'demo',
      jobName: 'demo',
      namespace: 'default',
      nodeName: 'demo',
      nodeId: '',
    },
    arch: process.arch === 'arm64' ? 'aarch64' : 'x86_64',
    machine: undefined,
    accelerator: 'auto',
    vcpus: 1,
    pinnedCores: [],
    cpuShares: 0,
    memoryMiB: 256,
    disks: [primaryDisk({ image, sizeBytes: 256 * 1024 ** 2, thin: true })],
    nics: [
      {
        kind: 'bridge',
        bridge: 'virbr0',
        ports: [{ label: 'http', hostIp: '127.0.0.1', hostPort, guestPort: 80 }],
      },
    ],
    shares: [],
    guest: {
      hostname: 'hello-qmp',
      userData: { kind: 'inline', text: userData },
      password: undefined,
      authorizedKey: undefined,
      commands: [],
      timezone: undefined,
      env: {},
    },
    allocDir,
    taskDir: join(allocDir, 'hello'),
    stdoutPath,
    stderrPath,
    cgroupPath: '',
  };
}

function describeDomain(domain: Domain): readonly string[] {
  const { attributes } = domain;
  return [
    `QEMU: process ${attributes.pid}, machine ${attributes.machine}, accelerator ${attributes.accelerator}`,
    `      ${rightsOf(attributes.pid)}; its files and sockets are inherited descriptors`,
    `disk: ${attributes.disk} (overlay; the image is never written to)`,
    `QMP:  ${attributes['qmp.socket']}`,
    `NIC:  ${attributes.mac} ${attributes.ip} on ${attributes.bridge}`,
  ];
}

/** The process's permissions, as the kernel reports them. */
function rightsOf(pid: string | undefined): string {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const field = (key: string): string =>
    new RegExp(`^${key}:\\s+(\\S+)`, 'm').exec(status)?.[1] ?? 'unknown';
  return `user id ${field('Uid')}, capabilities ${field('CapEff')}, seccomp mode ${field('Seccomp')}`;
}

function describeNetwork(): readonly string[] {
  const links = execFileSync('ip', ['-o', 'link'], { encoding: 'utf8' })
    .split('\n')
    .flatMap((line) => /^\d+: ([^:@]+)/.exec(line)?.[1] ?? [])
    .filter((name) => !/^(lo|uplink0|nowhere0|ifb\d)$/.test(name));
  const tables = execFileSync('nft', ['list', 'tables'], { encoding: 'utf8' }).trim();
  return [`links: ${links.join(', ')}`, `nftables: ${tables.replaceAll('\n', ', ')}`];
}

function formatAnnotations(annotations: Readonly<Record<string, string>>): string {
  const parts = Object.entries(annotations).map(([key, value]) => `${key} ${value}`);
  return parts.length === 0 ? '' : ` (${parts.join(', ')})`;
}

function mib(bytes: number | undefined): string {
  return bytes === undefined ? 'unknown' : `${(bytes / MiB).toFixed(0)} MiB`;
}

/** The driver's own log, of which the demo shows warnings and errors. */
function problemsOnly(report: Report): Logger {
  const ignore = (): void => {};
  const show = (message: string, fields?: Readonly<Record<string, unknown>>): void =>
    report.line(`driver: ${message}${fields === undefined ? '' : ` ${JSON.stringify(fields)}`}`);
  return { trace: ignore, debug: ignore, info: ignore, warn: show, error: show };
}

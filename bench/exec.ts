/**
 * Compares commands in a Debian by each way with `ssh` by hand, pair by pair in one run: `npm run bench:exec`.
 * BENCH_COMMANDS sets the count of pairs (25).
 */
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Domain } from '#vm';
import { guestImage } from '../scripts/guests/images.ts';
import { newKeyPair } from '../src/vm/ssh/key-pair.ts';
import { runCommand } from '../test/support/exec.ts';
import { must } from '../test/support/guest.ts';
import { groundFor, guestSpec, told, until } from '../test/support/live-vm.ts';
import { streamThrough } from '../test/support/streamed.ts';
import { soon } from '../test/support/vm.ts';
import { formatTable, pairedRatio, spread } from './figures.ts';

const streamMiB = 64;
const streamRounds = 3;

const userData = `#cloud-config
bootcmd:
  - systemctl mask --now qemu-guest-agent
runcmd:
  - echo "SSH-READY" > /dev/ttyS0
`;

interface Measured {
  readonly trueMs: number[];
  readonly streamMiBs: number[];
}

/** Boots the guest, measures, and prints. */
async function benchExec(rounds: number): Promise<void> {
  const guest = await guestImage('debian');
  await must('ip', 'link', 'set', 'lo', 'up');
  await using ground = groundFor(guest);
  const pipes = ground.pipes();
  const log = ground.read(pipes.stdoutPath);
  const key = newKeyPair('bench');
  const keyFile = join(ground.root, 'key');
  writeFileSync(keyFile, key.private, { mode: 0o600 });
  const base = ground.spec(0).guest;
  const spec = guestSpec(ground, guest, {
    ...pipes,
    nics: [{ kind: 'bridge', bridge: 'virbr0', ports: [] }],
    vcpus: 2,
    memoryMiB: 768,
    guest: {
      ...base,
      userData: { kind: 'inline', text: userData },
      authorizedKey: key.public,
    },
  });
  const domain = await ground.virtualizer().createDomain(spec, soon(60_000));
  await told(log, /SSH-READY/, 240_000);
  const byHand = new SshByHand(keyFile, domain.network?.ip ?? '');
  const bySsh = await inPairs(domain, byHand, rounds);
  const start = 'systemctl unmask qemu-guest-agent; systemctl start qemu-guest-agent';
  await runCommand(domain, ['sh', '-c', start]);
  await until(
    () => runCommand(domain, ['sh', '-c', 'test -n "$SSH_CONNECTION" || echo agent']),
    ({ stdout }) => stdout === 'agent\n',
    60_000,
  );
  const byAgent = await inPairs(domain, byHand, rounds);
  print({ 'by the agent': byAgent, 'by ssh': bySsh }, rounds);
}

interface Pairs {
  readonly ours: Measured;
  readonly hand: Measured;
}

/** The first pair is not counted. */
async function inPairs(domain: Domain, byHand: SshByHand, rounds: number): Promise<Pairs> {
  const ours: Measured = { trueMs: [], streamMiBs: [] };
  const hand: Measured = { trueMs: [], streamMiBs: [] };
  for (let round = -1; round < rounds; round += 1) {
    const our = await taken(() => runCommand(domain, ['true']));
    const their = await taken(() => byHand.run('true'));
    if (round < 0) continue;
    ours.trueMs.push(our);
    hand.trueMs.push(their);
  }
  for (let round = 0; round < streamRounds; round += 1) {
    ours.streamMiBs.push(rate(await streamThrough(domain, streamMiB)));
    hand.streamMiBs.push(rate(await taken(() => byHand.run('cat', streamMiB))));
  }
  return { ours, hand };
}

function print(ways: Readonly<Record<string, Pairs>>, rounds: number): void {
  const rows = Object.entries(ways).flatMap(([way, { ours, hand }]) => [
    row(`true, ms, ${way}`, ours.trueMs, hand.trueMs),
    row(`${streamMiB} MiB through cat and back, MiB/s, ${way}`, ours.streamMiBs, hand.streamMiBs),
  ]);
  const heads = ['commands in a Debian', 'driver', 'ssh by hand', 'ratio'];
  console.log(`\n${rounds} pairs of commands, ${streamRounds} of streams; median (min–max)`);
  console.log(formatTable([heads, ...rows]));
}

function row(name: string, ours: readonly number[], hand: readonly number[]): readonly string[] {
  return [name, spread(ours), spread(hand), pairedRatio(ours, hand)];
}

async function taken(work: () => Promise<unknown>): Promise<number> {
  const begun = performance.now();
  await work();
  return performance.now() - begun;
}

function rate(ms: number): number {
  return (streamMiB / ms) * 1000;
}

/** As an operator calls it: a connection for each command. */
class SshByHand {
  readonly #args: readonly string[];

  constructor(key: string, address: string) {
    const set = ['BatchMode=yes', 'StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null'];
    const options = ['LogLevel=ERROR', ...set].flatMap((it) => ['-o', it]);
    this.#args = ['-F', 'none', '-T', '-i', key, ...options, `debian@${address}`];
  }

  /** Its input are so many MiB; its output is read to the end. */
  async run(command: string, mebibytes = 0): Promise<void> {
    const child = spawn('ssh', [...this.#args, command], { stdio: ['pipe', 'pipe', 'inherit'] });
    const { promise, resolve } = Promise.withResolvers<number | null>();
    child.once('close', resolve);
    child.stdout.resume();
    const chunk = Buffer.alloc(2 ** 20, 'x');
    for (let count = 0; count < mebibytes; count += 1) {
      if (!child.stdin.write(chunk)) {
        await new Promise((drained) => child.stdin.once('drain', drained));
      }
    }
    child.stdin.end();
    if ((await promise) !== 0) throw new Error(`ssh ${command} failed`);
  }
}

await benchExec(Number(process.env.BENCH_COMMANDS ?? 25));

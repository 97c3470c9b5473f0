import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { identify } from '#host';
import type { DomainRecord } from '#vm';
import { VmError } from '../../src/vm/error.ts';
import { requireOrSkip } from '../support/require.ts';
import { canRunVms, eventually, smallestSpec, soon, VmGround } from '../support/vm.ts';

const root = '/sys/fs/cgroup';
const MiB = 2 ** 20;

/** The control groups of one task as the client makes them under the old hierarchy, gone when the scope ends. */
class TaskGroups implements AsyncDisposable {
  readonly parent: string;
  readonly memory: string;
  readonly cpusetPath: string;
  readonly identity = smallestSpec('', '').identity;
  readonly #made: string[] = [];

  constructor() {
    const name = `nq-test-${process.pid}`;
    this.parent = join(root, 'memory', name);
    this.memory = join(this.parent, `${this.identity.allocId}.${this.identity.taskName}`);
    const cpuset = join(root, 'cpuset', name);
    this.cpusetPath = join(cpuset, 'share');
    for (const group of [cpuset, this.cpusetPath]) {
      this.#make(group);
      for (const file of ['cpuset.cpus', 'cpuset.mems']) {
        writeFileSync(join(group, file), readFileSync(join(root, 'cpuset', file)));
      }
    }
    this.#make(this.parent);
    writeFileSync(join(this.parent, 'memory.use_hierarchy'), '1');
    this.#make(this.memory);
  }

  limit(bytes: number): void {
    writeFileSync(join(this.parent, 'memory.limit_in_bytes'), String(bytes));
  }

  /** Makes the kernel choose a process of this group to kill: leaves little room and fills it with a hog. */
  exhaust(ground: VmGround, victim: number): void {
    writeFileSync(`/proc/${victim}/oom_score_adj`, '1000');
    this.limit(this.usage + 8 * MiB);
    const hog = ground.own(spawn('tail', ['/dev/zero'], { stdio: 'ignore' }));
    writeFileSync(join(this.parent, 'cgroup.procs'), String(hog.pid));
  }

  get usage(): number {
    return Number(readFileSync(join(this.parent, 'memory.usage_in_bytes'), 'utf8'));
  }

  pids(): readonly string[] {
    return readFileSync(join(this.memory, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean);
  }

  #make(group: string): void {
    mkdirSync(group);
    this.#made.push(group);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const group of this.#made.reverse()) {
      // A group is busy for a moment after its last process.
      await eventually(() => {
        try {
          rmdirSync(group);
          return true;
        } catch {
          return false;
        }
      }, `removal of ${group}`);
    }
  }
}

const canLimit = (t: Parameters<typeof canRunVms>[0]): boolean =>
  canRunVms(t) &&
  requireOrSkip(
    t,
    existsSync(join(root, 'memory', 'memory.limit_in_bytes')) && existsSync(join(root, 'cpuset')),
    'needs the memory and cpuset controllers of cgroup v1',
  );

test("V-74 D23: QEMU is in the task's groups, with room for itself beside the guest's memory", async (t) => {
  if (!canLimit(t)) return;
  await using groups = new TaskGroups();
  await using ground = VmGround.open();
  const spec = ground.spec(0, { cgroupPath: groups.cpusetPath, identity: groups.identity });
  const domain = await ground.virtualizer().createDomain(spec, soon());
  assert.deepEqual(groups.pids(), [String(domain.record.pid)]);
  const limit = Number(readFileSync(join(groups.memory, 'memory.limit_in_bytes'), 'utf8'));
  assert.ok(limit >= (spec.memoryMiB + 128) * MiB, `limit ${limit / MiB} MiB`);
  assert.ok(limit <= (spec.memoryMiB + 512) * MiB, `limit ${limit / MiB} MiB`);
});

for (const [who, recovered] of [
  ['the process that started the VM', false],
  ['the one that came after it', true],
] as const) {
  test(`V-89 D37: an OOM kill is distinguished from any other by ${who}`, async (t) => {
    if (!canLimit(t)) return;
    await using groups = new TaskGroups();
    await using ground = VmGround.open();
    const spec = ground.spec(0, { cgroupPath: groups.cpusetPath, identity: groups.identity });
    const virtualizer = ground.virtualizer();
    let record: DomainRecord;
    if (recovered) {
      const starter = await ground.starter(spec);
      record = await starter.create();
      await starter.kill();
      groups.exhaust(ground, record.pid);
      await eventually(() => identify(record.pid) === undefined, 'the OOM kill');
    } else {
      ({ record } = await virtualizer.createDomain(spec, soon()));
      groups.exhaust(ground, record.pid);
    }
    const domain = recovered
      ? await virtualizer.recoverDomain(record, spec, soon())
      : virtualizer.getDomain(spec.name);
    assert.deepEqual(await domain?.wait(soon()), {
      exitCode: 137,
      signal: 9,
      oomKilled: true,
      error:
        "QEMU was killed by the kernel for lack of memory: the task reached its limit, or the host's memory was used up",
      reason: 'oom-killed',
    });
  });
}

test('V-99 D27 V-140: memory that is too small to start with is named as the reason', async (t) => {
  if (!canLimit(t)) return;
  await using groups = new TaskGroups();
  await using ground = VmGround.open();
  const spec = ground.spec(0, { cgroupPath: groups.cpusetPath, identity: groups.identity });
  groups.limit(6 * MiB);
  await assert.rejects(ground.virtualizer().createDomain(spec, soon()), (error) => {
    assert.ok(error instanceof VmError);
    assert.match(error.message, /QEMU did not start the VM: .*memory/);
    return true;
  });
  assert.deepEqual(await ground.leftovers(), []);
});

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { joinCgroup, oomKills, parseThrottling, planCgroup, throttlingFile } from '#host';
import { type CgroupRequest, weightOfShares } from '../../src/host/process/cgroup.ts';
import { tmpDir } from '../support/tmp.ts';

const own = 'a1b2.web';
const request: CgroupRequest = {
  cgroupPath: '',
  allocId: 'a1b2',
  taskName: 'web',
  memoryBytes: 600 << 20,
  cpuShares: 1024,
  cores: [],
};
const v1Share = '/sys/fs/cgroup/cpuset/nomad/share';
const v1Reserve = `/sys/fs/cgroup/cpuset/nomad/reserve/${own}`;
const v2Scope = `/sys/fs/cgroup/nomad.slice/share.slice/${own}.scope`;
const everything = (): boolean => true;

test('v1, shared cores: limits in the own groups, none in the one that all tasks share', () => {
  assert.deepEqual(planCgroup({ ...request, cgroupPath: v1Share, cores: [1] }, everything), {
    version: 1,
    groups: [
      v1Share,
      `/sys/fs/cgroup/cpu/nomad/${own}`,
      `/sys/fs/cgroup/memory/nomad/${own}`,
      `/sys/fs/cgroup/freezer/nomad/${own}`,
    ],
    writes: [
      { file: `/sys/fs/cgroup/memory/nomad/${own}/memory.limit_in_bytes`, value: '629145600' },
      { file: `/sys/fs/cgroup/cpu/nomad/${own}/cpu.shares`, value: '1024' },
    ],
    oomFile: `/sys/fs/cgroup/memory/nomad/${own}/memory.oom_control`,
  });
});

test('V-72: v1, reserved cores: they are written, and first', () => {
  const plan = planCgroup({ ...request, cgroupPath: v1Reserve, cores: [2, 3] }, everything);
  assert.equal(plan?.groups[0], v1Reserve);
  assert.deepEqual(plan?.writes[0], { file: `${v1Reserve}/cpuset.cpus`, value: '2,3' });
});

test('V-74: v2: one group with everything', () => {
  assert.deepEqual(planCgroup({ ...request, cgroupPath: v2Scope, cores: [0] }, everything), {
    version: 2,
    groups: [v2Scope],
    writes: [
      { file: `${v2Scope}/cpuset.cpus`, value: '0' },
      { file: `${v2Scope}/memory.max`, value: '629145600' },
      { file: `${v2Scope}/cpu.weight`, value: '39' },
    ],
    oomFile: `${v2Scope}/memory.events`,
  });
});

test('a parent group of another name is followed', () => {
  const cgroupPath = '/cg/cpuset/batch.d/share';
  const plan = planCgroup({ ...request, cgroupPath }, everything);
  assert.deepEqual(plan?.groups[1], `/cg/cpu/batch.d/${own}`);
});

test('controllers that are not there are left out', () => {
  const only = (path: string): boolean => path === `${v1Share}/cgroup.procs`;
  assert.deepEqual(planCgroup({ ...request, cgroupPath: v1Share }, only), {
    version: 1,
    groups: [v1Share],
    writes: [],
    oomFile: undefined,
  });
  const bare = (path: string): boolean => path === `${v2Scope}/cgroup.procs`;
  assert.deepEqual(planCgroup({ ...request, cgroupPath: v2Scope, cores: [1] }, bare), {
    version: 2,
    groups: [v2Scope],
    writes: [],
    oomFile: undefined,
  });
});

test('without a group there is no plan', () => {
  for (const cgroupPath of ['', `share/${own}`, `${own}.scope`]) {
    assert.equal(planCgroup({ ...request, cgroupPath }, everything), undefined);
  }
  assert.equal(
    planCgroup({ ...request, cgroupPath: v1Share }, () => false),
    undefined,
  );
});

test('what is not asked for is not limited', () => {
  const none = { ...request, memoryBytes: 0, cpuShares: 0 };
  assert.deepEqual(planCgroup({ ...none, cgroupPath: v1Share }, everything)?.writes, []);
  assert.deepEqual(planCgroup({ ...none, cgroupPath: v2Scope }, everything)?.writes, []);
});

test('weights keep the order of shares and stay in their range', () => {
  assert.deepEqual(
    [0, 2, 100, 1024, 262_144, 1e9].map(weightOfShares),
    [1, 1, 4, 39, 10_000, 10_000],
  );
  fc.assert(
    fc.property(fc.nat(400_000), fc.nat(400_000), (a, b) => {
      assert.ok(a > b || weightOfShares(a) <= weightOfShares(b));
    }),
  );
});

/** Plain files in the place of a hierarchy: what is written and in what order, not what it does. */
function fakeTree(root: string, files: Readonly<Record<string, string>>): void {
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), content);
  }
}

test('joining writes the limits and the pid; a v1 cpuset gets the memory nodes of its parent', (t) => {
  const root = tmpDir(t);
  const reserve = `cpuset/nomad/reserve/${own}`;
  fakeTree(root, {
    'cpuset/nomad/reserve/cpuset.mems': '0-1\n',
    [`${reserve}/cgroup.procs`]: '',
    [`${reserve}/cpuset.cpus`]: '\n',
    [`${reserve}/cpuset.mems`]: '\n',
    [`memory/nomad/${own}/cgroup.procs`]: '',
    [`memory/nomad/${own}/memory.limit_in_bytes`]: '',
    [`memory/nomad/${own}/memory.oom_control`]: 'oom_kill_disable 0\nunder_oom 0\noom_kill 3\n',
  });
  const wanted = { ...request, cgroupPath: join(root, reserve), cores: [1, 3] };
  const plan = planCgroup(wanted, existsSync);
  assert.ok(plan);
  joinCgroup(plan, 4321);
  const read = (name: string): string => readFileSync(join(root, name), 'utf8');
  assert.equal(read(`${reserve}/cpuset.cpus`), '1,3');
  assert.equal(read(`${reserve}/cpuset.mems`).trim(), '0-1');
  assert.equal(read(`${reserve}/cgroup.procs`), '4321');
  assert.equal(read(`memory/nomad/${own}/cgroup.procs`), '4321');
  assert.equal(read(`memory/nomad/${own}/memory.limit_in_bytes`), '629145600');
  assert.equal(oomKills(plan), 3);
});

test('a v2 group is joined without touching its memory nodes', (t) => {
  const root = tmpDir(t);
  const scope = `nomad.slice/reserve.slice/${own}.scope`;
  fakeTree(root, {
    'nomad.slice/reserve.slice/cgroup.controllers': 'cpuset cpu memory\n',
    'nomad.slice/reserve.slice/cpuset.mems': '0\n',
    [`${scope}/cgroup.procs`]: '',
    [`${scope}/cpuset.cpus`]: '',
    [`${scope}/cpuset.mems`]: '',
    [`${scope}/memory.events`]: 'low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\noom_group_kill 0\n',
  });
  const plan = planCgroup({ ...request, cgroupPath: join(root, scope), cores: [0] }, existsSync);
  assert.ok(plan);
  joinCgroup(plan, 99);
  assert.equal(readFileSync(join(root, scope, 'cpuset.mems'), 'utf8'), '');
  assert.equal(readFileSync(join(root, scope, 'cpuset.cpus'), 'utf8'), '0');
  assert.equal(readFileSync(join(root, scope, 'cgroup.procs'), 'utf8'), '99');
  assert.equal(oomKills(plan), 1);
});

test('a group that is gone is an error, never a plain file in its place', (t) => {
  const group = join(tmpDir(t), 'gone');
  const file = join(group, 'memory.max');
  const plan = { version: 2, groups: [group], writes: [{ file, value: '1' }] } as const;
  assert.throws(() => joinCgroup({ ...plan, oomFile: undefined }, 1), {
    name: 'HostError',
    errno: 'ENOENT',
    message: `writing 1 to ${file}: ENOENT`,
  });
  assert.ok(!existsSync(file));
  assert.equal(oomKills({ ...plan, oomFile: join(group, 'memory.events') }), 0);
  assert.equal(oomKills({ ...plan, oomFile: undefined }), 0);
});

test('V-103: throttling is in nanoseconds in both versions, and unknown where nothing counts it', (t) => {
  const root = tmpDir(t);
  fakeTree(root, {
    'two/cpu.stat': 'usage_usec 9\nnr_periods 8\nnr_throttled 3\nthrottled_usec 250\n',
    'one/cpu.stat': 'nr_periods 8\nnr_throttled 3\nthrottled_time 250000\n',
    'none/cgroup.procs': '',
  });
  const of = (...names: string[]) => {
    const groups = names.map((it) => join(root, it));
    const file = throttlingFile({ version: 1, groups, writes: [], oomFile: undefined });
    return file && parseThrottling(readFileSync(file, 'utf8'));
  };
  const expected = { periods: 8, throttledPeriods: 3, throttledNs: 250_000 };
  assert.deepEqual(of('two'), expected);
  assert.deepEqual(of('none', 'one'), expected);
  assert.equal(of('none', 'gone'), undefined);
});

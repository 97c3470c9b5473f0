import assert from 'node:assert/strict';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { findProgram, lockFile } from '#host';
import type { Domain, DomainRecord, QemuVirtualizer } from '#vm';
import { command, inOwnNetns } from '../support/netns.ts';
import { leftovers, nothing, virbr0 } from '../support/networks.ts';
import { patient } from '../support/patience.ts';
import { requireOrSkip } from '../support/require.ts';
import { booted, canRunVms, eventually, soon, VmGround } from '../support/vm.ts';

const healthOf = async (virtualizer: QemuVirtualizer): Promise<string> =>
  (await virtualizer.getInfo(soon())).description;

/** A group of processes that no signal reaches, SIGKILL included: what version 1 of control groups has. */
class Freezer implements Disposable {
  readonly #dir: string;
  readonly #pid: number;

  constructor({ pid }: DomainRecord) {
    this.#dir = `/sys/fs/cgroup/freezer/removal-${pid}`;
    this.#pid = pid;
    mkdirSync(this.#dir);
    writeFileSync(join(this.#dir, 'cgroup.procs'), String(pid));
    writeFileSync(join(this.#dir, 'freezer.state'), 'FROZEN');
  }

  async thaw(): Promise<void> {
    writeFileSync(join(this.#dir, 'freezer.state'), 'THAWED');
    await eventually(() => !existsSync(`/proc/${this.#pid}`), 'its end');
  }

  [Symbol.dispose](): void {
    writeFileSync(join(this.#dir, 'freezer.state'), 'THAWED');
    rmdirSync(this.#dir);
  }
}

/** An nft before the host's: it does what it is told and fails, the first time; later it only fails. */
class Refusing implements Disposable {
  readonly #path = process.env.PATH;
  readonly #program: string;

  constructor(root: string) {
    const dir = join(root, 'bin');
    this.#program = join(dir, 'nft');
    const real = findProgram('nft');
    const script = `#!/bin/sh
case "$*" in *-f*) ;; *) exec ${real} "$@" ;; esac
[ -e ${dir}/refused ] || ${real} "$@"
touch ${dir}/refused
echo not now >&2
exit 1
`;
    mkdirSync(dir);
    writeFileSync(this.#program, script, { mode: 0o755 });
    process.env.PATH = `${dir}:${this.#path}`;
  }

  relent(): void {
    const real = findProgram('nft', [], this.#path);
    writeFileSync(this.#program, `#!/bin/sh\nexec ${real} "$@"\n`);
  }

  [Symbol.dispose](): void {
    process.env.PATH = this.#path;
  }
}

inOwnNetns(import.meta.url, ['ip', 'nft'], () => {
  test('V-91 D15: a QEMU that does not die of SIGKILL is removed when it has died', async (t) => {
    if (!canRunVms(t)) return;
    const canFreeze = existsSync('/sys/fs/cgroup/freezer');
    if (!requireOrSkip(t, canFreeze, 'needs the freezer of control groups version 1')) return;
    await using ground = VmGround.open();
    const virtualizer = ground.virtualizer();
    const domain = await virtualizer.createDomain(ground.spec(0), soon());
    await booted(domain);
    using freezer = new Freezer(domain.record);
    const refusal = /QEMU \(pid \d+\) does not end after SIGKILL/;
    await assert.rejects(virtualizer.destroyDomain('vm-0'), refusal);
    assert.match(ground.told().at(-1) ?? '', refusal);
    assert.match(await healthOf(virtualizer), refusal);
    assert.deepEqual(await virtualizer.sweep(), [], 'it still runs');
    await freezer.thaw();
    await eventually(() => domain.state === 'exited', 'the news of it');
    assert.deepEqual(await virtualizer.sweep(), ['vm-0']);
    assert.doesNotMatch(await healthOf(virtualizer), /vm-0|SIGKILL/);
    assert.equal(ground.told().at(-1), 'The failed removal of the VM was completed');
    assert.deepEqual(await ground.leftovers(), []);
  });

  test('V-91: a step of a later version stays and is named, and all others are undone', async (t) => {
    if (!canRunVms(t)) return;
    await using ground = VmGround.open();
    const virtualizer = ground.virtualizer();
    await virtualizer.createDomain(ground.spec(0), soon());
    const { undo, dir, run } = ground.paths();
    const good = readFileSync(undo);
    appendFileSync(undo, '{"do":{"kind":"from-the-future","name":"x"}}\n');
    const problem =
      /VM vm-0 was not removed completely: unknown: this version .* undo step \{"kind":"from-the-future","name":"x"\}/;
    await assert.rejects(virtualizer.destroyDomain('vm-0'), problem);
    assert.deepEqual(await ground.leftovers(), ['directory vm-0'], 'all else is gone');
    assert.equal(existsSync(run), false);
    assert.match(readFileSync(undo, 'utf8'), /from-the-future/);
    assert.match(await healthOf(virtualizer), problem);
    assert.match(ground.told().at(-1) ?? '', problem);
    // The next process finds it by itself, though its allocation is still there.
    const next = ground.virtualizer();
    assert.deepEqual(await next.sweep(), []);
    assert.match(await healthOf(next), problem);
    writeFileSync(undo, good);
    assert.deepEqual(await next.sweep(), ['vm-0']);
    assert.equal(existsSync(dir), false);
    assert.doesNotMatch(await healthOf(next), /vm-0/);
  });

  test('V-91 V-105: what a failed start could not undo is removed later', async (t) => {
    if (!canRunVms(t)) return;
    await using ground = VmGround.open({ managedNetworks: [virbr0] });
    using nft = new Refusing(ground.root);
    const virtualizer = ground.virtualizer();
    const ports = [{ label: 'web', hostIp: '', hostPort: 8080, guestPort: 80 }];
    const spec = ground.spec(0, { nics: [{ kind: 'bridge', bridge: 'virbr0', ports }] });
    await assert.rejects(virtualizer.createDomain(spec, soon()), /nft refused the rules/);
    assert.deepEqual(await ground.leftovers(), ['directory vm-0']);
    assert.match((await command('nft', 'list', 'ruleset')).output, /8080/);
    const problem = /VM vm-0 was not removed completely: net: nft refused the rules: not now/;
    assert.match(await healthOf(virtualizer), problem);
    assert.match(ground.told().at(-1) ?? '', problem);
    assert.deepEqual(await virtualizer.sweep(), []);
    nft.relent();
    assert.deepEqual(await virtualizer.sweep(), ['vm-0']);
    assert.deepEqual(await ground.leftovers(), []);
    assert.deepEqual(await leftovers(), nothing);
    assert.doesNotMatch(await healthOf(virtualizer), /vm-0/);
  });

  test('P-37 V-93: a recovery whose call is over waits for nothing more, and the VM is adopted', async (t) => {
    if (!canRunVms(t)) return;
    await using ground = VmGround.open({ managedNetworks: [virbr0] });
    const nics = [{ kind: 'bridge', bridge: 'virbr0', ports: [] }] as const;
    const spec = ground.spec(0, { nics });
    const { record } = await ground.virtualizer().createDomain(spec, soon());
    const lock = join(ground.options.dataDir, 'networks', 'lock');
    await using _ = await lockFile(lock, soon());
    const late = new Promise((resolve) => setTimeout(resolve, patient(3000), 'late').unref());
    const over = { signal: AbortSignal.abort() };
    const adopted = await Promise.race([
      ground.virtualizer().recoverDomain(record, spec, over),
      late,
    ]);
    assert.notEqual(adopted, 'late');
    assert.equal((adopted as Domain).state, 'running');
  });

  test('V-129 V-98: what a power cut left claimed for a VM without a directory is freed, and nothing else', async (t) => {
    if (!canRunVms(t)) return;
    await using ground = VmGround.open({ managedNetworks: [virbr0] });
    const virtualizer = ground.virtualizer();
    const ports = [{ label: 'web', hostIp: '', hostPort: 8080, guestPort: 80 }];
    const nics = [{ kind: 'bridge', bridge: 'virbr0', ports }] as const;
    const spec = ground.spec(0, { nics });
    const domain = await virtualizer.createDomain(spec, soon());
    const { dataDir } = ground.options;
    const claims = (): readonly string[] =>
      ['uids', 'networks/virbr0'].flatMap((it) => {
        const dir = join(dataDir, it);
        return existsSync(dir) ? readdirSync(dir).map((name) => `${it}/${name}`) : [];
      });
    const before = claims();
    // Two user ids, that of QEMU and that of ssh, the network and the address in it.
    assert.equal(before.length, 4);
    assert.deepEqual(await virtualizer.sweep(), []);
    assert.deepEqual(claims(), before, 'those of a VM that is there');
    // The lines that name claims are gone from the log.
    const { undo } = ground.paths();
    const lines = readFileSync(undo, 'utf8').split('\n');
    writeFileSync(undo, lines.filter((it) => !/"uid","|net-claim|net-bridge/.test(it)).join('\n'));
    await virtualizer.destroyDomain(domain.name);
    assert.deepEqual(claims(), before);
    assert.deepEqual(await virtualizer.sweep(), []);
    assert.deepEqual(claims(), []);
    assert.deepEqual(await leftovers(), nothing);
  });
});

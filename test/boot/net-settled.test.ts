import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { must } from '../support/guest.ts';
import { inOwnNetns } from '../support/netns.ts';
import { leftovers, nothing, virbr0 } from '../support/networks.ts';
import { slowNft } from '../support/slow-nft.ts';
import { booted, canRunVms, eventually, soon, VmGround } from '../support/vm.ts';

/** A host on whose PATH the first `nft` is the slow one. */
class SlowHost implements Disposable {
  readonly #path = process.env.PATH;
  readonly go: string;
  readonly #pid: string;

  constructor(root: string) {
    const dir = join(root, 'slow');
    mkdirSync(dir);
    const { go, pid } = slowNft(dir);
    this.go = go;
    this.#pid = pid;
    process.env.PATH = `${dir}:${this.#path}`;
  }

  /** Process id of nft, which waits. */
  get nftPid(): number {
    return existsSync(this.#pid) ? Number(readFileSync(this.#pid, 'utf8')) : 0;
  }

  [Symbol.dispose](): void {
    process.env.PATH = this.#path;
  }
}

const spawned = (ground: VmGround) => (): boolean =>
  ground.lines.some((line) => line.includes('QEMU spawned'));

const spec = (ground: VmGround) =>
  ground.spec(0, { nics: [{ kind: 'bridge', bridge: 'virbr0', ports: [] }] });

inOwnNetns(import.meta.url, ['ip', 'nft', 'qemu-system-x86_64'], () => {
  test('QEMU is spawned before rules are applied, and the guest runs only after them', async (t) => {
    if (!canRunVms(t)) return;
    await using ground = VmGround.open({ managedNetworks: [virbr0] });
    using host = new SlowHost(ground.root);
    const started = ground.virtualizer().createDomain(spec(ground), soon());
    await eventually(spawned(ground), 'QEMU before the rules');
    const { console: history } = ground.paths();
    await eventually(() => host.nftPid > 0, 'rules for a QEMU that was spawned');
    assert.deepEqual((await leftovers()).tables, []);
    assert.equal(existsSync(history) ? readFileSync(history, 'utf8') : '', '');
    writeFileSync(host.go, '');
    const domain = await started;
    assert.ok(domain.record.pid < host.nftPid, 'QEMU came first');
    await booted(domain);
    await ground.virtualizers[0]?.destroyDomain(domain.name);
    assert.deepEqual(await leftovers(), nothing);
  });

  test('rules that are refused end a start whose QEMU waits already, and nothing is left', async (t) => {
    if (!canRunVms(t)) return;
    await using ground = VmGround.open({ managedNetworks: [virbr0] });
    using host = new SlowHost(ground.root);
    const started = ground.virtualizer().createDomain(spec(ground), soon());
    const refused = assert.rejects(started, {
      message: /^VM vm-0: .*nft refused the rules: no$|^nft refused the rules: no$/,
      recoverable: true,
    });
    await eventually(spawned(ground), 'QEMU before the rules');
    writeFileSync(host.go, 'refuse');
    await refused;
    assert.ok(!ground.told().includes('Guest started'));
    // The steps that needed nft as well are undone once it works again.
    writeFileSync(host.go, '');
    await ground.virtualizers[0]?.sweep();
    assert.deepEqual(await ground.leftovers(), []);
    assert.deepEqual(await leftovers(), nothing);
  });

  test('V-111: what one plugin puts back of networks is an event of the plugin whose VM it is', async (t) => {
    if (!canRunVms(t)) return;
    await using ground = VmGround.open({ managedNetworks: [virbr0] });
    const [owner, other] = [ground.virtualizer(), ground.virtualizer()];
    const strangers: string[] = [];
    other.onEvent((_, { message }) => strangers.push(message));
    const own: string[] = [];
    owner.onEvent((name, { message }) => own.push(`${name}: ${message}`));
    const domain = await owner.createDomain(spec(ground), soon());
    await owner.getInfo(soon());
    await must('nft', 'flush', 'ruleset');
    await must('ip', 'link', 'del', 'virbr0');
    await other.getInfo(soon());
    await eventually(() => existsSync(ground.paths().events), 'the events');
    await owner.getInfo(soon());
    const found = own.filter((text) => /were gone|was gone|had left/.test(text));
    assert.equal(found.length, 3, own.join('\n'));
    assert.ok(found.every((text) => text.startsWith(`${domain.name}: `)));
    await owner.getInfo(soon());
    assert.equal(own.filter((text) => /gone/.test(text)).length, 2, 'each once');
    assert.deepEqual(strangers, []);
    await owner.destroyDomain(domain.name);
    assert.deepEqual(await leftovers(), nothing);
  });
});

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { identify } from '#host';
import { command, inOwnNetns } from '../support/netns.ts';
import { virbr0 } from '../support/networks.ts';
import { booted, canRunVms, soon, VmGround } from '../support/vm.ts';

/**
 * data_dir as a file system that the kernel has made read-only: what is open goes on, nothing can be made or removed.
 */
class ReadOnly implements AsyncDisposable {
  readonly #path: string;

  private constructor(path: string) {
    this.#path = path;
  }

  static async make(path: string): Promise<ReadOnly> {
    await mount('--bind', path, path);
    await mount('-o', 'remount,bind,ro', path);
    return new ReadOnly(path);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await command('umount', '--lazy', this.#path);
  }
}

async function mount(...args: readonly string[]): Promise<void> {
  const { code, output } = await command('mount', ...args);
  assert.equal(code, 0, output);
}

inOwnNetns(import.meta.url, ['ip', 'nft', 'mount'], () => {
  test('V-98 V-91: on a data_dir that has become read-only the next plugin adopts, stops and removes VMs all the same', async (t) => {
    if (!canRunVms(t)) return;
    await using ground = VmGround.open({ managedNetworks: [virbr0] });
    const ports = [{ label: 'web', hostIp: '', hostPort: 8080, guestPort: 80 }];
    const spec = ground.spec(0, { nics: [{ kind: 'bridge', bridge: 'virbr0', ports }] });
    const starter = await ground.starter(spec);
    const record = await starter.create();
    await starter.kill();
    const { dataDir } = ground.options;
    {
      await using _ = await ReadOnly.make(dataDir);
      assert.throws(() => writeFileSync(join(dataDir, 'vms', 'x'), ''), { code: 'EROFS' });
      const virtualizer = ground.virtualizer();
      await virtualizer.start();
      const domain = await virtualizer.recoverDomain(record, spec, soon());
      assert.ok(domain !== undefined);
      await booted(domain);
      assert.equal(domain.record.pid, record.pid);
      await assert.rejects(
        virtualizer.createDomain(ground.spec(0, { name: 'vm-1' }), soon()),
        /EROFS/,
      );
      await virtualizer.stopDomain(spec.name, { graceMs: 100, immediately: false });
      assert.equal(domain.state, 'exited');
      assert.equal(domain.exit?.oomKilled, false);
      assert.equal(identify(record.pid), undefined);
      await assert.rejects(
        virtualizer.destroyDomain(spec.name),
        /vm-0 was not removed completely: .*EROFS/,
      );
      const left = (await ground.leftovers()).filter((it) => !it.includes(dataDir));
      assert.deepEqual(
        left.map((it) => it.replace(/\d{5,}/, 'of it')),
        ['directory vm-0', 'user id of it', 'user id of it'],
      );
    }
    // It is in order again: what was left goes by itself.
    const [virtualizer] = ground.virtualizers;
    assert.deepEqual(await virtualizer?.sweep(), ['vm-0']);
    assert.deepEqual(await ground.leftovers(), []);
  });
});

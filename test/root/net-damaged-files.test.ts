import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { closeFd } from '#host';
import { must } from '../support/guest.ts';
import { inOwnNetns } from '../support/netns.ts';
import {
  Host,
  leftovers,
  nothing,
  rules,
  type TestNic,
  virbr0,
  waiting,
} from '../support/networks.ts';

const ports = [{ label: 'web', hostIp: '', hostPort: 8080, guestPort: 80 }];
const damages: Readonly<Record<string, (file: string) => void>> = {
  emptied: (file) => writeFileSync(file, ''),
  torn: (file) => writeFileSync(file, readFileSync(file, 'utf8').slice(0, 40)),
  removed: (file) => rmSync(file),
};

const filesOf = (host: Host, { ip = '' }: TestNic): readonly string[] =>
  [ip, 'network.json'].map((name) => join(host.dir, 'networks/virbr0', name));

/** As the VM's record gives it back. */
const recorded = (vm: string, { record }: TestNic) => ({
  vm,
  index: 0,
  record: JSON.parse(JSON.stringify(record)),
});

inOwnNetns(import.meta.url, ['ip', 'nft'], () => {
  for (const [damage, apply] of Object.entries(damages)) {
    test(`V-111: a file of a network that is ${damage} while VMs run comes back, with its ports and an event`, async () => {
      await using host = await Host.open();
      const web = await host.attach('web', { ports });
      const before = await rules();
      for (const file of filesOf(host, web)) {
        const read = (): unknown => JSON.parse(readFileSync(file, 'utf8'));
        const content = read();
        apply(file);
        await host.networks.init(waiting());
        assert.deepEqual(read(), content);
        // Its rules go with a change before that, and come back.
        apply(file);
        const db = await host.attach('db');
        await host.networks.init(waiting());
        closeFd(db.tapFd);
        await host.detach('db');
        assert.equal(await rules(), before);
        const event = `web: File ${file} was damaged or gone and was put back`;
        assert.deepEqual(host.events.splice(0), file.endsWith('json') ? [event] : [event, event]);
        // While no plugin runs.
        apply(file);
        await using restarted = host.again();
        await restarted.networks.init(waiting());
        await restarted.networks.adopt(recorded('web', web), waiting());
        assert.equal(await rules(), before);
        assert.deepEqual(restarted.events, [event]);
      }
      closeFd(web.tapFd);
      await host.detach('web');
      assert.deepEqual(await leftovers(), nothing);
    });
  }

  test('V-111: a VM that is adopted first leaves the rules of one whose file is damaged', async () => {
    await using host = await Host.open();
    const web = await host.attach('web', { ports });
    const db = await host.attach('db');
    // Rules of later VMs come first, until all are loaded anew.
    const ruled = async () => (await rules()).split('\n').toSorted();
    const before = await ruled();
    const [file = ''] = filesOf(host, web);
    const [other = ''] = filesOf(host, db);
    for (const [damage, apply] of Object.entries(damages)) {
      apply(file);
      if (damage === 'torn') apply(other);
      await using restarted = host.again();
      await restarted.networks.init(waiting());
      for (const [vm, nic] of Object.entries({ db, web })) {
        await restarted.networks.adopt(recorded(vm, nic), waiting());
        assert.deepEqual(await ruled(), before, `${damage}, ${vm} is adopted`);
      }
    }
    // Rules of the others do not wait for that.
    rmSync(file);
    await must('nft', 'flush', 'ruleset');
    await using restarted = host.again();
    await restarted.networks.adopt(recorded('db', db), waiting());
    assert.ok((await rules()).includes(db.tap));
    await restarted.networks.adopt(recorded('web', web), waiting());
    assert.deepEqual(await ruled(), before);
    for (const [vm, { tapFd }] of Object.entries({ web, db })) {
      closeFd(tapFd);
      await host.detach(vm);
    }
    assert.deepEqual(await leftovers(), nothing);
  });

  test('V-111: of a VM without a copy of its file the event reports once what is lost', async () => {
    await using host = await Host.open();
    const web = await host.attach('web', { ports });
    const [file = ''] = filesOf(host, web);
    writeFileSync(file, '');
    await using restarted = host.again();
    const nic = recorded('web', web);
    delete nic.record.kept;
    await restarted.networks.adopt(nic, waiting());
    for (const _look of [1, 2]) await restarted.networks.init(waiting());
    const consequence = 'its ports and filters end with the next change of rules';
    assert.deepEqual(restarted.events, [
      `web: File ${file} is damaged, ${consequence}: restart the task`,
    ]);
    closeFd(web.tapFd);
    await restarted.detach('web');
    assert.ok(!existsSync(file));
    assert.deepEqual(await leftovers(), nothing);
  });

  test('V-111: damaged files of no VM go, and keep neither an address nor a network', async () => {
    await using host = await Host.open();
    const dir = join(host.dir, 'networks/virbr0');
    mkdirSync(dir, { recursive: true });
    for (const name of ['network.json', '192.168.122.9']) writeFileSync(join(dir, name), '');
    const ip = '192.168.122.9';
    const web = await host.attach('web', { ip, ports });
    assert.equal(web.ip, ip);
    writeFileSync(join(dir, '192.168.122.10'), '');
    await host.networks.init(waiting());
    assert.deepEqual(readdirSync(dir).toSorted(), [ip, 'network.json']);
    writeFileSync(join(dir, '192.168.122.10'), '');
    closeFd(web.tapFd);
    await host.detach('web');
    await host.networks.init(waiting());
    assert.deepEqual(await leftovers(), nothing);
    assert.deepEqual(readdirSync(join(host.dir, 'networks')), ['lock']);
    assert.deepEqual(host.events, []);
    mkdirSync(dir);
    writeFileSync(join(dir, 'network.json'), '');
    await using restarted = host.again([virbr0]);
    await restarted.networks.init(waiting());
    assert.deepEqual(readdirSync(join(host.dir, 'networks')), ['lock']);
  });
});

import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { writeFileSync, writeSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { closeFd } from '#host';
import { readSysctl, writeSysctls } from '../../src/net/model/sysctl.ts';
import {
  arpQuestion,
  broadcastMac,
  dhcpQuestion,
  fragments,
  isArpAnswer,
  lldpMac,
  portOf,
  received,
  send,
  tagged,
  udpFrame,
  withForgedChecksum,
} from '../net/frames.ts';
import { must } from '../support/guest.ts';
import { inOwnNetns } from '../support/netns.ts';
import { Host, leftovers, nothing, type TestNic } from '../support/networks.ts';
import { eventually } from '../support/vm.ts';

const gateway = '192.168.122.1';
const everybody = '255.255.255.255';
const ipOf = (nic: TestNic): string => nic.address?.ip ?? '';
// Frames are handled by the kernel within microseconds, questions of DHCP by the plugin within milliseconds.
const settle = (): Promise<void> => sleep(250);

const sentBy = ({ mac }: TestNic, frames: readonly Buffer[]): readonly Buffer[] =>
  frames.filter((frame) => frame.toString('hex', 6, 12) === mac.replaceAll(':', ''));

/** Two guests whose frames are written and read by the test itself. */
async function inTwos(run: (host: Host, web: TestNic, peer: TestNic) => Promise<void>) {
  await using host = await Host.open();
  const [web, peer] = [await host.attach('web'), await host.attach('peer')];
  await run(host, web, peer);
  for (const { tapFd } of [web, peer]) closeFd(tapFd);
  for (const vm of ['web', 'peer']) await host.detach(vm);
  assert.deepEqual(await leftovers(), nothing);
}

inOwnNetns(import.meta.url, ['ip', 'nft', 'bridge'], () => {
  test('a frame that no rule sees teaches the bridge nothing', async () => {
    await inTwos(async (_, web, peer) => {
      const where = async () =>
        (await must('bridge', 'fdb', 'show', 'br', 'virbr0'))
          .split('\n')
          .filter((line) => line.startsWith(peer.mac))
          .map((line) => / dev (\S+)/.exec(line)?.[1]);
      const known = { mac: [peer.mac, broadcastMac], ip: [ipOf(peer), gateway] } as const;
      send(peer.tapFd, arpQuestion(known));
      assert.deepEqual(await where(), [peer.tap]);
      for (const last of ['02', '03', '0d', '0e', '0f']) {
        const stolen = [peer.mac, `01:80:c2:00:00:${last}`] as const;
        send(web.tapFd, udpFrame({ mac: stolen, ip: [ipOf(peer), gateway], port: [1, 1] }));
      }
      assert.deepEqual(await where(), [peer.tap]);
    });
  });

  test('a frame that no rule on bridges sees reaches nothing on the host', async () => {
    await inTwos(async (_, web) => {
      const heard: string[] = [];
      const secret = createSocket('udp4').on('message', (_message, from) =>
        heard.push(from.address),
      );
      await new Promise<void>((resolve) => secret.bind(8500, resolve));
      for (const name of ['all', web.tap]) {
        writeFileSync(`/proc/sys/net/ipv4/conf/${name}/rp_filter`, '0');
      }
      const mac = [web.mac, lldpMac] as const;
      const sneaky = udpFrame({ mac, ip: [ipOf(web), gateway], port: [9, 8500] });
      send(web.tapFd, sneaky);
      await settle();
      assert.deepEqual(heard, []);
      received(web.tapFd);
      for (let sender = 100; sender < 200; sender++) {
        send(web.tapFd, arpQuestion({ mac, ip: [`192.168.122.${sender}`, gateway] }));
      }
      await settle();
      assert.deepEqual(received(web.tapFd).filter(isArpAnswer), []);
      assert.equal(await must('ip', 'neigh', 'show', 'dev', web.tap), '');
      await must('nft', 'flush', 'ruleset');
      send(web.tapFd, sneaky);
      await eventually(() => heard.length > 0, 'it is heard without the rule');
      assert.deepEqual(heard, [ipOf(web)]);
      secret.close();
    });
  });

  test('no guest is a DHCP server, from whichever port', async () => {
    await inTwos(async (_, web, peer) => {
      const mac = [web.mac, broadcastMac] as const;
      const ip = [ipOf(web), everybody] as const;
      for (const from of [67, 68, 6767]) send(web.tapFd, udpFrame({ mac, ip, port: [from, 68] }));
      send(web.tapFd, udpFrame({ mac, ip, port: [6767, 7777] }));
      await settle();
      const ports = received(peer.tapFd).map(portOf);
      assert.deepEqual(
        ports.filter((port) => port !== undefined),
        [7777],
      );
    });
  });

  test('a guest sends no UDP whose ports the rules can not read', async () => {
    // Otherwise the bridge itself puts fragments together, and passes none on that lacks the rest.
    const joins = 'net/bridge/bridge-nf-call-iptables';
    const before = readSysctl(joins) ?? '0';
    await writeSysctls({ [joins]: '0' });
    await inTwos(async (_, web, peer) => {
      const mac = [web.mac, peer.mac] as const;
      const whole = udpFrame({ mac, ip: [ipOf(web), ipOf(peer)], port: [6767, 7777] });
      for (const bytes of [0, 1, 2, 3]) send(web.tapFd, fragments(whole, bytes)[0]);
      send(web.tapFd, whole);
      for (const part of fragments(whole, 8)) send(web.tapFd, part);
      const arrived = sentBy(web, received(peer.tapFd)).map((it) => it.subarray(16, 22));
      assert.deepEqual(
        arrived.map((it) => it.toString('hex', 4)),
        ['0000', '2000', '0001'],
      );
    });
    await writeSysctls({ [joins]: before });
  });

  // Each is what the rules let through, and what the receiver is to see: two bytes at a place in the frame.
  const forged = {
    'who has an address in ARP': { at: 30, value: 0x7a01, frame: arpQuestion },
    'its IPv4 address': { at: 28, value: 0x7a01, frame: udpFrame },
    'the port it sends from': { at: 34, value: 67, frame: udpFrame },
  };
  for (const [what, { at, value, frame }] of Object.entries(forged)) {
    test(`no checksum that is filled in late changes ${what}`, async () => {
      await inTwos(async (_, web, peer) => {
        const mac = [web.mac, peer.mac] as const;
        const payload = Buffer.alloc(20);
        const plain = frame({ mac, ip: [ipOf(web), ipOf(peer)], port: [6767, 7777], payload });
        writeSync(web.tapFd, withForgedChecksum(plain, at, value));
        send(web.tapFd, plain);
        await settle();
        const frames = sentBy(web, received(peer.tapFd));
        assert.equal(frames.length, 1, 'only the frame without a header arrives');
        assert.notEqual(frames[0]?.readUInt16BE(at), value);
        for (const { tap } of [web, peer]) {
          assert.match(await must('ip', '-d', 'link', 'show', tap), /vnet_hdr off/);
        }
      });
    });
  }

  const tags = {
    'with a VLAN tag': [0x8100],
    "with a provider's tag": [0x88a8],
    'with two tags': [0x88a8, 0x8100],
  } as const;
  for (const [what, types] of Object.entries(tags)) {
    test(`a frame ${what} reaches no neighbour, whatever its sender address`, async () => {
      await inTwos(async (_, web, peer) => {
        const mac = [web.mac, peer.mac] as const;
        const plain = udpFrame({ mac, ip: [ipOf(web), ipOf(peer)], port: [6767, 7777] });
        const forged = udpFrame({ mac, ip: [gateway, ipOf(peer)], port: [67, 68] });
        const arp = arpQuestion({ mac, ip: [gateway, ipOf(peer)] });
        for (const frame of [plain, forged, arp]) send(web.tapFd, tagged(frame, ...types));
        send(web.tapFd, plain);
        await settle();
        const arrived = sentBy(web, received(peer.tapFd));
        assert.deepEqual(arrived.map(portOf), [7777], 'only the frame without a tag arrives');
        await must('nft', 'flush', 'ruleset');
        send(web.tapFd, tagged(plain, ...types));
        await settle();
        assert.equal(sentBy(web, received(peer.tapFd)).length, 1, 'without the rules it arrives');
      });
    });
  }

  test('no guest asks whether an address is free that is not its own', async () => {
    await inTwos(async (_, web, peer) => {
      const mac = [web.mac, broadcastMac] as const;
      for (const wanted of [ipOf(peer), gateway, '192.168.122.77', ipOf(web)]) {
        send(web.tapFd, arpQuestion({ mac, ip: ['0.0.0.0', wanted] }));
      }
      await settle();
      const asked = sentBy(web, received(peer.tapFd)).map((it) => it.subarray(38, 42).join('.'));
      assert.deepEqual(asked, [ipOf(web)]);
    });
  });

  test('a DHCP answer goes to no address but that of the guest that asked', async () => {
    await inTwos(async (_, web, peer) => {
      const ask = (type: 'request' | 'inform', has: string): void => {
        const mac = [web.mac, broadcastMac] as const;
        const payload = dhcpQuestion({ type, mac: web.mac, wanted: ipOf(web), has });
        send(web.tapFd, udpFrame({ mac, ip: [ipOf(web), gateway], port: [68, 67], payload }));
      };
      for (const has of [ipOf(peer), '192.168.122.77', '198.18.0.1']) {
        ask('inform', has);
        ask('request', has);
      }
      ask('inform', ipOf(web));
      const wanted = new Set<string>();
      const looked = (): number => {
        for (const it of [web, peer].flatMap(({ tapFd }) => received(tapFd)))
          if (it.readUInt16BE(12) === 0x0806) wanted.add(it.subarray(38, 42).join('.'));
        return wanted.size;
      };
      // The server takes questions in the order in which they arrive.
      await eventually(() => looked() > 0, 'the host looks for the guest');
      await settle();
      looked();
      assert.deepEqual([...wanted], [ipOf(web)], 'and for nobody else');
    });
  });

  test("no guest asks in another's name, which would make the server take that one's lease", async () => {
    await inTwos(async (host, web, peer) => {
      const answers = () => host.lines.filter((line) => line.startsWith('DHCP reply'));
      const question = (about: string, from: string, to: string): Buffer => {
        const payload = dhcpQuestion({ type: 'request', mac: about, wanted: '192.168.122.250' });
        const mac = [web.mac, broadcastMac] as const;
        return udpFrame({ mac, ip: [from, to], port: [68, 67], payload });
      };
      send(web.tapFd, question(peer.mac, '0.0.0.0', everybody));
      const whole = question(peer.mac, ipOf(web), gateway);
      send(web.tapFd, whole);
      // The host puts fragments together after the rules on bridges. The name is in bytes 36 to 42.
      for (const bytes of [8, 16, 24, 32, 40, 48]) {
        for (const part of fragments(whole, bytes)) send(web.tapFd, part);
      }
      // The server takes questions in the order in which they arrive.
      send(web.tapFd, question(web.mac, '0.0.0.0', everybody));
      send(web.tapFd, question(web.mac, ipOf(web), gateway));
      await eventually(() => answers().length >= 2, 'the answers to the guest itself');
      for (const line of answers()) {
        assert.match(line, /"vm":"web","query":"request","reply":"nak"/);
      }
    });
  });

  test('a guest that asks without end is heard now and then, and its neighbour at once', async () => {
    await inTwos(async (host, web, peer) => {
      const answers = (vm: string) =>
        host.lines.filter((line) => line.includes(`"vm":"${vm}"`) && line.startsWith('DHCP reply'))
          .length;
      const ask = ({ tapFd, mac }: TestNic): void => {
        const payload = dhcpQuestion({ type: 'discover', mac });
        send(
          tapFd,
          udpFrame({
            mac: [mac, broadcastMac],
            ip: ['0.0.0.0', everybody],
            port: [68, 67],
            payload,
          }),
        );
      };
      const since = performance.now();
      for (let round = 0; round < 25; round++) {
        for (let each = 0; each < 20; each++) ask(web);
        await sleep(1);
      }
      ask(peer);
      await eventually(() => answers('peer') > 0, 'the answer to its neighbour');
      await settle();
      const most = 40 + 20 * Math.ceil((performance.now() - since) / 1000);
      assert.ok(answers('web') > 0 && answers('web') <= most, `${answers('web')} of 500`);
      assert.equal(answers('peer'), 1);
    });
  });
});

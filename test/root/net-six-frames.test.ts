import assert from 'node:assert/strict';
import { writeSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { closeFd } from '#host';
import { formatIpv6, linkLocalOf } from '#spec';
import { readSysctl, writeSysctls } from '../../src/net/model/sysctl.ts';
import { attacksOf, type Ends6, hello, neededBy, type Shot } from '../net/attacks6.ts';
import { arpQuestion, received, send, tagged, withForgedChecksum } from '../net/frames.ts';
import {
  advertisement,
  allNodes,
  allServers,
  behind,
  type Content,
  fragment,
  frame6,
  icmpMessage,
  macOption,
  portOf6,
  routerAdvertisement,
  senderOf6,
  solicitation,
  udp,
} from '../net/frames6.ts';
import { must } from '../support/guest.ts';
import { inOwnNetns } from '../support/netns.ts';
import { Host, leftovers, nothing, type TestNic, virbr0 } from '../support/networks.ts';
import { patient } from '../support/patience.ts';

const gateway = 'fd12:3456:789a::1';
const network = { ...virbr0, address6: `${gateway}/64` };
const multicastMac = '33:33:00:00:00:01';

/** A guest, and the addresses that are its own. */
interface Guest extends Ends6 {
  readonly nic: TestNic;
}

function guestOf(nic: TestNic): Guest {
  const ip = nic.address?.six?.ip ?? assert.fail('the NIC has no IPv6 address');
  return { nic, mac: nic.mac, ip, linkLocal: formatIpv6(linkLocalOf(nic.mac)) };
}

/** Two guests whose frames are written and read by the test itself. */
async function inTwos(run: (web: Guest, peer: Guest) => Promise<void>, managed = network) {
  // Otherwise the bridge itself puts fragments together.
  const joins = 'net/bridge/bridge-nf-call-ip6tables';
  const before = readSysctl(joins) ?? '0';
  await writeSysctls({ [joins]: '0' });
  await using host = await Host.open([managed]);
  const [web, peer] = [await host.attach('web'), await host.attach('peer')];
  await run(guestOf(web), guestOf(peer));
  for (const { tapFd } of [web, peer]) closeFd(tapFd);
  for (const vm of ['web', 'peer']) await host.detach(vm);
  await writeSysctls({ [joins]: before });
  assert.deepEqual(await leftovers(), nothing);
}

/**
 * What the peer receives of these frames: all that came before a last one that always arrives. The bridge forwards the
 * frames of one tap in their order.
 */
async function seenBy(peer: Guest, web: Guest, frames: readonly Buffer[]) {
  const last = frame6({ mac: [web.mac, peer.mac], ip: [web.ip, peer.ip] }, udp([9999, 9999]));
  for (const frame of [...frames, last]) send(web.nic.tapFd, frame);
  const seen: Buffer[] = [];
  const deadline = performance.now() + patient(5000);
  while (!seen.some((frame) => portOf6(frame) === 9999)) {
    assert.ok(performance.now() < deadline, 'the last frame arrives');
    await sleep(5);
    seen.push(...received(peer.nic.tapFd));
  }
  const from = web.mac.replaceAll(':', '');
  return seen.filter((frame) => portOf6(frame) !== 9999 && frame.toString('hex', 6, 12) === from);
}

inOwnNetns(import.meta.url, ['ip', 'nft', 'bridge'], () => {
  test('what a guest sends over IPv6 is from itself, and of no router or server', async (t) => {
    await inTwos(async (web, peer) => {
      const framed = ({ content, from = web.ip, to = peer.ip }: Shot): Buffer => {
        const mac = [web.mac, to === allNodes ? multicastMac : peer.mac] as const;
        return frame6({ mac, ip: [from, to] }, content);
      };
      const others = ['fe80::1', 'fd12:3456:789a::77', '2001:db8::1'];
      const foreign = [gateway, peer.ip, peer.linkLocal, ...others];
      const attacks = Object.entries(attacksOf(web, peer, foreign));
      for (const [name, shots] of attacks) {
        await t.test(`not ${name}`, async () => {
          for (const [at, frame] of shots.map(framed).entries()) {
            const seen = await seenBy(peer, web, [frame]);
            assert.deepEqual(
              seen.map((it) => it.toString('hex')),
              [],
              `frame ${at}`,
            );
          }
        });
      }
      await t.test('each of them arrives without the rules', async () => {
        await must('nft', 'flush', 'ruleset');
        for (const [name, shots] of attacks) {
          const seen = await seenBy(peer, web, shots.map(framed));
          assert.equal(seen.length, shots.length, name);
        }
      });
    });
  });

  test('what a guest needs of IPv6 passes', async (t) => {
    await inTwos(async (web, peer) => {
      const shots = neededBy(web, peer, gateway);
      for (const [name, each] of Object.entries(shots)) {
        await t.test(name, async () => {
          const frames = each.map(({ content, from = web.ip, to = peer.ip }) => {
            const mac = [web.mac, to === allNodes ? multicastMac : peer.mac] as const;
            return frame6({ mac, ip: [from, to] }, content);
          });
          assert.equal((await seenBy(peer, web, frames)).length, frames.length);
        });
      }
    });
  });

  // Each is what the rules let through, and what the receiver is to see: two bytes at a place in the frame.
  const forged = {
    'its address': { at: 36, value: 0x0077 },
    'the address that it answers for': { at: 76, value: 0x0001 },
    'the port it sends from': { at: 54, value: 547 },
  };
  for (const [what, { at, value }] of Object.entries(forged)) {
    test(`no checksum that is filled in late changes ${what} of IPv6`, async () => {
      await inTwos(async (web, peer) => {
        const ends = { mac: [web.mac, peer.mac], ip: [web.ip, peer.ip] } as const;
        const isAnswer = what.includes('answers');
        const content = isAnswer
          ? advertisement(web.ip, macOption('target', web.mac))
          : udp([6767, 7777], Buffer.alloc(20));
        const plain = frame6(ends, content);
        writeSync(web.nic.tapFd, withForgedChecksum(plain, at, value));
        const seen = await seenBy(peer, web, [plain]);
        assert.equal(seen.length, 1, 'only the frame without a header arrives');
        assert.notEqual(seen[0]?.readUInt16BE(at), value);
      });
    });
  }

  test('an IPv6 frame with VLAN tags reaches no neighbour', async () => {
    await inTwos(async (web, peer) => {
      const ends = { mac: [web.mac, peer.mac], ip: [web.ip, peer.ip] } as const;
      for (const types of [[0x8100], [0x88a8], [0x88a8, 0x8100]]) {
        for (const content of [hello, routerAdvertisement()]) {
          const seen = await seenBy(peer, web, [tagged(frame6(ends, content), ...types)]);
          assert.equal(seen.length, 0);
        }
      }
    });
  });

  test('a guest asks a DHCP server for itself, at a limited rate and in one piece', async () => {
    await inTwos(async (web, peer) => {
      const mac = [web.mac, multicastMac] as const;
      const ask = (content: Content): Buffer =>
        frame6({ mac, ip: [web.linkLocal, allServers] }, content);
      const question = udp([546, 547], Buffer.alloc(40));
      assert.equal((await seenBy(peer, web, [ask(question)])).length, 1);
      assert.equal((await seenBy(peer, web, [ask(fragment(question, 0, 16))])).length, 0);
      const flood = Array.from({ length: 1000 }, () => ask(question));
      const since = performance.now();
      const seen = await seenBy(peer, web, flood);
      const most = 201 + (100 * (performance.now() - since)) / 1000;
      assert.ok(seen.length <= most, `${seen.length} of ${flood.length}, not ${most}`);
    });
  });

  test('in a network with IPv4 only nothing of IPv6 passes', async () => {
    const { address6: _, ...only4 } = network;
    await using host = await Host.open([only4]);
    const [web, peer] = [await host.attach('web'), await host.attach('peer')];
    assert.equal(web.address?.six, undefined);
    const linkLocal = formatIpv6(linkLocalOf(web.mac));
    const contents = [
      solicitation(linkLocal),
      icmpMessage(133),
      behind('hops', icmpMessage(143, Buffer.alloc(24))),
      hello,
    ];
    const mac = [web.mac, multicastMac] as const;
    for (const content of contents) {
      for (const from of ['::', linkLocal]) {
        send(web.tapFd, frame6({ mac, ip: [from, allNodes] }, content));
      }
    }
    send(
      web.tapFd,
      arpQuestion({
        mac: [web.mac, peer.mac],
        ip: [web.address?.ip ?? '', peer.address?.ip ?? ''],
      }),
    );
    const seen: Buffer[] = [];
    const deadline = performance.now() + patient(5000);
    while (!seen.some((frame) => frame.readUInt16BE(12) === 0x0806)) {
      assert.ok(performance.now() < deadline, 'the last frame arrives');
      await sleep(5);
      seen.push(...received(peer.tapFd));
    }
    assert.deepEqual(
      seen.filter((frame) => senderOf6(frame) !== undefined),
      [],
    );
    for (const { tapFd } of [web, peer]) closeFd(tapFd);
    for (const vm of ['web', 'peer']) await host.detach(vm);
    assert.deepEqual(await leftovers(), nothing);
  });
});

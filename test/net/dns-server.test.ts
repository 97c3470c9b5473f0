import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { test } from 'node:test';
import { streamEncode } from 'dns-packet';
import { DnsServer } from '../../src/net/dns/server.ts';
import { makeZone, type Zone } from '../../src/net/dns/zone.ts';
import type { Claim } from '../../src/net/store/claim.ts';
import { KnownGuests } from '../../src/net/store/known-guests.ts';
import { collect } from '../support/vm.ts';

const address = '127.0.0.1';
const network = { domain: 'virbr0.internal', address, prefix: 8 };
const claim: Claim = {
  ip: address,
  vm: 'vm',
  index: 0,
  mac: '52:54:00:00:00:01',
  tap: 'qmp00000001',
  hostname: 'web',
  ports: [],
};

/** Counts the questions in each turn of the event loop: the server looks up who asks each time. */
class Askers extends Set<string> {
  most = 0;
  #inTurn = 0;

  override has(guest: string): boolean {
    if (this.#inTurn === 0) setImmediate(() => this.#turn());
    this.#inTurn += 1;
    return super.has(guest);
  }

  #turn(): void {
    this.most = Math.max(this.most, this.#inTurn);
    this.#inTurn = 0;
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, address);
  await once(server, 'listening');
  const at = server.address();
  server.close();
  return typeof at === 'object' && at !== null ? at.port : assert.fail();
}

test('DNS: however many questions a guest sends at once over TCP, each has a turn of its own', async () => {
  const askers = new Askers([address]);
  const index = (claims: readonly Claim[]): Zone => ({
    ...makeZone(network, claims),
    guests: askers,
  });
  const store = { claims: async () => [claim], changedAtNs: async () => 0n };
  const guests = new KnownGuests(store, 'lo', index);
  const port = await freePort();
  const log = collect([]);
  const upstream = async (): Promise<readonly string[]> => [];
  await using _server = await DnsServer.open({
    bridge: 'lo',
    address,
    port,
    guests,
    upstream,
    log,
  });
  const count = 3000;
  const questions = [{ name: 'web.virbr0.internal', type: 'A' }] as const;
  const question = streamEncode({ type: 'query', id: 1, flags: 0x0100, questions: [...questions] });
  const guest = connect(port, address);
  guest.write(Buffer.concat(Array(count).fill(question)));
  let [bytes, replyBytes] = [0, 0];
  for await (const chunk of guest) {
    replyBytes ||= 2 + chunk.readUInt16BE(0);
    bytes += chunk.length;
    if (bytes >= count * replyBytes) break;
  }
  assert.equal(bytes, count * replyBytes);
  // Of a connection that begins, its guest is looked up as well.
  assert.ok(askers.most <= 4, `${askers.most} questions in one turn`);
});

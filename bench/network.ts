/**
 * Ratios of networks, measured in turn in one run: `npm run bench:network`. Published ports, set-up, throughput and latency by
 * the paths to a guest, and one queue against two. BENCH_ROUNDS sets the count (9). Only the ratios are comparable, and with
 * TCG the guest's own work is most of a transfer.
 */
import { formatTable, pairedRatio, spread } from './figures.ts';
import { GuestPair } from './network-guests.ts';
import { byHand, NicCosts } from './network-setup.ts';

const rounds = Number(process.env.BENCH_ROUNDS ?? 9);

if (process.env.QMP_ISOLATED !== '1') {
  throw new Error(
    'the bench creates links and rules; run it with npm run bench:network, which isolates them from this host',
  );
}

/** What is measured, by name. The first is what the others are compared with. */
type Scenes = Readonly<Record<string, () => Promise<number>>>;

{
  await using nics = await NicCosts.open();
  const inserted = (ports: number) => () => nics.inserted(ports);
  const removed = (ports: number) => () => nics.removed(ports);
  await compare('ports of one VM inserted, ms', {
    '1 port': inserted(1),
    '100 ports': inserted(100),
    '1000 ports': inserted(1000),
  });
  await compare('ports of one VM removed, ms', {
    '1 port': removed(1),
    '100 ports': removed(100),
    '1000 ports': removed(1000),
  });
}
{
  await using nics = await NicCosts.open({ kept: false });
  await compare('bridge and tap set up, ms', {
    'ip, six commands': byHand,
    'driver, with address, rules, DHCP and DNS': () => nics.inserted(0),
  });
}
{
  await using guests = await GuestPair.open();
  await compare('a guest to the host, MB/s', {
    'plain bridge': () => guests.toHost('plain'),
    'managed network': () => guests.toHost('managed'),
    'published port': () => guests.toHost('published'),
  });
  await compare('a guest to another, MB/s', {
    'plain bridge': () => guests.toGuest('plain'),
    'managed network': () => guests.toGuest('managed'),
    'published port': () => guests.toGuest('published'),
  });
  await compare('a datagram from the host to a guest and back, ms', {
    'plain bridge': () => guests.roundTrip('plain'),
    'managed network': () => guests.roundTrip('managed'),
    'published port': () => guests.roundTrip('published'),
  });
  await compare('a ping of a guest to another, ms', {
    'plain bridge': () => guests.ping('plain'),
    'managed network': () => guests.ping('managed'),
  });
  await compare('two streams of a guest of two CPUs to the host, MB/s', {
    'one queue': () => guests.twoStreams(1),
    'two queues': () => guests.twoStreams(2),
  });
}

/** Measures all of them in each round, so that a slow moment of the machine affects all. */
async function compare(title: string, scenes: Scenes): Promise<void> {
  const names = Object.keys(scenes);
  const values = new Map(names.map((name): [string, number[]] => [name, []]));
  for (let round = -1; round < rounds; round += 1) {
    for (const name of round % 2 === 0 ? names : names.toReversed()) {
      const value = await scenes[name]?.();
      if (round >= 0 && value !== undefined) values.get(name)?.push(value);
    }
  }
  const first = values.get(names[0] ?? '') ?? [];
  const rows = [...values].map(([name, own]) => [name, spread(own), pairedRatio(own, first)]);
  console.log(`\n${formatTable([[title, 'median (min–max)', 'ratio'], ...rows])}`);
}

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { endOf, type JournalEnd, parseJournal } from '../../src/qmp/index.ts';
import { type SectorMode, sectorImage } from '../support/images.ts';
import { patient } from '../support/patience.ts';
import { type MonitoredQemu, startQemu } from '../support/qemu-monitor.ts';

const soon = (): { signal: AbortSignal } => ({ signal: AbortSignal.timeout(patient(30_000)) });

/** How one end is brought about, with which guest, and what the journal says of it afterwards. */
interface Case {
  readonly guest?: SectorMode;
  readonly args?: readonly string[];
  readonly act: (machine: MonitoredQemu) => unknown;
  readonly end: JournalEnd | undefined;
  /** What must be in the journal beside the end. */
  readonly event?: string;
}

const cases: Readonly<Record<string, Case>> = {
  'quit over QMP': {
    act: ({ qmp }) => qmp.execute('quit', {}, soon()),
    end: { reason: 'host-qmp-quit', guest: false, panicked: false },
  },
  SIGTERM: {
    act: ({ process }) => process.kill('SIGTERM'),
    end: { reason: 'host-signal', guest: false, panicked: false },
  },
  'SIGKILL: no end': {
    act: async ({ qmp, process }) => {
      await qmp.execute('cont', {}, soon());
      process.kill('SIGKILL');
    },
    end: undefined,
    event: 'RESUME',
  },
  'the guest powers itself off': {
    guest: 2,
    act: ({ qmp }) => qmp.execute('cont', {}, soon()),
    end: { reason: 'guest-shutdown', guest: true, panicked: false },
  },
  'the guest resets itself where that is an end': {
    guest: 3,
    args: ['-action', 'reboot=shutdown'],
    act: ({ qmp }) => qmp.execute('cont', {}, soon()),
    end: { reason: 'guest-reset', guest: true, panicked: false },
  },
  'the guest panics': {
    guest: 6,
    args: ['-device', 'pvpanic', '-action', 'panic=exit-failure'],
    act: ({ qmp }) => qmp.execute('cont', {}, soon()),
    end: { reason: 'guest-panic', guest: true, panicked: true },
    event: 'GUEST_PANICKED',
  },
  'the guest resets, and is killed later: no end': {
    guest: 3,
    act: async ({ qmp, process }) => {
      const events = qmp.events(soon());
      await qmp.execute('cont', {}, soon());
      for await (const { event, data } of events) {
        if (event === 'RESET' && data.guest === true) break;
      }
      process.kill('SIGKILL');
    },
    end: undefined,
    event: 'RESET',
  },
};

for (const [name, { guest, args = [], act, end, event }] of Object.entries(cases)) {
  test(`journal of QEMU: ${name}`, { timeout: 60_000 }, async (t) => {
    const image = guest === undefined ? undefined : sectorImage(guest);
    const disk = `{"driver":"raw","node-name":"d","read-only":true,"file":{"driver":"file","filename":"${image}"}}`;
    const machine = await startQemu(t, [
      // The guest waits for its serial port before anything else.
      ...['-M', 'q35', '-m', '64', '-serial', 'null'],
      ...(image === undefined ? [] : ['-blockdev', disk, '-device', 'virtio-blk-pci,drive=d']),
      ...args,
    ]);
    if (machine === undefined) return;
    await act(machine);
    await machine.exited;
    await machine.qmp.closed;
    const events = parseJournal(machine.journal());
    assert.deepEqual(endOf(events), end);
    if (event !== undefined) assert.ok(events.some((it) => it.event === event));
    assert.ok(events.every(({ atMs }) => Math.abs(Date.now() - atMs) < 120_000));
  });
}

import { quoted, type WatchdogAction, watchdogActions } from '#spec';
import { OptionText } from './option-text.ts';
import { machineTuning } from './tuning-keys.ts';
import { type OptionKind, Refusal, type Wish } from './wish.ts';

/** The machine, its processors and its memory. */
export const machineOptions: readonly OptionKind[] = [
  {
    names: ['m'],
    value: '512M',
    becomes:
      'The memory of the guest, at most `memory_max` or `memory` of `resources`, which is all there is for the task. `slots` and `maxmem` have no effect.',
    read: readMemory,
  },
  {
    names: ['smp'],
    value: '2,sockets=1',
    becomes: '`vcpus`: `cpus`, else sockets × cores × threads. The guest sees one socket.',
    read: readSmp,
  },
  {
    names: ['cpu'],
    value: 'host',
    becomes:
      "No effect: the CPU is the host's under KVM, else `max`, which has what the others have.",
    read: () => [],
  },
  {
    names: ['machine', 'M'],
    value: 'q35,accel=kvm',
    becomes: '`machine_type` and `accelerator`; most other properties have no effect.',
    read: readMachine,
  },
  {
    names: ['accel'],
    value: 'kvm',
    becomes:
      '`accelerator`; its properties have no effect. Of several the first that works is taken.',
    read: (value) => {
      const accelerators = new OptionText(value, 'accel').takeAll('accel');
      const accelerator = readAccelerator(accelerators.join(':'));
      return [{ kind: 'accelerator', accelerator, isAlternative: true }];
    },
  },
  {
    names: ['enable-kvm'],
    becomes: '`accelerator = "kvm"`.',
    read: () => [{ kind: 'accelerator', accelerator: 'kvm' }],
  },
  {
    names: ['no-kvm'],
    becomes: '`accelerator = "tcg"`.',
    read: () => [{ kind: 'accelerator', accelerator: 'tcg' }],
  },
  {
    names: ['smbios'],
    value: 'type=1,serial=ds=nocloud-net',
    becomes:
      'The texts of type 1 (`manufacturer`, `product`, `version`, `serial`, `sku`, `family`), where cloud-init finds a NoCloud seed. Other types have no effect; `file` is refused.',
    read: readSmbios,
  },
  {
    names: ['rtc'],
    value: 'base=utc',
    becomes: "The clock begins with UTC or the host's local time; any other `base` is refused.",
    read: readClock,
  },
  {
    names: ['localtime'],
    becomes: 'As `-rtc base=localtime`.',
    read: () => [{ kind: 'clock', base: 'localtime' }],
  },
  {
    names: ['watchdog'],
    value: 'i6300esb',
    becomes: '`watchdog`; another model is refused.',
    read: (value) => {
      if (value !== 'i6300esb') throw new Refusal('the only watchdog is i6300esb');
      return [{ kind: 'watchdog' }];
    },
  },
  {
    names: ['watchdog-action'],
    value: 'reset',
    becomes: '`watchdog { action }`: `reset`, `poweroff` or `pause`.',
    read: (value) => [{ kind: 'watchdog', action: readWatchdogAction(value) }],
  },
  {
    names: ['action'],
    value: 'watchdog=reset',
    becomes: '`watchdog { action }`; `reboot=shutdown` is `-no-reboot`; other actions are refused.',
    read: (value) => {
      const option = new OptionText(value);
      const action = option.take('watchdog');
      const reboot = option.take('reboot');
      refuseRest(option);
      if (reboot !== undefined && !['reset', 'shutdown'].includes(reboot)) {
        throw new Refusal(`reboot=${reboot} is not supported: use reset or shutdown`);
      }
      return [
        ...(action === undefined
          ? []
          : [{ kind: 'watchdog', action: readWatchdogAction(action) } as const]),
        ...(reboot === 'shutdown' ? [{ kind: 'no-reboot' } as const] : []),
      ];
    },
  },
  {
    names: ['no-reboot'],
    becomes: 'A guest that restarts ends its task, as one that powers off does.',
    read: () => [{ kind: 'no-reboot' }],
  },
];

/** Throws for keys that no reader has taken. */
export function refuseRest(option: OptionText): void {
  const [first, ...others] = option.rest;
  if (first === undefined) return;
  const keys = [first, ...others].map(quoted).join(', ');
  throw new Refusal(`${keys} ${others.length === 0 ? 'is' : 'are'} not supported; leave it out`);
}

function readMemory(value: string): readonly Wish[] {
  const option = new OptionText(value, 'size');
  const size = option.take('size') ?? '';
  const [, digits = '', unit = 'M'] =
    /^(\d{1,12}(?:\.\d{1,6})?)([KMGTkmgt]?)(?:i?[bB]?)$/.exec(size) ?? [];
  const factor = { K: 1 / 1024, M: 1, G: 1024, T: 1024 ** 2 }[unit.toUpperCase() || 'M'] ?? 1;
  const memoryMiB = Math.floor(Number(digits) * factor);
  if (digits === '' || memoryMiB < 1) throw new Refusal(`${quoted(size)} is not a size of memory`);
  option.ignore('slots', 'maxmem');
  refuseRest(option);
  return [{ kind: 'memory', memoryMiB }];
}

function readSmp(value: string): readonly Wish[] {
  const option = new OptionText(value, 'cpus');
  const cpus = option.take('cpus');
  const parts = ['sockets', 'dies', 'clusters', 'cores', 'threads'].map((key) => option.take(key));
  option.ignore('maxcpus');
  refuseRest(option);
  const counts = (cpus === undefined ? parts : [cpus]).map((text) => Number(text ?? 1));
  const count = counts.reduce((product, factor) => product * factor, 1);
  if (Number.isInteger(count) && count >= 1 && count <= 512) return [{ kind: 'vcpus', count }];
  throw new Refusal(`${quoted(value)} is not a number of CPUs from 1 to 512`);
}

function readMachine(value: string): readonly Wish[] {
  const option = new OptionText(value, 'type');
  const machine = option.take('type');
  const accelerator = option.take('accel');
  option.ignore(...machineTuning);
  refuseRest(option);
  return [
    ...(machine === undefined ? [] : [{ kind: 'machine', machine } as const]),
    ...(accelerator === undefined
      ? []
      : [{ kind: 'accelerator', accelerator: readAccelerator(accelerator) } as const]),
  ];
}

/** `kvm:tcg` is the first of them that works. */
function readAccelerator(text: string): 'kvm' | 'tcg' | 'auto' {
  const known = text.split(':').filter((name) => name === 'kvm' || name === 'tcg');
  const [first] = known;
  if (first === undefined) throw new Refusal(`${quoted(text)} is not supported: use kvm or tcg`);
  return first === 'kvm' && known.includes('tcg') ? 'auto' : first;
}

const smbiosFields = ['manufacturer', 'product', 'version', 'serial', 'sku', 'family'] as const;

function readSmbios(value: string): readonly Wish[] {
  const option = new OptionText(value);
  if (option.take('file') !== undefined) {
    throw new Refusal('a file of tables is not read: write the texts of type=1');
  }
  if (option.take('type') !== '1') return [];
  // The machine's own id stays: by it the driver finds its process.
  option.ignore('uuid');
  const fields = smbiosFields.flatMap((key) => {
    const text = option.take(key);
    return text === undefined ? [] : [[key, readSmbiosText(text)] as const];
  });
  refuseRest(option);
  return [{ kind: 'smbios', fields: Object.fromEntries(fields) }];
}

/** A string of the table is short and printable. */
function readSmbiosText(text: string): string {
  if (/^[\x20-\x7e]{0,255}$/.test(text)) return text;
  throw new Refusal(`${quoted(text)} is not printable ASCII of at most 255 characters`);
}

function readClock(value: string): readonly Wish[] {
  const option = new OptionText(value);
  const base = option.take('base') ?? 'utc';
  option.ignore('clock', 'driftfix');
  refuseRest(option);
  if (base === 'utc' || base === 'localtime') return [{ kind: 'clock', base }];
  throw new Refusal(`${quoted(base)} is not supported: use base=utc or base=localtime`);
}

function readWatchdogAction(text: string): WatchdogAction {
  const action = watchdogActions.find((name) => name === text);
  if (action !== undefined) return action;
  if (text === 'shutdown') return 'poweroff';
  throw new Refusal(`${quoted(text)} is not supported: use ${watchdogActions.join(', ')}`);
}

import { type DiskBus, quoted } from '#spec';
import { refuseRest } from './machine-options.ts';
import { cardModels, readMac } from './network-options.ts';
import type { OptionText } from './option-text.ts';
import { deviceTuning } from './tuning-keys.ts';
import { Refusal, type Wish } from './wish.ts';

/** A card and its network. */
export function readCard(option: OptionText, driver: string): readonly Wish[] {
  const netdev = option.take('netdev');
  const mac = readMac(option.take('mac'));
  option.ignore('bootindex', 'vlan');
  option.ignore(...deviceTuning);
  refuseRest(option);
  return [{ kind: 'card', netdev, model: cardModels[driver], ...mac }];
}

/** The bus that a drive is on. */
export function readDriveDevice(
  option: OptionText,
  place: { readonly bus: DiskBus; readonly cdrom: boolean },
): readonly Wish[] {
  const drive = option.take('drive') ?? '';
  const serial = option.take('serial');
  const bootIndex = option.take('bootindex');
  checkSector(option.take('logical_block_size'));
  option.ignore(...deviceTuning);
  refuseRest(option);
  if (drive === '') throw new Refusal('names no drive');
  return [
    {
      kind: 'drive-device',
      drive,
      ...place,
      ...(serial === undefined ? {} : { serial }),
      ...(bootIndex === undefined ? {} : { bootIndex: Number(bootIndex) }),
    },
  ];
}

/** The partition table of a disk counts in its sectors. */
function checkSector(bytes: string | undefined): void {
  if (bytes === undefined || bytes === '512') return;
  throw new Refusal(
    `logical_block_size=${bytes} is not supported: disks have sectors of 512 bytes`,
  );
}

/** The name under which a directory is shared. */
export function readShareDevice(option: OptionText): readonly Wish[] {
  const fsdev = option.take('fsdev') ?? '';
  const tag = option.take('mount_tag') ?? '';
  option.ignore(...deviceTuning);
  refuseRest(option);
  return [{ kind: 'share-device', fsdev, tag }];
}

/** The port of the guest agent. */
export function readPort(option: OptionText): readonly Wish[] {
  const name = option.take('name') ?? '';
  const chardev = option.take('chardev');
  option.ignore('nr');
  option.ignore(...deviceTuning);
  refuseRest(option);
  if (name === 'org.qemu.guest_agent.0') return [{ kind: 'agent-port', chardev }];
  // Without SPICE its agent in the guest finds nothing to do.
  if (name === 'com.redhat.spice.0') return [];
  throw new Refusal(`the port ${quoted(name)} is not supported: only the guest agent has one`);
}

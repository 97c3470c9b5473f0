import { consoleOptions } from './console-options.ts';
import { deviceOption } from './device-options.ts';
import { driveOptions } from './drive-options.ts';
import { firmwareOptions } from './firmware-options.ts';
import { ignitionOption } from './ignition-option.ts';
import { kernelOptions } from './kernel-options.ts';
import { machineOptions } from './machine-options.ts';
import { networkOptions } from './network-options.ts';
import { refusedOptions } from './refused-options.ts';
import { shareOptions } from './share-options.ts';
import type { OptionKind } from './wish.ts';

/** Every option that is known: what it becomes, or what to write instead. */
export const optionKinds: readonly OptionKind[] = [
  ...machineOptions,
  ...firmwareOptions,
  ...driveOptions,
  ...networkOptions,
  deviceOption,
  ...shareOptions,
  ignitionOption,
  ...kernelOptions,
  {
    names: ['nodefaults'],
    becomes:
      'Without options for a network the guest has none. There are no default devices but the network in any case.',
    read: () => [{ kind: 'no-defaults' }],
  },
  ...consoleOptions,
  ...refusedOptions,
];

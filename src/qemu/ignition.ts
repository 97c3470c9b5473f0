import { option, optionText, type Part } from './part.ts';

/** Where Fedora CoreOS and Flatcar search for their configuration. */
const ignitionName = 'opt/com.coreos/config';

/** An Ignition configuration in QEMU's firmware configuration (fw_cfg), from a file that QEMU reads as it starts. */
export function ignitionConfig(path: string): Part {
  return {
    id: 'ignition',
    files: [],
    reads: [path],
    options: () => [option('fw_cfg', `name=${ignitionName},file=${optionText(path)}`)],
  };
}

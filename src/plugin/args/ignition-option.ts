import { quoted } from '#spec';
import { refuseRest } from './machine-options.ts';
import { OptionText } from './option-text.ts';
import { type OptionKind, Refusal } from './wish.ts';

/** The names by which Fedora CoreOS and Flatcar find their configuration. */
const names = ['opt/com.coreos/config', 'opt/org.flatcar-linux/config'];

export const ignitionOption: OptionKind = {
  names: ['fw_cfg'],
  value: 'name=opt/com.coreos/config,file=local/config.ign',
  becomes:
    '`user_data` for Ignition, a file by its rules or the text of `string`; the guest finds it as `opt/com.coreos/config`, and gets no seed for it. Other names are refused.',
  read: (value) => {
    const option = new OptionText(value, 'name');
    const name = option.take('name') ?? '';
    const userData = option.take('file') ?? option.take('string') ?? '';
    refuseRest(option);
    if (!names.includes(name)) {
      throw new Refusal(
        `${quoted(name)} is not supported: only ${names[0]} is; use the disk for other things`,
      );
    }
    if (userData === '') throw new Refusal('has no file');
    return [{ kind: 'ignition', userData }];
  },
};

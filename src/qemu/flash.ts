import { blockdev, option, type Part, type QemuOption } from './part.ts';

const code = 'firmware-code';
const vars = 'firmware-vars';

/** UEFI firmware in flash: code that is only read, and the VM's own variables. Files: `firmware-code`, `firmware-vars`. */
export function flash(): Part {
  return {
    id: 'firmware',
    files: [
      { role: code, as: { set: code } },
      { role: vars, as: { set: vars } },
    ],
    options: (at) => [
      ...unit(0, code, { path: at.path(code), readOnly: true }),
      ...unit(1, vars, { path: at.path(vars), readOnly: false }),
    ],
  };
}

function unit(
  number: 0 | 1,
  node: string,
  { path, readOnly }: { readonly path: string; readonly readOnly: boolean },
): readonly QemuOption[] {
  return [
    blockdev({
      driver: 'file',
      filename: path,
      'node-name': `${node}-file`,
      'read-only': readOnly,
    }),
    blockdev({ driver: 'raw', 'node-name': node, file: `${node}-file`, 'read-only': readOnly }),
    option('machine', `pflash${number}=${node}`),
  ];
}

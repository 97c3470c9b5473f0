import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { deviceKinds } from '../src/plugin/args/device-options.ts';
import { optionKinds } from '../src/plugin/args/options.ts';

export const argsReferencePath = join(resolve(import.meta.dirname, '..'), 'docs/migrating.md');

const begin = '<!-- args: written by npm run docs from src/plugin/args -->';
const end = '<!-- end of args -->';

/** The guide with its tables of arguments as the code has them. */
export function renderArgsReference(guide: string): string {
  const [before = '', rest = ''] = guide.split(begin);
  const [, after = ''] = rest.split(end);
  return [before, begin, '\n\n', tables(), '\n\n', end, after].join('');
}

function tables(): string {
  const options = optionKinds.map(({ names, value, becomes, read }) => {
    const example = value === undefined || value === '…' ? '' : ` ${value}`;
    const [first = '', ...others] = names.map((name) => `-${name}`);
    return row([`${first}${example}`, ...others], becomes, read !== undefined);
  });
  const devices = deviceKinds.map(({ drivers, becomes, read }) =>
    row(drivers, becomes, read !== undefined),
  );
  return [
    ['| Option | Here |', '| --- | --- |', ...options].join('\n'),
    ['| `-device` | Here |', '| --- | --- |', ...devices].join('\n'),
  ].join('\n\n');
}

function row(names: readonly string[], becomes: string, isRead: boolean): string {
  const shown = names.map((name) => `\`${name}\``).join(', ');
  return `| ${shown} | ${isRead ? '' : 'Refused: '}${becomes} |`;
}

/** Returns the path of the file. */
export function writeArgsReference(): string {
  const guide = readFileSync(argsReferencePath, 'utf8');
  writeFileSync(argsReferencePath, renderArgsReference(guide));
  return argsReferencePath;
}

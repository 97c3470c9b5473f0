import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { quoted } from '#spec';
import type { askVm } from '#vm';
import { pathFields } from '../agent/paths.ts';
import { PluginError } from '../error/plugin-error.ts';
import { parseSize, sizeForm } from '../hcl/size.ts';

const forms = {
  disk: 'disk resize ALLOC/TASK DISK SIZE, or nomad-driver-qmp disk backup ALLOC/TASK DISK FILE',
  screenshot: 'screenshot ALLOC/TASK FILE.png',
} as const;

type Kind = keyof typeof forms;
type Request = Parameters<typeof askVm>[0]['request'];

/** Whether the first argument makes a command line an operator's command. */
export function isOperatorCommand(first: string | undefined): first is Kind {
  return first !== undefined && Object.hasOwn(forms, first);
}

/**
 * `nomad-driver-qmp disk …` and `screenshot …`, which an operator runs beside the plugin: asks the plugin for something about
 * a VM that runs. Returns a sentence about the result. Throws PluginError 'invalid' for arguments of another form.
 */
export async function runOperatorCommand(
  kind: Kind,
  args: readonly string[],
  onProgress: (text: string) => void,
): Promise<string> {
  const { positionals, dataDir, limit } = parse(args);
  const [name = '', request] =
    kind === 'disk' ? readDisk(positionals, limit) : readScreenshot(positionals, limit);
  const task = taskOf(name);
  const { askVm } = await import('#vm');
  // The end of this process cancels what is not done yet.
  return askVm({ dataDir, task, request, onProgress }, new AbortController());
}

function misused(kind: Kind): PluginError {
  return new PluginError('invalid', `write nomad-driver-qmp ${forms[kind]}; --help has more`);
}

function readDisk(
  [verb, name, disk, last, ...more]: readonly string[],
  limit: string | undefined,
): readonly [name: string | undefined, request: Request] {
  if (disk === undefined || last === undefined || more.length > 0) throw misused('disk');
  if (verb === 'backup') {
    const speed = limit === undefined ? {} : { speed: bytesOf(limit) };
    // Of the directory that the operator is in.
    return [name, { command: verb, disk, path: resolve(last), ...speed }];
  }
  if (verb !== 'resize' || limit !== undefined) throw misused('disk');
  return [name, { command: verb, disk, bytes: bytesOf(last) }];
}

function readScreenshot(
  [name, file, ...more]: readonly string[],
  limit: string | undefined,
): readonly [name: string | undefined, request: Request] {
  const isPicture = file !== undefined && /[^/]\.png$/.test(file);
  if (!isPicture || more.length > 0 || limit !== undefined) throw misused('screenshot');
  return [name, { command: 'screenshot', path: resolve(file) }];
}

function bytesOf(text: string): number {
  const bytes = parseSize(text);
  if (bytes && Number.isSafeInteger(bytes)) return bytes;
  throw new PluginError('invalid', `${quoted(text)} is not a size: ${sizeForm}`);
}

function parse(args: readonly string[]) {
  try {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        'data-dir': { type: 'string', default: pathFields.data_dir.default },
        limit: { type: 'string' },
      },
    });
    return { positionals, dataDir: values['data-dir'], limit: values.limit };
  } catch (cause) {
    throw new PluginError('invalid', 'these arguments are not valid', { cause });
  }
}

/** An id of Nomad has digits, letters a to f, and dashes; the beginning of one is as `nomad status` shows it. */
function taskOf(name: string): { readonly alloc: string; readonly task: string | undefined } {
  const [, alloc, task] = /^([0-9a-f-]{4,36})(?:\/(.+))?$/.exec(name) ?? [];
  if (alloc !== undefined) return { alloc, task };
  const form =
    'the id of an allocation, or at least four characters of it, and the task: 1f6c2a10/vm';
  throw new PluginError('invalid', `${quoted(name)} is not ${form}`);
}

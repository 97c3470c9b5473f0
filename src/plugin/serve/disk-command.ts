import { parseArgs } from 'node:util';
import { quoted } from '#spec';
import { pathFields } from '../agent/paths.ts';
import { PluginError } from '../error/plugin-error.ts';
import { parseSize, sizeForm } from '../hcl/size.ts';

const forms = 'disk resize ALLOC/TASK DISK SIZE';

/**
 * `nomad-driver-qmp disk …`, which an operator runs beside the plugin: asks the plugin for a change to a VM that runs.
 * Returns a sentence about the result. Throws PluginError 'invalid' for words that are no such command.
 */
export async function runDiskCommand(
  words: readonly string[],
  onProgress: (text: string) => void,
): Promise<string> {
  const { positionals, dataDir } = parse(words);
  const [verb, name = '', disk, last, ...more] = positionals;
  if (verb !== 'resize' || disk === undefined || last === undefined || more.length > 0) {
    throw new PluginError('invalid', `write nomad-driver-qmp ${forms}; --help has more`);
  }
  const bytes = parseSize(last);
  if (!bytes || !Number.isSafeInteger(bytes)) {
    throw new PluginError('invalid', `${quoted(last)} is not a size: ${sizeForm}`);
  }
  const { askVm } = await import('#vm');
  const request = { command: verb, disk, bytes } as const;
  return askVm({ dataDir, task: taskOf(name), request, onProgress });
}

function parse(words: readonly string[]) {
  try {
    const { values, positionals } = parseArgs({
      args: [...words],
      allowPositionals: true,
      options: { 'data-dir': { type: 'string', default: pathFields.data_dir.default } },
    });
    return { positionals, dataDir: values['data-dir'] };
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

import { basename } from 'node:path';
import { parseArgs } from 'node:util';
import { quoted } from '#spec';
import { PluginError } from '../error/plugin-error.ts';

/** The `args` of the agent's plugin block. */
export interface Arguments {
  readonly driverName: string;
  readonly logFile: string | undefined;
  readonly version: boolean;
}

/** Names that jobs have for this driver; a plugin file of such a name answers to it. */
const fileNames: readonly string[] = ['virt', 'nomad-driver-virt'];
const usualName = 'virt';

/**
 * `argv0` is the path by which the agent started this process. Throws PluginError 'invalid' for an argument that is
 * unknown or malformed.
 */
export function readArguments(argv: readonly string[], argv0: string): Arguments {
  const { values } = parse(argv);
  const driverName =
    values['driver-name'] ?? fileNames.find((it) => it === basename(argv0)) ?? usualName;
  if (!/^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/.test(driverName)) {
    throw new PluginError(
      'invalid',
      `--driver-name: ${quoted(driverName)} is not a driver name: letters, digits, "-" and "_"`,
    );
  }
  return { driverName, logFile: values['log-file'], version: values.version };
}

function parse(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      options: {
        'driver-name': { type: 'string' },
        'log-file': { type: 'string' },
        version: { type: 'boolean', default: false },
      },
    });
  } catch (cause) {
    throw new PluginError('invalid', 'these arguments are not valid', { cause });
  }
}

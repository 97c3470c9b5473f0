import { parseArgs } from 'node:util';
import { quoted } from '#spec';
import { PluginError } from '../error/plugin-error.ts';

/** The `args` of the agent's plugin block. */
export interface Arguments {
  readonly driverName: string;
  readonly logFile: string | undefined;
  readonly version: boolean;
}

/** Throws PluginError 'invalid' for an argument that is unknown or malformed. */
export function readArguments(argv: readonly string[]): Arguments {
  const { values } = parse(argv);
  const driverName = values['driver-name'];
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
        'driver-name': { type: 'string', default: 'virt' },
        'log-file': { type: 'string' },
        version: { type: 'boolean', default: false },
      },
    });
  } catch (cause) {
    throw new PluginError('invalid', 'these arguments are not valid', { cause });
  }
}

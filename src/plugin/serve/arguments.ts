import { basename } from 'node:path';
import { parseArgs } from 'node:util';
import { quoted } from '#spec';
import { PluginError } from '../error/plugin-error.ts';

/** The `args` of the agent's plugin block. */
export interface Arguments {
  readonly driverName: string;
  readonly logFile: string | undefined;
  readonly help: boolean;
  readonly version: boolean;
}

/** What `--help` prints. */
export const usage = `nomad-driver-qmp is a task driver of the Nomad agent that runs virtual machines with QEMU.
The agent starts it: put the file into plugin_dir, and a block plugin "nomad-driver-qmp" { } into the agent's configuration.

Arguments, as args = ["…"] in that block or by hand:
  --driver-name NAME  the driver's name in jobs; else the file's name where it is nomad-driver-virt
                      or qemu, else virt; as qemu it takes the jobs of Nomad's builtin driver
  --log-file PATH     write the log to this file as well
  --version           print the version
  --help              print this text

Commands of an operator, as root on the host where the VM runs:
  disk resize ALLOC/TASK DISK SIZE    make a disk of a running VM larger, e.g. 1f6c2a10/vm vda 20GiB
  disk backup ALLOC/TASK DISK FILE    make a qcow2 file of a disk as it is now, while the guest goes on
  screenshot ALLOC/TASK FILE.png      make a file of what the screen of a running VM shows
  --limit SIZE                        of a backup: bytes per second at most, e.g. 50MiB
  --data-dir DIR                      data_dir of the plugin where that is not the usual one
`;

/** Names that jobs have for this driver; a plugin file of such a name answers to it. */
const fileNames: readonly string[] = ['virt', 'nomad-driver-virt', 'qemu'];
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
  const { 'log-file': logFile, help, version } = values;
  return { driverName, logFile, help, version };
}

const known = 'the arguments are --driver-name NAME, --log-file PATH, --version and --help';

function parse(argv: readonly string[]) {
  const { values, positionals } = parseAll(argv);
  const [other] = positionals;
  if (other === undefined) return { values };
  const text = `${quoted(other)} is not known: ${known}, the commands of an operator disk and screenshot`;
  throw new PluginError('invalid', text);
}

function parseAll(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      allowPositionals: true,
      options: {
        'driver-name': { type: 'string' },
        'log-file': { type: 'string' },
        help: { type: 'boolean', short: 'h', default: false },
        version: { type: 'boolean', default: false },
      },
    });
  } catch (cause) {
    throw new PluginError('invalid', known, { cause });
  }
}

import { findProgram, PerFile, runProgram, within } from '#host';
import type { Emulator } from '#qemu';
import type { Waiting } from '#spec';
import { messageOf, VmError } from '../../error.ts';

export interface ShareTools {
  readonly kind: 'virtiofs' | '9p' | 'none';
  readonly virtiofsd: string | undefined;
  /**
   * The C program of old QEMU releases has other options than its Rust successor, which supports `--readonly` since
   * 1.13.
   */
  readonly dialect: 'c' | 'rust' | 'rust-readonly';
  /** Why it is not virtiofs, where that is a problem of the host; why there are no shares. */
  readonly reason: string;
}

const dialects = new PerFile<ShareTools['dialect']>();
const helpMs = 5000;

/** How this host can share directories; a virtiofsd whose --help fails is not used. */
export async function shareTools(
  emulator: Emulator,
  waiting: Waiting,
  options: { readonly path?: string } = {},
): Promise<ShareTools> {
  const virtiofsd = emulator.virtioFs
    ? findProgram('virtiofsd', ['/usr/lib/qemu'], options.path)
    : undefined;
  const without = { virtiofsd: undefined, dialect: 'rust' } as const;
  let reason = '';
  if (virtiofsd !== undefined) {
    try {
      const dialect = await dialects.get(
        virtiofsd,
        (shared) => findDialect(virtiofsd, shared),
        waiting,
      );
      return { kind: 'virtiofs', virtiofsd, dialect, reason: '' };
    } catch (error) {
      // The signal's reason names no program.
      const what = error === waiting.signal.reason ? `running ${virtiofsd}: ` : '';
      reason = `${what}${messageOf(error)}`;
    }
  }
  if (emulator.ninePfs) return { ...without, kind: '9p', reason };
  const nothing = 'this host has neither virtiofsd nor a QEMU with 9p; install virtiofsd';
  return { ...without, kind: 'none', reason: reason || nothing };
}

async function findDialect(program: string, waiting: Waiting): Promise<ShareTools['dialect']> {
  using limited = within(helpMs, waiting);
  const help = await runProgram({ program, args: ['--help'] }, limited);
  if (help.code === 0) return dialectOf(`${help.stdout}${help.stderr}`);
  const reason = help.stderr.trim().split('\n')[0] ?? '';
  throw new VmError('host', `${program} --help: exit ${help.code ?? help.signal}: ${reason}`);
}

/** By the options that the program's help lists. */
export function dialectOf(help: string): ShareTools['dialect'] {
  if (!help.includes('--shared-dir')) return 'c';
  return help.includes('--readonly') ? 'rust-readonly' : 'rust';
}

/** Read-only shares are read-only by their mount; where virtiofsd can refuse writes as well, it does. */
export function virtiofsdArguments(
  path: string,
  { dialect, readOnly }: { readonly dialect: ShareTools['dialect']; readonly readOnly: boolean },
): readonly string[] {
  if (dialect === 'c') {
    return ['--fd=3', '-o', `source=${path}`, '-o', 'sandbox=namespace', '-o', 'cache=auto', '-f'];
  }
  return [
    ...['--fd=3', `--shared-dir=${path}`, '--sandbox=namespace', '--cache=auto'],
    ...(dialect === 'rust-readonly' && readOnly ? ['--readonly'] : []),
  ];
}

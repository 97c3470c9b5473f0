import { quoted } from '#spec';
import type { Decoded } from '../../hcl/schema.ts';
import type { Job } from '../job.ts';
import type { builtinFields } from './fields.ts';

/** Reports the options that the operator does not allow, as the builtin driver does. */
export function readArgs(
  { args }: Pick<Decoded<typeof builtinFields>, 'args'>,
  { builtin, report }: Job,
): void {
  const allowed = new Set(builtin?.args ?? []);
  for (const [index, arg] of args.entries()) {
    if (allowed.size > 0 && arg.trim().startsWith('-') && !allowed.has(arg)) {
      report(`args[${index}]`, `${quoted(arg)} is not in args_allowlist`);
    }
  }
  if (args.length > 0) report('args', 'are not supported yet');
}

import type { NomadParts } from './nomad-parts.ts';
import type { Report } from './report.ts';

/** What the first process of the demo passes to the one inside the namespaces. */
export interface DemoParts {
  readonly startedAtMs: number;
  readonly step: number;
  /** The guest's disk image; only ever read. */
  readonly image: string;
  readonly nomad: NomadParts | undefined;
}

/** What both kinds of demo work with. */
export interface Stage {
  readonly report: Report;
  /** A directory of its own that is removed afterwards. */
  readonly dir: string;
  readonly image: string;
  /** Aborts at Ctrl-C. */
  readonly signal: AbortSignal;
}

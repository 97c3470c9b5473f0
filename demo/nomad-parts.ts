import { execFileSync } from 'node:child_process';
import { findProgram } from '#host';
import { build } from '../scripts/build.ts';
import { hasGo, nomadAgent } from '../scripts/setup/nomad-agent.ts';
import type { Report } from './report.ts';

/** The two programs that the job's demo runs. */
export interface NomadParts {
  readonly agent: string;
  readonly plugin: string;
}

/** Finds or builds both, before the network that sources come from is left. */
export async function prepareNomad(report: Report): Promise<NomadParts> {
  report.step('The plugin: one file with everything in it');
  const plugin = await build();
  report.line(plugin);
  report.step('A Nomad agent');
  const agent = findAgent();
  report.line(`${agent}: ${versionOf(agent)}`);
  return { agent, plugin };
}

function findAgent(): string {
  const installed = process.env.NOMAD_BIN || findProgram('nomad');
  if (installed) return installed;
  if (hasGo()) return nomadAgent();
  throw new Error(
    'there is no nomad on PATH, $NOMAD_BIN is not set, and there is no Go to build one with: install one of the two',
  );
}

function versionOf(agent: string): string {
  try {
    return execFileSync(agent, ['version'], { encoding: 'utf8' }).split('\n')[0] ?? '';
  } catch (cause) {
    throw new Error(`${agent} does not run: ${cause instanceof Error ? cause.message : cause}`, {
      cause,
    });
  }
}

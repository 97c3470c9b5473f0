import { readFileSync } from 'node:fs';
import type { ClientTopology } from './gen/base_pb.ts';

/** Of the whole node; what CPU ticks are reckoned with. */
export interface Compute {
  readonly cores: number;
  readonly totalMHz: number;
}

/** As Nomad sees the node; undefined when it did not say (before 1.7). */
export function computeOf(topology: ClientTopology | undefined): Compute | undefined {
  if (topology === undefined || topology.cores.length === 0) return undefined;
  const sum = topology.cores.reduce(
    (total, core) => total + Number(core.baseSpeed || core.maxSpeed || core.guessSpeed),
    0,
  );
  const override = Number(topology.overrideTotalCompute);
  return { cores: topology.cores.length, totalMHz: override > 0 ? override : sum };
}

/** From the kernel's own words, for agents that tell no topology. */
export function hostCompute(cpuinfo = '/proc/cpuinfo'): Compute | undefined {
  let text: string;
  try {
    text = readFileSync(cpuinfo, 'utf8');
  } catch {
    return undefined;
  }
  const speeds = [...text.matchAll(/^cpu MHz\s*:\s*([\d.]+)/gm)].map((it) => Number(it[1]));
  if (speeds.length === 0) return undefined;
  return { cores: speeds.length, totalMHz: speeds.reduce((sum, it) => sum + it, 0) };
}

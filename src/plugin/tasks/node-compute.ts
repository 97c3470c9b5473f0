import { cpuSpeedsMHz } from '#host';
import type { ClientTopology } from '../gen/base_pb.ts';

/** Of the whole node; CPU ticks are calculated from it. */
export interface Compute {
  readonly cores: number;
  readonly totalMHz: number;
}

/** From Nomad's topology of the node, which it sends since 1.7. */
export function computeOf(topology: ClientTopology | undefined): Compute | undefined {
  if (topology === undefined || topology.cores.length === 0) return undefined;
  const sum = topology.cores.reduce(
    (total, core) => total + Number(core.baseSpeed || core.maxSpeed || core.guessSpeed),
    0,
  );
  const override = Number(topology.overrideTotalCompute);
  return { cores: topology.cores.length, totalMHz: override > 0 ? override : sum };
}

/** From the kernel, for agents that send no topology. */
export function hostCompute(): Compute | undefined {
  const speeds = cpuSpeedsMHz();
  if (speeds.length === 0) return undefined;
  return { cores: speeds.length, totalMHz: speeds.reduce((sum, speed) => sum + speed, 0) };
}

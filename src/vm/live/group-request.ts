import { groupEnv } from '#spec';
import type { VmRecord } from '../store/record.ts';
import type { ExecRequest } from '../virtualizer.ts';

/** The request with what a guest in the network of its group is given of that. */
export function withGroupEnv(
  request: ExecRequest,
  { devices }: Pick<VmRecord, 'devices'>,
): ExecRequest {
  const nic = devices.find((device) => device.kind === 'group-nic');
  if (nic === undefined) return request;
  const { env } = request;
  return { ...request, env: { ...env, ...groupEnv(env, nic) } };
}

import { type CommandWay, WayMissing } from './way.ts';

/** ssh where the start of the VM did not prepare it. */
export function noSsh(reason: string): CommandWay {
  return {
    recover: () => {},
    end: async () => {},
    start: () => Promise.reject(new WayMissing(reason)),
  };
}

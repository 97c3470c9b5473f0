import { withNetns } from '#host';

/** Runs `run` in the network namespace of a responder's link, where that is not this process's own. */
export function inNetns<T>(netns: string | undefined, run: () => T): T {
  return netns === undefined ? run() : withNetns(netns, run);
}

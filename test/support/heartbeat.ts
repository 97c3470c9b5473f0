import { setTimeout as sleep } from 'node:timers/promises';
import { Health } from '../../src/plugin/gen/health_pb.ts';
import type { PluginClient } from './plugin-client.ts';

const beatMs = 20;

/**
 * How late a plugin answers health checks while something goes on, in ms, beyond what another plugin that is left alone
 * needs in the same moment: the machine has other work, and that holds up both.
 */
export async function latenessDuring(
  clients: { readonly attacked: PluginClient; readonly control: PluginClient },
  work: () => Promise<unknown>,
): Promise<{ readonly excessMs: number; readonly attackedMs: number; readonly controlMs: number }> {
  let [excessMs, attackedMs, controlMs, over] = [0, 0, 0, false];
  const beats: Promise<void>[] = [];
  const beat = async (): Promise<void> => {
    const [attacked, control] = await Promise.all([
      answerMs(clients.attacked),
      answerMs(clients.control),
    ]);
    excessMs = Math.max(excessMs, attacked - control);
    attackedMs = Math.max(attackedMs, attacked);
    controlMs = Math.max(controlMs, control);
  };
  const done = work().finally(() => {
    over = true;
  });
  done.catch(() => {}); // awaited below
  while (!over) {
    beats.push(beat());
    await sleep(beatMs);
  }
  await Promise.all(beats);
  await done;
  return { excessMs, attackedMs, controlMs };
}

async function answerMs(client: PluginClient): Promise<number> {
  const begun = performance.now();
  await client.call(Health.method.check, { service: 'plugin' });
  return performance.now() - begun;
}

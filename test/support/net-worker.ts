/**
 * A plugin process for network tests. `net-worker.ts <dir> churn <name> <rounds>` starts and ends VMs; `… crash <vm>
 * <step> <before|after>` is killed at that step of an attach.
 */
import { closeFd } from '#host';
import type { NetUndo } from '#net';
import { built, Host, waiting } from './networks.ts';

const [dir = '', verb = '', name = '', number = '0', moment = ''] = process.argv.slice(2);
const host = Host.at(dir);
if (verb === 'churn') await churn(name, Number(number));
else await crash(name, Number(number), moment);
await host.networks[Symbol.asyncDispose]();

async function churn(prefix: string, rounds: number): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    const vms = [0, 1, 2].map((each) => `${prefix}-${round}-${each}`);
    const nics = await Promise.all(vms.map((vm) => host.attach(vm)));
    console.log(nics.map(({ address }) => address?.ip).join(' '));
    for (const { tapFd } of nics) closeFd(tapFd);
    await Promise.all(vms.map((vm) => host.detach(vm)));
  }
}

async function crash(vm: string, step: number, when: string): Promise<void> {
  const undo = await host.undoLog(vm);
  let at = 0;
  const perform = async <T>(what: NetUndo, action: () => T | Promise<T>): Promise<T> => {
    at += 1;
    await undo.note(what);
    if (at === step && when === 'before') process.kill(process.pid, 'SIGKILL');
    const result = await action();
    if (at === step) process.kill(process.pid, 'SIGKILL');
    return result;
  };
  const ports = [{ label: 'web', hostIp: '', hostPort: 8080, guestPort: 80 }];
  const request = { kind: 'bridge', vm, index: 0, bridge: 'virbr0', ports, hostname: vm } as const;
  const nic = await built(host.networks, request, { perform });
  await nic.settle(waiting());
}

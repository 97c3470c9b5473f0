import { findProgram } from '#host';
import { heldFiles } from '#qemu';
import type { VmSpec, Waiting } from '#spec';
import { VmError } from '../error.ts';
import { newKeyPair } from '../ssh/key-pair.ts';
import { writeSshFiles } from '../ssh/ssh-files.ts';
import { uuidOf } from '../store/paths.ts';
import { claimUid } from '../store/uid.ts';
import type { VmHost } from '../vm-host.ts';
import type { Prepared, Site } from './device.ts';

/** At its end a line of root's authorized keys in the guest is known as the driver's. */
const comment = 'nomad-driver-qmp';

/**
 * What the host's ssh needs to run commands in the guest: a key of the VM, and the guest's host key, which is known
 * because it is made here. Nothing where ssh can't be used; with `exec.via` it then throws VmError.
 */
export async function prepareSsh(
  { exec, seed }: Pick<VmSpec, 'exec' | 'seed'>,
  nics: readonly Prepared[],
  { host, site }: { readonly host: Pick<VmHost, 'dataDir' | 'uidRange'>; readonly site: Site },
  waiting: Waiting,
): Promise<readonly Prepared[]> {
  if (exec?.via === 'agent') return [];
  const program = findProgram('ssh');
  const reached = seed === false ? undefined : addressOf(nics);
  if (program === undefined || reached === undefined) {
    if (exec?.via !== 'ssh') return [];
    throw program === undefined ? noProgram() : noAddress();
  }
  const { address, gateway } = reached;
  const { vm, paths, undo } = site;
  const uid = await claimUid(
    vm,
    { dir: `${host.dataDir}/uids`, range: host.uidRange },
    (file, make) => undo.perform({ kind: 'uid', file, name: vm }, make),
    waiting,
  );
  const own = newKeyPair(comment);
  const hostKey = newKeyPair(vm);
  const alias = uuidOf(paths.dir);
  const restricted = `restrict,pty${gateway === undefined ? '' : `,from="${gateway}"`}`;
  return [
    {
      part: heldFiles('ssh', []),
      record: { kind: 'ssh', id: 'ssh', uid, program, address },
      guest: { ssh: { hostKey, authorizedKey: `${restricted} ${own.public}` } },
      finish: async () => {
        const files = { uid, alias, privateKey: own.private, hostKey: hostKey.public };
        await undo.perform({ kind: 'process', mark: alias, program, uid }, () =>
          writeSshFiles(paths, files),
        );
        return [];
      },
    },
  ];
}

/** The first that the host knows, and has a route to: in a managed network, where it is the gateway. */
function addressOf(
  nics: readonly Prepared[],
): { readonly address: string; readonly gateway: string | undefined } | undefined {
  for (const { record, guest } of nics) {
    if (record.kind !== 'nic' || record.ip === undefined) continue;
    return { address: record.ip, gateway: guest?.nics?.[0]?.gateway };
  }
  return undefined;
}

function noProgram(): VmError {
  const text = 'exec.via: there is no ssh on this host: install the package openssh-client';
  return new VmError('host', text, { recoverable: true });
}

function noAddress(): VmError {
  const text =
    'exec.via: ssh needs the seed, and an address that the host knows: add a network_interface in a managed network';
  return new VmError('job', text);
}

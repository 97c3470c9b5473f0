import type { SeedSsh } from '#cloudinit';
import { findProgram } from '#host';
import { heldFiles } from '#qemu';
import type { VmSpec, Waiting } from '#spec';
import { VmError, withVmError } from '../error.ts';
import { newKeyPair } from '../ssh/key-pair.ts';
import { writeSshFiles } from '../ssh/ssh-files.ts';
import { uuidOf } from '../store/paths.ts';
import { claimUid } from '../store/uid.ts';
import type { VmHost } from '../vm-host.ts';
import { type Facts, factsOf, type Prepared, type Site } from './device.ts';
import { once } from './once.ts';

/** At its end a line of root's authorized keys in the guest is known as the driver's. */
const comment = 'nomad-driver-qmp';

interface SshParts {
  readonly host: Pick<VmHost, 'dataDir' | 'uidRange'>;
  readonly site: Pick<Site, 'vm' | 'paths' | 'undo'>;
}

/**
 * What the host's ssh needs to run commands in the guest: a key of the VM, and the guest's host key, which is known
 * because it is made here. Nothing where ssh can't be used; with `exec.via` it then throws VmError, or its facts do.
 */
export function prepareSsh(
  { exec, seed }: Pick<VmSpec, 'exec' | 'seed'>,
  nics: readonly Prepared[],
  { host, site }: SshParts,
  waiting: Waiting,
): readonly Prepared[] {
  if (exec?.via === 'agent') return [];
  const wanted = exec?.via === 'ssh';
  const program = findProgram('ssh');
  if (program === undefined || seed === false) {
    if (!wanted) return [];
    throw program === undefined ? noProgram() : noAddress();
  }
  const alias = uuidOf(site.paths.dir);
  const access = once(async () => {
    const reached = addressOf(await factsOf(nics));
    if (reached !== undefined) return withVmError(() => accessAt(reached, { host, site }, waiting));
    if (wanted) throw noAddress();
    return undefined;
  });
  return [
    {
      part: heldFiles('ssh', []),
      facts: once(async () => {
        const made = await access();
        if (made === undefined) return undefined;
        const { uid, address, hostKey, authorizedKey } = made;
        return {
          record: { kind: 'ssh', id: 'ssh', uid, program, address },
          guest: { ssh: { hostKey, authorizedKey } },
        };
      }),
      finish: async () => {
        const made = await access();
        if (made === undefined) return [];
        const { uid, privateKey, hostKey } = made;
        const files = { uid, alias, privateKey, hostKey: hostKey.public };
        await site.undo.perform({ kind: 'process', mark: alias, program, uid }, () =>
          writeSshFiles(site.paths, files),
        );
        return [];
      },
    },
  ];
}

interface Reached {
  readonly address: string;
  readonly hostAddress: string | undefined;
}

interface Access {
  /** User that ssh runs as on the host. */
  readonly uid: number;
  readonly address: string;
  readonly privateKey: string;
  readonly hostKey: SeedSsh['hostKey'];
  readonly authorizedKey: string;
}

async function accessAt(
  { address, hostAddress }: Reached,
  { host, site }: SshParts,
  waiting: Waiting,
): Promise<Access> {
  const { vm, undo } = site;
  const uid = await claimUid(
    vm,
    { dir: `${host.dataDir}/uids`, range: host.uidRange },
    (file, make) => undo.perform({ kind: 'uid', file, name: vm }, make),
    waiting,
  );
  const own = newKeyPair(comment);
  const hostKey = newKeyPair(vm);
  const restricted = `restrict,pty${hostAddress === undefined ? '' : `,from="${hostAddress}"`}`;
  const authorizedKey = `${restricted} ${own.public}`;
  return { uid, address, privateKey: own.private, hostKey, authorizedKey };
}

/** The first that the host knows: in a managed network, where it is the gateway, or the job's on a bridge of others. */
function addressOf(nics: readonly Facts[]): Reached | undefined {
  for (const { record, hostAddress } of nics) {
    if (record.kind !== 'nic' || record.ip === undefined) continue;
    return { address: record.ip, hostAddress };
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

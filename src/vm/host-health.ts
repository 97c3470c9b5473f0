import { access, constants } from 'node:fs/promises';
import { release } from 'node:os';
import { dirname } from 'node:path';
import { endsWithin, findProgram, nativeArch, type VhostVerdict, vhostNet } from '#host';
import { type Emulator, findEmulators, probeKvmForVms, usableFirmware } from '#qemu';
import type { Waiting } from '#spec';
import { shareTools } from './devices/shares/share-tools.ts';
import { messageOf } from './error.ts';
import type { VirtualizerInfo } from './virtualizer.ts';
import type { VmHost } from './vm-host.ts';

/**
 * Maximum wait for the probe of KVM, which takes seconds where KVM is broken: the first fingerprint must not wait for
 * it.
 */
const maxProbeWaitMs = 300;

/** What this host can do and what is wrong with it, in sentences that name the remedy. */
export async function describeHost(host: VmHost, waiting: Waiting): Promise<VirtualizerInfo> {
  const { usable: emulators, broken } = await findEmulators(waiting);
  const hostArch = nativeArch() ?? 'x86_64';
  const native = emulators.find(({ arch }) => arch === hostArch);
  const main = native ?? emulators[0];
  if (main === undefined && broken.length > 0) {
    const description = broken.map(({ reason }) => reason).join('; ');
    return { detected: true, healthy: false, description, attributes: {} };
  }
  if (main === undefined) {
    return {
      detected: false,
      healthy: false,
      description: `no QEMU found: install qemu-system-${hostArch} and make sure that it is on the agent's PATH`,
      attributes: {},
    };
  }
  const problems = [
    ...(await hostProblems(host)),
    ...broken.flatMap(({ arch, reason }) => (arch === hostArch ? [reason] : [])),
    ...emulators.flatMap(tooOld),
  ];
  return {
    detected: true,
    healthy: problems.length === 0,
    description: problems.length === 0 ? 'Healthy' : problems.join('; '),
    attributes: {
      ...emulatorAttributes(main, emulators),
      ...(await kvmAttributes(host, main, waiting)),
      ...vhostAttributes(await vhostNet()),
      'emulator.shares': (await shareTools(main, waiting)).kind,
      ...(await host.networks.fingerprint(waiting)),
    },
  };
}

/** The first release whose `-device` takes JSON. */
const minVersion = 6_002_000;

function tooOld({ path, version, versionNumber }: Emulator): readonly string[] {
  if (versionNumber >= minVersion) return [];
  return [`${path} is version ${version}: QEMU 6.2 or newer is required`];
}

async function hostProblems({ dataDir }: VmHost): Promise<readonly string[]> {
  const problems: string[] = [];
  if (process.getuid?.() !== 0)
    problems.push('the agent does not run as root, which taps and user ids require');
  if (findProgram('nft') === undefined) problems.push('nft was not found: install nftables');
  if (isOldKernel(release())) {
    problems.push(`the kernel is ${release()}: Linux 5.6 or newer is required`);
  }
  try {
    await access('/dev/net/tun', constants.R_OK | constants.W_OK);
  } catch {
    problems.push('/dev/net/tun cannot be opened: load the kernel module tun');
  }
  try {
    await access(await nearestExisting(dataDir), constants.W_OK);
  } catch (error) {
    problems.push(`data_dir ${dataDir} is not writable: ${messageOf(error)}`);
  }
  return problems;
}

/** Linux 5.6 is the first kernel with openat2, which opens images. */
export function isOldKernel(release: string): boolean {
  const [major = 0, minor = 0] = release.split('.').map((part) => Number.parseInt(part, 10));
  return major < 5 || (major === 5 && minor < 6);
}

/** The directory itself, or its nearest ancestor that exists. */
async function nearestExisting(path: string): Promise<string> {
  try {
    await access(path);
    return path;
  } catch (error) {
    if (dirname(path) === path) throw error;
    return nearestExisting(dirname(path));
  }
}

function emulatorAttributes(
  main: Emulator,
  all: readonly Emulator[],
): Readonly<Record<string, string | number | boolean>> {
  return {
    'emulator.version': main.versionNumber,
    'emulator.version.readable': main.version,
    'emulator.machine': main.defaultMachine,
    'emulator.archs': all.map(({ arch }) => arch).join(','),
    'emulator.uefi': usableFirmware(main) !== undefined,
  };
}

export function vhostAttributes(verdict: VhostVerdict): Readonly<Record<string, string | boolean>> {
  return { vhost_net: verdict.usable, 'vhost_net.reason': verdict.usable ? '' : verdict.reason };
}

async function kvmAttributes(
  host: VmHost,
  main: Emulator,
  waiting: Waiting,
): Promise<Readonly<Record<string, string | boolean>>> {
  const probe = probeKvmForVms(main, host.uidRange, waiting).catch((error: unknown) => ({
    usable: false,
    reason: messageOf(error),
  }));
  if (!(await endsWithin(probe, maxProbeWaitMs))) return {};
  const known = await probe;
  return {
    'emulator.kvm': known.usable,
    'emulator.accelerator': known.usable ? 'kvm' : 'tcg',
    'emulator.kvm.reason': known.usable ? '' : known.reason,
  };
}

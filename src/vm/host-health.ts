import { access, constants } from 'node:fs/promises';
import { release } from 'node:os';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { findProgram, nativeArch } from '#host';
import { type Emulator, findEmulators, probeKvmForVms, usableFirmware } from '#qemu';
import type { Waiting } from '#spec';
import { shareTools } from './devices/share-tools.ts';
import { messageOf } from './error.ts';
import type { VirtualizerInfo } from './virtualizer.ts';
import type { VmHost } from './vm-host.ts';

/** The first fingerprint must not wait for the probe of KVM, which takes seconds where KVM is broken. */
const probePatienceMs = 300;

/** What this host can do and what is wrong with it, in words an operator can act on. */
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
      description: `no QEMU found: install qemu-system-${hostArch} and see that it is on the agent's PATH`,
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
      'emulator.shares': (await shareTools(main, waiting)).kind,
      ...(await host.networks.fingerprint(waiting)),
    },
  };
}

/** `-device` takes JSON since then. */
const oldestVersion = 6_002_000;

function tooOld({ path, version, versionNumber }: Emulator): readonly string[] {
  if (versionNumber >= oldestVersion) return [];
  return [`${path} is version ${version}: QEMU 6.2 or newer is needed`];
}

async function hostProblems({ dataDir }: VmHost): Promise<readonly string[]> {
  const problems: string[] = [];
  if (process.getuid?.() !== 0)
    problems.push('the agent does not run as root, which taps and users need');
  if (findProgram('nft') === undefined) problems.push('nft was not found: install nftables');
  if (isOldKernel(release())) {
    problems.push(`the kernel is ${release()}: Linux 5.6 or newer is needed`);
  }
  try {
    await access('/dev/net/tun', constants.R_OK | constants.W_OK);
  } catch {
    problems.push('/dev/net/tun can not be opened: load the kernel module tun');
  }
  try {
    await access(await existing(dataDir), constants.W_OK);
  } catch (error) {
    problems.push(`data_dir ${dataDir} can not be written to: ${messageOf(error)}`);
  }
  return problems;
}

/** openat2, which images are opened with, came with 5.6. */
export function isOldKernel(release: string): boolean {
  const [major = 0, minor = 0] = release.split('.').map((it) => Number.parseInt(it, 10));
  return major < 5 || (major === 5 && minor < 6);
}

/** The directory itself, or the nearest one above it that exists. */
async function existing(path: string): Promise<string> {
  try {
    await access(path);
    return path;
  } catch (error) {
    if (dirname(path) === path) throw error;
    return existing(dirname(path));
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
    'emulator.archs': all.map((it) => it.arch).join(','),
    'emulator.uefi': usableFirmware(main) !== undefined,
  };
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
  const known = await Promise.race([probe, sleep(probePatienceMs)]);
  if (known === undefined) return {};
  return {
    'emulator.kvm': known.usable,
    'emulator.accelerator': known.usable ? 'kvm' : 'tcg',
    'emulator.kvm.reason': known.usable ? '' : known.reason,
  };
}

import { readFileSync } from 'node:fs';
import type { Arch } from '#spec';

const archNames: Readonly<Record<string, Arch>> = { x64: 'x86_64', arm64: 'aarch64' };

/** The architecture of this host; undefined for one that the driver does not support. */
export function nativeArch(): Arch | undefined {
  return archNames[process.arch];
}

/** The current clock of each processor as the kernel reports it; empty where it doesn't (on ARM). */
export function cpuSpeedsMHz(): readonly number[] {
  const text = readFileSync('/proc/cpuinfo', 'utf8');
  return [...text.matchAll(/^cpu MHz\s*:\s*([\d.]+)/gm)].map(([, speed]) => Number(speed));
}

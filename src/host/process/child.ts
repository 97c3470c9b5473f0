import { constants } from 'node:fs';
import { constants as system } from 'node:os';
import { closeLater } from '../files/aside.ts';
import { setNonBlocking } from '../files/descriptor.ts';
import { attempt, must, mustReturnZero } from '../native/libc.ts';
import { asUser } from './credentials.ts';
import { type ProcessLimits, startLimited } from './limits.ts';

/** A program in a session of its own. */
export interface ChildOptions {
  /** Absolute path. */
  readonly program: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd?: string | undefined;
  /** This process's own when left out. */
  readonly user?: { readonly uid: number; readonly gid: number } | undefined;
  /** Soft limits; this process's own when left out. */
  readonly limits?: ProcessLimits;
  /** Number n of the list becomes descriptor n; `ignore`: /dev/null. */
  readonly stdio: readonly (number | 'ignore')[];
}

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** More than glibc's opaque structures have in any of its versions. */
const structureBytes = 1024;
const signalSetBytes = 128;
const flags = { defaultSignals: 0x04, signalMask: 0x08, session: 0x80 } as const;
const duplicateCloexec = 1030;
const noHang = 1;

/**
 * Starts a program by posix_spawn, which lends it this process's memory until it is executed. Node's own spawn forks: that
 * copies the page tables of all memory, and afterwards each page that is written to. Returns its pid, to be given to
 * `exitOf` at once. Throws HostError.
 */
export function startChild(options: ChildOptions): number {
  const { program, args, env, cwd, user, limits = {}, stdio } = options;
  const what = `starting ${program}`;
  const duplicates: number[] = [];
  const actions = Buffer.alloc(structureBytes);
  const attributes = Buffer.alloc(structureBytes);
  // Numbers in the new program are taken from 0 on: what has a greater one here is used before it is overwritten.
  const duplicateAbove = (fd: number): number => {
    const duplicate = must(what, 'fcntl', fd, duplicateCloexec, stdio.length);
    duplicates.push(duplicate);
    return duplicate;
  };
  mustReturnZero(what, 'spawnActionsInit', actions);
  mustReturnZero(what, 'spawnAttributesInit', attributes);
  try {
    for (const [number, fd] of stdio.entries()) {
      if (fd === 'ignore') placeNull(number, actions);
      else {
        place(fd > number ? fd : duplicateAbove(fd), number, actions);
      }
    }
    if (cwd !== undefined) mustReturnZero(what, 'spawnActionsAddChdir', actions, cwd);
    setAttributes(what, attributes);
    const pid = Buffer.alloc(4);
    const argv = [program, ...args, null];
    const envp = [...Object.entries(env).map(([name, value]) => `${name}=${value}`), null];
    const start = (): void =>
      mustReturnZero(what, 'posixSpawn', pid, program, actions, attributes, argv, envp);
    // This process has the limits meanwhile. With more files open than they allow it could open no further one.
    startLimited(limits, () => (user === undefined ? start() : asUser(user, start)));
    return pid.readInt32LE();
  } finally {
    attempt('spawnActionsDestroy', actions);
    attempt('spawnAttributesDestroy', attributes);
    for (const fd of duplicates) closeLater(fd);
  }
}

function placeNull(number: number, actions: Buffer): void {
  const what = `placing /dev/null as descriptor ${number}`;
  mustReturnZero(what, 'spawnActionsAddOpen', actions, number, '/dev/null', constants.O_RDWR, 0);
}

function place(fd: number, number: number, actions: Buffer): void {
  const what = `placing descriptor ${number}`;
  // Few programs expect that of these three.
  if (number < 3) setNonBlocking(fd, false);
  mustReturnZero(what, 'spawnActionsAddDup2', actions, fd, number);
}

/** Its own session, and no signal blocked or ignored. */
function setAttributes(what: string, attributes: Buffer): void {
  const all = flags.defaultSignals | flags.signalMask | flags.session;
  const signals = Buffer.alloc(signalSetBytes, 0xff);
  mustReturnZero(what, 'spawnAttributesSetFlags', attributes, all);
  mustReturnZero(what, 'spawnAttributesSetSigdefault', attributes, signals);
  mustReturnZero(what, 'spawnAttributesSetSigmask', attributes, Buffer.alloc(signalSetBytes));
}

const running = new Map<number, (exit: Exit) => void>();

/** Settles when a program that `startChild` has started ends. Never rejects; keeps no process alive. */
export function exitOf(pid: number): Promise<Exit> {
  if (running.size === 0) process.on('SIGCHLD', collect);
  const exit = new Promise<Exit>((resolve) => running.set(pid, resolve));
  // It may have ended before the handler was there.
  setImmediate(collect);
  return exit;
}

/** The kernel merges signals: any number of programs may have ended. Those that Node started are left to it. */
function collect(): void {
  for (const [pid, resolve] of running) {
    const status = Buffer.alloc(4);
    const { value } = attempt('waitpid', pid, status, noHang);
    if (value === 0) continue;
    running.delete(pid);
    resolve(value === pid ? exitIn(status.readInt32LE()) : { code: null, signal: null });
  }
  if (running.size === 0) process.off('SIGCHLD', collect);
}

const signals = new Map(
  Object.entries(system.signals).map(([name, number]) => [number, name as NodeJS.Signals]),
);

function exitIn(status: number): Exit {
  const signal = status & 0x7f;
  if (signal === 0) return { code: (status >> 8) & 0xff, signal: null };
  return { code: null, signal: signals.get(signal) ?? null };
}

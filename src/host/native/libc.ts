import type * as Koffi from 'koffi';
import { HostError } from '../error.ts';
import { loadKoffi } from './native.ts';

/**
 * The C functions that this room calls and Node doesn't offer. Variadic ones (ioctl, fcntl, syscall) are declared with
 * the arguments passed here: on Linux x86-64 and arm64 integers and pointers are passed in the same way either way.
 */
const prototypes = {
  bind: 'int bind(int fd, const void *address, uint32_t length)',
  chdir: 'int chdir(str path)',
  chroot: 'int chroot(str path)',
  clockGettime: ['clock_gettime', 'int', ['int', 'void *']],
  connect: 'int connect(int fd, const void *address, uint32_t length)',
  copyFileRange: [
    'copy_file_range',
    'long',
    ['int', 'void *', 'int', 'void *', 'size_t', 'unsigned int'],
  ],
  dup3: 'int dup3(int former, int wanted, int flags)',
  fallocate: 'int fallocate(int fd, int mode, int64_t offset, int64_t length)',
  fchdir: 'int fchdir(int fd)',
  fcntl: 'int fcntl(int fd, int command, long argument)',
  fcntlBytes: ['fcntl', 'int', ['int', 'int', 'void *']],
  flock: 'int flock(int fd, int operation)',
  getgroups: 'int getgroups(int length, void *groups)',
  ioctlBytes: ['ioctl', 'int', ['int', 'unsigned long', 'void *']],
  ioctlNumber: ['ioctl', 'int', ['int', 'unsigned long', 'long']],
  listen: 'int listen(int fd, int backlog)',
  lseek: 'int64_t lseek(int fd, int64_t offset, int whence)',
  madvise: ['madvise', 'int', ['uint64_t', 'size_t', 'int']],
  mallocTrim: ['malloc_trim', 'int', ['size_t']],
  memfdCreate: ['memfd_create', 'int', ['str', 'unsigned int']],
  mount: 'int mount(str source, str target, str type, unsigned long flags, str data)',
  pipe2: 'int pipe2(void *ends, int flags)',
  posixSpawn: [
    'posix_spawn',
    'int',
    ['void *', 'str', 'const void *', 'const void *', 'str *', 'str *'],
  ],
  prlimit: 'int prlimit(int pid, int resource, const void *wanted, void *former)',
  recv: 'long recv(int fd, void *buffer, size_t length, int flags)',
  send: 'long send(int fd, const void *bytes, size_t length, int flags)',
  sendmsg: 'long sendmsg(int fd, const msghdr *message, int flags)',
  schedSetaffinity: ['sched_setaffinity', 'int', ['int', 'size_t', 'const void *']],
  setns: 'int setns(int fd, int type)',
  setsockopt: 'int setsockopt(int fd, int level, int name, const void *value, uint32_t length)',
  socket: 'int socket(int domain, int type, int protocol)',
  socketpair: 'int socketpair(int domain, int type, int protocol, void *ends)',
  spawnActionsAddChdir: ['posix_spawn_file_actions_addchdir_np', 'int', ['void *', 'str']],
  spawnActionsAddDup2: ['posix_spawn_file_actions_adddup2', 'int', ['void *', 'int', 'int']],
  spawnActionsAddOpen: [
    'posix_spawn_file_actions_addopen',
    'int',
    ['void *', 'int', 'str', 'int', 'unsigned int'],
  ],
  spawnActionsDestroy: ['posix_spawn_file_actions_destroy', 'int', ['void *']],
  spawnActionsInit: ['posix_spawn_file_actions_init', 'int', ['void *']],
  spawnAttributesDestroy: ['posix_spawnattr_destroy', 'int', ['void *']],
  spawnAttributesInit: ['posix_spawnattr_init', 'int', ['void *']],
  spawnAttributesSetFlags: ['posix_spawnattr_setflags', 'int', ['void *', 'short']],
  spawnAttributesSetSigdefault: [
    'posix_spawnattr_setsigdefault',
    'int',
    ['void *', 'const void *'],
  ],
  spawnAttributesSetSigmask: ['posix_spawnattr_setsigmask', 'int', ['void *', 'const void *']],
  syncFileRange: ['sync_file_range', 'int', ['int', 'int64_t', 'int64_t', 'unsigned int']],
  syscall4: ['syscall', 'long', ['long', 'long', 'long', 'long', 'long']],
  syscall5: ['syscall', 'long', ['long', 'long', 'long', 'long', 'long', 'long']],
  syscallGroups: ['syscall', 'long', ['long', 'size_t', 'const void *']],
  syscallMountSetattr: [
    'syscall',
    'long',
    ['long', 'long', 'str', 'long', 'const void *', 'size_t'],
  ],
  syscallOpenat2: ['syscall', 'long', ['long', 'long', 'str', 'const void *', 'size_t']],
  syscallPaths: ['syscall', 'long', ['long', 'str', 'str']],
  umount2: 'int umount2(str target, int flags)',
  unshare: 'int unshare(int flags)',
  waitpid: 'int waitpid(int pid, void *status, int options)',
} as const satisfies Record<string, string | readonly [string, string, readonly string[]]>;

export type LibcFunction = keyof typeof prototypes;
type Argument =
  | number
  | bigint
  | string
  | Uint8Array
  | Uint32Array
  | MessageHeader
  | readonly (string | null)[]
  | null;

/** C's `struct msghdr` without a name: what `sendmsg` sends. */
export interface MessageHeader {
  readonly vectors: readonly { readonly base: Uint8Array; readonly length: number }[];
  readonly vectorCount: number;
  readonly control: Uint8Array;
  readonly controlLength: number;
  readonly flags: number;
}

interface Bound {
  readonly koffi: typeof Koffi;
  readonly library: Koffi.LibraryHandle;
  readonly functions: Map<
    LibcFunction,
    Koffi.KoffiFunc<(...values: readonly Argument[]) => unknown>
  >;
  /** Number → name, e.g. 1 → EPERM. Some numbers have two names; the first one is the common one. */
  readonly errnoNames: ReadonlyMap<number, string>;
}

let bound: Bound | undefined;

/** Arguments of calls that other threads are making: the memory of buffers among them must not be collected. */
const underWay = new Set<readonly Argument[]>();

/** The outcome of a call that may fail: `errno` is undefined on success. */
export interface Outcome {
  readonly value: number;
  readonly errno: string | undefined;
}

/**
 * Calls a C function that returns -1 on failure. The library is bound on the first call: two of the three processes that
 * Nomad starts of a plugin never need it.
 */
export function attempt(name: LibcFunction, ...values: readonly Argument[]): Outcome {
  bound ??= bind();
  const { koffi, errnoNames } = bound;
  const call = bound.functions.get(name) ?? resolve(bound, name);
  const value = Number(call(...values));
  // Nothing may come between the call and this line: errno belongs to the thread.
  return outcomeOf(value, koffi.errno(), errnoNames);
}

function outcomeOf(value: number, number: number, errnoNames: Bound['errnoNames']): Outcome {
  if (value !== -1) return { value, errno: undefined };
  return { value, errno: errnoNames.get(number) ?? `errno ${number}` };
}

/**
 * The same in a thread of Node's pool, for a call that may take long. It can't be cancelled: descriptors among the values
 * have to stay open until it has returned.
 */
export function attemptAside(name: LibcFunction, ...values: readonly Argument[]): Promise<Outcome> {
  bound ??= bind();
  const { koffi, errnoNames } = bound;
  const call = bound.functions.get(name) ?? resolve(bound, name);
  return new Promise((done, failed) => {
    const answered = (error: unknown, result: unknown): void => {
      // Koffi keeps the pool thread's errno while this function runs.
      const number = koffi.errno();
      underWay.delete(values);
      if (error) failed(error);
      else done(outcomeOf(Number(result), number, errnoNames));
    };
    underWay.add(values);
    // Koffi declares types only for functions whose parameters are declared.
    Reflect.apply(call.async, call, [...values, answered]);
  });
}

/** The same as attempt, where failure is an error: HostError `<what>: <errno>`. */
export function must(what: string, name: LibcFunction, ...values: readonly Argument[]): number {
  const { value, errno } = attempt(name, ...values);
  if (errno !== undefined) throw libcError(what, errno);
  return value;
}

/** For functions that return the number of an error and 0 on success: HostError `<what>: <errno>`. */
export function mustReturnZero(
  what: string,
  name: LibcFunction,
  ...values: readonly Argument[]
): void {
  const { value } = attempt(name, ...values);
  if (value !== 0) throw libcError(what, bound?.errnoNames.get(value) ?? `errno ${value}`);
}

export function libcError(what: string, errno: string): HostError {
  return new HostError(`${what}: ${errno}`, { errno });
}

function bind(): Bound {
  const koffi = asKoffi(loadKoffi());
  const errnoNames = new Map<number, string>();
  for (const [name, number] of Object.entries(koffi.os.errno)) {
    if (!errnoNames.has(number)) errnoNames.set(number, name);
  }
  koffi.struct('iovec', { base: 'void *', length: 'size_t' });
  koffi.struct('msghdr', {
    name: 'void *',
    nameLength: 'uint32_t',
    vectors: 'iovec *',
    vectorCount: 'size_t',
    control: 'void *',
    controlLength: 'size_t',
    flags: 'int',
  });
  // null: the libraries that the running program is linked to, so neither a version nor a path of libc is needed.
  return { koffi, library: koffi.load(null), functions: new Map(), errnoNames };
}

function asKoffi(exports: unknown): typeof Koffi {
  if (typeof exports !== 'object' || exports === null || !('load' in exports)) {
    throw new HostError('the module loaded as koffi has no load()');
  }
  return exports as typeof Koffi;
}

function resolve(
  { library, functions }: Bound,
  name: LibcFunction,
): Koffi.KoffiFunc<(...values: readonly Argument[]) => unknown> {
  const prototype = prototypes[name];
  const call =
    typeof prototype === 'string'
      ? library.func(prototype)
      : library.func(prototype[0], prototype[1], [...prototype[2]]);
  functions.set(name, call);
  return call;
}

export { writeAtomic } from './atomic-file.ts';
export {
  type CgroupPlan,
  type CgroupRequest,
  joinCgroup,
  oomKills,
  planCgroup,
} from './cgroup.ts';
export { cpuSpeedsMHz, nativeArch } from './cpu.ts';
export {
  closeFd,
  lockFile,
  memfd,
  openBeneath,
  openPath,
  pathOnly,
  reopen,
  setNonBlocking,
} from './descriptor.ts';
export { errnoOf, HostError, type HostErrorCode } from './error.ts';
export { KeyedQueue } from './keyed-queue.ts';
export { limitProcess, type ProcessLimits, setAffinity } from './limits.ts';
export type { Logger } from './log.ts';
export { bindMountReadOnly, mountTmpfs, unmount } from './mount.ts';
export { loadNative } from './native.ts';
export { withNetns } from './netns.ts';
export { PerFile } from './per-file.ts';
export {
  bootId,
  identify,
  isAlive,
  kill,
  type ProcessIdentity,
  pidfdSignal,
  waitGone,
} from './process.ts';
export { findByMark, findByUser, killByMark, type MarkedProcess } from './process-search.ts';
export { findProgram } from './programs.ts';
export { connectUnix, listenUnix, openTap, type UdpSocketOptions, udpSocket } from './socket.ts';
export { shrinkAtRest } from './spare-memory.ts';
export { ficlone, punchHole, reserveSpace, seekData, seekHole } from './sparse.ts';
export {
  type Exit,
  type RunOptions,
  type RunResult,
  runProgram,
  type SpawnedProcess,
  type SpawnOptions,
  spawnDetached,
} from './spawn.ts';
export { readUndoLog, type Undo, type UndoFailure, UndoLog } from './undo-log.ts';
export {
  abortable,
  aborted,
  endsWithin,
  pause,
  slept,
  type Waiting,
  within,
} from './waiting.ts';
export { askWorker, type WorkerProgram } from './worker.ts';

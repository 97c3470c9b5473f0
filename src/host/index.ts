export { writeAtomic } from './atomic-file.ts';
export {
  type CgroupPlan,
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
export { errnoOf, HostError } from './error.ts';
export { KeyedQueue } from './keyed-queue.ts';
export { limitProcess, setAffinity } from './limits.ts';
export type { Logger } from './log.ts';
export { bindMountReadOnly, mountTmpfs, unmount } from './mount.ts';
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
export { findByMark, findByUser, type MarkedProcess } from './process-search.ts';
export { findProgram } from './programs.ts';
export { connectUnix, listenUnix, openTap, udpSocket } from './socket.ts';
export { shrinkAtRest } from './spare-memory.ts';
export { ficlone, punchHole, reserveSpace, seekData, seekHole } from './sparse.ts';
export {
  type Exit,
  type RunResult,
  runProgram,
  type SpawnedProcess,
  spawnDetached,
} from './spawn.ts';
export { readUndoLog, UndoLog } from './undo-log.ts';
export {
  abortable,
  aborted,
  endsWithin,
  pause,
  slept,
  within,
} from './waiting.ts';
export { askWorker, type WorkerProgram } from './worker.ts';

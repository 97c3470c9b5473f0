export { Beat } from './beat.ts';
export { cpuSpeedsMHz, nativeArch } from './cpu.ts';
export { errnoOf, HostError } from './error.ts';
export { answered, widenThreadPool } from './files/answers.ts';
export {
  closeLater,
  openBeneathAside,
  reopenAside,
  resizeAside,
  statAside,
} from './files/aside.ts';
export { writeAtomic } from './files/atomic-file.ts';
export {
  closeAside,
  closeFd,
  createFile,
  lockDescriptor,
  lockFile,
  memfd,
  openAside,
  openPath,
  pathOnly,
  reopen,
  setNonBlocking,
  withBeneath,
} from './files/descriptor.ts';
export { lockDisk } from './files/disk-lock.ts';
export { bindDirectory, mountTmpfs, unmount } from './files/mount.ts';
export { pipeBytes, pipeTo, widePipe } from './files/pipe.ts';
export { PseudoTerminal } from './files/pseudo-terminal.ts';
export { takesScsiCommands } from './files/scsi.ts';
export { readSmall, SmallFile } from './files/small-file.ts';
export {
  allocateSpace,
  copyRange,
  endOf,
  ficlone,
  punchHole,
  reserveSpace,
  seekData,
  seekDataAside,
  seekHoleAside,
  zeroOut,
} from './files/sparse.ts';
export { openMacvtap, openTap } from './files/tap.ts';
export { readUndoLog, UndoLog } from './files/undo-log.ts';
export { openVhostNet, type VhostVerdict, vhostNet } from './files/vhost-net.ts';
export { startWriteBack } from './files/write-back.ts';
export { KeyedQueue } from './keyed-queue.ts';
export type { Logger } from './log.ts';
export { PerFile } from './per-file.ts';
export type { BareFile } from './process/bare-root.ts';
export {
  type CgroupPlan,
  type CpuThrottling,
  joinCgroup,
  oomKills,
  parseThrottling,
  planCgroup,
  throttlingFile,
} from './process/cgroup.ts';
export type { Exit } from './process/child.ts';
export { cpuClockNs } from './process/cpu-clock.ts';
export type { EmptyNamespaces } from './process/empty-namespaces.ts';
export { limitProcess, pinProcess } from './process/limits.ts';
export { withNetns } from './process/netns.ts';
export { lowNiceness } from './process/priority.ts';
export {
  bootId,
  identify,
  isAlive,
  kill,
  type ProcessIdentity,
  pidfdSignal,
  stateOf,
  waitGone,
} from './process/process.ts';
export { findByMark, findByUser, type MarkedProcess } from './process/process-search.ts';
export { findProgram } from './process/programs.ts';
export { type RunOptions, type RunResult, runProgram } from './process/run-program.ts';
export { SpareNamespaces } from './process/spare-namespaces.ts';
export { type SpawnedProcess, spawnDetached } from './process/spawn.ts';
export {
  createUserNamespace,
  type IdMap,
  inUserNamespace,
  userNamespaceTools,
} from './process/user-namespace.ts';
export { WatchedProcess } from './process/watched-process.ts';
export { SharedAnswers } from './shared-answers.ts';
export { tryBind } from './sockets/bind-tried.ts';
export { tcpSocket, udpSocket } from './sockets/bound-socket.ts';
export { sendWithDescriptor } from './sockets/descriptor-passing.ts';
export { icmp6Port, icmp6Socket } from './sockets/icmp6-socket.ts';
export { listenTcp } from './sockets/listen-tcp.ts';
export {
  joinGroup,
  netlinkSocket,
  receive,
  receiveAside,
  sendAside,
} from './sockets/netlink-socket.ts';
export { connectUnix, connectUnixAside, listenUnix, socketPair } from './sockets/unix-socket.ts';
export { shrinkAtRest } from './spare-memory.ts';
export { inTurns } from './turns.ts';
export {
  abortable,
  aborted,
  endsWithin,
  pause,
  slept,
  together,
  within,
} from './waiting.ts';
export { askWorker, type WorkerProgram } from './worker.ts';

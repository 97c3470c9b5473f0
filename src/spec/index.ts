export {
  type Checksum,
  type DiskAio,
  type DiskBus,
  type DiskCache,
  type DiskFormat,
  type DiskKind,
  type DiskPlace,
  type DiskSource,
  type DiskSpec,
  type DiskThrottle,
  diskAios,
  diskBuses,
  diskCaches,
  diskKey,
  diskKinds,
  type ForeignFormat,
  imageFormats,
  keptFile,
  type NbdServer,
  primaryDisk,
  wholeSectors,
} from './disk.ts';
export type { DisplaySpec, VncPort, VncSpec } from './display.ts';
export { groupEnv } from './group-env.ts';
export { isPort, maxSocketPathBytes, parseHostPorts } from './net/host-port.ts';
export {
  contains,
  formatIpv4,
  formatSubnet,
  isLoopback,
  isOfOneMachine,
  parseIpv4,
  type Subnet,
  subnetOf,
} from './net/ipv4.ts';
export {
  type Address6,
  formatAddress6,
  formatIpv6,
  isLinkLocal6,
  isLoopbackText,
  isOfOneMachine6,
  isUniqueLocal,
  linkLocalOf,
  network6,
  overlap6,
  parseAddress6,
  parseIpv6,
  smallestMtu6,
} from './net/ipv6.ts';
export { macProblem } from './net/mac.ts';
export {
  bridgeNameProblem,
  checkNetworks,
  defaultDomain,
  type HostAccess,
  type ManagedNetwork,
  networkMtu,
  overlap,
  splitAddress,
} from './net/network.ts';
export { address6At } from './net/network6.ts';
export type {
  Bandwidth,
  BridgeNic,
  GroupNic,
  JobAddresses,
  MacvtapNic,
  NicCommon,
  NicModel,
  NicSpec,
  PortSpec,
  Protocol,
  UserNic,
} from './net/nic.ts';
export { macvtapModes, maxMtuOf, nicModels, protocolsOf, userAddress } from './net/nic.ts';
export { stateNames } from './state.ts';
export type { StoragePool, StoragePools } from './storage-pool.ts';
export { unpackBase64 } from './text/base64.ts';
export { LineSearch, linePattern } from './text/line-pattern.ts';
export { printable } from './text/printable.ts';
export { listed, quoted } from './text/quoted.ts';
export type {
  AcceleratorChoice,
  Arch,
  GuestDns,
  GuestSpec,
  KernelSpec,
  ReadySpec,
  ShareSpec,
  SmbiosTexts,
  TextSource,
  UserData,
  VmIdentity,
  VmSpec,
  WatchdogAction,
} from './vm.ts';
export { watchdogActions } from './vm.ts';
export type { Waiting } from './waiting.ts';

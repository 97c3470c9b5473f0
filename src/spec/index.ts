export { unpackBase64 } from './base64.ts';
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
export { isPort, maxSocketPathBytes, parseHostPorts } from './host-port.ts';
export {
  contains,
  formatIpv4,
  formatSubnet,
  isLoopback,
  isOfOneMachine,
  parseIpv4,
  type Subnet,
  subnetOf,
} from './ipv4.ts';
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
} from './ipv6.ts';
export { LineSearch, linePattern } from './line-pattern.ts';
export { macProblem } from './mac.ts';
export {
  bridgeNameProblem,
  checkNetworks,
  defaultDomain,
  type HostAccess,
  type ManagedNetwork,
  networkMtu,
  overlap,
  splitAddress,
} from './network.ts';
export { address6At } from './network6.ts';
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
} from './nic.ts';
export { macvtapModes, maxMtuOf, protocolsOf, userAddress } from './nic.ts';
export { printable } from './printable.ts';
export { listed, quoted } from './quoted.ts';
export { stateNames } from './state.ts';
export type { StoragePool, StoragePools } from './storage-pool.ts';
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

export {
  addAddress,
  addLocalRoute,
  defaultRoute,
  deleteNeighbour,
  type LinkAddress,
  listAddresses,
  listNeighbours,
  listRoutes,
  type Route,
} from './address.ts';
export {
  deleteFlows,
  type Flow,
  type FlowFilter,
  listFlows,
  matches as matchesFlow,
} from './conntrack.ts';
export { NetlinkError } from './error.ts';
export { LastingSocket } from './lasting-socket.ts';
export {
  changeLink,
  createLink,
  deleteLink,
  findLink,
  type Link,
  listLinks,
} from './link.ts';
export type { MacvtapMode } from './linkinfo.ts';
export { ruleGeneration } from './nftables.ts';
export { RuleCommits } from './rule-commits.ts';
export { setElements } from './set-elements.ts';
export { listShapers, type Shaper, setShaper } from './shaper.ts';
export { NetlinkSocket } from './socket.ts';

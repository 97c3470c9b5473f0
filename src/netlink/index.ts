export {
  addAddress,
  defaultRoute,
  type LinkAddress,
  listAddresses,
  listNeighbours,
  listRoutes,
  type Neighbour,
  type Route,
} from './address.ts';
export { NetlinkError, type NetlinkErrorCode } from './error.ts';
export {
  changeLink,
  createLink,
  deleteLink,
  findLink,
  type Link,
  type LinkChange,
  listLinks,
} from './link.ts';
export type { BridgeFacts, BridgePort, LinkKind, MacvtapMode } from './linkinfo.ts';
export { NetlinkSocket } from './socket.ts';

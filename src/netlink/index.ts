export {
  addAddress,
  defaultRoute,
  listAddresses,
  listNeighbours,
  listRoutes,
} from './address.ts';
export { NetlinkError } from './error.ts';
export {
  changeLink,
  createLink,
  deleteLink,
  findLink,
  type Link,
  listLinks,
} from './link.ts';
export { NetlinkSocket } from './socket.ts';

import type { Logger } from '#host';
import { listLinks, listNeighbours, type NetlinkSocket } from '#netlink';
import { isLinkLocal6, parseIpv6, type Waiting } from '#spec';
import { inTurn } from '../model/in-turn.ts';
import type { OnEvent } from '../model/net.ts';
import {
  decodeMacvtapNicRecord,
  decodeNicRecord,
  type KnownNic,
  type NicRecord,
} from '../model/nic.ts';
import { restoreMacvtap } from './macvtap.ts';
import { GoneLinks, type NicLink, restoreName } from './nic-link.ts';
import { replugTap } from './tap.ts';
import { changedOfTap, isOutside } from './tap-settings.ts';

interface LinksHost {
  readonly netlink: NetlinkSocket;
  readonly store: {
    readonly record: (bridge: string) => Promise<{ readonly owned: boolean } | undefined>;
  };
  readonly log: Logger;
  readonly onEvent: OnEvent;
}

interface KnownTap {
  readonly vm: string;
  readonly record: NicRecord;
  readonly tap: string;
  readonly bridge: string;
  readonly mac: string;
  /** Addresses that an event has reported; undefined where the driver knows the address itself. */
  readonly seen: Set<string> | undefined;
}

/** A guest may change its address all the time, and each is an event of its task. */
const maxSeen = 4;

/** Macvtaps and taps on bridges that this process has plugged in or adopted. */
export class KnownLinks {
  readonly #host: () => Promise<LinksHost>;
  readonly #links = new Map<string, NicLink>();
  readonly #gone = new GoneLinks();
  readonly #taps = new Map<string, KnownTap>();
  /** Taps whose bridge is gone, which an event has reported. */
  readonly #bridgeless = new Set<string>();

  constructor(host: () => Promise<LinksHost>) {
    this.#host = host;
  }

  /** From now on `restore` looks after it, where the record is one of such a link. */
  keep({ vm, index, record }: KnownNic): void {
    const macvtap = decodeMacvtapNicRecord(record);
    if (macvtap !== undefined) {
      const name = macvtap.link;
      this.#links.set(name, { vm, index, name, kind: 'macvtap' });
    }
    const nic = decodeNicRecord(record);
    if (nic === undefined) return;
    this.#links.set(nic.tap, { vm, index, name: nic.tap, kind: 'tun' });
    const seen = nic.ip === undefined ? new Set<string>() : undefined;
    this.#taps.set(nic.tap, { vm, record: nic, ...nic, seen });
  }

  forget(link: string): void {
    this.#links.delete(link);
    this.#gone.forget(link);
    this.#taps.delete(link);
    this.#bridgeless.delete(link);
  }

  /** NICs on bridges, as their VMs' records have them. */
  nics(): readonly KnownTap[] {
    return [...this.#taps.values()];
  }

  /** The VMs on each bridge. */
  vms(): ReadonlyMap<string, readonly string[]> {
    const byBridge = Map.groupBy(this.#taps.values(), ({ bridge }) => bridge);
    return new Map([...byBridge].map(([bridge, taps]) => [bridge, taps.map(({ vm }) => vm)]));
  }

  /** Names links again as they were, before all that knows them by their names, and reports those that are gone. */
  async restoreNames(waiting: Waiting): Promise<void> {
    const known = [...this.#links.values()];
    if (known.length === 0) return;
    const host = await this.#host();
    const links = await listLinks(host.netlink, waiting);
    const looks = known.map((nic) => async () => {
      const isThere = await restoreName(nic, { ...host, links }, waiting);
      // It may have been removed with its VM meanwhile.
      if (this.#links.get(nic.name) !== nic) return;
      if (isThere) this.#gone.forget(nic.name);
      else this.#gone.report(nic, host);
    });
    await inTurn(looks);
  }

  /** Takes up again what something else on the host set down, and puts back what left its bridge. */
  async restore(waiting: Waiting): Promise<void> {
    if (this.#links.size === 0) return;
    const host = await this.#host();
    const macvtaps = [...this.#links.values()]
      .filter(({ kind }) => kind === 'macvtap')
      .map(
        ({ vm, name }) =>
          () =>
            restoreMacvtap({ vm, link: name }, host, waiting),
      );
    const taps = [() => this.#replug(host, waiting), () => this.#reportSeen(host, waiting)];
    await inTurn([...macvtaps, ...taps]);
  }

  /** The address that a guest has from its own network, as far as this host has had to do with it: information. */
  async #reportSeen({ netlink, onEvent }: LinksHost, waiting: Waiting): Promise<void> {
    const taps = [...this.#taps.values()];
    if (taps.every(({ seen }) => seen === undefined || seen.size === maxSeen)) return;
    const links = await listLinks(netlink, waiting);
    const neighbours = await listNeighbours(netlink, waiting);
    for (const { vm, bridge, mac, seen } of taps) {
      const index = links.find(({ name }) => name === bridge)?.index;
      for (const { address, linkIndex, mac: its } of neighbours) {
        if (seen === undefined || linkIndex !== index || its !== mac) continue;
        if (seen.has(address) || seen.size === maxSeen || isLinkLocal(address)) continue;
        seen.add(address);
        onEvent(
          vm,
          `Guest has the address ${address} on ${bridge}, by the neighbour table of the host`,
        );
      }
    }
  }

  async #replug(host: LinksHost, waiting: Waiting): Promise<void> {
    const taps = await this.#onBridgesOfOthers(host);
    if (taps.length === 0) return;
    const links = new Map(
      (await listLinks(host.netlink, waiting)).map((link) => [link.name, link]),
    );
    for (const { isManaged, ...nic } of taps) {
      const [tap, bridge] = [links.get(nic.tap), links.get(nic.bridge)];
      if (bridge === undefined) {
        if (tap !== undefined) this.#reportBridgeless(nic, isManaged, host);
        continue;
      }
      this.#bridgeless.delete(nic.tap);
      // There the rules come first.
      if (isManaged) continue;
      const changed = await changedOfTap(tap, bridge, { ...nic, managed: false });
      if (changed.length === 0 && !isOutside(tap, bridge)) continue;
      await replugTap({ ...nic, managed: false }, { ...host, bridge }, waiting);
    }
  }

  /** Those of managed networks too, where the driver uses a bridge that was there. */
  async #onBridgesOfOthers({
    store,
  }: LinksHost): Promise<readonly (KnownTap & { readonly isManaged: boolean })[]> {
    const byBridge = [...Map.groupBy(this.#taps.values(), ({ bridge }) => bridge)];
    const found = await Promise.all(
      byBridge.map(async ([bridge, taps]) => {
        const record = await store.record(bridge);
        if (record?.owned === true) return [];
        return taps.map((nic) => ({ ...nic, isManaged: record !== undefined }));
      }),
    );
    return found.flat();
  }

  /** The driver does not make it again by itself: the program whose bridge it is would refuse one that it finds there. */
  #reportBridgeless(
    { vm, tap, bridge }: KnownTap,
    isManaged: boolean,
    { log, onEvent }: LinksHost,
  ): void {
    if (this.#bridgeless.has(tap)) return;
    this.#bridgeless.add(tap);
    log.warn('bridge of a running VM is gone, and the driver did not make it', { vm, bridge });
    const what = `Bridge ${bridge}, which the driver did not make, is gone`;
    const otherwise = isManaged ? ', or the task is restarted: the driver makes one then' : '';
    onEvent(vm, `${what}: the guest has no network there until it is back${otherwise}`);
  }
}

function isLinkLocal(address: string): boolean {
  return isLinkLocal6(parseIpv6(address) ?? 0n);
}

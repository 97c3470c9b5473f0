import { closeFd } from '#host';

/** Descriptors on their way into QEMU: by role, all closed in this process when the scope ends. */
export class Descriptors implements Disposable {
  readonly #open = new Map<string | number, number>();
  #loose = 0;

  /** Takes over a descriptor under its role. */
  add(role: string, fd: number): number {
    this.#open.set(role, fd);
    return fd;
  }

  /** Takes over a descriptor that has no role in the plan. */
  own(fd: number): number {
    this.#open.set(this.#loose, fd);
    this.#loose += 1;
    return fd;
  }

  /** In the plan's order; a role that nobody filled is a bug, except where there is nothing to hold. */
  inOrder(roles: readonly string[]): readonly (number | 'ignore')[] {
    return roles.map((role) => {
      const fd = this.#open.get(role);
      if (fd !== undefined) return fd;
      if (role === 'stdout' || role === 'stderr') return 'ignore';
      throw new Error(`no descriptor was opened for ${role}`);
    });
  }

  [Symbol.dispose](): void {
    for (const fd of this.#open.values()) closeFd(fd);
    this.#open.clear();
  }
}

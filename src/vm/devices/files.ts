import { closeAside } from '#host';

/** Files to be passed to QEMU, by role; all are closed in this process when the start's scope ends. */
export class OpenFiles implements AsyncDisposable {
  readonly #open = new Map<string, number>();
  readonly #unnamed: number[] = [];

  /** Takes over a descriptor under its role. */
  add(role: string, fd: number): number {
    this.#open.set(role, fd);
    return fd;
  }

  /** Takes over a descriptor that no part names. */
  own(fd: number): number {
    this.#unnamed.push(fd);
    return fd;
  }

  /** The descriptor of a role; a role without a file is a bug. */
  get(role: string): number {
    const fd = this.#open.get(role);
    if (fd === undefined) throw new Error(`no file was opened for ${role}`);
    return fd;
  }

  /** In the order of the command line. */
  inOrder(roles: readonly string[]): readonly number[] {
    return roles.map((role) => this.get(role));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const fds = [...this.#open.values(), ...this.#unnamed.splice(0)];
    this.#open.clear();
    await closeAside(...fds);
  }
}

import {
  type CgroupPlan,
  type CpuThrottling,
  parseThrottling,
  SmallFile,
  throttlingFile,
} from '#host';

/** How the kernel holds a VM back because of its CPU quota; the file that counts it is kept open. */
export class Throttling implements Disposable {
  readonly #cgroup: CgroupPlan | undefined;
  #file: SmallFile | undefined;
  #searched = false;

  constructor(cgroup: CgroupPlan | undefined) {
    this.#cgroup = cgroup;
  }

  /** undefined where the VM has no group, or none that counts it. */
  read(): CpuThrottling | undefined {
    try {
      if (!this.#searched) this.#file = this.#open();
      return this.#file && parseThrottling(this.#file.read());
    } catch {
      this[Symbol.dispose](); // the group is gone
      return undefined;
    }
  }

  #open(): SmallFile | undefined {
    this.#searched = true;
    const path = this.#cgroup && throttlingFile(this.#cgroup);
    return path === undefined ? undefined : SmallFile.open(path);
  }

  [Symbol.dispose](): void {
    this.#searched = true;
    this.#file?.[Symbol.dispose]();
    this.#file = undefined;
  }
}

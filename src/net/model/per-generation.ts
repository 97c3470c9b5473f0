/** What was read of the host's rules, kept until their generation is another one. */
export class PerGeneration<T> {
  #kept: { readonly value: T; readonly generation: number } | undefined;

  /** The generation is undefined where the kernel does not report it: then it is read each time. */
  async get(generationNow: () => Promise<number | undefined>, read: () => Promise<T>): Promise<T> {
    const generation = await generationNow();
    const kept = this.#kept;
    if (kept !== undefined && kept.generation === generation) return kept.value;
    const value = await read();
    const isStill = generation !== undefined && generation === (await generationNow());
    this.#kept = isStill ? { value, generation } : undefined;
    return value;
  }

  /** A change of rules that it does not depend on. */
  outlive(before: number, after: number): void {
    if (this.#kept?.generation === before) this.#kept = { ...this.#kept, generation: after };
  }
}

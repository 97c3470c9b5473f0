/** What was reported last to each VM, so that nothing is reported to it twice. */
export class LastNotes {
  #last: ReadonlyMap<string, string> = new Map();

  /** Those of the present notes, by VM, that it does not have yet; one that was gone meanwhile is new again. */
  news(notes: ReadonlyMap<string, string>): readonly (readonly [vm: string, note: string])[] {
    const last = this.#last;
    this.#last = notes;
    return [...notes].filter(([vm, note]) => last.get(vm) !== note);
  }
}

/** A sentence about a VM for its task's events, with details. */
export interface TaskEvent {
  readonly message: string;
  readonly annotations: Readonly<Record<string, string>>;
}

/** Reports an event of one VM. */
export type Emit = (message: string, annotations?: Readonly<Record<string, string>>) => void;

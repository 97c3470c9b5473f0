import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { UndoLog } from '#host';
import type { Site } from '../../src/vm/devices/device.ts';
import { OpenFiles } from '../../src/vm/devices/files.ts';
import { pathsIn } from '../../src/vm/store/paths.ts';
import { decodeVmUndo, undoStep, type VmUndo } from '../../src/vm/store/undo.ts';
import { patient } from './patience.ts';
import { collect } from './vm.ts';

/** Where a VM is being created, below `root`. What was done is undone at the end of the scope. */
export async function siteIn(root: string, lines: string[] = []): Promise<Site & AsyncDisposable> {
  const paths = pathsIn(join(root, 'vm'), { name: 'vm-0', run: join(root, 'run') });
  for (const dir of [paths.dir, paths.run]) mkdirSync(dir);
  const log = collect(lines);
  const networks = { vmTerminatedTeardown: () => assert.fail('not a step of the network') };
  const pools = { pools: [], default: undefined };
  const undo = await UndoLog.open<VmUndo>(
    paths.undo,
    (step, waiting) => undoStep(step, { networks, pools }, waiting),
    { decode: decodeVmUndo, log },
  );
  const files = new OpenFiles();
  return {
    ...{ vm: 'vm-0', uid: 0, emit: () => {}, log },
    ...{ files, paths, allocDir: join(root, 'alloc-0'), undo },
    async [Symbol.asyncDispose]() {
      await files[Symbol.asyncDispose]();
      await undo.keep().rollback({ signal: AbortSignal.timeout(patient(10_000)) });
    },
  };
}

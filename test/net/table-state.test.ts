import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { rulesIn } from '../../src/net/rules/table-state.ts';
import { patient } from '../support/patience.ts';
import { tmpDir } from '../support/tmp.ts';

test('V-111: tables are listed one after the other: each program holds the event loop while it starts', async (t) => {
  const nft = join(tmpDir(t), 'nft');
  const chain = '\\tchain own {\\n\\t\\taccept\\n\\t}\\n';
  const script = `#!/bin/sh
mkdir ${nft}.running || exit
case "$*" in
*tables) printf 'table inet a\\ntable inet b\\ntable bridge a\\n' ;;
*) printf '${chain}' ;;
esac
rmdir ${nft}.running
`;
  writeFileSync(nft, script, { mode: 0o755 });
  const waiting = { signal: AbortSignal.timeout(patient(10_000)) };
  const lines = ['\t\taccept', '\tchain own {', '\t}'];
  assert.deepEqual(await rulesIn(['inet a', 'inet b', 'bridge a'], { nft }, waiting), [
    lines,
    lines,
    lines,
  ]);
});

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { delimiter, join, resolve } from 'node:path';
import { test } from 'node:test';
import { requireOrSkip } from '../support/require.ts';
import { tmpDir } from '../support/tmp.ts';

const root = resolve(import.meta.dirname, '../..');
const tools = join(root, 'node_modules/.bin');

test('the generated code is that of the .proto files; npm run generate writes it', (t) => {
  if (!requireOrSkip(t, existsSync(join(tools, 'buf')), 'needs @bufbuild/buf')) return;
  const proto = join(tmpDir(t), 'plugin/proto');
  mkdirSync(proto, { recursive: true });
  cpSync(join(root, 'src/plugin/proto'), proto, { recursive: true });
  const PATH = `${tools}${delimiter}${process.env.PATH}`;
  execFileSync('buf', ['generate'], { cwd: proto, env: { ...process.env, PATH } });
  const committed = join(root, 'src/plugin/gen');
  const made = join(proto, '../gen');
  assert.deepEqual(readdirSync(made), readdirSync(committed));
  for (const file of readdirSync(committed)) {
    assert.equal(
      readFileSync(join(made, file), 'utf8'),
      readFileSync(join(committed, file), 'utf8'),
      file,
    );
  }
});

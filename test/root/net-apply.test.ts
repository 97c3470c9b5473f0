import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { findProgram } from '#host';
import { RuleCommits } from '#netlink';
import { applyScript } from '../../src/net/rules/run-nft.ts';
import { must } from '../support/guest.ts';
import { until } from '../support/live-vm.ts';
import { inOwnNetns } from '../support/netns.ts';
import { rules, waiting } from '../support/networks.ts';
import { lingeringNft, slowNft } from '../support/slow-nft.ts';
import { tmpDir } from '../support/tmp.ts';

const textOf = (path: string): string => (existsSync(path) ? readFileSync(path, 'utf8') : '');

const gone = async (pid: string): Promise<boolean> => !existsSync(`/proc/${pid}`);

inOwnNetns(import.meta.url, ['nft', 'python3'], () => {
  test('rules are applied once the kernel has them, also where nft does not end', async (t) => {
    const { nft, go, pid } = lingeringNft(tmpDir(t));
    await applyScript('add table inet early\n', { nft }, waiting());
    assert.match(await rules(), /table inet early/);
    const program = readFileSync(pid, 'utf8');
    assert.ok(!(await gone(program)), 'nft has ended');
    writeFileSync(go, '');
    await until(() => gone(program), Boolean, 10_000);
  });

  test('the rules of another program are not taken for ours', async (t) => {
    const { nft, go, pid } = slowNft(tmpDir(t));
    using commits = RuleCommits.open();
    let applied = false;
    const applying = applyScript('add table inet late\n', { nft }, waiting()).then(() => {
      applied = true;
    });
    const program = await until(
      async () => textOf(pid),
      (text) => text.endsWith('\n'),
      10_000,
    );
    await must('nft', 'add', 'table', 'inet', 'other');
    assert.match(await rules(), /table inet other/);
    assert.ok(!commits.has(Number(program)));
    assert.ok(!applied);
    writeFileSync(go, '');
    await applying;
    assert.match(await rules(), /table inet late/);
  });

  test('rules that nft or the kernel refuse are an error, also where nothing is reported', async () => {
    const nft = { nft: findProgram('nft') ?? 'nft' };
    await assert.rejects(
      applyScript('add rule nonsense\n', nft, waiting()),
      /nft refused the rules/,
    );
    const missing = 'add table inet half\ndelete table inet missing\n';
    await assert.rejects(applyScript(missing, nft, waiting()), /nft refused the rules/);
    assert.doesNotMatch(await rules(), /half/);
  });

  test('a transaction whose reports the socket has no room for waits for the end of nft', async () => {
    const all = Array.from({ length: 20_000 }, (_, index) => index + 1);
    const script = `table inet large {\n set ports {\n type inet_service; elements = { ${all.join(', ')} }\n }\n}\n`;
    await applyScript(script, { nft: findProgram('nft') ?? 'nft' }, waiting());
    assert.match(await rules(), /20000/);
  });
});

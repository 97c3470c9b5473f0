import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { descriptorNumber, optionText } from '../../src/vm/argv.ts';
import { VmError } from '../../src/vm/error.ts';

test('P-25: no text can end a value in an option of QEMU', () => {
  assert.equal(optionText('a,id=x'), 'a,,id=x');
  const plain = fc.string({ unit: 'grapheme' }).filter((it) => !it.includes('\0'));
  fc.assert(
    fc.property(plain, (name) => {
      const text = optionText(name);
      // As QEMU reads it: a comma with a comma behind it is one, one alone would end the value.
      assert.doesNotMatch(text, /(?<!,)(?:,,)*,(?!,)/);
      assert.equal(text.replaceAll(',,', ','), name);
    }),
  );
  assert.throws(() => optionText('a\0b'), VmError);
});

test('descriptors are counted from 3, and one that is not handed on has no number', () => {
  assert.equal(descriptorNumber(['qmp', 'agent'], 'agent'), 4);
  assert.throws(() => descriptorNumber(['qmp'], 'agent'), /agent/);
});

/** All comparisons, one after the other, in one run: `npm run bench`. */
for (const bench of ['bench', 'exec', 'disks', 'import', 'during-import', 'network', 'samples']) {
  console.log(`\n${bench}`);
  await import(`./${bench}.ts`);
}

/** The middle value; of an even count the upper one. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

/** `median (min–max)` with one digit. */
export function spread(values: readonly number[]): string {
  return `${median(values).toFixed(1)} (${Math.min(...values).toFixed(1)}–${Math.max(...values).toFixed(1)})`;
}

/** The ratios of pairs measured one after the other: a slow moment of the machine weighs on both. */
export function pairedRatio(
  ours: readonly number[],
  others: readonly number[],
): { readonly median: number; readonly text: string } {
  const ratios = ours.map((it, index) => it / (others[index] ?? Number.NaN));
  return { median: median(ratios), text: `${median(ratios).toFixed(2)} ×` };
}

/** Lines with columns as wide as their widest cell. */
export function formatTable(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(...rows.map((row) => (row[column] ?? '').length)),
  );
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

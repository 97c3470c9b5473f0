/** What is measured of one VM. */
export interface Times {
  /** To the moment the guest may run. */
  readonly startMs: number;
  /** To the first byte on the guest's console, from the same beginning. */
  readonly firstByteMs: number;
  /** From SIGKILL asked for to the process gone. */
  readonly killMs: number;
}

/** The middle value; of an even count the upper one. */
function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

/** `median (min–max)` with one digit. */
export function spread(values: readonly number[]): string {
  return `${median(values).toFixed(1)} (${Math.min(...values).toFixed(1)}–${Math.max(...values).toFixed(1)})`;
}

/** Median of the ratios of pairs measured one after the other: a slow moment of the machine weighs on both. */
export function pairedRatio(ours: readonly number[], others: readonly number[]): string {
  return `${median(ours.map((it, index) => it / (others[index] ?? Number.NaN))).toFixed(2)} ×`;
}

/** Median of how much longer ours took, in a pair. */
export function pairedDifference(ours: readonly number[], others: readonly number[]): string {
  return median(ours.map((it, index) => it - (others[index] ?? Number.NaN))).toFixed(1);
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

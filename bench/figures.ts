/** What is measured of one VM. */
export interface Times {
  /** From the beginning until the guest may run. */
  readonly startMs: number;
  /** From the same beginning until the first byte on the guest's console. */
  readonly firstByteMs: number;
  /** From the request for SIGKILL until the process has ended. */
  readonly killMs: number;
}

/** The median; of an even count the upper of the two middle values. */
function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

/** `median (min–max)` with one digit. */
export function spread(values: readonly number[]): string {
  return `${median(values).toFixed(1)} (${Math.min(...values).toFixed(1)}–${Math.max(...values).toFixed(1)})`;
}

/** Median of the ratios of pairs measured one after the other: a slow moment of the machine affects both. */
export function pairedRatio(ours: readonly number[], others: readonly number[]): string {
  return `${median(ours.map((value, index) => value / (others[index] ?? Number.NaN))).toFixed(2)} ×`;
}

/** Median of how much longer ours took, in a pair. */
export function pairedDifference(ours: readonly number[], others: readonly number[]): string {
  return median(ours.map((value, index) => value - (others[index] ?? Number.NaN))).toFixed(1);
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

/** Tables for people: columns two spaces apart, `left` of them at the left, the others, which are numbers, at the right. */
export function formatTable(rows: readonly (readonly string[])[], left: number): readonly string[] {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const pad = (cell: string, column: number) =>
    column < left ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!);
  return rows.map((row) => row.map(pad).join('  ').trimEnd());
}

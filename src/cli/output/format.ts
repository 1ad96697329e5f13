/** Numbers, times and tables as people read them. Pure. */

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const;

/** 0 B, 999 B, 64 KiB, 1.5 GiB: three significant digits from KiB up, without trailing zeros. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  // 1023.6 KiB would round to 1024 KiB: go up a unit instead.
  while (value >= 1023.5 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = value >= 100 || unit === 0 ? 0 : value >= 9.995 ? 1 : 2;
  return `${Number(value.toFixed(digits))} ${UNITS[unit]}`;
}

/** 0.4 s, 12 s, 3 min 05 s, 2 h 07 min, 3 d 04 h. */
export function formatDuration(durationMs: number): string {
  const pad = (n: number): string => String(n).padStart(2, '0');
  if (durationMs < 9_950) return `${(durationMs / 1000).toFixed(1)} s`;
  const seconds = Math.round(durationMs / 1000);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${pad(seconds % 60)} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours} h ${pad(minutes % 60)} min`;
  return `${Math.floor(hours / 24)} d ${pad(hours % 24)} h`;
}

/**
 * An instant as the reader's clock showed it, with the zone, so that it names the same instant elsewhere and
 * when clocks are set back: 2026-03-01 12:00:00+01:00. `DEVICE@TIME` takes it as it is.
 */
export function formatInstant(iso: string, precision: 'second' | 'millisecond' = 'second'): string {
  const date = new Date(iso);
  if (Number.isNaN(date.getTime())) return iso;
  const pad = (n: number, digits = 2): string => String(n).padStart(digits, '0');
  const day = `${pad(date.getFullYear(), 4)}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
  const clock = `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
  const fraction = precision === 'second' ? '' : `.${pad(date.getMilliseconds(), 3)}`;
  const eastMinutes = -date.getTimezoneOffset();
  const ahead = Math.abs(eastMinutes);
  const zone =
    eastMinutes === 0
      ? 'Z'
      : `${eastMinutes > 0 ? '+' : '-'}${pad(Math.floor(ahead / 60))}:${pad(ahead % 60)}`;
  return `${day} ${clock}${fraction}${zone}`;
}

/** 1 block, 2 blocks, 1,234,567 blocks. */
export function formatCount(count: number, noun: string): string {
  return `${String(count).replace(/\B(?=(\d{3})+$)/g, ',')} ${noun}${count === 1 ? '' : 's'}`;
}

export interface Column {
  readonly title: string;
  readonly align?: 'left' | 'right';
}

/** Lines of a table: a line of titles, then the rows, columns two spaces apart; no trailing blanks. */
export function formatTable(columns: readonly Column[], rows: readonly (readonly string[])[]): string[] {
  const lines = [columns.map((column) => column.title), ...rows];
  const widths = columns.map((_, index) => Math.max(...lines.map((line) => (line[index] ?? '').length)));
  return lines.map((line) =>
    columns
      .map((column, index) => {
        const cell = line[index] ?? '';
        const width = widths[index] ?? 0;
        return column.align === 'right' ? cell.padStart(width) : cell.padEnd(width);
      })
      .join('  ')
      .trimEnd(),
  );
}

/**
 * Text that came from elsewhere, made safe for a terminal: control characters (escape sequences among them)
 * are shown as their code, never sent.
 */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this is about
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, (c) => {
    return `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`;
  });
}

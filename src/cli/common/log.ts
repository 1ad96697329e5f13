/** The receiver's log: JSON lines for a journal, readable ones for a terminal. */
import { type Logger, pino } from 'pino';
import { printable } from '../output/format.js';
import type { TextSink } from '../output/output.js';
import type { LogLevel } from './context.js';

const LEVELS: Readonly<Record<number, string>> = {
  20: 'debug',
  30: 'info',
  40: 'warning',
  50: 'ERROR',
  60: 'ERROR',
};
/** Fields that every line of a process has alike, and what is for programs. */
const SILENT = new Set(['level', 'time', 'pid', 'hostname', 'msg', 'event']);

export function createLog(level: LogLevel, sink: TextSink): Logger {
  const write =
    sink.isTTY === true ? (line: string) => sink.write(readable(line)) : (line: string) => sink.write(line);
  return pino({ level }, { write });
}

function readable(line: string): string {
  const fields = JSON.parse(line) as Record<string, unknown>;
  const details = Object.entries(fields)
    .filter(([name, value]) => !SILENT.has(name) && value !== undefined)
    .map(([name, value]) => `${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`);
  const clock = new Date(Number(fields.time)).toLocaleTimeString('en-GB');
  const text = [clock, LEVELS[Number(fields.level)] ?? '', String(fields.msg ?? ''), ...details].join('  ');
  return `${printable(text)}\n`;
}

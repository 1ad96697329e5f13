// Completions for bash, zsh and fish. Each finds the command by its words, past options and their values, and
// offers its commands, options, choices, paths, and the names of taps.
import { optionsFor } from './commands.mjs';

const quote = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
const path = ({ words }) => words.join(' ');
const alternatives = (values) => values.map(quote).join('|');
const takesValue = ({ value }) => value !== undefined;
const TAPS = `"\${STILLPOINT_STATE:-/var/lib/stillpoint}"/taps`;

/** What `PATH|N` (its Nth argument) and `PATH|--option` are completed with. */
function values(commands) {
  const [program] = commands;
  return commands.flatMap((command) => [
    ...command.arguments.map((argument, index) => ({ at: `${path(command)}|${index}`, ...argument })),
    ...optionsFor(command, program)
      .filter(takesValue)
      .flatMap(({ flags, ...rest }) => flags.map((flag) => ({ at: `${path(command)}|${flag}`, ...rest }))),
  ]);
}

/** Which cases need which action; those alike are one. */
function grouped(commands, actionOf) {
  const groups = new Map();
  for (const value of values(commands)) {
    const action = actionOf(value);
    if (action !== null) groups.set(action, [...(groups.get(action) ?? []), value.at]);
  }
  return [...groups].map(([action, at]) => `    ${alternatives(at)}) ${action} ;;`);
}

const valueFlags = (commands) => [
  ...new Set(commands.flatMap(({ options }) => options.filter(takesValue).flatMap(({ flags }) => flags))),
];

/** For bash and zsh: sets `at`, the words of the command, and `count`, of its arguments so far. */
const walk = (commands, first) => [
  `  local at='' count=0 i word`,
  `  for ((i = ${first}; i < current; i++)); do`,
  `    word=\${words[i]}`,
  '    case $word in',
  `      ${alternatives(valueFlags(commands))}) i=$((i + 1)) ;;`,
  '      -*) ;;',
  '      *)',
  `        case "$at\${at:+ }$word" in`,
  `          ${alternatives(commands.map(path).filter((words) => words !== ''))}) at="$at\${at:+ }$word" ;;`,
  '          *) count=$((count + 1)) ;;',
  '        esac',
  '        ;;',
  '    esac',
  '  done',
];

export function bashCompletion(commands) {
  const [program] = commands;
  const generate = (what) => `mapfile -t COMPREPLY < <(compgen ${what} -- "$word")`;
  const actionOf = ({ choices, kind }) => {
    if (choices.length > 0) return generate(`-W ${quote(choices.join(' '))}`);
    if (kind === 'directory') return `compopt -o filenames; ${generate('-d')}`;
    if (kind === 'file' || kind === 'device') return `compopt -o filenames; ${generate('-f')}`;
    if (kind === 'tap') return generate(`-W "$(command ls ${TAPS} 2>/dev/null)"`);
    return null;
  };
  return [
    '# bash completion for stillpoint, made from its commands',
    '_stillpoint() {',
    `  local words=("\${COMP_WORDS[@]}") current=$COMP_CWORD`,
    ...walk(commands, 1),
    `  word=\${words[current]}`,
    '  COMPREPLY=()',
    `  local previous=\${words[current - 1]} slot=$count`,
    '  case $previous in',
    `    ${alternatives(valueFlags(commands))}) slot=$previous ;;`,
    '    *)',
    '      if [[ $word == -* ]]; then',
    '        case $at in',
    ...commands.map(
      (command) =>
        `          ${quote(path(command))}) ${generate(`-W ${quote(flagsOf(command, program).join(' '))}`)} ;;`,
    ),
    '        esac',
    '        return',
    '      fi',
    '      ;;',
    '  esac',
    '  case "$at|$slot" in',
    ...commands
      .filter((command) => command.commands.length > 0)
      .map(
        (command) =>
          `    ${quote(`${path(command)}|0`)}) ${generate(`-W ${quote(command.commands.map(({ name }) => name).join(' '))}`)} ;;`,
      ),
    ...grouped(commands, actionOf),
    '  esac',
    '}',
    'complete -F _stillpoint stillpoint',
    '',
  ].join('\n');
}

const flagsOf = (command, program) => optionsFor(command, program).flatMap(({ flags }) => flags);

export function zshCompletion(commands) {
  const [program] = commands;
  const described = (name, text) => quote(`${name.replaceAll(':', '\\:')}:${text}`);
  const actionOf = ({ choices, kind }) => {
    if (choices.length > 0) return `compadd -- ${choices.map(quote).join(' ')}`;
    if (kind === 'directory') return '_files -/';
    if (kind === 'file' || kind === 'device') return '_files';
    if (kind === 'tap') return `compadd -- \${(f)"$(command ls ${TAPS} 2>/dev/null)"}`;
    return null;
  };
  return [
    '#compdef stillpoint',
    '# zsh completion for stillpoint, made from its commands',
    '_stillpoint() {',
    '  local current=$CURRENT',
    ...walk(commands, 2),
    `  local previous=\${words[CURRENT - 1]} slot=$count`,
    '  local -a offered',
    '  case $previous in',
    `    ${alternatives(valueFlags(commands))}) slot=$previous ;;`,
    '    *)',
    `      if [[ \${words[CURRENT]} == -* ]]; then`,
    '        case $at in',
    ...commands.map((command) => {
      const options = optionsFor(command, program).flatMap(({ flags, summary }) =>
        flags.map((flag) => described(flag, summary)),
      );
      return `          ${quote(path(command))}) offered=(${options.join(' ')}) ;;`;
    }),
    '        esac',
    "        _describe -o 'option' offered",
    '        return',
    '      fi',
    '      ;;',
    '  esac',
    '  case "$at|$slot" in',
    ...commands
      .filter((command) => command.commands.length > 0)
      .map((command) => {
        const offered = command.commands.map(({ name, description }) => described(name, description));
        return `    ${quote(`${path(command)}|0`)}) offered=(${offered.join(' ')}); _describe 'command' offered ;;`;
      }),
    ...grouped(commands, actionOf),
    '  esac',
    '}',
    // As an autoloaded function it is called at once; sourced, it is registered.
    `if [ "\${funcstack[1]}" = _stillpoint ]; then _stillpoint "$@"; else compdef _stillpoint stillpoint; fi`,
    '',
  ].join('\n');
}

export function fishCompletion(commands) {
  const [program] = commands;
  const quoted = (text) => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
  const valueFor = ({ choices, kind }) => {
    if (choices.length > 0) return `-x -a ${quoted(choices.join(' '))}`;
    if (kind === 'directory') return `-x -a '(__fish_complete_directories)'`;
    return kind === 'file' || kind === 'device' ? '-r -F' : '-x';
  };
  const lines = [
    '# fish completion for stillpoint, made from its commands',
    'function __stillpoint_at',
    '    set -l at',
    '    set -l count 0',
    '    set -l skip 0',
    '    for word in (commandline -opc)[2..-1]',
    '        if test $skip = 1',
    '            set skip 0',
    '            continue',
    '        end',
    '        switch $word',
    `            case ${valueFlags(commands).map(quoted).join(' ')}`,
    '                set skip 1',
    "            case '-*'",
    "            case '*'",
    '                set -l longer (string join " " $at $word)',
    `                if contains -- $longer ${commands.map(path).filter(Boolean).map(quoted).join(' ')}`,
    '                    set at $longer',
    '                else',
    '                    set count (math $count + 1)',
    '                end',
    '        end',
    '    end',
    '    test "$at" = "$argv[1]"; or return 1',
    '    test (count $argv) = 1; or test $count = $argv[2]',
    'end',
    'complete -c stillpoint -f',
  ];
  for (const command of commands) {
    const at = `-n "__stillpoint_at ${quoted(path(command))}"`;
    const atArgument = (index) => `-n "__stillpoint_at ${quoted(path(command))} ${index}"`;
    for (const { name, description } of command.commands)
      lines.push(`complete -c stillpoint ${atArgument(0)} -a ${quoted(name)} -d ${quoted(description)}`);
    for (const [index, argument] of command.arguments.entries()) {
      if (argument.kind === 'tap')
        lines.push(
          `complete -c stillpoint ${atArgument(index)} -a '(command ls /var/lib/stillpoint/taps 2>/dev/null)'`,
        );
      else if (argument.choices.length > 0 || argument.kind !== 'other')
        lines.push(`complete -c stillpoint ${atArgument(index)} ${argumentOf(argument, quoted)}`);
    }
    for (const option of optionsFor(command, program)) {
      const names = option.flags.map((flag) =>
        flag.startsWith('--') ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`,
      );
      const value = takesValue(option) ? ` ${valueFor(option)}` : '';
      lines.push(`complete -c stillpoint ${at} ${names.join(' ')}${value} -d ${quoted(option.summary)}`);
    }
  }
  return `${lines.join('\n')}\n`;
}

function argumentOf({ choices, kind }, quoted) {
  if (choices.length > 0) return `-a ${quoted(choices.join(' '))}`;
  return kind === 'directory' ? `-a '(__fish_complete_directories)'` : '-F';
}

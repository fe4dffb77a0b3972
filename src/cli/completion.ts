/**
 * `millrace completion bash|zsh|fish`: a script that completes commands, options and their values in that shell. Made from
 * the declaration of the commands itself, so it cannot lag behind. `source <(millrace completion bash)`.
 *
 * Each script walks the words before the cursor to the place it is at (`/deadletters/list`), and looks up what may follow.
 */
import type { Command, Option } from 'commander';
import { EXIT, type Terminal } from './terminal.ts';

export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

interface Place {
  /** '' for the program, then `/run`, `/deadletters/list`. */
  readonly path: string;
  readonly words: readonly { readonly word: string; readonly description: string }[];
  readonly options: readonly Known[];
}

interface Known {
  readonly short: string | undefined;
  readonly long: string;
  readonly description: string;
  readonly takes: 'nothing' | 'file' | 'folder' | 'text' | readonly string[];
}

export async function completion(shell: string, program: Command, terminal: Terminal): Promise<number> {
  terminal.out(completionScript(shell as Shell, program));
  return EXIT.ok;
}

export function completionScript(shell: Shell, program: Command): string {
  const places = placesOf(program, '');
  const name = program.name();
  return { bash, zsh, fish }[shell](name, places);
}

function placesOf(command: Command, path: string): Place[] {
  const help = command.createHelp();
  const commands = help.visibleCommands(command).filter((each) => each.name() !== 'help');
  const choices = command.registeredArguments.flatMap(({ argChoices, description }) =>
    (argChoices ?? []).map((word) => ({ word, description })),
  );
  const here: Place = {
    path,
    words: [...commands.map((each) => ({ word: each.name(), description: each.description() })), ...choices],
    options: help.visibleOptions(command).map(knownOf),
  };
  return [here, ...commands.flatMap((each) => placesOf(each, `${path}/${each.name()}`))];
}

function knownOf(option: Option): Known {
  const value = /[<[](\w+)[\]>]/.exec(option.flags)?.[1];
  const takes =
    option.argChoices ?? (value === undefined ? 'nothing' : value === 'file' || value === 'folder' ? value : 'text');
  return { short: option.short, long: option.long!, description: option.description, takes };
}

/** In single quotes, for any of the shells. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function valueCases(
  places: readonly Place[],
  actions: { file: string; folder: string; choices: (words: readonly string[]) => string },
  open: string,
): string[] {
  return places.flatMap(({ path, options }) =>
    options
      .filter(({ takes }) => takes !== 'nothing')
      .map(({ short, long, takes }) => {
        const patterns = [long, ...(short ? [short] : [])].map((flag) => `"${path} ${flag}"`).join('|');
        const action =
          typeof takes === 'object'
            ? actions.choices(takes)
            : takes === 'file' || takes === 'folder'
              ? actions[takes]
              : ':';
        return `    ${open}${patterns}) ${action}; return ;;`;
      }),
  );
}

function bash(name: string, places: readonly Place[]): string {
  const values = valueCases(
    places,
    {
      file: 'compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$cur"))',
      folder: 'compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -d -- "$cur"))',
      choices: (words) => `COMPREPLY=($(compgen -W "${words.join(' ')}" -- "$cur"))`,
    },
    '',
  );
  const known = places.map(({ path, words, options }) => {
    const all = [...words.map(({ word }) => word), ...options.map(({ long }) => long)];
    return `    "${path}") known="${all.join(' ')}" ;;`;
  });
  return `# bash completion for ${name}: source <(${name} completion bash)
_${name}() {
  local cur="\${COMP_WORDS[COMP_CWORD]}" prev="\${COMP_WORDS[COMP_CWORD-1]}" place="" known="" i
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "$place/\${COMP_WORDS[i]}" in
      ${places
        .slice(1)
        .map(({ path }) => path)
        .join('|')}) place="$place/\${COMP_WORDS[i]}" ;;
    esac
  done
  case "$place $prev" in
${values.join('\n')}
  esac
  case "$place" in
${known.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$known" -- "$cur"))
}
complete -F _${name} ${name}`;
}

function zsh(name: string, places: readonly Place[]): string {
  const values = valueCases(
    places,
    { file: '_files', folder: '_files -/', choices: (words) => `compadd -- ${words.join(' ')}` },
    '(',
  );
  const item = (word: string, description: string) => quoted(`${word.replaceAll(':', '\\:')}:${description}`);
  const known = places.map(({ path, words, options }) => {
    const commands = words.map(({ word, description }) => item(word, description));
    const flags = options.map(({ long, description }) => item(long, description));
    return `    ("${path}") commands=(${commands.join(' ')}); flags=(${flags.join(' ')}) ;;`;
  });
  return `#compdef ${name}
# zsh completion for ${name}: source <(${name} completion zsh), or a file _${name} in $fpath
_${name}() {
  local place="" i
  local -a commands flags
  for ((i = 2; i < CURRENT; i++)); do
    case "$place/\${words[i]}" in
      (${places
        .slice(1)
        .map(({ path }) => path)
        .join('|')}) place="$place/\${words[i]}" ;;
    esac
  done
  case "$place \${words[CURRENT-1]}" in
${values.join('\n')}
  esac
  case "$place" in
${known.join('\n')}
  esac
  (( $#commands )) && _describe command commands
  _describe -o option flags
}
if [ "$funcstack[1]" = "_${name}" ]; then _${name} "$@"; else compdef _${name} ${name}; fi`;
}

function fish(name: string, places: readonly Place[]): string {
  const lines = places.flatMap(({ path, words, options }) => {
    const at = `complete -c ${name} -n '__${name}_at "${path}"'`;
    return [
      ...words.map(({ word, description }) => `${at} -a ${quoted(word)} -d ${quoted(description)}`),
      ...options.map(({ short, long, description, takes }) => {
        const flags = `-l ${long.slice(2)}${short ? ` -s ${short.slice(1)}` : ''}`;
        const value =
          typeof takes === 'object'
            ? ` -x -a ${quoted(takes.join(' '))}`
            : { nothing: '', file: ' -r -F', folder: " -x -a '(__fish_complete_directories)'", text: ' -x' }[takes];
        return `${at} ${flags}${value} -d ${quoted(description)}`;
      }),
    ];
  });
  return `# fish completion for ${name}: ${name} completion fish | source
function __${name}_at
  set -l place ""
  for word in (commandline -opc)[2..-1]
    if contains -- "$place/$word" ${places
      .slice(1)
      .map(({ path }) => path)
      .join(' ')}
      set place "$place/$word"
    end
  end
  test "$place" = "$argv[1]"
end
complete -c ${name} -f
${lines.join('\n')}`;
}

"""The command line: ``pyo3-envshim``. Parses, calls, prints; decides nothing."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING

from pyo3_envshim import __version__, activation
from pyo3_envshim.frontends import FRONT_ENDS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``pyo3-envshim`` with *arguments* (default: the process's); return its exit status."""
    parser = _parser()
    if "_ARGCOMPLETE" in os.environ:  # a shell asks what could come next
        return _complete(parser)
    chosen = parser.parse_args(arguments)
    if chosen.command is None:
        parser.print_help()
        return 2
    try:
        return int(chosen.act(chosen))
    except activation.ActivationError as error:
        print(f"error: {error}\nhint: {error.hint}", file=sys.stderr)
        return 2


def _complete(parser: argparse.ArgumentParser) -> int:
    """Answer a shell that completes (extra ``completion``); argcomplete ends the process itself."""
    import importlib

    try:
        importlib.import_module("argcomplete").autocomplete(parser)
    except ImportError:
        pass
    return 1


def _env(chosen: argparse.Namespace) -> int:
    found = activation.variables(os.environ)
    if chosen.github:
        print(activation.append_for_github(found, os.environ))
    else:
        shell = chosen.shell or activation.shell_of(os.environ, os.name == "nt")
        _print(activation.shell_code(found, shell))
    return 0


def _run(chosen: argparse.Namespace) -> int:
    return activation.run(_command(chosen))


def _explain(chosen: argparse.Namespace) -> int:
    from pyo3_envshim import explain

    return explain.explain(_command(chosen), chosen.json, _coloured(sys.stderr))


def _command(chosen: argparse.Namespace) -> list[str]:
    command: list[str] = chosen.COMMAND[1:] if chosen.COMMAND[:1] == ["--"] else chosen.COMMAND
    if not command:
        raise activation.ActivationError("no command given", f"pyo3-envshim {chosen.command} -- uv build")
    return command


def _install(chosen: argparse.Namespace) -> int:
    print(activation.install(chosen.python, chosen.chain, chosen.force, chosen.dry_run))
    return 0


def _uninstall(chosen: argparse.Namespace) -> int:
    print(activation.uninstall(chosen.python, chosen.dry_run))
    return 0


def _doctor(chosen: argparse.Namespace) -> int:
    from pyo3_envshim import doctor

    sight = doctor.look(os.environ, os.getcwd())
    found = doctor.diagnose(sight, chosen.FRONT_END)
    _tell(chosen, doctor.as_data(sight, found), doctor.report(sight, found, _coloured(sys.stdout)))
    return 0 if found.served else 1


def _cache(chosen: argparse.Namespace) -> int:
    try:
        return int(chosen.does(chosen))
    except OSError as error:
        raise activation.ActivationError(f"{error.filename}: {error.strerror}", "is it yours?") from None


def _cache_dir(chosen: argparse.Namespace) -> int:
    from pyo3_envshim import store

    _print(store.folder(os.environ) + "\n")
    return 0


def _cache_list(chosen: argparse.Namespace) -> int:
    import time

    from pyo3_envshim import cache, sources, upkeep

    place, now = cache.opened(os.environ), time.time()
    entries, builds = upkeep.entries(place), sources.builds(place.root)
    text = cache.listing(entries, place.root, now) + cache.listing_of_builds(builds, place.root, now)
    _tell(chosen, cache.as_data(entries, builds, place.root), text)
    return 0


def _cache_prune(chosen: argparse.Namespace) -> int:
    import time

    from pyo3_envshim import cache, sources, upkeep

    limit, of_builds = cache.limit_of(chosen.size, os.environ), cache.limit_of_builds(os.environ)
    place = cache.opened(os.environ)
    before = cache.content(upkeep.entries(place))
    age = chosen.days * upkeep.DAY
    upkeep.prune(place, limit, age)
    gone = sources.prune(place.root, of_builds, time.time() - age)
    change = {**cache.removed(before, cache.content(upkeep.entries(place))), "removed_builds": gone}
    _tell(chosen, change, cache.told(change) + "\n")
    return 0


def _cache_clear(chosen: argparse.Namespace) -> int:
    from pyo3_envshim import cache, sources, upkeep

    place = cache.opened(os.environ)
    before = cache.content(upkeep.entries(place))
    builds = cache.content_of_builds(sources.builds(place.root))
    if not chosen.yes:
        if not sys.stdin.isatty():
            raise activation.ActivationError("nothing was removed: nobody can be asked", "--yes answers it")
        what = f"{before}, and {builds}" if builds else before
        print(f"Remove {what} in {place.root}? [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            return 1
    held = upkeep.clear(place)
    gone = sources.clear(place.root)
    change = {**cache.removed(before, cache.content(upkeep.entries(place))), "removed_builds": gone}
    _tell(chosen, {**change, "in_use": held}, cache.told(change) + "\n")
    left = [cache.counted(len(held))] if held else []
    left += filter(None, [cache.content_of_builds(sources.builds(place.root))])
    if left:
        print(f"hint: left, because running builds use them: {'; '.join(left)}", file=sys.stderr)
    return 0


def _cache_verify(chosen: argparse.Namespace) -> int:
    from pyo3_envshim import cache, upkeep

    place = cache.opened(os.environ)
    found = upkeep.verify(place)
    lines = cache.damages(found)
    whole = f"{cache.counted(len(found))} in {place.root}, all whole\n"
    _tell(chosen, {"folder": place.root, "entries": found}, "".join(lines) or whole)
    if lines:
        print(f"error: {len(lines)} of {cache.counted(len(found))} damaged", file=sys.stderr)
        print("hint: a build replaces what it needs; pyo3-envshim cache clear removes all", file=sys.stderr)
    return 1 if lines else 0


def _coloured(stream: TextIO) -> bool:
    """Tell whether *stream* is a terminal that shows colours, and nobody minds them."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _print(text: str) -> None:
    """Print to stdout; a path may hold what its encoding does not."""
    sys.stdout.flush()
    sys.stdout.buffer.write(os.fsencode(text))
    sys.stdout.buffer.flush()


def _tell(chosen: argparse.Namespace, data: object, text: str) -> None:
    _print(json.dumps(data, indent=2) + "\n" if chosen.json else text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pyo3-envshim",
        description="Gives the throw-away environments of isolated builds one permanent address, "
        "so that cargo does not recompile PyO3 when nothing changed.",
    )
    parser.add_argument("--version", action="version", version=f"pyo3-envshim {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    env = commands.add_parser(
        "env",
        help="print what a shell evaluates to switch it on",
        description="Print what a shell evaluates to switch the shim on for everything it starts.",
        epilog='example: eval "$(pyo3-envshim env)"',
    )
    env.add_argument("--shell", choices=activation.SHELLS, help="default: detected")
    env.add_argument("--github", action="store_true", help="append to the files of a GitHub Actions job")
    env.set_defaults(act=_env)
    run = commands.add_parser(
        "run",
        help="run one command with it on",
        description="Run one command with the shim on. Exit status and signals are the command's.",
        epilog="example: pyo3-envshim run -- uv sync",
    )
    run.add_argument("COMMAND", nargs=argparse.REMAINDER, help="the command and its arguments, after --")
    run.set_defaults(act=_run)
    explain = commands.add_parser(
        "explain",
        help="run one command, and say what cargo recompiled and why",
        description="Run a build command and say which crates cargo recompiled, the root cause of each, and "
        "the way out. It changes nothing: the shim is on or off as without it. The explanation goes to "
        "stderr; output, exit status and signals are the command's.",
        epilog="example: pyo3-envshim explain -- uv build --wheel",
    )
    explain.add_argument(
        "--json", action="store_true", help="explain to stdout, as JSON; the command's own goes to stderr"
    )
    explain.add_argument("COMMAND", nargs=argparse.REMAINDER, help="the command and its arguments, after --")
    explain.set_defaults(act=_explain)
    install = commands.add_parser(
        "install",
        help="switch it on for every environment made from an interpreter",
        description="Write a sitecustomize.py into an interpreter's standard-library folder, so that the "
        "shim is on in every environment made from it, uv's included.",
        epilog="example: pyo3-envshim install --python python3.13",
    )
    install.add_argument("--chain", action="store_true", help="keep and run another owner's sitecustomize.py")
    install.add_argument("--force", action="store_true", help="even if externally managed (PEP 668)")
    install.set_defaults(act=_install)
    uninstall = commands.add_parser(
        "uninstall",
        help="undo install",
        description="Remove exactly what install wrote, and restore what it kept.",
        epilog="example: pyo3-envshim uninstall --python python3.13",
    )
    uninstall.set_defaults(act=_uninstall)
    for command in (install, uninstall):
        command.add_argument("--python", default=sys.executable, help="default: the one that runs this")
        command.add_argument("--dry-run", action="store_true", help="say what would be done")
    _add_doctor(commands)
    _add_cache(commands)
    return parser


def _add_doctor(commands: Commands) -> None:
    doctor = commands.add_parser(
        "doctor",
        help="tell whether a build started here would be served, and why",
        description="Tell whether a build started here would be served, and why. What was looked at is ok; "
        "off: it keeps builds from being served; idle: there is nothing to serve; or unknown. The exit "
        "status is 0 if a build would be served by a front end on PATH, by the one named if one is, else 1.",
        epilog="example: pyo3-envshim doctor uv",
    )
    names = [front_end.name for front_end in FRONT_ENDS]
    doctor.add_argument(
        "FRONT_END", nargs="?", choices=names, metavar="FRONT_END", help="only this: " + ", ".join(names)
    )
    doctor.add_argument("--json", action="store_true", help="as JSON")
    doctor.set_defaults(act=_doctor)


def _add_cache(commands: Commands) -> None:
    cache = commands.add_parser(
        "cache",
        help="the stored environments: dir, list, prune, clear, verify",
        description="Look after the stored environments.",
        epilog="example: pyo3-envshim cache list",
    )
    actions = cache.add_subparsers(dest="action", metavar="ACTION", required=True, help="one of these")
    for name, act, what, example in (
        ("dir", _cache_dir, "print the path of the cache folder", 'du -sh "$(pyo3-envshim cache dir)"'),
        ("list", _cache_list, "list the entries: what is in each, its size, and its use", ""),
        ("prune", _cache_prune, "remove what was not used for long, and what is too much", "--size 500M"),
        ("clear", _cache_clear, "remove all entries that no running build uses", "--yes"),
        ("verify", _cache_verify, "read every file again; exit status 1 if one has changed", ""),
    ):
        example = example if "$" in example else f"pyo3-envshim cache {name} {example}".rstrip()
        description = f"{what[0].upper()}{what[1:]}."
        action = actions.add_parser(name, help=what, description=description, epilog=f"example: {example}")
        action.set_defaults(act=_cache, does=act)
        if name != "dir":
            action.add_argument("--json", action="store_true", help="as JSON")
        if name == "prune":
            action.add_argument(
                "--size",
                help="keep at most this, such as 500M or none; default: PYO3_ENVSHIM_CACHE_SIZE, or 2G",
            )
            action.add_argument(
                "--days", type=float, default=30, help="keep what was used in these; default: 30"
            )
        if name == "clear":
            action.add_argument("--yes", action="store_true", help="do not ask")

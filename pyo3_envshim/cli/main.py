"""The command line, ``pyo3-envshim``: parses, calls and prints; decides nothing."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import TextIO

from pyo3_envshim import __version__, _startup, launcher
from pyo3_envshim.cli import env
from pyo3_envshim.cli.errors import CommandError
from pyo3_envshim.environment.frontends import FRONT_ENDS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``pyo3-envshim`` with *arguments* (default: the process's); return its exit status."""
    parser = _parser()
    if "_ARGCOMPLETE" in os.environ:  # a shell asks for completions (extra ``completion``)
        try:
            importlib.import_module("argcomplete").autocomplete(parser)  # prints, and ends the process
        except ImportError:
            pass
        return 1
    chosen, unknown = parser.parse_known_args(arguments)
    if unknown:
        chosen.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if chosen.command is None:
        parser.print_help()
        return 2
    try:
        return int(chosen.act(chosen))
    except CommandError as error:
        print(f"error: {error}\nhint: {error.hint}", file=sys.stderr)
        return error.status


def _env(chosen: argparse.Namespace) -> int:
    """Print what a shell evaluates to switch the shim on for everything it starts."""
    found = env.variables(os.environ)
    if chosen.github:
        print(env.append_for_github(found, os.environ, env.on_path(os.environ) if chosen.path else ""))
    else:
        found = env.with_path(found, os.environ) if chosen.path else found
        _print(env.shell_code(found, chosen.shell or env.shell_of(os.environ, os.name == "nt")))
    return 0


def _run(chosen: argparse.Namespace) -> int:
    """Run one command with the shim on. Exit status and signals are the command's."""
    return env.run(_command(chosen), chosen.path)


def _explain(chosen: argparse.Namespace) -> int:
    """Run a build command and say which crates cargo recompiled, the root cause of each, and the way out.

    It changes nothing: the shim is on or off as without it. The explanation goes to stderr; output,
    exit status and signals are the command's.
    """
    from pyo3_envshim.cli.explain import command

    return command.explain(_command(chosen), chosen.json, _coloured(sys.stderr))


def _command(chosen: argparse.Namespace) -> list[str]:
    command: list[str] = chosen.COMMAND[1:] if chosen.COMMAND[:1] == ["--"] else chosen.COMMAND
    if not command:
        raise CommandError("no command given", f"pyo3-envshim {chosen.command} -- uv build")
    return command


def _install(chosen: argparse.Namespace) -> int:
    """Write a sitecustomize.py into an interpreter's standard-library folder, so that the shim is on
    in every environment made from it, uv's included.
    """
    from pyo3_envshim.cli import install

    if not chosen.dry_run:
        launcher.isolate(os.environ)
    print(install.install(chosen.python, chosen.chain, chosen.force, chosen.dry_run))
    return 0


def _uninstall(chosen: argparse.Namespace) -> int:
    """Remove exactly what install wrote, and restore what it kept."""
    from pyo3_envshim.cli import install

    print(install.uninstall(chosen.python, chosen.dry_run))
    return 0


def _off(_: argparse.Namespace) -> int:
    """Switch the shim off for this user, also in builds whose front end passes no variable on, such as
    tox's. PYO3_ENVSHIM, where it is set, counts more.
    """
    from pyo3_envshim.cli import switch

    print(switch.turn(on=False))
    return 0


def _on(_: argparse.Namespace) -> int:
    """Undo off: the shim is on again wherever it was switched on."""
    from pyo3_envshim.cli import switch

    print(switch.turn(on=True))
    return 0


def _doctor(chosen: argparse.Namespace) -> int:
    """Tell whether a build started here would be served, and why.

    What was looked at is ok; off: it keeps builds from being served; idle: there is nothing to
    serve; or unknown. The exit status is 0 if a build would be served by a front end on PATH, by
    the one named if one is, else 1.
    """
    from pyo3_envshim.cli import cache, doctor, snapshot

    with cache.leaving_no_folders(os.environ):
        seen = snapshot.take(os.environ, os.getcwd(), chosen.FRONT_END)
    found = doctor.diagnose(seen, chosen.FRONT_END)
    _answer(chosen, doctor.as_data(seen, found), doctor.report(seen, found, _coloured(sys.stdout)))
    return 0 if found.served else 1


def _cache(chosen: argparse.Namespace) -> int:
    """Look after the stored environments, and the build folders kept for unpacked sources."""
    from pyo3_envshim.cli import cache

    try:
        with cache.leaving_no_folders(os.environ):
            return int(chosen.does(chosen))
    except OSError as error:
        raise CommandError(f"{error.filename}: {error.strerror}", "is it yours?") from None


def _cache_dir(chosen: argparse.Namespace) -> int:
    """Print the path of the cache folder."""
    from pyo3_envshim.cli import cache

    folder = cache.folder_in_use(os.environ)
    _answer(chosen, {"folder": folder}, folder + "\n")
    return 0


def _cache_list(chosen: argparse.Namespace) -> int:
    """List the entries: what is in each, its size, and its use."""
    import time

    from pyo3_envshim.cli import cache

    found = cache.take_inventory(cache.open_store(os.environ))
    _answer(chosen, cache.as_data(found), cache.listing(found, time.time()))
    return 0


def _cache_prune(chosen: argparse.Namespace) -> int:
    """Remove what was not used for long, and what is too much."""
    from pyo3_envshim.cli import cache

    limit, of_builds = cache.limit_of(chosen.size, os.environ), cache.limit_of_builds(os.environ)
    days = cache.days_of(chosen.days)
    changes = cache.prune_all(cache.open_store(os.environ), limit, of_builds, days)
    _answer(chosen, changes._asdict(), cache.format_changes(changes))
    return 0


def _cache_clear(chosen: argparse.Namespace) -> int:
    """Remove all that no running build uses. The user's switch (off) stays."""
    from pyo3_envshim import builds
    from pyo3_envshim.cli import cache

    store = cache.open_store(os.environ)
    if not chosen.yes:
        answer = ""
        if sys.stdin.isatty():
            what = cache.take_inventory(store)
            print(f"Remove {what} in {store.root}? [y/N] ", end="", file=sys.stderr, flush=True)
            answer = sys.stdin.readline()
        if not answer:  # NUL on Windows says that it is a terminal
            reason = "refusing to clear without confirmation: stdin is not a terminal"
            raise CommandError(reason, "pass `--yes`")
        if answer.strip().lower() not in ("y", "yes"):
            return 1
    changes, in_use = cache.clear_all(store)
    _answer(chosen, {**changes._asdict(), "in_use": in_use}, cache.format_changes(changes))
    entries = cache.counted(len(in_use)) if in_use else ""
    left = filter(None, [entries, cache.content_of_builds(builds.builds(store.root))])
    if words := "; ".join(left):
        print(f"hint: left, because running builds use them: {words}", file=sys.stderr)
    if os.path.exists(_startup.switch()):
        print(f"hint: {_startup.switch()} still switches it off; pyo3-envshim on removes it", file=sys.stderr)
    return 0


def _cache_verify(chosen: argparse.Namespace) -> int:
    """Read every file again; exit status 1 if one has changed."""
    from pyo3_envshim.cli import cache
    from pyo3_envshim.store import prune

    store = cache.open_store(os.environ)
    found = prune.verify(store)
    lines = [f"{digest[: cache.SHORT]}: {damage}\n" for digest, damage in found.items() if damage]
    all_of_them = cache.counted(len(found))
    whole = f"{all_of_them} in {store.root}, all whole\n"
    _answer(chosen, {"folder": store.root, "entries": found}, "".join(lines) or whole)
    if lines:
        hint = "hint: a build replaces what it needs; pyo3-envshim cache clear removes all"
        print(f"error: {len(lines)} of {all_of_them} damaged\n{hint}", file=sys.stderr)
    return 1 if lines else 0


def _coloured(stream: TextIO) -> bool:
    """Tell whether *stream* is a terminal that shows colours, and the user wants them."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _print(text: str) -> None:
    """Print to stdout, also paths that its encoding cannot express."""
    sys.stdout.flush()
    sys.stdout.buffer.write(os.fsencode(text))
    sys.stdout.buffer.flush()


def _answer(chosen: argparse.Namespace, data: object, text: str) -> None:
    _print(json.dumps(data, indent=2) + "\n" if chosen.json else text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pyo3-envshim",
        description="Gives the ephemeral environments of isolated builds one permanent path, and unpacked "
        "sources a build folder that stays, so that cargo does not recompile PyO3 when nothing changed.",
    )
    parser.set_defaults(parser=parser)
    parser.add_argument("--version", action="version", version=f"pyo3-envshim {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    words, example = "print what a shell evaluates to switch it on", 'eval "$(pyo3-envshim env)"'
    switch = _add(commands, "env", _env, words, example)
    switch.add_argument("--shell", choices=env.SHELLS, help="default: detected")
    switch.add_argument("--github", action="store_true", help="append to the files of a GitHub Actions job")
    run = _add(commands, "run", _run, "run one command with it on", "pyo3-envshim run -- uv sync")
    for command in (switch, run):
        words = "also put it in front of PATH, for terminals, editors and back ends that look for cargo there"
        command.add_argument("--path", action="store_true", help=words)
    words = "run one command, and say what cargo recompiled and why"
    explain = _add(commands, "explain", _explain, words, "pyo3-envshim explain -- uv build --wheel")
    words = "explain to stdout, as JSON; the command's own goes to stderr"
    explain.add_argument("--json", action="store_true", help=words)
    for command in (run, explain):
        words = "the command and its arguments, after --"
        command.add_argument("COMMAND", nargs=argparse.REMAINDER, help=words)
    _add(commands, "off", _off, "switch it off for this user", "pyo3-envshim off")
    _add(commands, "on", _on, "undo off", "pyo3-envshim on")
    words = "switch it on for every environment made from an interpreter"
    install = _add(commands, "install", _install, words, "pyo3-envshim install --python python3.13")
    install.add_argument("--chain", action="store_true", help="keep and run another owner's sitecustomize.py")
    install.add_argument("--force", action="store_true", help="even if externally managed (PEP 668)")
    example = "pyo3-envshim uninstall --python python3.13"
    uninstall = _add(commands, "uninstall", _uninstall, "undo install", example)
    for command in (install, uninstall):
        command.add_argument("--python", default=sys.executable, help="default: the one that runs this")
        command.add_argument("--dry-run", action="store_true", help="say what would be done")
    words = "tell whether a build started here would be served, and why"
    doctor = _add(commands, "doctor", _doctor, words, "pyo3-envshim doctor uv")
    names = [front_end.name for front_end in FRONT_ENDS]
    words = "only this: " + ", ".join(names)
    doctor.add_argument("FRONT_END", nargs="?", choices=names, metavar="FRONT_END", help=words)
    doctor.add_argument("--json", action="store_true", help="as JSON")
    words = "the stored environments and kept build folders: dir, list, prune, clear, verify"
    cache = _add(commands, "cache", _cache, words, "pyo3-envshim cache list")
    _add_actions(cache.add_subparsers(dest="action", metavar="ACTION", required=True, help="one of these"))
    return parser


def _add_actions(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    for name, act, example in (
        ("dir", _cache_dir, 'du -sh "$(pyo3-envshim cache dir)"'),
        ("list", _cache_list, "pyo3-envshim cache list"),
        ("prune", _cache_prune, "pyo3-envshim cache prune --size 500M"),
        ("clear", _cache_clear, "pyo3-envshim cache clear --yes"),
        ("verify", _cache_verify, "pyo3-envshim cache verify"),
    ):
        about = act.__doc__ or ""
        action = _add(actions, name, act, about[:1].lower() + about[1:].rstrip("."), example)
        action.set_defaults(act=_cache, does=act)
        action.add_argument("--json", action="store_true", help="as JSON")
        if name == "prune":
            words = "keep at most this, such as 500M or none; default: PYO3_ENVSHIM_CACHE_SIZE, or 2G"
            action.add_argument("--size", help=words)
            words = "keep what was used in these; default: 30"
            action.add_argument("--days", default="30", help=words)
        if name == "clear":
            action.add_argument("--yes", action="store_true", help="do not ask")


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    act: Callable[[argparse.Namespace], int],
    summary: str,
    example: str,
) -> argparse.ArgumentParser:
    """Add a command; what its help says is the docstring of *act*."""
    command = commands.add_parser(name, help=summary, description=act.__doc__, epilog=f"example: {example}")
    command.set_defaults(act=act, parser=command)
    return command

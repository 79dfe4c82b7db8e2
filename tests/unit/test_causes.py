"""The root causes that `explain` finds, and the ways out that it names."""

from __future__ import annotations

from typing import Any

import pytest

from pyo3_envshim.cli.explain import causes

from .recorded_calls import AT, DIRTY, ERROR, NOT_FOUND, record, said_of

PLACE = AT.split(": ")[1]


def stale(seconds: int, nanos: int = 0) -> str:
    time = f"FileTime {{ seconds: {seconds}, nanos: {nanos} }}"
    return f'ChangedFile {{ reference: "/r", stale: "/p/src/lib.rs", stale_mtime: {time} }}'


def one_value(name: str) -> str:
    return f"give {name} one value, or each its own target folder (CARGO_TARGET_DIR)"


LIB = "/p/src/lib.rs"
WATCHES = "let it print rerun-if-changed for what exists only"
EXPANDS = "cargo expands no patterns: let it print rerun-if-changed for the folder, or for each file"
# Of a reason that cargo gives: the kind, the name, the brief form, what follows "…" or the name in the text,
# the hint, and the old and the new value.
CAUSES: dict[str, tuple[str, str, str, str, str, str | None, str | None]] = {
    "CompileKindChanged": ("target", "the target platform", "… changed", "… changed", "", None, None),
    'RustflagsChanged { old: ["-g"], new: ["-g", "-O"] }': (
        *("rustflags", "RUSTFLAGS", "… changed", "… changed: -g → -g -O", "", "-g", "-g -O"),
    ),
    'RustflagsChanged { old: [], new: ["-O"] }': (
        *("rustflags", "RUSTFLAGS", "… changed", "… changed: none → -O", "", "", "-O"),
    ),
    'RustflagsChanged { old: ["-O"], new: [] }': (
        *("rustflags", "RUSTFLAGS", "… changed", "… changed: -O → none", "", "-O", ""),
    ),
    r'FeaturesChanged { old: "[\"a\"]", new: "[\"a\", \"b\"]" }': (
        *("features", "the crate's features", "… changed", "… changed: a → a b", "", "a", "a b"),
    ),
    'FeaturesChanged { old: "odd", new: "odd" }': (
        *("features", "the crate's features", "… changed", "… changed", "", "odd", "odd"),
    ),
    r'DeclaredFeaturesChanged { old: "[]", new: "[\"x\"]" }': (
        *("features", "the features that Cargo.toml declares", "… changed", "… changed: none → x"),
        *("", "", "x"),
    ),
    "ProfileConfigurationChanged": (
        *("profile", "the profile's settings", "… changed", "… changed", "", None, None),
    ),
    "ConfigSettingsChanged": (
        *("config", "cargo's configuration", "… changed", "… changed", "", None, None),
    ),
    "PathToSourceChanged": ("path", "the path of the sources", "… changed", "… changed", "", None, None),
    "TargetConfigurationChanged": (
        *("manifest", "the target's settings in Cargo.toml", "… changed", "… changed", "", None, None),
    ),
    "LocalLengthsChanged": (
        *("watches", "top", "its build script watches other things"),
        *("what the build script of … asks cargo to watch changed", "-", None, None),
    ),
    'PrecalculatedComponentsChanged { old: "1.0.0", new: "1.0.1" }': (
        *("version", "top", "1.0.0 → 1.0.1", "… changed: 1.0.0 → 1.0.1", "-", "1.0.0", "1.0.1"),
    ),
    'PrecalculatedComponentsChanged { old: "1.0s (/p/a)", new: "2.5s (/p/src/b.rs)" }': (
        *("file", "/p/src/b.rs", "b.rs changed", "… of top changed", "-", None, None),
    ),
    **{
        f'FsStatusOutdated(StaleItem({name} {{ path: "{path}" }}))': (
            *("missing-file", path, f"{brief} does not exist"),
            "the build script of top watches …, which does not exist: it runs in every build",
            *(hint, None, None),
        )
        for name, path, brief, hint in (
            ("MissingFile", "/p/a/src/gone.txt", "src/gone.txt", WATCHES),
            ("MissingFile", "/p/targets/x.c", "targets/x.c", WATCHES),
            ("FailedToReadMetadata", "/p/src/*.c", "src/*.c", EXPANDS),
            ("UnableToReadFile", "/p/src/?.c", "src/?.c", EXPANDS),
        )
    },
    'FsStatusOutdated(StaleItem(MissingFile { path: "/p/target/debug/x.rlib" }))': (
        *("missing-output", "/p/target/debug/x.rlib", "what cargo had made is gone"),
        *("… is not there: the build before failed, or it was removed", "-", None, None),
    ),
    f"FsStatusOutdated(StaleItem({stale(8, 970_000_000)}))": (
        *("file", LIB, "lib.rs changed", "… changed", "-", None, None),
    ),
    f"FsStatusOutdated(StaleItem({stale(8, 980_000_000)}))": (
        *("file", LIB, "lib.rs changed", "… changed while this command ran"),
        "something writes it in every build, before cargo: let it write only what differs",
        *(None, None),
    ),
    f"FsStatusOutdated(StaleItem({stale(13)}))": (  # when the call ended
        *("file", LIB, "lib.rs changed", "… changed while this command ran"),
        "something writes it in every build, before cargo: let it write only what differs",
        *(None, None),
    ),
    f"FsStatusOutdated(StaleItem({stale(14)}))": (
        *(
            "file",
            LIB,
            "lib.rs changed",
            "… changed",
            "its time stamp lies in the future: touch it",
            None,
            None,
        ),
    ),
    'FsStatusOutdated(StaleItem(FileSizeChanged { path: "/p/src/lib.rs", old_size: 1, new_size: 2 }))': (
        *("file", LIB, "lib.rs changed", "… changed", "-", None, None),
    ),
    'FsStatusOutdated(StaleItem(ChangedChecksum { source: "/p/src/lib.rs", new_checksum: 2 }))': (
        *("file", LIB, "lib.rs changed", "… changed", "-", None, None),
    ),
    'FsStatusOutdated(StaleItem(ChangedEnv { var: "X", previous: Some("1"), current: Some("2") }))': (
        *("variable", "X", "X changed", "X changed: 1 → 2"),
        "the programs that build here (editor, terminal, front end) set X differently: set it alike, or put "
        "the shim in front of each (pyo3-envshim env --path), which keeps both",
        *("1", "2"),
    ),
}


def causes_of(*messages: str, **facts: Any) -> list[causes.Cause]:
    (crate,) = causes.diagnose(record(*messages, **facts), started=9.0).crates
    return crate.causes


@pytest.mark.parametrize("reason", CAUSES)
def test_of_each_reason_that_cargo_gives(reason: str) -> None:
    kind, name, brief, text, hint, old, new = CAUSES[reason]
    brief, text = (it.replace("…", name) for it in (brief, text))
    hint = one_value(name) if not hint else hint.strip("-")
    found = causes_of(AT, DIRTY, f"    dirty: {reason}")
    assert found == [causes.Cause(kind, name, brief, text, hint, old, new)]


def test_another_compiler_is_named() -> None:
    (found,) = causes_of(AT, DIRTY, "    dirty: RustcChanged", rustc=["rustc 1", "rustc 2"])
    text = "the Rust toolchain changed: rustc 1 → rustc 2"
    assert (found.kind, found.text, found.old, found.new) == ("toolchain", text, "rustc 1", "rustc 2")
    assert found.hint == one_value("the Rust toolchain")


FACTS = {"rustc": 1, "profile": 2, "features": "[]", "local": [{"Precalculated": "1.0"}]}
OWN: dict[str, Any] = {"local": [{"CheckDepInfo": {}}]}
STORED = {"python": None, "front_end": None, "stored": True, "mode": "on", "builds": None}
BUILD = "/tmp/build-via-sdist-abcd1234/tiny/target"
PIP = "/tmp/pip-req-build-abcd1234/target"
EITHER = "the next build with either is warm"
KEEP = "set PYO3_ENVSHIM_BUILD_CACHE=on to keep it"
NEVER = "top 0.1.0 was never compiled in /p/target"


def asks(value: str) -> dict[str, Any]:
    return {"local": [{"RerunIfEnvChanged": {"var": "X", "val": value}}]}


def ended(at: float, **facts: Any) -> dict[str, Any]:
    return {"ended": at, "facts": {**FACTS, **facts}}


PROFILE = (
    "profile",
    "the profile's settings",
    "the profile's settings changed",
    "the profile's settings changed",
    causes.KEPT,
    None,
    None,
)
# Of a unit without a fingerprint: its facts, those before, the rest of the record; and the cause.
COLD: list[tuple[dict[str, Any], list[Any], dict[str, Any], tuple[Any, ...]]] = [
    ({}, [], {}, ("new-crate", "top", "never compiled here", NEVER, "", None, None)),
    (
        *(OWN, [], {"environment": STORED}),
        (
            "new-crate",
            "top",
            "never compiled here",
            f"{NEVER}, or the shim had cargo compile it, because its sources' time stamps were in doubt",
            "",
            None,
            None,
        ),
    ),
    (OWN, [], {}, ("new-crate", "top", "never compiled here", NEVER, "", None, None)),
    (FACTS, [], {"environment": STORED}, ("new-crate", "top", "never compiled here", NEVER, "", None, None)),
    (
        *(OWN, [], {"environment": {**STORED, "builds": "/p"}}),
        (
            "unpacked",
            "top",
            "its sources were unpacked",
            "top comes from an unpacked sdist, whose time stamps tell nothing",
            "",
            None,
            None,
        ),
    ),
    (
        *(FACTS, [], {"environment": {**STORED, "builds": "/p"}}),
        ("new-crate", "top", "never compiled here", NEVER, "", None, None),
    ),
    (
        *(OWN, [], {"environment": {"builds": "/p/targ"}}),
        ("new-crate", "top", "never compiled here", NEVER, "", None, None),
    ),
    (
        *({}, [], {"profiles": []}),
        (
            "target-folder",
            "/p/target",
            "the target folder is new",
            "the target folder /p/target is new",
            "",
            None,
            None,
        ),
    ),
    (
        *({}, [], {"profiles": [], "target": BUILD}),
        (
            "target-folder",
            BUILD,
            "the target folder is new",
            f"the target folder {BUILD} is new: build unpacked the sdist below a temporary folder",
            "build where the sources are: python -m build --wheel; or switch "
            "the shim on, which keeps most of what it depends on",
            None,
            None,
        ),
    ),
    (
        *({}, [], {"profiles": [], "target": PIP}),
        (
            "target-folder",
            PIP,
            "the target folder is new",
            f"the target folder {PIP} is new: pip unpacked the sdist below a temporary folder",
            "build from the source folder, not from an sdist; or switch the shim "
            "on, which keeps most of what it depends on",
            None,
            None,
        ),
    ),
    (
        *({}, [], {"profiles": ["release", "x/debug"]}),
        (
            "profile",
            "debug",
            "first build for debug",
            "this is the first build in /p/target/debug; there is release, x/debug",
            f"cargo keeps a folder for each profile and platform: {EITHER}",
            None,
            "debug",
        ),
    ),
    (
        *({}, [], {"each_time": {"asks": ["top"], "needs": []}}),
        (
            "system",
            "top",
            "may depend on the system",
            "top may depend on the system: what its build script reads is not known",
            KEEP,
            None,
            None,
        ),
    ),
    (
        *({}, [], {"each_time": {"asks": ["x", "y"], "needs": ["top"]}}),
        (
            "system",
            "top",
            "needs what may depend on the system",
            "top needs what may depend on the system: x, y",
            KEEP,
            None,
            None,
        ),
    ),
    (
        *(FACTS, [ended(1, profile=3)], {}),
        PROFILE,
    ),
    (
        *(FACTS, [ended(1, profile=3, rustc=2)], {"rustc": ["rustc 1", "rustc 2"]}),
        (
            "toolchain",
            "the Rust toolchain",
            "the Rust toolchain changed",
            "the Rust toolchain changed: rustc 1 → rustc 2",
            causes.KEPT,
            "rustc 1",
            "rustc 2",
        ),
    ),
    (  # the nearest
        *(FACTS, [ended(2, profile=3, features='["a"]'), ended(1, profile=3)], {}),
        PROFILE,
    ),
    (  # the last of those that are as near
        *(FACTS, [ended(1, profile=3), ended(2, features='["a"]')], {}),
        (
            "features",
            "the crate's features",
            "the crate's features changed",
            "the crate's features changed: a → none",
            causes.KEPT,
            "a",
            "",
        ),
    ),
    (
        *(FACTS, [ended(1, local=[{"Precalculated": "0.9"}])], {}),
        ("version", "top", "0.9 → 1.0", "top changed: 0.9 → 1.0", "", "0.9", "1.0"),
    ),
    (
        *(FACTS, [ended(1)], {}),
        (
            "identity",
            "top",
            "another unit than before",
            "top 0.1.0 is another unit to cargo than before, with the same fingerprint",
            "its version, its source, or what is passed to cargo rustc differs from the builds before",
            None,
            None,
        ),
    ),
    (
        *({}, [ended(1)], {}),
        (
            "unknown",
            "top",
            NOT_FOUND[len("    err: ") :],
            f"top: {NOT_FOUND[len('    err: ') :]}",
            "this is what cargo wrote; pyo3-envshim does not know the cause",
            None,
            None,
        ),
    ),
    (
        *(asks("b"), [], {"aside": {PLACE: {"X": "a"}}}),
        (
            "set-aside",
            "X",
            "X changed",
            "X changed: a → b; what was compiled for the old value is set aside",
            EITHER,
            "a",
            "b",
        ),
    ),
    (
        *({}, [], {"profiles": [], "target": None}),
        ("target-folder", "", "the target folder is new", "the target folder is new", "", None, None),
    ),
    (
        *({}, [], {"target": None}),
        (
            *("profile", "/p/target/debug", "first build for /p/target/debug"),
            "this is the first build in /p/target/debug; there is debug",
            f"cargo keeps a folder for each profile and platform: {EITHER}",
            *(None, "/p/target/debug"),
        ),
    ),
    (
        *({**OWN, "profile": 2}, [{"ended": 1, "facts": {**OWN, "profile": 3}}], {}),
        (
            *("profile", "the profile's settings", "the profile's settings changed"),
            *("the profile's settings changed", causes.KEPT, None, None),
        ),
    ),
    (
        *({**FACTS, **OWN}, [ended(1)], {}),
        ("version", "top", "1.0 → ", "top changed: 1.0 → ", "", "1.0", ""),
    ),
]


@pytest.mark.parametrize(("facts", "before", "rest", "cause"), COLD)
def test_of_a_unit_that_has_left_no_fingerprint(
    facts: dict[str, Any], before: list[Any], rest: dict[str, Any], cause: tuple[Any, ...]
) -> None:
    place = PLACE
    if target := rest.get("target"):
        place = PLACE.replace("/p/target", target)
    messages = (it.replace(PLACE, place) for it in (AT, ERROR, NOT_FOUND))
    units = {place: {"hash": "", "facts": facts, "begun": 10.0, "ended": 12.5}}
    assert causes_of(*messages, units=units, before={place: before}, **rest) == [causes.Cause(*cause)]


class TestTheCrate:
    def crate(self, *messages: str, **unit: Any) -> causes.Crate:
        units = {PLACE: {"hash": "0" * 16, "facts": {}, "begun": 10.0, "ended": 12.5, **unit}}
        (found,) = causes.diagnose(record(*messages, units=units), started=9.0).crates
        return found

    @pytest.mark.parametrize(
        ("unit", "begun", "seconds"),
        [
            ({}, 10, 2.5),
            ({"begun": 8.0}, 8, 4.5),  # a file system's clock may be late
            ({"begun": 7.5}, 7.5, None),
            ({"hash": ""}, 10, None),
            ({"begun": None}, 0, None),
            ({"ended": 9.5}, 10, 0),
        ],
    )
    def test_took_the_time_of_what_was_completed(
        self, unit: dict[str, Any], begun: float, seconds: float | None
    ) -> None:
        found = self.crate(AT, DIRTY, "    dirty: RustcChanged", **unit)
        assert (found.name, found.version, found.begun, found.seconds) == ("top", "0.1.0", begun, seconds)
        assert found.roots == found.causes

    def test_has_all_variables_that_changed(self) -> None:
        reason = 'EnvVarChanged { name: "X", old_value: Some("a"), new_value: Some("b") }'
        pairs = (("X", "b"), ("Y", "2"), ("Z", "3"), ("W", "4"))
        local = [{"RerunIfEnvChanged": {"var": name, "val": value}} for name, value in pairs]
        unit = {"hash": "", "facts": {"local": local}, "begun": 10.0, "ended": 12.5}
        before = {PLACE: {"X": "a", "Y": "1", "Z": "3", "V": "5"}}
        found = causes_of(AT, DIRTY, f"    dirty: {reason}", units={PLACE: unit}, variables=before)
        assert [(it.name, it.old, it.new) for it in found] == [("X", "a", "b"), ("Y", "1", "2")]

    def test_was_compiled_against_what_another_build_compiled(self) -> None:
        times = "dep_mtime: FileTime { seconds: 5, nanos: 7 }, max_mtime: FileTime { seconds: 4, nanos: 0 }"
        newer = "dependency on `low` is newer than we are 5.000000007s > 4.000000000s"
        reason = f'    dirty: FsStatusOutdated(StaleDependency {{ name: "low", {times} }})'
        (found,) = causes_of(AT, newer, DIRTY, reason)
        text = "low was compiled by another build since, with settings of which it keeps one"
        hint = "builds with different settings take turns here: give each its own CARGO_TARGET_DIR"
        assert found == causes.Cause("taking-turns", "low", "low was compiled by another build", text, hint)
        (found,) = causes_of(AT, DIRTY, reason)
        assert found.kind == "unknown"


class TestADependent:
    """What it follows, and the causes of that."""

    def unit(self, name: str, number: int, *needs: tuple[str, int]) -> tuple[str, dict[str, Any]]:
        package, _, unit = name.partition("/")
        place = PLACE.replace("top-48737be18984da83/lib-top", f"{package}-{number:016}/{unit}")
        facts = {"deps": [[0, crate, False, need] for crate, need in needs]}
        text = number.to_bytes(8, "little").hex()
        return place, {"hash": text, "facts": facts, "begun": 10.0 + number, "ended": 20.0}

    def lines(self, place: str, version: str, reason: str) -> list[str]:
        return [f"fingerprint at: {place}", DIRTY.replace("top v0.1.0", version), f"    dirty: {reason}"]

    @pytest.mark.parametrize(
        "follows",
        [
            "UnitDependencyInfoChanged { old_name: 1 }",
            "FsStatusOutdated(StaleDepFingerprint { unit: UnitIndex(0) })",
            "unit dependency information changed",
            "current filesystem status shows we're outdated",
        ],
    )
    def test_has_the_causes_of_all_that_it_needs(self, follows: str) -> None:
        units = [
            self.unit("low/lib-low", 1),
            self.unit("mid/lib-mid", 2, ("low", 1)),
            self.unit("top/build-script-x", 3, ("mid", 2)),
            self.unit("top/lib-top", 4, ("build_script_build", 3)),
        ]
        versions = ("low v1.0.0", "mid v1.1.0", "top v0.1.0", "top v0.1.0")
        reasons = ("RustcChanged", "CompileKindChanged", follows, follows)
        messages = [
            line
            for (place, _), version, reason in zip(units, versions, reasons)
            for line in self.lines(place, version, reason)
        ]
        found = causes.diagnose(
            record(*messages, compiled=("low v1.0.0", "mid v1.1.0", "top v0.1.0"), units=dict(units)), 9.0
        )
        assert (found.understood, found.total) == (True, 3)
        low, mid, top = found.crates
        assert [(it.name, it.because) for it in found.crates] == [("low", []), ("mid", []), ("top", ["mid"])]
        kinds = [([cause.kind for cause in it.causes], {root.kind for root in it.roots}) for it in (low, mid)]
        both = {"toolchain", "target"}
        assert kinds == [(["toolchain"], {"toolchain"}), (["target"], both)]
        assert (top.causes, {root.kind for root in top.roots}) == ([], both)


def test_a_crate_that_the_log_tells_nothing_of() -> None:
    messages = AT, DIRTY, "    dirty: RustcChanged"
    odd, _ = causes.diagnose(record(*messages, compiled=("top v0.1.0", "odd v1.0 v2")), 9.0).crates
    assert (odd.name, odd.version, odd.because, odd.roots) == ("odd", "1.0 v2", [], odd.causes)
    assert [it.brief for it in odd.causes] == ["cargo gave no reason"]


def test_a_log_that_is_not_understood() -> None:
    found = causes.diagnose(record(AT, DIRTY, "    dirty: RustcChanged", units={}), 9.0)
    assert (found.crates, found.total, found.understood) == ([], 1, False)
    assert found.understood is False


class TestAVariable:
    def cause(self, name: str, new: str, **environment: Any) -> causes.Cause:
        reason = f'EnvVarChanged {{ name: "{name}", old_value: Some("/a"), new_value: Some("{new}") }}'
        made = {"python": None, "front_end": None, "stored": False, "mode": "on", **environment}
        (found,) = causes_of(AT, DIRTY, f"    dirty: {reason}", environment=made)
        return found

    def test_may_name_an_ephemeral_environment(self) -> None:
        assert self.cause("PYO3_PYTHON", "/b", python="/b", front_end="uv").kind == "ephemeral"

    def test_may_name_a_stored_one(self) -> None:
        found = self.cause("PYO3_PYTHON", "/b", python="/b", stored=True)
        assert found.kind == "stored"
        assert found.text == "PYO3_PYTHON changed: /a → /b (the environment's permanent address)"
        assert found.hint == (
            "the build requirements, the interpreter or the sources' state changed, or this is the first "
            "build with the shim: the next one is warm"
        )
        assert self.cause("X", "/b", python="/c", stored=True).kind == "variable"
        assert self.cause("X", "/b", python="/b").kind == "variable"

    @pytest.mark.parametrize("name", ["PATH", "VIRTUAL_ENV"])
    def test_may_be_of_a_place(self, name: str) -> None:
        found = self.cause(name, "/b")
        assert found.hint == (
            f"the programs that build here (editor, terminal, front end) set {name} differently: set it "
            "alike, or put the shim in front of each (pyo3-envshim env --path), which keeps both; "
            "PYO3_PYTHON, set to one interpreter, takes the place of both"
        )


class TestTheCause:
    """What the report says of it; builds/test_explain.py provokes each in a real build."""

    @pytest.mark.parametrize(
        "reason",
        [
            "NothingObvious",
            "SomethingOfTheFuture { why: [Because(1)] }",
            "EnvVarChanged { variable: 1 }",
            "env var `A` changed: previously None, now Some",
            "FsStatusOutdated(StaleDepFingerprint { unit: UnitIndex(0) })",  # of none that is dirty
        ],
    )
    def test_of_an_unknown_reason_is_that(self, reason: str) -> None:
        said = said_of(AT, DIRTY, f"    dirty: {reason}")
        assert f"cause: top: {reason}\n" in said
        assert "does not know the cause" in said

    @pytest.mark.parametrize(
        ("name", "mode", "hint"),
        [
            ("build", "on", "switch the shim on: pip install pyo3-envshim beside build, or add "),
            ("build", "off", "switch the shim on: pyo3-envshim on\n"),
            ("uv", "on", "switch the shim on: pyo3-envshim run -- uv …, or add "),
        ],
    )
    def test_of_an_ephemeral_environment_names_the_way_in(self, name: str, mode: str, hint: str) -> None:
        reason = 'EnvVarChanged { name: "PYO3_PYTHON", old_value: None, new_value: Some("/b/bin/python") }'
        environment = {"python": "/b/bin/python", "front_end": name, "stored": False, "mode": mode}
        environment["switch"] = "pyo3-envshim on"
        said = said_of(AT, DIRTY, f"    dirty: {reason}", environment=environment)
        assert "cause: PYO3_PYTHON changed: unset → /b/bin/python (" in said
        assert f"hint: {hint}" in said

    @pytest.mark.parametrize(
        ("moved", "hint"),
        [
            (
                None,
                "set it alike, or put the shim in front of each (pyo3-envshim env --path), which keeps both",
            ),
            ("0 units set aside, 0 brought back: no locks", "is kept, but here: 0 units set aside, 0"),
        ],
    )
    def test_of_a_variable_tells_what_the_shim_would_do(self, moved: str | None, hint: str) -> None:
        reason = 'EnvVarChanged { name: "X", old_value: Some("/a"), new_value: Some("/b") }'
        said = said_of(AT, DIRTY, f"    dirty: {reason}", moved=moved)
        assert hint in said
        assert "CARGO_TARGET_DIR" not in said
        assert (f"before that, the shim moved units: {moved}\n" in said) == bool(moved)

    @pytest.mark.parametrize("name", ["PATH", "VIRTUAL_ENV"])
    def test_of_an_environment_that_the_back_end_does_not_name_is_told(self, name: str) -> None:
        reason = f'EnvVarChanged {{ name: "{name}", old_value: Some("/a"), new_value: Some("/b") }}'
        environment = {"python": None, "front_end": "uv", "stored": False, "mode": "on"}
        said = said_of(AT, DIRTY, f"    dirty: {reason}", environment=environment)
        assert f"cause: {name} changed: /a → /b (uv makes an environment for each build" in said
        assert "hint: the build back end names no interpreter to cargo, " in said
        assert "set PYO3_PYTHON to the path of the interpreter that the wheel is for" in said
        assert "set it alike" not in said

    def test_of_a_crate_that_the_log_gives_no_reason_for_is_that(self) -> None:
        said = said_of(AT, DIRTY, "    dirty: RustcChanged", compiled=("top v0.1.0", "forced v1.0.0"))
        assert "cause: forced: cargo gave no reason\n" in said

    def test_of_a_fingerprint_that_is_not_understood(self) -> None:
        units: Any = {AT.split(": ")[1]: {"hash": "zz", "facts": {"deps": {}}, "begun": None, "ended": None}}
        assert "log is not understood" in said_of(AT, DIRTY, "    dirty: RustcChanged", units=units)

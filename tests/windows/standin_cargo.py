"""A stand-in for cargo, and rustc, on a Windows that has neither: run as text, it imports nothing of ours.

It keeps cargo's first layout and judges as cargo 1.95 does (``core/compiler/fingerprint``), for a crate
that depends on PyO3: the run of its build script registers PYO3_PYTHON, and what depends on it is
compiled again where that has another value; a crate is fresh if its fingerprint is as recorded, its
outputs are there, and no source is newer than the unit's start. What it "compiles" is a real DLL, with
the source's text behind it, and, with STANDIN_TELLS, what PyO3 was built for. Each call is a line of
JSON in the file that STANDIN_LOG names.
"""

import hashlib
import json
import msvcrt
import os
import shutil
import sys

REGISTRY = "registry+https://github.com/rust-lang/crates.io-index"
VERSION = "0.30.1"
HOST = "x86_64-pc-windows-msvc"
RUSTC = f"""rustc 1.95.0 (59807616e 2026-04-14)
binary: rustc
commit-hash: 59807616e1fa2540724bfbac14d7976d7e4a3860
commit-date: 2026-04-14
host: {HOST}
release: 1.95.0
LLVM version: 22.1.2
"""
CFG = """debug_assertions
panic="unwind"
target_arch="x86_64"
target_endian="little"
target_env="msvc"
target_family="windows"
target_feature="fxsr"
target_has_atomic="64"
target_os="windows"
target_pointer_width="64"
target_vendor="pc"
windows
"""
# What PyO3's build script asks cargo to run it again for.
WATCHED = (
    "PYO3_CROSS",
    "PYO3_NO_PYTHON",
    "PYO3_ENVIRONMENT_SIGNATURE",
    "PYO3_PYTHON",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "VisualStudioVersion",  # the crate cc asks for more like this one
)


def option(name, default=None):
    for number, argument in enumerate(sys.argv):
        if argument == name:
            return sys.argv[number + 1]
        if argument.startswith(name + "="):
            return argument[len(name) + 1 :]
    return default


ROOT = os.path.dirname(os.path.abspath(option("--manifest-path", "Cargo.toml")))
TARGET = os.path.abspath(
    option("--target-dir") or os.environ.get("CARGO_TARGET_DIR") or os.path.join(ROOT, "target")
)
# `--config build.build-dir="…"`, whose value is TOML's, and JSON's as well.
SETTING = next((it for it in sys.argv if it.startswith("build.build-dir=")), "")
BUILD = json.loads(SETTING.partition("=")[2]) if SETTING else TARGET
HOME = os.environ.get("CARGO_HOME") or os.path.join(os.path.expanduser("~"), ".cargo")


def package(name, version, source, folder, kinds, needs):
    label = name.replace("-", "_")
    target = {"name": label, "src_path": os.path.join(folder, "src", "lib.rs"), "edition": "2021"}
    target.update(kind=kinds, crate_types=kinds, doc=True, doctest=False, test=True)
    id = (
        f"{source}#{name}@{version}"
        if source
        else f"path+file:///{folder}#{name}@{version}".replace("\\", "/")
    )
    found = {
        "name": name,
        "version": version,
        "id": id,
        "source": source,
        "targets": [target],
        "edition": "2021",
    }
    found["manifest_path"] = os.path.join(folder, "Cargo.toml")
    found["dependencies"] = [
        {"name": need, "source": REGISTRY, "req": "^0.30", "kind": None, "rename": None, "optional": False,
         "uses_default_features": True, "features": [], "target": None, "registry": None}
        for need in needs
    ]  # fmt: skip
    found["features"] = {"extension-module": []} if name == "pyo3" else {}
    unset = "license license_file description metadata publish readme repository homepage documentation"
    found.update(dict.fromkeys([*unset.split(), "links", "default_run", "rust_version"]))
    found.update(authors=[], categories=[], keywords=[])
    return found


def packages():
    source = os.path.join(HOME, "registry", "src", "index", "")
    return [
        package("tiny", "0.1.0", None, ROOT, ["cdylib"], ["pyo3"]),
        package("pyo3", VERSION, REGISTRY, f"{source}pyo3-{VERSION}", ["lib"], ["pyo3-ffi"]),
        package("pyo3-ffi", VERSION, REGISTRY, f"{source}pyo3-ffi-{VERSION}", ["lib"], []),
    ]


def metadata():
    found = packages()
    nodes = []
    for number, it in enumerate(found):
        needed = found[number + 1 : number + 2]
        kinds = [{"kind": None, "target": None}]
        deps = [
            {"name": need["targets"][0]["name"], "pkg": need["id"], "dep_kinds": kinds} for need in needed
        ]
        nodes.append(
            {"id": it["id"], "dependencies": [need["id"] for need in needed], "deps": deps, "features": []}
        )
    answer = {"packages": found, "workspace_members": [found[0]["id"]], "version": 1, "metadata": None}
    answer.update(workspace_root=ROOT, target_directory=TARGET, build_directory=BUILD)
    answer.update(
        workspace_default_members=[found[0]["id"]], resolve={"nodes": nodes, "root": found[0]["id"]}
    )
    if "--no-deps" in sys.argv:
        answer.update(packages=found[:1], resolve=None)
    print(json.dumps(answer))


def key_of(package, name):
    return hashlib.sha256(f"{package} {name}".encode()).hexdigest()[:16]


class Profile:
    """The folder of a profile, locked as cargo locks it."""

    def __init__(self, name):
        self.folder = os.path.join(BUILD, name)
        for part in (".fingerprint", "build", "deps"):
            os.makedirs(os.path.join(self.folder, part), exist_ok=True)
        self.lock = os.open(os.path.join(self.folder, ".cargo-lock"), os.O_RDWR | os.O_CREAT)
        msvcrt.locking(self.lock, msvcrt.LK_LOCK, 1)
        self.compiled = []
        self.numbers = set()  # of what was compiled: what needs that is older now, and stale

    def unit(self, package, name, local, needs, outputs, source=None):
        """Bring a unit up to date; return its fingerprint. *needs*: those of its dependencies, by name."""
        key = key_of(package, name)
        place = os.path.join(self.folder, ".fingerprint", f"{package}-{key}", name)
        facts = {"rustc": 1, "deps": [[1, it, False, number] for it, number in needs.items()], "local": local}
        text = hashlib.sha256(json.dumps([key, facts], sort_keys=True).encode()).hexdigest()[:16]
        number = int.from_bytes(bytes.fromhex(text), "little")
        note = os.path.join(os.path.dirname(place), f"dep-{name}")
        try:
            with open(place, encoding="ascii") as file:
                is_fresh = file.read() == text
            begun = os.stat(note if source else place).st_mtime_ns
            is_fresh = is_fresh and self.numbers.isdisjoint(needs.values())
            is_fresh = is_fresh and all(os.path.exists(path) for path in outputs)
            is_fresh = is_fresh and (source is None or os.stat(source).st_mtime_ns <= begun)
        except OSError:
            is_fresh = False
        if is_fresh:
            return number
        self.compiled.append(f"{package} {name}")
        self.numbers.add(number)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        stamp = os.path.join(os.path.dirname(place), "invoked.timestamp")
        self.write(stamp, b"This file has an mtime of when this was started.")
        begun = os.stat(stamp).st_mtime_ns
        for path, content in outputs.items():
            self.write(path, content)
        if source:
            path = os.path.relpath(source, ROOT).encode()
            # cargo's binary dep-info: a mark and the version, one file of the package's own, no variables
            data = b"\0\0\0\0\xff\1" + (1).to_bytes(4, "little") + b"\0" + len(path).to_bytes(4, "little")
            self.write(note, data + path + b"\0" + (0).to_bytes(4, "little"))
            os.utime(note, ns=(begun, begun))
        self.write(place + ".json", json.dumps(facts).encode())
        self.write(place, text.encode())
        return number

    def write(self, path, content):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)


def library():
    """Return a real DLL, with the source behind it."""
    base = os.path.dirname(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))
    with (
        open(os.path.join(base, "DLLs", "_uuid.pyd"), "rb") as file,
        open(os.path.join(ROOT, "src", "lib.rs"), "rb") as source,
    ):
        return file.read() + source.read()


def compile():
    release = "--release" in sys.argv or option("--profile") == "release"
    profile = Profile("release" if release else "debug")
    deps = os.path.join(profile.folder, "deps")
    local = [{"RerunIfEnvChanged": {"var": name, "val": os.environ.get(name)}} for name in WATCHED]
    key = key_of("pyo3-ffi", "run-build-script-build-script-build")
    output = os.path.join(profile.folder, "build", f"pyo3-ffi-{key}", "output")
    script = profile.unit(
        "pyo3-ffi", "run-build-script-build-script-build", local, {}, {output: b"cargo:rustc-cfg=x"}
    )
    plain = [{"CheckDepInfo": {"dep_info": "x", "checksum": False}}]
    ffi = profile.unit(
        "pyo3-ffi",
        "lib-pyo3_ffi",
        plain,
        {"build_script_build": script},
        {os.path.join(deps, f"libpyo3_ffi-{key_of('pyo3-ffi', 'lib-pyo3_ffi')}.rlib"): b"!"},
    )
    made = os.path.join(deps, f"libpyo3-{key_of('pyo3', 'lib-pyo3')}.rlib")
    knows = os.environ.get("PYO3_PYTHON") or os.environ.get("VIRTUAL_ENV") or ""
    knows = knows.encode() if "STANDIN_TELLS" in os.environ else b"!"
    pyo3 = profile.unit("pyo3", "lib-pyo3", plain, {"pyo3_ffi": ffi}, {made: knows})
    with open(made, "rb") as file:
        knows = file.read()
    source = os.path.join(ROOT, "src", "lib.rs")
    made = os.path.join(deps, "tiny.dll")
    info = f"{made}: src\\lib.rs\n\nsrc\\lib.rs:\n".encode()
    before = len(profile.compiled)
    profile.unit(
        "tiny",
        "lib-tiny",
        plain,
        {"pyo3": pyo3},
        {made: library() + knows, os.path.join(deps, "tiny.d"): info},
        source,
    )
    told = {"1": {"stdout": RUSTC}, "2": {"stdout": f"___.exe\n{HOME}\n"}}
    profile.write(os.path.join(BUILD, ".rustc_info.json"), json.dumps({"outputs": told}).encode())
    result = os.path.join(TARGET, os.path.basename(profile.folder), "tiny.dll")
    os.makedirs(os.path.dirname(result), exist_ok=True)
    shutil.copyfile(made, result)
    own = packages()[0]
    message = {"reason": "compiler-artifact", "package_id": own["id"], "manifest_path": own["manifest_path"]}
    message.update(target=own["targets"][0], features=[], filenames=[result], executable=None)
    message.update(fresh=len(profile.compiled) == before)
    message["profile"] = {
        "opt_level": "3",
        "debuginfo": 0,
        "debug_assertions": False,
        "overflow_checks": False,
        "test": False,
    }
    if any(argument.startswith("--message-format") for argument in sys.argv):
        print(json.dumps(message))
        print(json.dumps({"reason": "build-finished", "success": True}))
    return profile.compiled


def main():
    called = os.path.basename(sys.argv[0]).lower().removesuffix(".exe")
    words = [word for word in sys.argv[1:] if not word.startswith(("-", "+")) and word != SETTING]
    compiled = None
    if called == "rustc":
        asked = option("--print", "")
        answers = {"cfg": CFG, "target-list": HOST + "\n", "sysroot": HOME + "\n", "host-tuple": HOST + "\n"}
        sys.stdout.write(answers.get(asked, RUSTC))
    elif "metadata" in words[:1]:
        metadata()
    elif words[:1] == ["package"] and "--list" in sys.argv:
        print("Cargo.lock", "Cargo.toml", "Cargo.toml.orig", "pyproject.toml", "src/lib.rs", sep="\n")
    elif words[:1] and words[0] in ("rustc", "build"):
        compiled = compile()
    else:
        sys.stdout.write("cargo 1.95.0 (f2d3ce0bd 2026-03-21)\n")
    log = os.environ.get("STANDIN_LOG")
    if log and called != "rustc":
        names = [*WATCHED, "CARGO", "PYO3_BASE_PYTHON", "PATH"]
        told = {
            "arguments": sys.argv[1:],
            "compiled": compiled,
            "environ": {it: os.environ.get(it) for it in names},
        }
        with open(log, "a", encoding="utf-8") as file:
            file.write(json.dumps(told) + "\n")


main()

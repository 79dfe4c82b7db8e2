"""A content's hash: the same for a file as for its bytes, and different for every content."""

from __future__ import annotations

import _thread
import errno
import hashlib
import os
import random
from pathlib import Path
from typing import Any

import pytest

from pyo3_envshim.environment import hashing

PART = 64


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "PART", PART)
    monkeypatch.setattr(hashing, "PIECE", 24)


def content(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 2 * PART, 4 * PART + 1, 9 * PART + 5])
def test_a_file_has_the_hash_of_its_bytes(size: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content(size))
    assert hashing.of_file(str(path)) == hashing.of_bytes(content(size))


def test_it_is_the_sha_256_of_what_is_small() -> None:
    assert hashing.of_bytes(b"x" * PART) == hashlib.sha256(b"x" * PART).hexdigest()


@pytest.mark.parametrize("at", [0, PART - 1, PART, 5 * PART, 9 * PART + 4])
def test_a_changed_byte_changes_it(at: int, tmp_path: Path) -> None:
    data = content(9 * PART + 5)
    path = tmp_path / "file"
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    assert hashing.of_file(str(path)) != hashing.of_bytes(data)


def test_so_does_the_order_of_the_parts() -> None:
    parts = [content(PART, seed) for seed in range(4)]
    assert hashing.of_bytes(b"".join(parts)) != hashing.of_bytes(b"".join(reversed(parts)))


def test_a_small_content_cannot_pass_for_a_large_one() -> None:
    large = content(2 * PART)
    digests = b"".join(hashlib.sha256(large[at : at + PART]).digest() for at in (0, PART))
    assert len(digests) <= PART
    assert hashing.of_bytes(digests) != hashing.of_bytes(large)


@pytest.mark.parametrize("opened", range(1, hashing.THREADS + 1))
def test_a_file_that_one_thread_cannot_read_has_none(
    opened: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content(9 * PART))
    left = [None] * opened

    def fail_once(*arguments: object, **named: object) -> object:
        left.pop()
        if not left:
            left.extend([None] * 99)
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return open(*arguments, **named)  # type: ignore[call-overload]

    monkeypatch.setattr(hashing, "open", fail_once, raising=False)
    with pytest.raises(OSError, match="Input/output error"):
        hashing.of_file(str(path))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("threads", [0, 2])
def test_where_no_more_threads_start_it_is_the_same(
    threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [_thread.start_new_thread] * threads

    def start(*arguments: Any) -> int:
        if not left:
            raise RuntimeError("can't start new thread")
        return left.pop()(*arguments)

    path = tmp_path / "file"
    path.write_bytes(content(9 * PART + 5))
    monkeypatch.setattr(_thread, "start_new_thread", start)
    assert hashing.of_file(str(path)) == hashing.of_bytes(content(9 * PART + 5))


def test_a_file_that_is_not_there_has_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        hashing.of_file(str(tmp_path / "none"))

"""The hash that stands for a file's content: of a large file by several threads at once.

Up to `PART` bytes it is their SHA-256, in hex; of more, ``parts-`` and the SHA-256 of the parts'
SHA-256. To read and hash maturin's 27 MB takes 10 ms so, in a process that has just begun (18 ms
in one go), and was most of what a wrapped call takes.
"""

from __future__ import annotations

import _thread
import errno
import hashlib
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from io import FileIO

PART = 2 << 20
PIECE = 1 << 16  # what is read at once, into memory that is used again and that the processor keeps at hand
THREADS = 3  # cargo, which is asked where it works meanwhile, takes another processor


def of_bytes(data: bytes) -> str:
    """Return the hash of a content."""
    if len(data) <= PART:
        return hashlib.sha256(data).hexdigest()
    return _of_parts(hashlib.sha256(data[at : at + PART]).digest() for at in range(0, len(data), PART))


def of_file(path: str) -> str:
    """Return the hash of what is in the file at *path*. Raises OSError."""
    count = -(-os.stat(path).st_size // PART)
    if count <= 1:
        with open(path, "rb") as file:
            return of_bytes(file.read())
    found = [b""] * count

    def hash_some(first: int, ended: _thread.LockType) -> None:
        piece = memoryview(bytearray(PIECE))
        try:
            with open(path, "rb", buffering=0) as file:
                for number in range(first, count, THREADS):
                    file.seek(number * PART)
                    found[number] = _of_part(file, piece)
        except OSError:
            pass  # it is not found, below
        finally:
            ended.release()

    running = []
    for first in range(min(THREADS, count)):
        ended = _thread.allocate_lock()
        ended.acquire()
        running.append(ended)
        try:
            _thread.start_new_thread(hash_some, (first, ended))
        except RuntimeError:  # there may be no more: here, then
            hash_some(first, ended)
    for ended in running:
        ended.acquire()
    if not all(found):
        raise OSError(errno.EIO, os.strerror(errno.EIO), path)
    return _of_parts(found)


def _of_part(file: FileIO, piece: memoryview) -> bytes:
    total, left = hashlib.sha256(), PART
    while left and (size := file.readinto(piece[:left])):
        total.update(piece[:size])
        left -= size
    return total.digest()


def _of_parts(digests: Iterable[bytes]) -> str:
    return "parts-" + hashlib.sha256(b"".join(digests)).hexdigest()

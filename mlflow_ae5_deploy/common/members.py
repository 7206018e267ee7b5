"""Walk .tar.gz, .tar.bz2, .tar and .zip, noticing damage that libraries ignore.

Python's tarfile takes an archive that was truncated between two members for a complete one, and stops silently at a
damaged header; here a missing end marker, or a checksum of the compression that does not fit, is an error.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Literal, cast

from mlflow_ae5_deploy.common.text import size

Format = Literal["gzip", "bzip2", "tar", "zip"]
Kind = Literal["file", "folder", "symlink", "hardlink", "other"]

HEAD = 1024  # bytes that `recognise` wants to see
_CHUNK = 1 << 16
_LARGEST_HEADER = 1 << 20  # of extended tar headers, which the library reads into memory whole
_HEADERS = 4 * _LARGEST_HEADER  # in front of one member
_LONGEST_PATH = 1024  # characters; far longer than any in a project
_ZIP_DIRECTORY = 16 << 20  # of a zip, which the library reads into memory whole
_EXTENDED = {
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
}


class BrokenArchive(Exception):
    """Not an archive, or damaged, or too large; the message completes "<file> ..."."""


class TooMuch(BrokenArchive):
    """It outgrows the limits."""


@dataclass(frozen=True)
class Limits:
    total: int = 1 << 30  # unpacked bytes; AE5 takes uploads of up to 1 GB
    entries: int = 10_000  # files, links and folders, named or not

    def check(self, total: int, at: str) -> None:
        """Raise TooMuch if `total` bytes, up to and with the entry `at`, are too many."""
        if total > self.total:
            raise TooMuch(f"unpacks to more than {size(self.total)} (at {at!r})")


class _Rationed:
    """A stream with a limit: the libraries read headers without a bound."""

    def __init__(self, stream: IO[bytes], allowed: int) -> None:
        self._stream = stream
        self._left = allowed
        self.seek, self.tell, self.seekable = stream.seek, stream.tell, stream.seekable

    def allow(self, amount: int) -> None:
        self._left = amount

    def read(self, amount: int = -1) -> bytes:
        data = self._stream.read(amount if 0 <= amount <= self._left else self._left + 1)
        self._left -= len(data)
        if self._left < 0:
            raise TooMuch("has headers of an impossible size")
        return data


@dataclass(frozen=True)
class Member:
    name: str  # as stored, unchecked
    kind: Kind
    mode: int  # permission bits
    size: int
    target: str  # as stored, unchecked
    read: Callable[[], IO[bytes]]  # to be called before the next member


def recognise(head: bytes) -> Format | None:
    """The format that the first HEAD bytes of a file announce, or None."""
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    if head.startswith(b"BZh"):
        return "bzip2"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if len(head) >= tarfile.BLOCKSIZE and head[0] != 0:
        try:
            tarfile.TarInfo.frombuf(head[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
        except tarfile.HeaderError:
            return None
        return "tar"
    return None


def describe_foreign(head: bytes) -> str:
    """Describe a file that is no archive; completes "<file> is ..."."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        return "empty"
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<body", b"<?xml")):
        return "a web page, not an archive (a login or error page, perhaps)"
    if text.startswith((b"{", b"[")):
        return "a JSON document, not an archive"
    if head.startswith(b"\xfd7zXZ"):
        return "compressed with xz, which AE5 does not take (.tar.gz, .tar.bz2, .tar and .zip it does)"
    if text.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the archive it points to"
    return "not an archive (.tar.gz, .tar.bz2, .tar or .zip)"


@contextmanager
def damage_reported() -> Iterator[None]:
    """Turn the libraries' errors on damaged input into BrokenArchive."""
    try:
        yield
    except BrokenArchive:
        raise
    except (EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error) as error:
        raise BrokenArchive(f"is truncated or damaged ({error})") from None
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # EINVAL: a damaged offset led before the file's beginning
            raise
        raise BrokenArchive(f"is truncated or damaged ({error})") from None
    except (NotImplementedError, RuntimeError) as error:
        raise BrokenArchive(f"uses a feature that cannot be read ({error})") from None
    except (ValueError, LookupError, OverflowError, ArithmeticError) as error:
        raise BrokenArchive(f"is damaged ({type(error).__name__}: {error})") from None


def walk(file: IO[bytes], limits: Limits) -> Iterator[Member]:
    """Every member in stored order. Raises BrokenArchive, at the latest at the end."""
    head = file.read(HEAD)
    file.seek(0)
    form = recognise(head)
    if form is None:
        raise BrokenArchive(f"is {describe_foreign(head)}")
    members = _walk_zip(file) if form == "zip" else _walk_tar(file, form, limits)
    total = count = 0
    folders: set[int] = set()  # hashes of their paths; also those that are no entries of their own
    with damage_reported():
        for member in members:
            count += 1
            total += max(0, member.size)
            if max(len(member.name), len(member.target)) > _LONGEST_PATH:
                raise TooMuch(f"has a path of more than {_LONGEST_PATH} characters")
            parent = member.name
            while "/" in parent and hash(parent := parent.rpartition("/")[0]) not in folders:
                folders.add(hash(parent))
            if count + len(folders) > limits.entries:
                raise TooMuch(f"has more than {limits.entries:,} entries")
            limits.check(total, member.name)
            yield member


def leads_to(link: list[str], kind: Kind, target: str) -> list[str] | None:
    """The path that a link names in its top folder; None where it could leave that.

    Read from the text alone, which is exact while no entry is below a link: `..` is allowed in front only, where there
    are folders only.
    """
    parts = [part for part in target.split("/") if part not in ("", ".")]
    if kind == "symlink":  # from its own folder; a hard link names another entry, from the archive's root
        base = link[:-1]
        while parts[:1] == [".."] and len(base) > 1:
            base.pop()
            parts.pop(0)
        parts = base + parts
    leaves = not target or target.startswith("/") or "\\" in target or ".." in parts or parts[:1] != link[:1]
    return None if leaves else parts


def _walk_tar(file: IO[bytes], form: Format, limits: Limits) -> Iterator[Member]:
    seen_end = False

    class Header(tarfile.TarInfo):
        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Header:
            nonlocal seen_end
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):
                seen_end = True
            header = super().frombuf(buf, encoding, errors)
            if header.size < 0 or (header.type in _EXTENDED and header.size > _LARGEST_HEADER):
                raise TooMuch("has a header of an impossible size")
            return header

    plain: IO[bytes] = file
    if form == "gzip":
        plain = cast("IO[bytes]", gzip.GzipFile(fileobj=file, mode="rb"))
    elif form == "bzip2":
        plain = cast("IO[bytes]", bz2.BZ2File(file, "rb"))
    rationed = _Rationed(plain, _HEADERS)
    with tarfile.open(fileobj=cast("IO[bytes]", rationed), mode="r:", tarinfo=Header) as tar:
        while (info := tar.next()) is not None:
            yield _tar_member(tar, info, rationed)
            rationed.allow(_HEADERS)
        if not seen_end:
            raise BrokenArchive("is truncated or damaged (its end marker is missing)")
    _drain(plain, limits.total)


def _tar_member(tar: tarfile.TarFile, info: tarfile.TarInfo, rationed: _Rationed) -> Member:
    kind: Kind = "other"
    if info.issparse():  # a few bytes would have to be written as so many gigabytes of nothing
        raise TooMuch(f"stores {info.name!r} with holes (pack it without --sparse)")
    if info.isreg():
        kind = "file"
    elif info.isdir():
        kind = "folder"
    elif info.issym():
        kind = "symlink"
    elif info.islnk():
        kind = "hardlink"

    def read() -> IO[bytes]:
        rationed.allow(info.size)
        stream = tar.extractfile(info)
        if stream is None:
            raise BrokenArchive(f"has no content for {info.name!r}")
        return stream

    return Member(info.name, kind, info.mode & 0o777, info.size if kind == "file" else 0, info.linkname, read)


def _drain(plain: IO[bytes], at_most: int) -> None:
    """Read what follows the end marker, up to the compression's checksum."""
    while chunk := plain.read(_CHUNK):
        at_most -= len(chunk)
        if at_most < 0:
            raise TooMuch("has too much data after its end marker")


def _walk_zip(file: IO[bytes]) -> Iterator[Member]:
    rationed = _Rationed(file, _ZIP_DIRECTORY)
    with zipfile.ZipFile(cast("IO[bytes]", rationed)) as archive:
        for info in archive.infolist():
            yield _zip_member(archive, info, rationed)


def _zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, rationed: _Rationed) -> Member:
    def read() -> IO[bytes]:
        rationed.allow(info.compress_size + _LARGEST_HEADER)
        return archive.open(info)

    bits = info.external_attr >> 16  # zero in archives made on Windows
    kind: Kind = "file"
    target = ""
    if info.is_dir() or stat.S_ISDIR(bits):
        kind = "folder"
    elif stat.S_ISLNK(bits):
        kind = "symlink"
        if info.file_size > 4096:
            raise BrokenArchive(f"has an impossible link {info.filename!r}")
        with read() as stream:
            target = stream.read().decode("utf-8", "surrogateescape")
    elif stat.S_IFMT(bits) not in (0, stat.S_IFREG):
        kind = "other"
    return Member(info.filename, kind, stat.S_IMODE(bits) & 0o777, info.file_size, target, read)

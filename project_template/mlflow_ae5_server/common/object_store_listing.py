"""What is in an object store, by the names that it really has.

obstore knows names without the slash at their end, and gives up a whole listing for one name that it cannot address
(`.`, `..` or nothing between two slashes, control characters), which S3 takes and MLflow's own proxy passes on. S3 is
therefore listed by boto3. Elsewhere the folder with such a name is left out, and named.

An empty object that stands for a folder is a *marker*: consoles make one, and some stores with every upload. It is
nobody's file: not counted, not copied, not in anybody's way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from mlflow_ae5_server.common import object_store

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BAD_NAME = re.compile(r'Path "(?P<name>(?:[^"\\]|\\.)*)"')
_NOWHERE = frozenset({"", ".", ".."})
_THREADS = 16
_AT_ONCE = 1000  # keys in one request, S3's own limit


class Listed(NamedTuple):
    """`key` is below the prefix of the store. `path`: for obstore; "" where it cannot address the object."""

    key: str
    path: str
    size: int
    modified: datetime
    e_tag: str

    @property
    def is_marker(self) -> bool:
        return not self.size and (not self.key or self.key.endswith("/"))


def files(store: ObjectStore, prefix: str = "") -> Iterator[Listed]:
    """Every object below the folder `prefix`, markers aside. Raises what obstore and boto3 raise."""
    return (listed for listed in everything(store, prefix) if not listed.is_marker)


def everything(store: ObjectStore, prefix: str = "") -> Iterator[Listed]:
    """The same with markers."""
    from obstore.store import S3Store

    if isinstance(store, S3Store):
        yield from _of_s3(store, prefix)
    else:
        yield from _of_another(store, prefix)


def delete(store: ObjectStore, listed: Iterable[Listed]) -> None:
    """All of these, also those that obstore cannot address."""
    pending = iter(listed)
    while some := list(islice(pending, _AT_ONCE)):
        if paths := [one.path for one in some if one.path]:
            object_store.delete(store, paths)
        for one in some:
            if not one.path:  # one by one: many at a time are told in XML, which has no control characters
                object_store.s3_client().delete_object(Bucket=_bucket(store), Key=_full(store, one.key))


def copy_unaddressable(store: ObjectStore, key: str, to: str) -> None:
    """Copy an object that obstore cannot address, within S3."""
    bucket = _bucket(store)
    object_store.s3_client().copy({"Bucket": bucket, "Key": _full(store, key)}, bucket, _full(store, to))


def _of_s3(store: ObjectStore, prefix: str) -> Iterator[Listed]:
    pages = object_store.s3_client().get_paginator("list_objects_v2")
    below = _full(store, f"{prefix}/" if prefix else "")
    for page in pages.paginate(Bucket=_bucket(store), Prefix=below):
        for found in page.get("Contents", ()):
            name = found["Key"][len(_full(store, "")) :]
            path = name if _is_addressable(name) else ""
            yield Listed(name, path, found["Size"], found["LastModified"], found["ETag"])


def _of_another(store: ObjectStore, prefix: str) -> Iterator[Listed]:
    import obstore
    from obstore.exceptions import InvalidPathError

    last, waiting = "", list[str]()
    with ThreadPoolExecutor(_THREADS) as threads:
        try:
            for page in obstore.list(store, prefix or None):
                yield from _told(store, threads, page)
                last = str(page[-1]["path"]) if page else last
        except InvalidPathError:
            waiting.append(prefix)
        while waiting:
            folder = waiting.pop()
            try:
                found = obstore.list_with_delimiter(store, folder or None)
            except InvalidPathError as error:
                name = _name_in(error).removeprefix(_full(store, ""))
                yield Listed(name or folder, "", 1, datetime.fromtimestamp(0, UTC), "")
                continue
            waiting += [str(inner) for inner in found["common_prefixes"]]
            later = [meta for meta in found["objects"] if str(meta["path"]).encode() > last.encode()]
            yield from _told(store, threads, later)


def _told(store: ObjectStore, threads: ThreadPoolExecutor, metas: Sequence[Any]) -> Iterator[Listed]:
    import obstore

    def has_any(path: str) -> bool:
        """Whether anything lies below that name, were it only the marker `path/` itself."""
        return bool(next(iter(obstore.list(store, path or None)), ()))

    empty = [str(meta["path"]) for meta in metas if not meta["size"]]
    markers = {path for path, is_folder in zip(empty, threads.map(has_any, empty), strict=True) if is_folder}
    for meta in metas:
        path = str(meta["path"])
        version = str(meta.get("e_tag") or meta.get("version") or "")
        name = f"{path}/" if path in markers else path
        yield Listed(name, path, int(meta["size"]), meta["last_modified"], version)


def _name_in(error: Exception) -> str:
    found = _BAD_NAME.search(str(error))
    return found["name"] if found else ""


def _is_addressable(name: str) -> bool:
    return not _CONTROL.search(name) and _NOWHERE.isdisjoint(name.split("/"))


def _full(store: ObjectStore, name: str) -> str:
    prefix = str(getattr(store, "prefix", None) or "").strip("/")
    return f"{prefix}/{name}" if prefix else name


def _bucket(store: ObjectStore) -> str:
    config: Any = getattr(store, "config", {})
    return str(config["bucket"])

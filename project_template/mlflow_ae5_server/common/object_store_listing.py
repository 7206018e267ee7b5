"""List the objects of a store by the names that they really have.

obstore knows no name with a slash at its end, and aborts a whole listing for one name that it cannot address (an empty
part, `.`, `..`, control characters). S3 accepts such names and MLflow's proxy passes them on, so boto3 lists S3. In
other stores the folder with such a name is skipped and reported.

An empty object that stands for a folder is a *marker*: consoles make one, and some stores with every upload. Markers
are not artifacts: they are neither counted nor copied, and never in the way of a file.
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

CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BAD_NAME = re.compile(r'Path "(?P<name>(?:[^"\\]|\\.)*)"')
_UNADDRESSABLE = frozenset({"", ".", ".."})
_THREADS = 16
_REQUEST_KEYS = 1000  # at most in one request to S3


class Listed(NamedTuple):
    """An object: `key` below the prefix; `path` for obstore, "" if it has none."""

    key: str
    path: str
    size: int
    modified: datetime
    e_tag: str

    @property
    def is_marker(self) -> bool:
        return not self.size and (not self.key or self.key.endswith("/"))


def files(store: ObjectStore, prefix: str = "") -> Iterator[Listed]:
    """Every object below `prefix` except markers. Raises what obstore and boto3 do."""
    return (listed for listed in everything(store, prefix) if not listed.is_marker)


def everything(store: ObjectStore, prefix: str = "") -> Iterator[Listed]:
    """Every object below the folder `prefix`, markers included."""
    from obstore.store import S3Store

    return (_list_s3 if isinstance(store, S3Store) else _list_other)(store, prefix)


def delete(store: ObjectStore, listed: Iterable[Listed]) -> None:
    """Delete all of these, also those that obstore cannot address."""
    pending = iter(listed)
    while some := list(islice(pending, _REQUEST_KEYS)):
        if paths := [one.path for one in some if one.path]:
            object_store.delete(store, paths)
        for one in some:
            if not one.path:  # one by one: a request for many is XML, which has no control characters
                object_store.s3_client().delete_object(Bucket=_bucket(store), Key=_full(store, one.key))


def copy_unaddressable(store: ObjectStore, key: str, to: str) -> None:
    """Copy an object that obstore cannot address, within S3."""
    bucket = _bucket(store)
    object_store.s3_client().copy({"Bucket": bucket, "Key": _full(store, key)}, bucket, _full(store, to))


def _list_s3(store: ObjectStore, prefix: str) -> Iterator[Listed]:
    pages = object_store.s3_client().get_paginator("list_objects_v2")
    below = _full(store, f"{prefix}/" if prefix else "")
    for page in pages.paginate(Bucket=_bucket(store), Prefix=below):
        for item in page.get("Contents", ()):
            name = item["Key"][len(_full(store, "")) :]
            addressable = not CONTROL.search(name) and _UNADDRESSABLE.isdisjoint(name.split("/"))
            yield Listed(name, name if addressable else "", item["Size"], item["LastModified"], item["ETag"])


def _list_other(store: ObjectStore, prefix: str) -> Iterator[Listed]:
    import obstore
    from obstore.exceptions import InvalidPathError

    last, waiting = "", list[str]()
    with ThreadPoolExecutor(_THREADS) as threads:
        try:
            for page in obstore.list(store, prefix or None):
                yield from _resolve_markers(store, threads, page)
                last = str(page[-1]["path"]) if page else last
        except InvalidPathError:
            waiting.append(prefix)
        while waiting:
            folder = waiting.pop()
            try:
                listing = obstore.list_with_delimiter(store, folder or None)
            except InvalidPathError as error:
                match = _BAD_NAME.search(str(error))
                name = match["name"].removeprefix(_full(store, "")) if match else ""
                yield Listed(name or folder, "", 1, datetime.fromtimestamp(0, UTC), "")
                continue
            waiting += [str(inner) for inner in listing["common_prefixes"]]
            later = [meta for meta in listing["objects"] if str(meta["path"]).encode() > last.encode()]
            yield from _resolve_markers(store, threads, later)


def _resolve_markers(store: ObjectStore, threads: ThreadPoolExecutor, metas: Sequence[Any]) -> Iterator[Listed]:
    """The objects of one page, with a slash at the end of the names of markers."""
    import obstore

    def has_any(path: str) -> bool:
        """Whether anything lies below that name, even if only the marker `path/` itself."""
        return bool(next(iter(obstore.list(store, path or None)), ()))

    empty = [str(meta["path"]) for meta in metas if not meta["size"]]
    markers = {path for path, is_folder in zip(empty, threads.map(has_any, empty), strict=True) if is_folder}
    for meta in metas:
        path = str(meta["path"])
        version = str(meta.get("e_tag") or meta.get("version") or "")
        name = f"{path}/" if path in markers else path
        yield Listed(name, path, int(meta["size"]), meta["last_modified"], version)


def _full(store: ObjectStore, name: str) -> str:
    prefix = str(getattr(store, "prefix", None) or "").strip("/")
    return f"{prefix}/{name}" if prefix else name


def _bucket(store: ObjectStore) -> str:
    config: Any = getattr(store, "config", {})
    return str(config["bucket"])

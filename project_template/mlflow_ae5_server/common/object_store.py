"""Open object stores through obstore, with the settings of MLflow's own clients.

Every job opens its stores here: backups, artifacts, restores and garbage collection.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from mlflow_ae5_server.common.errors import Configuration, LoginFailed, ProjectError, RepositoryFailed
from mlflow_ae5_server.common.redaction import login_in, scrub

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_STATUS = re.compile(r"status code: (\d{3})")
_REQUESTS = 16  # at a time
_S3_VARIABLES = re.compile(r"AWS_|MLFLOW_S3_|MLFLOW_BOTO_")
_SCHEMES = {"s3": "s3", "gs": "gs", "az": "azure", "abfs": "azure", "abfss": "azure", "wasb": "azure", "wasbs": "azure"}


def kind(url: str) -> str:
    """s3, gs or azure. Raises Configuration where `url` names no object store."""
    parts = urlsplit(url)
    scheme = _SCHEMES.get(parts.scheme.lower())
    if scheme is None or not parts.netloc:
        raise Configuration(
            f"{scrub(url)} is not a folder or an object store",
            "use a folder, or s3://BUCKET/PREFIX, gs://, abfss://, wasbs:// or az://",
        )
    return scheme


def open_store(url: str) -> ObjectStore:
    """Open the store at `url` without sending anything. Raises Configuration."""
    if login_in(url):
        raise Configuration(
            "the object store's URL contains a user name or password",
            "write s3://BUCKET/PREFIX or gs://BUCKET/PREFIX; credentials are secrets of their own, such as "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )
    parts, scheme = urlsplit(url), kind(url)
    for package in ("obstore", "boto3") if scheme == "s3" else ("obstore",):
        if importlib.util.find_spec(package) is None:
            raise Configuration(
                f"{scrub(url)} needs the package {package}, which is not installed",
                "use the environment `default` (the commands without `Minimum`)",
            )
    prefix = parts.path.strip("/") or None  # as it is: MLflow does not decode %20 either
    try:
        return {"s3": _s3, "gs": _gs, "azure": _azure}[scheme](parts.netloc, prefix, os.environ)
    except ProjectError:
        raise
    except Exception as error:  # obstore and the cloud libraries have many classes of their own
        raise Configuration(
            f"{scrub(url)} cannot be used: {reason(error)}", "check address and credentials of the object store"
        ) from None


def _transport(endpoint: str | None, ignore_tls: bool = False) -> dict[str, Any]:
    """Time limits, retries and TLS, the same for every kind of store."""
    from datetime import timedelta

    client: dict[str, Any] = {"timeout": "120s", "connect_timeout": "10s"}
    if endpoint and endpoint.startswith("http://"):
        client["allow_http"] = True
    if ignore_tls:
        client["allow_invalid_certificates"] = True
    return {
        "client_options": client,
        "retry_config": {"max_retries": 5, "retry_timeout": timedelta(seconds=60)},
    }


class _S3Settings(NamedTuple):
    endpoint: str | None
    ignore_tls: bool
    region: str | None
    virtual: bool  # the bucket is part of the host's name
    session: Any


def _s3_settings(environ: Mapping[str, str]) -> _S3Settings:
    """What MLflow's own client for S3 would use."""
    import boto3

    session = boto3.session.Session()
    endpoint = environ.get("MLFLOW_S3_ENDPOINT_URL") or environ.get("AWS_ENDPOINT_URL")
    return _S3Settings(
        endpoint,
        environ.get("MLFLOW_S3_IGNORE_TLS", "").lower() in {"true", "1"},
        environ.get("AWS_REGION") or session.region_name or ("us-east-1" if endpoint else None),
        environ.get("MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE") == "virtual" or not endpoint,
        session,
    )


def _s3(bucket: str, prefix: str | None, environ: Mapping[str, str]) -> ObjectStore:
    from obstore.auth.boto3 import Boto3CredentialProvider
    from obstore.store import S3Store

    settings = _s3_settings(environ)
    options: dict[str, Any] = {"virtual_hosted_style_request": settings.virtual}
    if settings.endpoint:
        options["endpoint"] = settings.endpoint
    if settings.region:
        options["region"] = settings.region
    if settings.session.get_credentials() is not None:
        options["credential_provider"] = Boto3CredentialProvider(settings.session)
    else:
        options["skip_signature"] = True
    return S3Store(bucket, prefix=prefix, **_transport(settings.endpoint, settings.ignore_tls), **options)


def s3_client() -> Any:
    """A boto3 client with the address and credentials of `open_store`."""
    return _s3_client(tuple(sorted((name, value) for name, value in os.environ.items() if _S3_VARIABLES.match(name))))


@functools.lru_cache(maxsize=4)
def _s3_client(environ: tuple[tuple[str, str], ...]) -> Any:
    from botocore import UNSIGNED
    from botocore.config import Config

    settings = _s3_settings(dict(environ))
    config = Config(
        s3={"addressing_style": "virtual" if settings.virtual else "path"},
        connect_timeout=10,
        read_timeout=120,
        **({} if settings.session.get_credentials() is not None else {"signature_version": UNSIGNED}),
    )
    return settings.session.client(
        "s3",
        endpoint_url=settings.endpoint,
        region_name=settings.region,
        verify=not settings.ignore_tls,
        config=config,
    )


def _gs(bucket: str, prefix: str | None, environ: Mapping[str, str]) -> ObjectStore:
    from obstore.store import GCSStore

    options: dict[str, Any] = {}
    emulator = environ.get("STORAGE_EMULATOR_HOST")  # as for Google's own client
    if emulator:
        no_login = dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
        options["service_account_key"] = json.dumps({"gcs_base_url": emulator, "disable_oauth": True, **no_login})
    elif not environ.get("GOOGLE_APPLICATION_CREDENTIALS") and importlib.util.find_spec("google.auth") is not None:
        from obstore.auth.google import GoogleCredentialProvider

        options["credential_provider"] = GoogleCredentialProvider()
    return GCSStore(bucket, prefix=prefix, **_transport(emulator), **options)


def _azure(netloc: str, prefix: str | None, environ: Mapping[str, str]) -> ObjectStore:
    """Open `CONTAINER@ACCOUNT.blob.core.windows.net`, or `CONTAINER` alone.

    As for MLflow, a connection string counts for everything but the container.
    """
    from obstore.store import AzureStore

    container, _, host = netloc.rpartition("@")
    if not container:
        container, host = netloc, ""
    connection = dict(
        part.split("=", 1) for part in environ.get("AZURE_STORAGE_CONNECTION_STRING", "").split(";") if "=" in part
    )
    account, endpoint = _account(connection) if connection else (host.partition(".")[0], _blob_endpoint(host))
    account = account or environ.get("AZURE_STORAGE_ACCOUNT_NAME", "")
    key = connection.get("AccountKey") or environ.get("AZURE_STORAGE_ACCESS_KEY") or ""
    options: dict[str, Any] = {"account_name": account} if account else {}
    if endpoint:
        options["endpoint"] = endpoint
    if key:
        options["account_key"] = key
    elif signature := connection.get("SharedAccessSignature"):
        options["sas_key"] = signature
    elif importlib.util.find_spec("azure.identity") is not None:
        from obstore.auth.azure import AzureCredentialProvider

        options["credential_provider"] = AzureCredentialProvider()
    return AzureStore(container, prefix=prefix, **_transport(endpoint), **options)


def _account(connection: dict[str, str]) -> tuple[str, str]:
    """Account and endpoint of a connection string, which may name no account."""
    account, endpoint = connection.get("AccountName", ""), connection.get("BlobEndpoint", "").rstrip("/")
    if not endpoint and "EndpointSuffix" in connection:
        protocol = connection.get("DefaultEndpointsProtocol", "https")
        endpoint = f"{protocol}://{account}.blob.{connection['EndpointSuffix']}"
    parts = urlsplit(endpoint)
    return account or parts.path.strip("/") or (parts.hostname or "").partition(".")[0], endpoint


def _blob_endpoint(host: str) -> str:
    """The blob endpoint beside a dfs one; empty for an account without a host."""
    return f"https://{host.replace('.dfs.', '.blob.', 1)}" if "." in host else ""


def delete(store: ObjectStore, names: Sequence[str]) -> None:
    """Delete all of these; a missing name is no error, not even on Google's store."""
    import obstore

    def delete_one(name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            obstore.delete(store, name)

    try:
        obstore.delete(store, names)
    except FileNotFoundError:
        with ThreadPoolExecutor(_REQUESTS) as threads:
            for start in range(0, len(names), _REQUESTS):
                list(threads.map(delete_one, names[start : start + _REQUESTS]))


def read_ahead(chunks: Iterator[Any]) -> Iterator[bytes]:
    """Read `chunks` in another thread: obstore must not wait for itself."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, chunks, None)
        while (chunk := coming.result()) is not None:
            coming = thread.submit(next, chunks, None)
            yield bytes(chunk)


@contextlib.contextmanager
def translated(shown: str, verb: str) -> Iterator[None]:
    """Turn exceptions of obstore, boto3 or a credential library into ours."""
    try:
        yield
    except ProjectError:
        raise
    except Exception as error:  # of many classes
        raise translate(error, shown, verb) from None


def translate(error: Exception, shown: str, verb: str) -> ProjectError:
    """The error of ours for such an exception."""
    from obstore import exceptions

    why = reason(error)
    message = f"cannot {verb} {shown}: {why}"
    in_text = _STATUS.search(str(error))  # the class of a listing's error does not show the status
    response: Any = getattr(error, "response", {})  # boto3's
    status = in_text[1] if in_text else str(response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
    if status in {"401", "403"} or isinstance(
        error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError
    ):
        return LoginFailed(message, "check credentials and policy of the object store")
    if re.search(r"credential|no such profile|DefaultCredentialsError", f"{type(error).__name__} {why}", re.I):
        return LoginFailed(message, "give this job credentials for the object store")
    if status == "404" or isinstance(error, exceptions.NotFoundError):
        return RepositoryFailed(message, "does the bucket or container exist?")
    return RepositoryFailed(message, "check address and network of the object store")


def reason(error: BaseException) -> str:
    """The first line with content and the store's error code, without secrets."""
    text = str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    first, _xml, _rest = (lines[0] if lines else type(error).__name__).partition(": <?xml")
    code = re.search(r"<Code>(\w+)</Code>", text)
    return scrub(first).rstrip(":")[:280] + (f" ({code[1]})" if code else "")

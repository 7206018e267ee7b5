"""Object stores through obstore, with the addresses and credentials that MLflow's own clients use."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from mlflow_ae5_server.common.errors import ConfigurationError, CredentialsError, ProjectError, StorageError
from mlflow_ae5_server.common.redaction import login_in, scrub

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_STATUS = re.compile(r"status code: (\d{3})")
_AT_ONCE = 16  # requests
_OF_S3 = re.compile(r"AWS_|MLFLOW_S3_|MLFLOW_BOTO_")
_SCHEMES = {"s3": "s3", "gs": "gs", "az": "azure", "abfs": "azure", "abfss": "azure", "wasb": "azure", "wasbs": "azure"}


def known(url: str) -> bool:
    return kind(url) is not None


def kind(url: str) -> str | None:
    """s3, gs or azure; None for no object store."""
    return _SCHEMES.get(urlsplit(url).scheme.lower())


def open_store(url: str) -> ObjectStore:
    """The store with the url's path as prefix. Nothing is sent yet. Raises ConfigurationError."""
    if login_in(url):
        raise ConfigurationError(
            "the address of an object store has a user or a password in it",
            "write s3://BUCKET/PREFIX or gs://BUCKET/PREFIX; credentials are secrets of their own, such as "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )
    if importlib.util.find_spec("obstore") is None:
        raise ConfigurationError(
            f"{scrub(url)} needs the package obstore, which is not installed",
            "use the environment `default` (the commands without `Minimum`)",
        )
    parts = urlsplit(url)
    found = kind(url)
    if found is None or not parts.netloc:
        raise ConfigurationError(f"{scrub(url)} is not an object store", "write s3://BUCKET/PREFIX, gs:// or abfss://")
    prefix = unquote(parts.path).strip("/") or None
    opened = {"s3": _s3, "gs": _gs, "azure": _azure}[found]
    try:
        return opened(parts.netloc, prefix, dict(os.environ))
    except ProjectError:
        raise
    except Exception as error:  # obstore's and the cloud libraries' own, of many classes
        raise ConfigurationError(
            f"{scrub(url)} cannot be used: {text(error)}", "check address and credentials of the object store"
        ) from None


def _client(endpoint: str | None, ignore_tls: bool = False) -> Any:
    """A ClientConfig."""
    options: dict[str, Any] = {"timeout": "120s", "connect_timeout": "10s"}
    if endpoint and endpoint.startswith("http://"):
        options["allow_http"] = True
    if ignore_tls:
        options["allow_invalid_certificates"] = True
    return options


def _retries() -> Any:
    from datetime import timedelta

    return {"max_retries": 5, "retry_timeout": timedelta(seconds=60)}


def _s3(bucket: str, prefix: str | None, environ: dict[str, str]) -> ObjectStore:
    from obstore.store import S3Store

    endpoint = environ.get("MLFLOW_S3_ENDPOINT_URL") or environ.get("AWS_ENDPOINT_URL")
    ignore_tls = environ.get("MLFLOW_S3_IGNORE_TLS", "").lower() in {"true", "1"}
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or ("us-east-1" if endpoint else None)
    options: dict[str, Any] = {
        "virtual_hosted_style_request": environ.get("MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE") == "virtual" or not endpoint
    }
    if endpoint:
        options["endpoint"] = endpoint
    if importlib.util.find_spec("boto3") is not None:
        import boto3
        from obstore.auth.boto3 import Boto3CredentialProvider

        session = boto3.session.Session()
        region = region or session.region_name
        if session.get_credentials() is not None:
            options["credential_provider"] = Boto3CredentialProvider(session)
    if region:
        options["region"] = region
    return S3Store(
        bucket, prefix=prefix, client_options=_client(endpoint, ignore_tls), retry_config=_retries(), **options
    )


def s3_client() -> Any:
    """boto3's client, with the same address and credentials as `open_store`."""
    return _s3_client(tuple(sorted((name, value) for name, value in os.environ.items() if _OF_S3.match(name))))


@functools.lru_cache(maxsize=4)
def _s3_client(environ: tuple[tuple[str, str], ...]) -> Any:
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config

    given = dict(environ)
    endpoint = given.get("MLFLOW_S3_ENDPOINT_URL") or given.get("AWS_ENDPOINT_URL")
    ignore_tls = given.get("MLFLOW_S3_IGNORE_TLS", "").lower() in {"true", "1"}
    session = boto3.session.Session()
    region = given.get("AWS_REGION") or session.region_name or ("us-east-1" if endpoint else None)
    style = "virtual" if given.get("MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE") == "virtual" or not endpoint else "path"
    signed = {} if session.get_credentials() is not None else {"signature_version": UNSIGNED}
    config = Config(s3={"addressing_style": style}, connect_timeout=10, read_timeout=120, **signed)
    return session.client("s3", endpoint_url=endpoint, region_name=region, verify=not ignore_tls, config=config)


def _gs(bucket: str, prefix: str | None, environ: dict[str, str]) -> ObjectStore:
    from obstore.store import GCSStore

    options: dict[str, Any] = {}
    emulator = environ.get("STORAGE_EMULATOR_HOST")  # as for Google's own client
    if emulator:
        nobody = dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
        options["service_account_key"] = json.dumps({"gcs_base_url": emulator, "disable_oauth": True, **nobody})
    elif not environ.get("GOOGLE_APPLICATION_CREDENTIALS") and importlib.util.find_spec("google.auth") is not None:
        from obstore.auth.google import GoogleCredentialProvider

        options["credential_provider"] = GoogleCredentialProvider()
    return GCSStore(bucket, prefix=prefix, client_options=_client(emulator), retry_config=_retries(), **options)


def _azure(netloc: str, prefix: str | None, environ: dict[str, str]) -> ObjectStore:
    """`CONTAINER@ACCOUNT.blob.core.windows.net` as MLflow writes it, or `az://CONTAINER` with the account outside.

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
    return AzureStore(container, prefix=prefix, client_options=_client(endpoint), retry_config=_retries(), **options)


def _account(connection: dict[str, str]) -> tuple[str, str]:
    """Account and endpoint of a connection string; with a signature it names no account."""
    account, endpoint = connection.get("AccountName", ""), connection.get("BlobEndpoint", "").rstrip("/")
    if not endpoint and "EndpointSuffix" in connection:
        protocol = connection.get("DefaultEndpointsProtocol", "https")
        endpoint = f"{protocol}://{account}.blob.{connection['EndpointSuffix']}"
    parts = urlsplit(endpoint)
    return account or parts.path.strip("/") or (parts.hostname or "").partition(".")[0], endpoint


def _blob_endpoint(host: str) -> str:
    """Also in another cloud than the public one. What `abfss` calls dfs is there as blobs, too."""
    return f"https://{host.replace('.dfs.', '.blob.', 1)}" if "." in host else ""


def delete(store: ObjectStore, names: Sequence[str]) -> None:
    """All of these; what is gone already is no failure, and does not end it, as it would on Google's."""
    import obstore

    try:
        obstore.delete(store, names)
    except FileNotFoundError:
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            for start in range(0, len(names), _AT_ONCE):
                list(threads.map(lambda name: _delete_one(store, name), names[start : start + _AT_ONCE]))


def _delete_one(store: ObjectStore, name: str) -> None:
    import obstore

    with contextlib.suppress(FileNotFoundError):
        obstore.delete(store, name)


def apart(chunks: Iterator[Any]) -> Iterator[bytes]:
    """`chunks`, asked for by another thread: whose turn it is to send them may not wait for what obstore reads."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, chunks, None)
        while (chunk := coming.result()) is not None:
            coming = thread.submit(next, chunks, None)
            yield bytes(chunk)


def translate(error: BaseException, shown: str, what: str) -> ProjectError:
    """What obstore or a credential library raised, in our words; never with a secret."""
    from obstore import exceptions

    reason = text(error)
    message = f"cannot {what} {shown}: {reason}"
    answer = _STATUS.search(str(error))  # a listing's is not told by the class of the error
    of_boto3: Any = getattr(error, "response", {})
    status = answer[1] if answer else str(of_boto3.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
    if status in {"401", "403"} or isinstance(
        error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError
    ):
        return CredentialsError(message, "check credentials and policy of the object store")
    if re.search(r"credential|no such profile|DefaultCredentialsError", f"{type(error).__name__} {reason}", re.I):
        return CredentialsError(message, "give this job credentials for the object store")
    if status == "404" or isinstance(error, exceptions.NotFoundError):
        return StorageError(message, "does the bucket or container exist?")
    return StorageError(message, "check address and network of the object store")


def text(error: BaseException) -> str:
    """The first line that says something, and the store's own word; obstore repeats a whole debug tree below it."""
    text = str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    first, _xml, _rest = (lines[0] if lines else type(error).__name__).partition(": <?xml")
    word = re.search(r"<Code>(\w+)</Code>", text)
    return scrub(first).rstrip(":")[:280] + (f" ({word[1]})" if word else "")

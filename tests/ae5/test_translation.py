"""The table of foreign exceptions is complete, tells causes apart, and lets no foreign text through."""

from __future__ import annotations

import inspect
import json
import socket
import ssl

import pytest
import requests.exceptions as rq
import urllib3.exceptions as u3

from mlflow_ae5_deploy.ae5.error_map import FOREIGN, shielded, translate
from mlflow_ae5_deploy.common.errors import AnswerLost, DeadlineExceeded, PlatformError, UnexpectedAnswer, Unreachable

from .conftest import HAS_AE5_TOOLS, leaks


def _raised_by(module: object, package: str) -> list[type[BaseException]]:
    classes = [cls for cls in vars(module).values() if inspect.isclass(cls) and issubclass(cls, Exception)]
    return [cls for cls in classes if not issubclass(cls, Warning) and cls.__module__.startswith(package)]


@pytest.mark.parametrize(
    "cls", [*_raised_by(rq, "requests"), *_raised_by(u3, "urllib3")], ids=lambda cls: f"{cls.__module__}.{cls.__name__}"
)
def test_every_exception_of_requests_and_urllib3_has_its_own_row(cls):
    assert cls in FOREIGN


def _certificate(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code = code
    return error


def _wrapped(*chain: BaseException) -> BaseException:
    """As requests and urllib3 nest them: each is an argument of the one before."""
    inner = None
    for error in reversed(chain):
        error.args = (inner,) if inner is not None else error.args
        inner = error
    assert inner is not None
    return inner


DIAGNOSES = [
    (_wrapped(rq.SSLError(), u3.SSLError("x"), _certificate(10)), Unreachable, Unreachable, "expired"),
    (_wrapped(rq.SSLError(), u3.SSLError("x"), _certificate(9)), Unreachable, Unreachable, "not valid yet"),
    (_wrapped(rq.SSLError(), u3.SSLError("x"), _certificate(19)), Unreachable, Unreachable, "unknown authority"),
    (_wrapped(rq.SSLError(), u3.SSLError("x"), _certificate(20)), Unreachable, Unreachable, "unknown authority"),
    (_wrapped(rq.SSLError(), u3.SSLError("x"), _certificate(62)), Unreachable, Unreachable, "another name"),
    (_wrapped(rq.SSLError(), u3.SSLError("x"), _certificate(77)), Unreachable, Unreachable, "cannot be trusted"),
    (_wrapped(rq.SSLError(), ssl.SSLError(1, "EOF")), Unreachable, AnswerLost, "TLS connection"),
    (_wrapped(rq.ConnectionError(), socket.gaierror(-2, "x")), Unreachable, Unreachable, "does not resolve"),
    (_wrapped(rq.ConnectionError(), ConnectionRefusedError(111, "x")), Unreachable, Unreachable, "nothing listens"),
    (_wrapped(rq.ConnectTimeout(), TimeoutError()), Unreachable, Unreachable, "No connection"),
    (rq.ReadTimeout(), DeadlineExceeded, AnswerLost, "did not answer"),
    (
        _wrapped(rq.ConnectionError(), u3.ProtocolError("x"), ConnectionResetError(104, "x")),
        Unreachable,
        AnswerLost,
        "broke",
    ),
    (_wrapped(rq.ConnectionError(), u3.ProtocolError("x"), TimeoutError()), Unreachable, AnswerLost, "broke off"),
    (_wrapped(rq.ProxyError(), socket.gaierror(-2, "x")), Unreachable, Unreachable, "proxy"),
    (rq.ChunkedEncodingError(), Unreachable, AnswerLost, "broke off"),
    (rq.RetryError(), Unreachable, AnswerLost, "failed"),
    (rq.TooManyRedirects(), UnexpectedAnswer, UnexpectedAnswer, "redirects without end"),
    (rq.InvalidURL(), Unreachable, Unreachable, "No request"),
    (rq.JSONDecodeError("x", "y", 0), UnexpectedAnswer, UnexpectedAnswer, "cannot be read"),
    (json.JSONDecodeError("x", "y", 0), UnexpectedAnswer, UnexpectedAnswer, "cannot be read"),
    (KeyError("content-type"), UnexpectedAnswer, UnexpectedAnswer, "cannot be read"),
]


@pytest.mark.parametrize(("error", "read", "write", "words"), DIAGNOSES, ids=[row[3] for row in DIAGNOSES])
def test_each_cause_has_its_own_message(error, read, write, words):
    for_read, for_write = (translate(error, host="ae5.example", write=write) for write in (False, True))
    assert type(for_read) is read
    assert type(for_write) is write
    assert words in str(for_read)
    assert words in str(for_write)
    assert for_read is not None
    assert for_read.remedy


def test_our_own_bugs_are_not_called_network_trouble():
    with pytest.raises(ZeroDivisionError):
        shielded(lambda: 1 // 0, host="h")


def test_nothing_of_a_foreign_exception_survives():
    def fail():
        try:
            raise rq.ConnectionError("password=hunter22 in the body")  # noqa: TRY301
        except rq.ConnectionError as error:
            raise RuntimeWarning("json: {'value': 'hunter22'}") from error

    with pytest.raises(PlatformError) as caught:
        shielded(fail, host="h")
    assert leaks(caught.value, "hunter22") == []


@pytest.mark.skipif(not HAS_AE5_TOOLS, reason="ae5-tools is not installed here (conda channel ae5-admin)")
def test_exceptions_of_ae5_tools_are_translated():
    import ae5_tools

    error = ae5_tools.AEUnexpectedResponseError("Unable to connect", "post", "https://h", json={"value": "hunter22"})
    ours = translate(error, host="h", write=True)
    assert isinstance(ours, AnswerLost)
    assert leaks(ours, "hunter22") == []
    assert isinstance(translate(ae5_tools.AEException("x"), host="h", write=False), Unreachable)

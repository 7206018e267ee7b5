"""open: the server's web pages in a browser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated
from urllib.parse import urlsplit

import typer

from mlflow_ae5_deploy.cli.context import reading
from mlflow_ae5_deploy.cli.options import TargetOptions, examples
from mlflow_ae5_deploy.common.errors import EXIT_DONE, UnexpectedAnswer

NAME = "open"

Opener = Callable[[str], bool]
NoBrowser = Annotated[bool, typer.Option("--no-browser", help="Only print the address.")]


@examples(
    {
        "open": "Open the pages in your browser",
        "open --no-browser": "Print the address only",
    }
)
def command(options: TargetOptions, no_browser: NoBrowser = False) -> int:
    """Sign in to the platform there, as a user that the server is shared with."""
    from mlflow_ae5_deploy.resources.deployment import required_running

    with reading(options, NAME) as context:
        _, url = required_running(context)
        shared = context.settings.sharing
    reporter = options.reporter
    if options.json:  # a browser may print something of its own
        reporter.document(NAME, url=url)
        return EXIT_DONE
    reporter.copied(url)
    entitled = ", ".join([*(f"group {name}" for name in shared.groups), *shared.users]) or "nobody but its owner"
    reporter.note(f"Sign in to the platform there. By the configuration it is shared with: {entitled}.")
    if options.sandbox:
        reporter.note("The browser warns of the sandbox's certificate authority, because it does not know it.")
    if not no_browser and not browse(url):
        reporter.note("No browser could be started; open the address yourself.")
    return EXIT_DONE


def browse(url: str, opener: Opener | None = None) -> bool:
    """Whether a browser was started. opener: instead of the machine's own."""
    import webbrowser

    if urlsplit(url).scheme != "https":  # it comes from the platform, and is passed to another program
        raise UnexpectedAnswer(f"The deployment's address is not an https URL: {url}", where="deployment.url")
    try:
        return (opener or webbrowser.open)(url)
    except (webbrowser.Error, OSError):
        return False

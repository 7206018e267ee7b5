"""share: access to the server's web pages."""

from __future__ import annotations

from typing import Annotated

import typer

from mlflow_ae5_deploy.cli.context import reading, writing
from mlflow_ae5_deploy.cli.options import WriteOptions, examples
from mlflow_ae5_deploy.common.errors import EXIT_DONE, Usage

NAME = "share"

User = Annotated[list[str] | None, typer.Option("--user", metavar="NAME", help="A user. Repeatable.")]
Group = Annotated[list[str] | None, typer.Option("--group", metavar="NAME", help="A group. Repeatable.")]
Remove = Annotated[bool, typer.Option("--remove", help="Stop sharing with these users and groups.")]


@examples(
    {
        "share": "Show who may open the pages",
        "share --user anna --group data-science": "Share with a user and a group",
        "share --user anna --remove": "Stop sharing with this user",
    }
)
def command(options: WriteOptions, user: User = None, group: Group = None, remove: Remove = False) -> int:
    """Programs need no sharing: they use the token."""
    from mlflow_ae5_deploy.config import checks
    from mlflow_ae5_deploy.operations import share
    from mlflow_ae5_deploy.render.share import show_sharing

    pairs = [("user", name) for name in user or []] + [("group", name) for name in group or []]
    for kind, name in pairs:
        try:
            checks.account(name)
        except ValueError as error:
            raise Usage(f"The name of a {kind} {error}.", where=f"--{kind}") from None
    if remove and not pairs:
        raise Usage("--remove requires --user or --group.", where="--remove")
    if not pairs:
        with reading(options, NAME) as context:
            shared = share.shared_with(context)
        show_sharing(options.reporter, shared, None)
        return EXIT_DONE
    with writing(options, NAME) as context:
        change = share.remove(context, pairs) if remove else share.add(context, pairs)
    show_sharing(options.reporter, change.shared, change)
    return EXIT_DONE

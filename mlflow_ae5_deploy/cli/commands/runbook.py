"""runbook: the 14 steps for this configuration, as Markdown."""

from __future__ import annotations

from mlflow_ae5_deploy.cli.context import load_settings
from mlflow_ae5_deploy.cli.options import TargetOptions, examples
from mlflow_ae5_deploy.common.errors import EXIT_DONE

NAME = "runbook"


@examples(
    {
        "runbook > runbook.md": "Write the steps to a file",
        "runbook --config ae5.yaml --profile prod": "The steps for another configuration",
    }
)
def command(options: TargetOptions) -> int:
    """For an installation by hand. Needs no connection. Shows no secrets."""
    from mlflow_ae5_deploy.common.cron import parse_cron
    from mlflow_ae5_deploy.render.runbook import runbook, show

    settings = load_settings(options, start=False).settings
    text = runbook(settings, schedule_words=parse_cron(settings.gc.schedule).words)
    options.reporter.document(NAME, markdown=text)
    show(options.reporter, text)
    return EXIT_DONE

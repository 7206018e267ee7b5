"""runbook: the 14 steps for this configuration, as Markdown."""

from __future__ import annotations

from mlflow_ae5_deploy.cli import options
from mlflow_ae5_deploy.cli.context import SharedOptions, load_settings, reporter_for
from mlflow_ae5_deploy.common.errors import EXIT_DONE

NAME = "runbook"
HELP = "Print the 14 steps for this configuration as Markdown, each with its ae5 command."


def command(
    config: options.Config = None,
    profile: options.Profile = None,
    sandbox: options.Sandbox = False,
    hostname: options.Hostname = None,
    username: options.Username = None,
    json: options.Json = False,
    traceback: options.Traceback = False,
) -> int:
    """Needs no connection; secrets are not shown."""
    from mlflow_ae5_deploy.common.cron import parse_cron
    from mlflow_ae5_deploy.render.runbook import runbook

    choices = SharedOptions(config, profile, sandbox, json, hostname, username, traceback=traceback)
    settings = load_settings(choices).settings
    text = runbook(settings, schedule_words=parse_cron(settings.gc.schedule).words)
    reporter = reporter_for(choices)
    if json:
        reporter.data({"schema": 1, "verb": NAME, "outcome": "done", "markdown": text})
    reporter.text(text.rstrip("\n"))
    return EXIT_DONE

"""The token: the accounts and files that need it, and how each gets it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from mlflow_ae5_deploy.ae5.client import Client
from mlflow_ae5_deploy.ae5.models import Deployment
from mlflow_ae5_deploy.common.errors import DeployError, PartlyDone, StageFailed
from mlflow_ae5_deploy.common.redaction import Secret
from mlflow_ae5_deploy.common.text import counted
from mlflow_ae5_deploy.common.variable_names import TOKEN
from mlflow_ae5_deploy.config.secret_refs import SecretRef
from mlflow_ae5_deploy.engine.change import Change
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.records import StoredToken
from mlflow_ae5_deploy.resources import token_file
from mlflow_ae5_deploy.resources.secrets import SET_ELSEWHERE
from mlflow_ae5_deploy.resources.token_expiry import expiry

_MOUNTED = timedelta(hours=1)  # minutes, and clocks that differ


class IssueToken(Change):
    """id: of the deployment, which a token is for; empty while there is none."""

    verb, resource, of_project, of_deployment = "issue", "a token", True, True

    @property
    def target(self) -> str:
        return self.resource


class StoreToken(Change):
    """name: of the account, or path of the file."""

    verb, resource, of_project, of_deployment = "store", "the token", True, True

    @property
    def target(self) -> str:
        return f"{self.resource} for {self.name}"


def recipients(context: Context) -> list[str]:
    """Account names, the service account first; then paths of files."""
    settings = context.settings
    return [context.account, *settings.consumer_accounts, *map(str, settings.token_files)]


def check_recipients(context: Context) -> None:
    """Raise DeployError where this machine lacks what it needs to give one the token. Sends and writes nothing."""
    for account, reference in context.settings.consumer_accounts.items():
        context.access.require_consumer(account, reference)
        if reference is not None and reference.kind != "prompt":
            _password(context, account, reference)
    for file in context.settings.token_files:
        token_file.check(file)


def not_stored(
    errors: Mapping[str, DeployError],
    total: int,
    others: Sequence[tuple[str, DeployError]] = (),
    *,
    again: str = "this again",
) -> PartlyDone:
    """The error of a run that could not store the token for all. errors: by recipient. others: more that went wrong."""
    names, every = ", ".join(errors), [*errors.items(), *others]
    return PartlyDone(
        f"The token is not stored for {names} ({total - len(errors)} of {total} recipients have one).",
        where=", ".join(error.where for error in errors.values() if error.where) or names,
        remedy=f"Fix the cause, then run {again} for the remaining {counted(len(errors), 'recipients')}.",
        detail="\n".join(
            [
                *(f"{who}: {error.what} {error.remedy}" for who, error in every),
                *(error.detail for _, error in every if error.detail),
            ]
        ),
    )


def stored_tokens(context: Context) -> dict[str, StoredToken]:
    """The recorded tokens by recipient, without those of files that do not have them any more."""

    def holds(name: str, token: StoredToken) -> bool:
        file = token_file.of(context, name)
        content = token_file.read(file) if file else None
        return file is None or (content is not None and _fingerprint(context, content) == token.fingerprint)

    return {name: token for name, token in context.state.tokens.items() if holds(name, token)}


def expired(context: Context, deployment_id: str | None) -> dict[str, datetime]:
    """When the tokens of this deployment expired, by account."""
    now, accounts = context.clock.now(), recipients(context)
    return {
        token.account: token.expires
        for token in context.state.tokens.values()
        if token.account in accounts
        and token.deployment_id == deployment_id
        and token.expires is not None
        and token.expires <= now
    }


def without_token(context: Context, deployment_id: str | None) -> dict[str, str]:
    """The recipients without a recorded, valid token of this deployment, with the reason."""
    if deployment_id is None:
        return dict.fromkeys(recipients(context), "no valid one stored")
    over, unsure, lost = expired(context, deployment_id), unrecorded(context, deployment_id), lost_files(context)
    stored = {token.account for token in stored_tokens(context).values() if token.deployment_id == deployment_id}
    recorded = context.state.previous_tokens | context.state.tokens

    def why(name: str) -> str | None:
        if name in over:
            return f"the stored one expired {over[name]:%Y-%m-%d %H:%M} UTC"
        if name in lost:
            return f"the token file {lost[name]}"
        if name not in stored:
            new = name not in recorded and context.account in recorded
            return (
                unsure.get(name) or f"none {'recorded here for this consumer' if new else 'stored for this deployment'}"
            )
        unlisted = name == context.account and TOKEN not in context.cached.secret_names()
        return f"the secret {TOKEN} was deleted" if unlisted else None

    reasons = {name: why(name) for name in recipients(context)}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def unrecorded(context: Context, deployment_id: str | None) -> dict[str, str]:
    """Recipients that may have a current token all the same, with the reason why this machine does not know.

    The platform shows no value of a secret, and other machines store tokens too.
    """
    if deployment_id is None:
        return {}
    state, found = context.state, dict[str, str]()
    own = state.tokens.get(context.account)
    recorded = state.previous_tokens | state.tokens
    started_here = context.outputs.token_deployment == deployment_id and context.account in recorded
    changed = own is None or own.deployment_id != deployment_id
    if TOKEN in context.cached.secret_names() and changed and not started_here:
        why = "none recorded here for this deployment" if context.account in recorded else SET_ELSEWHERE
        files = [str(file) for file in context.settings.token_files if token_file.read(file)]
        found = dict.fromkeys((context.account, *context.settings.consumer_accounts), why)
        found |= {file: SET_ELSEWHERE for file in files if file not in recorded}
    return found | dict.fromkeys(rewritten_files(context), "the file has another token than this machine wrote")


def used_by_job(context: Context, reported: str, when: datetime | None) -> bool | None:
    """Whether a job used the token that this machine has stored; None where that is not known.

    reported: the digest that the job reports. when: it started. The secret of a run soon after may be an earlier one.
    """
    own = context.state.tokens.get(context.account)
    if own is None or not own.fingerprint or not reported or when is None or when - own.stored < _MOUNTED:
        return None
    return context.state.fingerprint(Secret(reported)) == own.fingerprint


def digest(token: Secret) -> str:
    """What a job reports of the token it used: enough to tell it from another, useless for anything else."""
    return hashlib.sha256(token.reveal().encode()).hexdigest()[:12]


def _fingerprint(context: Context, token: Secret) -> str:
    return context.state.fingerprint(Secret(digest(token)))


def lost_files(context: Context) -> dict[str, str]:
    """Files that this machine has written and that hold no token now, with the reason."""
    recorded = context.state.previous_tokens | context.state.tokens
    reasons = {str(file): token_file.why_no_token(file) for file in context.settings.token_files}
    return {file: why for file, why in reasons.items() if why and file in recorded}


def rewritten_files(context: Context) -> list[str]:
    """Files with another token than this machine has written last."""
    recorded = context.state.previous_tokens | context.state.tokens
    contents = {str(file): token_file.read(file) for file in context.settings.token_files}
    return [
        file
        for file, content in contents.items()
        if content and file in recorded and _fingerprint(context, content) != recorded[file].fingerprint
    ]


def store_token(context: Context, account: str, deployment: Deployment, platform: Client | None = None) -> None:
    """Store this run's token of `deployment` as the account's secret, or in the file, and record that.

    `context.outputs.url` is the server's address. platform: as the account, where it is signed in already.
    """
    token = context.outputs.token
    if token is None or context.outputs.token_deployment != deployment.id:
        raise StageFailed("There is no tested token to store.", stage=12)
    own, file = account == context.account, token_file.of(context, account)
    if file is not None:
        token_file.write(file, token)
        _record(context, account, deployment, token)
        context.journal.effect("write", "token file", account, id=deployment.id)
        return
    platform = platform or sign_in(context, account)
    if not own:
        url = Secret.public(context.outputs.url or "")
        context.store_secrets(platform, account, {"MLFLOW_TRACKING_URI": url, "MLFLOW_REGISTRY_URI": url})
    platform.put_secret(TOKEN, token)
    _record(context, account, deployment, token)
    context.journal.effect("set", "secret", TOKEN, account=account, id=deployment.id)
    if own:
        context.cached.saw_secrets([TOKEN])


def _record(context: Context, account: str, deployment: Deployment, token: Secret) -> None:
    now, issued = context.clock.now(), context.outputs.token_issued
    stored = StoredToken(account, deployment.id, now, expiry(token), issued or now, _fingerprint(context, token))
    context.state.record_token(stored, own=account == context.account)


def sign_in(context: Context, account: str) -> Client:
    """The platform as an account: by its configured password, else through the administrator."""
    if account == context.account:
        return context.platform
    reference = context.settings.consumer_accounts.get(account)
    return context.access.consumer(account, _password(context, account, reference) if reference else None)


def _password(context: Context, account: str, reference: SecretRef) -> Secret:
    return context.values.secret(reference, f"password of {account}")

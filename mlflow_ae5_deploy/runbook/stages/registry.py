"""The runbook: all 14 stages in order."""

from __future__ import annotations

from mlflow_ae5_deploy.engine.stage import Stage
from mlflow_ae5_deploy.runbook.stages.s01_service_account import ServiceAccount
from mlflow_ae5_deploy.runbook.stages.s02_environment import Environment
from mlflow_ae5_deploy.runbook.stages.s03_login import Login
from mlflow_ae5_deploy.runbook.stages.s04_release import ReleaseAtHand
from mlflow_ae5_deploy.runbook.stages.s05_slip_stream import SlipStream
from mlflow_ae5_deploy.runbook.stages.s06_upload import Upload
from mlflow_ae5_deploy.runbook.stages.s07_recovery import RecoveryStage
from mlflow_ae5_deploy.runbook.stages.s08_deploy import Deploy
from mlflow_ae5_deploy.runbook.stages.s09_endpoint_url import EndpointUrl
from mlflow_ae5_deploy.runbook.stages.s10_store_url import StoreUrl
from mlflow_ae5_deploy.runbook.stages.s11_token import Token
from mlflow_ae5_deploy.runbook.stages.s12_store_token import StoreToken
from mlflow_ae5_deploy.runbook.stages.s13_sharing import Sharing
from mlflow_ae5_deploy.runbook.stages.s14_gc_schedule import GcSchedule

STAGES: tuple[Stage, ...] = (
    ServiceAccount(),
    Environment(),
    Login(),
    ReleaseAtHand(),
    SlipStream(),
    Upload(),
    RecoveryStage(),
    Deploy(),
    EndpointUrl(),
    StoreUrl(),
    Token(),
    StoreToken(),
    Sharing(),
    GcSchedule(),
)

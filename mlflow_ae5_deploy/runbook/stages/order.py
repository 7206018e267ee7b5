"""The runbook: all 14 stages in order."""

from __future__ import annotations

from mlflow_ae5_deploy.engine.stage import AnyStage
from mlflow_ae5_deploy.runbook.stages.s01_service_account import ServiceAccountStage
from mlflow_ae5_deploy.runbook.stages.s02_environment import EnvironmentStage
from mlflow_ae5_deploy.runbook.stages.s03_login import LoginStage
from mlflow_ae5_deploy.runbook.stages.s04_release import ReleaseStage
from mlflow_ae5_deploy.runbook.stages.s05_slip_stream import SlipStreamStage
from mlflow_ae5_deploy.runbook.stages.s06_upload import UploadStage
from mlflow_ae5_deploy.runbook.stages.s07_recovery import RecoveryStage
from mlflow_ae5_deploy.runbook.stages.s08_deploy import DeployStage
from mlflow_ae5_deploy.runbook.stages.s09_endpoint_url import EndpointUrlStage
from mlflow_ae5_deploy.runbook.stages.s10_store_url import StoreUrlStage
from mlflow_ae5_deploy.runbook.stages.s11_token import TokenStage
from mlflow_ae5_deploy.runbook.stages.s12_store_token import StoreTokenStage
from mlflow_ae5_deploy.runbook.stages.s13_sharing import SharingStage
from mlflow_ae5_deploy.runbook.stages.s14_gc_schedule import GcScheduleStage

STAGES: tuple[AnyStage, ...] = (
    ServiceAccountStage(),
    EnvironmentStage(),
    LoginStage(),
    ReleaseStage(),
    SlipStreamStage(),
    UploadStage(),
    RecoveryStage(),
    DeployStage(),
    EndpointUrlStage(),
    StoreUrlStage(),
    TokenStage(),
    StoreTokenStage(),
    SharingStage(),
    GcScheduleStage(),
)

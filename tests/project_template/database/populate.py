"""Writes some of everything MLflow keeps in its database, through MLflow's own client.

To be done in a process of its own, because MLflow's fluent functions change their process.
"""

from __future__ import annotations

import math

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.genai import datasets
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

VALUES = [1.5, -2.25, 0.1 + 0.2, 5e-324, 1.7976931348623157e308, math.nan, math.inf, -math.inf, -0.0, 1e22, 3.0]
TEXTS = [
    "",
    "tab\tnewline\nreturn\rback\\slash\\N \\t",
    "' \" ; -- %",
    "ümläut 漢字 \U0001f600 e\u0301",
    "\\x00ff",
    "NULL",
]


def populate(uri: str) -> None:
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    SqlAlchemyStore(uri, "mlflow-artifacts:/")
    client = MlflowClient(uri, uri)
    experiment = client.create_experiment("first", artifact_location="mlflow-artifacts:/1", tags={"team": "ümläut"})
    client.delete_experiment(client.create_experiment("gone", artifact_location="mlflow-artifacts:/2"))
    for number in range(3):
        run = client.create_run(experiment, run_name=f"run {number}").info.run_id
        metrics = [Metric(f"m{number}", value, 1700000000000 + step, step) for step, value in enumerate(VALUES)]
        texts = enumerate(TEXTS)
        params = [Param(f"p{scratch}", text) for scratch, text in texts]
        tags = [RunTag(f"t{scratch}", text) for scratch, text in enumerate(TEXTS)]
        client.log_batch(run, metrics, params, tags)
        data = Dataset("data", f"digest{number}", "local", '{"path": "a\\tb"}', '{"columns": []}', None)
        client.log_inputs(run, [DatasetInput(data, [InputTag("mlflow.data.context", "train")])])
        client.set_terminated(run, "FINISHED")
    client.delete_run(client.create_run(experiment).info.run_id)
    models(client, experiment, run)
    traces(experiment)
    dataset = datasets.create_dataset(name="evaluation", experiment_id=experiment, tags={"purpose": "test"})
    dataset.merge_records(
        [
            {"inputs": {"question": text, "number": 1.50}, "expectations": {"answer": [None, True, text]}}
            for text in TEXTS
        ]
    )


def models(client: MlflowClient, experiment: str, run: str) -> None:
    model = client.create_logged_model(experiment, "logged", run, tags={"a": TEXTS[1]}, params={"b": TEXTS[3]})
    client.log_metric(run, "accuracy", 0.5, model_id=model.model_id, dataset_name="data", dataset_digest="digest2")
    client.finalize_logged_model(model.model_id, "READY")
    client.create_registered_model("registered", tags={"a": "b"}, description=TEXTS[3])
    for _ in range(2):
        client.create_model_version("registered", "mlflow-artifacts:/1/x/artifacts/model", run_id=run)
    client.set_registered_model_alias("registered", "champion", "2")
    client.set_model_version_tag("registered", "1", "k", TEXTS[1])


def traces(experiment: str) -> None:
    mlflow.set_experiment(experiment_id=experiment)
    with mlflow.start_span("outer") as outer:
        outer.set_inputs({"question": TEXTS[1]})
        with mlflow.start_span("inner") as inner:
            inner.set_attribute("text", TEXTS[3])
        outer.set_outputs({"answer": [1, None, True]})
    mlflow.flush_trace_async_logging()
    mlflow.log_feedback(trace_id=outer.trace_id, name="correct", value=True, rationale=TEXTS[3])
    mlflow.log_expectation(trace_id=outer.trace_id, name="expected", value={"a": 1})
    mlflow.set_trace_tag(outer.trace_id, "tag", TEXTS[1])

"""Fill a server with one of everything, as clients do: a program, because MLflow's client changes its process.

    python filling.py SERVER RECEIVER

For each feature, by its name in features.yaml: a function that makes it, and returns the requests that read it again.
They are printed as JSON. RECEIVER takes webhooks, and answers as an LLM.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mlflow
import requests
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

TEXT = "tab\t ümläut 漢字 \U0001f600 ' \" ; -- %"
SECRET = "hmac-planted-0123456789"
LLM_KEY = "sk-planted-0123456789"
TEAM = "team"
OLD = 1_700_000_000  # seconds
ATTRIBUTES = {
    "question": TEXT,
    "mlflow.chat.tokenUsage": json.dumps({"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}),
    "mlflow.llm.cost": json.dumps({"input_cost": 0.5, "output_cost": 0.25, "total_cost": 0.75}),
    "mlflow.llm.model": json.dumps("m"),
}
Read = dict[str, Any]
"""The arguments of a request: method, path, and perhaps params, json, headers."""


@dataclass
class Filler:
    uri: str
    receiver: str
    client: mlflow.MlflowClient
    experiment: str
    run: str = ""
    trace: str = ""
    answered: str = ""  # a trace with inputs and outputs

    def send(self, method: str, path: str, workspace: str = "", **arguments: Any) -> Any:
        headers = {**arguments.pop("headers", {}), **({"X-MLFLOW-WORKSPACE": workspace} if workspace else {})}
        answer = requests.request(method, f"{self.uri}{path}", headers=headers, timeout=30, **arguments)
        if not answer.ok:
            raise SystemExit(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json() if "json" in answer.headers.get("content-type", "") else answer

    def make(self, name: str, /, **body: Any) -> Any:
        return self.send("POST", f"/api/3.0/mlflow/{name}", json=body)


def get(path: str, /, workspace: str = "", **params: Any) -> Read:
    headers = {"headers": {"X-MLFLOW-WORKSPACE": workspace}} if workspace else {}
    return {"method": "GET", "path": path, "params": params, **headers}


def post(path: str, /, **body: Any) -> Read:
    return {"method": "POST", "path": path, "json": body}


def tracking(to: Filler) -> list[Read]:
    run = to.run
    values = (0.1 + 0.2, float("nan"), float("inf"), -0.0)
    metrics = [Metric("loss", value, 1_700_000_000_000 + step, step) for step, value in enumerate(values)]
    to.client.log_batch(run, metrics, [Param("rate", TEXT)], [RunTag("note", TEXT)])
    data = Dataset("data", "digest", "local", '{"path": "a"}', '{"columns": []}', None)
    to.client.log_inputs(run, [DatasetInput(data, [InputTag("mlflow.data.context", "train")])])
    to.client.set_terminated(run, end_time=1_700_000_100_000)
    doomed = to.client.create_run(to.experiment).info.run_id
    to.client.log_text(doomed, TEXT, "a.txt")
    to.client.delete_run(doomed)
    to.client.delete_experiment(to.client.create_experiment("doomed"))
    return [
        get("/api/2.0/mlflow/experiments/get", experiment_id=to.experiment),
        get("/api/2.0/mlflow/runs/get", run_id=run),
        get("/api/2.0/mlflow/metrics/get-history", run_id=run, metric_key="loss"),
    ]


def artifacts(to: Filler) -> list[Read]:
    to.client.log_text(to.run, TEXT * 1000, "folder/ünïcode name.txt")
    root = to.client.get_run(to.run).info.artifact_uri.removeprefix("mlflow-artifacts:")
    return [
        get("/api/2.0/mlflow/artifacts/list", run_id=to.run, path="folder"),
        get(f"/api/2.0/mlflow-artifacts/artifacts{root}/folder/ünïcode name.txt"),
    ]


def registry(to: Filler) -> list[Read]:
    to.client.create_registered_model("churn", {"a": TEXT}, TEXT)
    for _ in range(2):
        to.client.create_model_version("churn", f"{to.client.get_run(to.run).info.artifact_uri}/folder", to.run)
    to.client.set_registered_model_alias("churn", "champion", "2")
    to.client.set_model_version_tag("churn", "1", "k", TEXT)
    return [
        get("/api/2.0/mlflow/registered-models/get", name="churn"),
        get("/api/2.0/mlflow/model-versions/get", name="churn", version="1"),
        get("/api/2.0/mlflow/registered-models/alias", name="churn", alias="champion"),
    ]


def logged_models(to: Filler) -> list[Read]:
    model = to.client.create_logged_model(to.experiment, "logged", to.run, tags={"a": TEXT}, params={"b": TEXT})
    to.client.log_metric(to.run, "accuracy", 0.5, model_id=model.model_id, dataset_name="data", dataset_digest="digest")
    to.client.finalize_logged_model(model.model_id, "READY")
    return [get(f"/api/2.0/mlflow/logged-models/{model.model_id}")]


def traces(to: Filler) -> list[Read]:
    """By OpenTelemetry's protocol, then by MLflow's client."""
    to.trace = export(to, 1, time.time_ns())
    mlflow.log_feedback(trace_id=to.trace, name="correct", value=True, rationale=TEXT)
    mlflow.log_expectation(trace_id=to.trace, name="expected", value={"a": [1, None]})
    to.client.set_trace_tag(to.trace, "tag", TEXT)
    to.client.link_traces_to_run([to.trace], to.run)
    with mlflow.start_span("by the client") as outer:
        outer.set_inputs({"question": TEXT})
        outer.set_attribute("mlflow.chat.tokenUsage", {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7})
        with mlflow.start_span("inner"):
            outer.set_outputs({"answer": [1, None, True]})
    mlflow.flush_trace_async_logging()
    to.answered = outer.trace_id
    return [
        *(get("/api/3.0/mlflow/traces/get", trace_id=trace) for trace in (to.trace, to.answered)),
        get(f"/api/3.0/mlflow/traces/{to.trace}"),
    ]


def export(to: Filler, number: int, start: int) -> str:
    """Send a trace with nested spans by OTLP; its id. start: nanoseconds."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request, trace_id = ExportTraceServiceRequest(), bytes([number] * 16)
    spans = request.resource_spans.add().scope_spans.add().spans
    for depth in range(3):
        span = spans.add(name=f"span {depth} {TEXT}", trace_id=trace_id, span_id=bytes([depth + 1] * 8), kind=1)
        span.start_time_unix_nano, span.end_time_unix_nano = start + depth, start + 10**9
        if depth:
            span.parent_span_id = bytes([depth] * 8)
        for key, value in ATTRIBUTES.items():
            span.attributes.add(key=key).value.string_value = value
        span.events.add(name="event", time_unix_nano=start + 5).attributes.add(key="n").value.int_value = 2**40
    headers = {"Content-Type": "application/x-protobuf", "x-mlflow-experiment-id": to.experiment}
    to.send("POST", "/v1/traces", data=request.SerializeToString(), headers=headers)
    return f"tr-{trace_id.hex()}"


def old_traces(to: Filler) -> list[Read]:
    """One that is old enough to be archived."""
    trace, when = export(to, 2, OLD * 10**9), "2023-11-14T22:13:20Z"
    source = {"source_type": "HUMAN", "source_id": "someone"}
    feedback = {"assessment_name": "correct", "trace_id": trace, "source": source, "feedback": {"value": True}}
    to.make(f"traces/{trace}/assessments", assessment={**feedback, "create_time": when, "last_update_time": when})
    return [get("/api/3.0/mlflow/traces/get", trace_id=trace)]


def rollups(to: Filler) -> list[Read]:
    query = {
        "experiment_ids": [to.experiment],
        "view_type": "TRACES",
        "metric_name": "trace_count",
        "aggregations": [{"aggregation_type": "COUNT"}],
        "time_interval_seconds": 86400,
        "start_time_ms": (OLD - 86400) * 1000,
        "end_time_ms": (OLD + 86400) * 1000,
    }
    return [post("/api/3.0/mlflow/traces/metrics", **query)]


def prompts(to: Filler) -> list[Read]:
    for number in range(2):
        mlflow.genai.register_prompt("greeting", f"Hello {number} {{{{name}}}} {TEXT}", commit_message=TEXT)
    mlflow.genai.set_prompt_alias("greeting", "production", 1)
    return [
        get("/api/2.0/mlflow/registered-models/get", name="greeting"),
        get("/api/2.0/mlflow/model-versions/get", name="greeting", version="2"),
        get("/api/2.0/mlflow/registered-models/alias", name="greeting", alias="production"),
    ]


def evaluations(to: Filler) -> list[Read]:
    dataset = mlflow.genai.datasets.create_dataset("questions", to.experiment, {"purpose": TEXT})
    dataset.merge_records([{"inputs": {"question": TEXT}, "expectations": {"answer": [None, True, TEXT]}}])
    records = f"/api/3.0/mlflow/datasets/{dataset.dataset_id}"

    @mlflow.genai.scorer
    def length(outputs: Any) -> int:
        return len(str(outputs))

    rows = [{"inputs": {"question": TEXT}, "outputs": TEXT}]
    result = mlflow.genai.evaluate(data=rows, scorers=[length])
    return [
        get(records),
        get(f"{records}/records"),
        get("/api/2.0/mlflow/runs/get", run_id=result.run_id),
        post(
            "/api/3.0/mlflow/traces/search",
            locations=[{"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": to.experiment}}],
            filter=f"attributes.run_id = '{result.run_id}'",
        ),
    ]


def reviews(to: Filler) -> list[Read]:
    issue = to.make("issues", experiment_id=to.experiment, name=TEXT, description=TEXT, status="pending")
    schema = to.make(
        "label-schemas/create", experiment_id=to.experiment, name="good", type="FEEDBACK",
        input={"pass_fail": {"positive_label": "yes", "negative_label": TEXT}},
    )["label_schema"]  # fmt: skip
    queue = to.make(
        "review-queues/create", experiment_id=to.experiment, name="queue", queue_type="CUSTOM",
        users=["someone"], schema_ids=[schema["schema_id"]],
    )["review_queue"]  # fmt: skip
    to.make("review-queues/items/add", queue_id=queue["queue_id"], item_type="TRACE", item_ids=[to.trace])
    return [
        get(f"/api/3.0/mlflow/issues/{issue['issue']['issue_id']}"),
        get("/api/3.0/mlflow/label-schemas/list", experiment_id=to.experiment),
        get("/api/3.0/mlflow/review-queues/get", queue_id=queue["queue_id"]),
        get("/api/3.0/mlflow/review-queues/items/list", queue_id=queue["queue_id"]),
    ]


def scorers(to: Filler) -> list[Read]:
    named = register_scorer(to.experiment, sample_rate=0.0, to=to)
    found = to.send("GET", "/api/3.0/mlflow/scorers/get", params=named)["scorer"]
    models = to.send("GET", "/api/3.0/mlflow/gateway/model-definitions/list")["model_definitions"]
    config = {"model_definition_id": models[0]["model_definition_id"], "linkage_type": "PRIMARY", "weight": 1.0}
    guarded = to.make("gateway/endpoints/create", name="guarded", model_configs=[config])["endpoint"]["endpoint_id"]
    guardrail = to.make(
        "gateway/guardrails/create", name="g", scorer_id=found["scorer_id"], scorer_version=found["scorer_version"],
        stage="AFTER", action="VALIDATION",
    )["guardrail"]["guardrail_id"]  # fmt: skip
    to.make("gateway/guardrails/add-to-endpoint", endpoint_id=guarded, guardrail_id=guardrail, execution_order=1)
    return [
        get("/api/3.0/mlflow/gateway/guardrails/list-for-endpoint", endpoint_id=guarded),
        get("/api/3.0/mlflow/scorers/get", **named),
        get("/api/3.0/mlflow/scorers/versions", **named),
    ]


def jobs(to: Filler) -> list[Read]:
    """One that runs a scorer, which asks the LLM through the gateway; and a trace that is to be scored online."""
    scorer = to.send("GET", "/api/3.0/mlflow/scorers/get", params={"experiment_id": to.experiment, "name": "polite"})
    (begun,) = to.send(
        "POST", "/ajax-api/3.0/mlflow/scorer/invoke",
        json={
            "experiment_id": to.experiment, "serialized_scorer": scorer["scorer"]["serialized_scorer"],
            "trace_ids": [to.answered], "log_assessments": True,
        },
    )["jobs"]  # fmt: skip
    path, deadline = f"/ajax-api/3.0/jobs/{begun['job_id']}", time.monotonic() + 180
    while (job := to.send("GET", path))["status"] in ("PENDING", "RUNNING") and time.monotonic() < deadline:
        time.sleep(0.2)
    if job["status"] != "SUCCEEDED":
        raise SystemExit(f"the job has not succeeded: {job}")
    return [get(path), get("/api/3.0/mlflow/traces/get", trace_id=watched(to))]


def watched(to: Filler) -> str:
    """A trace in an experiment of its own, because online scoring writes how far it is into the experiment's tags."""
    experiment = to.client.create_experiment("watched")
    register_scorer(experiment, sample_rate=1.0, to=to)
    mlflow.set_experiment(experiment_id=experiment)
    with mlflow.start_span("watched") as span:
        span.set_inputs({"question": TEXT})
        span.set_outputs({"answer": TEXT})
    mlflow.flush_trace_async_logging()
    mlflow.set_experiment(experiment_id=to.experiment)
    return str(span.trace_id)


def register_scorer(experiment: str, *, sample_rate: float, to: Filler) -> Read:
    """What names it in requests."""
    from mlflow.genai.scorers import Guidelines

    Guidelines(name="polite", guidelines=[TEXT], model="gateway:/chat").register(experiment_id=experiment)
    named = {"experiment_id": experiment, "name": "polite"}
    to.send("PUT", "/api/3.0/mlflow/scorers/online-config", json={**named, "sample_rate": sample_rate})
    return named


def graphql(to: Filler) -> list[Read]:
    fields = "{ run { info { status } data { params { key value } } } }"
    return [post("/graphql", query=f'{{ mlflowGetRun(input: {{runId: "{to.run}"}}) {fields} }}')]


def webhooks(to: Filler) -> list[Read]:
    made = [
        to.client.create_webhook(f"hook{number}", f"{to.receiver}/{number}", ["prompt.created"], TEXT, secret)
        for number, secret in enumerate((None, SECRET))
    ]
    paths = [f"/api/2.0/mlflow/webhooks/{hook.webhook_id}" for hook in made]
    return [get("/api/2.0/mlflow/webhooks"), *map(get, paths), *(post(f"{path}/test") for path in paths)]


def gateway(to: Filler) -> list[Read]:
    secret = to.make(
        "gateway/secrets/create", secret_name="llm", provider="openai", secret_value={"api_key": LLM_KEY},
        auth_config={"api_base": f"{to.receiver}/v1"},
    )["secret"]["secret_id"]  # fmt: skip
    model = to.make(
        "gateway/model-definitions/create", name="model", secret_id=secret, provider="openai", model_name="gpt-4o"
    )["model_definition"]["model_definition_id"]
    endpoint = to.make(
        "gateway/endpoints/create", name="chat", experiment_id=to.experiment,
        model_configs=[{"model_definition_id": model, "linkage_type": "PRIMARY", "weight": 1.0}],
    )["endpoint"]["endpoint_id"]  # fmt: skip
    to.make("gateway/endpoints/set-tag", endpoint_id=endpoint, key="k", value=TEXT)
    to.make("gateway/endpoints/bindings/create", endpoint_id=endpoint, resource_type="scorer", resource_id="s")
    to.make(
        "gateway/budgets/create", budget_unit="USD", budget_amount=1000.0, duration={"unit": "DAYS", "value": 1},
        target_scope="GLOBAL", budget_action="ALERT",
    )  # fmt: skip
    return [
        get("/api/3.0/mlflow/gateway/secrets/list"),
        get("/api/3.0/mlflow/gateway/endpoints/get", endpoint_id=endpoint),
        get("/api/3.0/mlflow/gateway/model-definitions/list"),
        get("/api/3.0/mlflow/gateway/endpoints/bindings/list", endpoint_id=endpoint),
        get("/api/3.0/mlflow/gateway/budgets/list"),
        post("/gateway/chat/mlflow/invocations", messages=[{"role": "user", "content": TEXT}]),
    ]


def mcp(to: Filler) -> list[Read]:
    name, base = "io.example/weather", "/ajax-api/3.0/mlflow/mcp-servers/io.example/weather"
    to.client.create_mcp_server(name, TEXT)
    to.client.create_mcp_server_version(
        {"name": name, "version": "1.0.0", "description": "d"}, status="active", tools=[]
    )
    to.client.set_mcp_server_tag(name, "k", TEXT)
    to.client.set_mcp_server_version_tag(name, "1.0.0", "k", TEXT)
    to.client.set_mcp_server_alias(name, "stable", "1.0.0")
    to.client.create_mcp_access_endpoint(name, "https://mcp.example.com/", server_alias="stable")
    return [get(base), get(f"{base}/versions"), get(f"{base}/aliases/stable"), get(f"{base}/endpoints")]


def workspaces(to: Filler) -> list[Read]:
    to.make("workspaces", name=TEAM, description=TEXT)
    made = to.send("POST", "/api/2.0/mlflow/experiments/create", TEAM, json={"name": "ours"})["experiment_id"]
    run = to.send("POST", "/api/2.0/mlflow/runs/create", TEAM, json={"experiment_id": made})["run"]["info"]
    root = run["artifact_uri"].removeprefix("mlflow-artifacts:")
    to.send("PUT", f"/api/2.0/mlflow-artifacts/artifacts{root}/a", TEAM, data=TEXT.encode())
    return [
        get("/api/3.0/mlflow/workspaces"),
        get("/api/2.0/mlflow/runs/get", TEAM, run_id=run["run_id"]),
        get(f"/api/2.0/mlflow-artifacts/artifacts{root}/a", TEAM),
    ]


FILLINGS: dict[str, Callable[[Filler], list[Read]]] = {
    "experiments, runs, metrics, parameters, tags": tracking,
    "artifacts through the server": artifacts,
    "model registry with aliases": registry,
    "logged models": logged_models,
    "traces, OpenTelemetry (OTLP), assessments": traces,
    "trace archival": old_traces,
    "trace rollups": rollups,
    "prompts": prompts,
    "evaluation datasets and runs": evaluations,
    "issues, label schemas, review queues": reviews,
    "webhooks, with and without a secret": webhooks,
    "AI gateway": gateway,
    "scorers": scorers,
    "job backend": jobs,
    "MCP servers": mcp,
    "workspaces": workspaces,
    "GraphQL": graphql,
}


def fill(uri: str, receiver: str) -> dict[str, list[Read]]:
    client = mlflow.MlflowClient(uri, uri)
    mlflow.set_tracking_uri(uri)
    experiment = client.create_experiment(f"everything {TEXT}", tags={"team": TEXT})
    mlflow.set_experiment(experiment_id=experiment)
    to = Filler(uri, receiver, client, experiment)
    to.run = client.create_run(experiment, run_name="kept").info.run_id
    return {feature: make(to) for feature, make in FILLINGS.items()}


if __name__ == "__main__":
    print(json.dumps(fill(*sys.argv[1:])))

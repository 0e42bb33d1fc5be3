"""Fills a database as users of MLflow do; run with the version that is upgraded from."""

from __future__ import annotations

import os

import mlflow

# An assessment wants its trace to be there.
os.environ["MLFLOW_ENABLE_ASYNC_TRACE_LOGGING"] = "false"
mlflow.set_tracking_uri(os.environ["MLFLOW_BACKEND_STORE_URI"])
mlflow.set_experiment(
    experiment_id=mlflow.create_experiment("kept", artifact_location="/nonexistent")
)
with mlflow.start_run(run_name="kept"):
    mlflow.log_params({f"param-{i}": i for i in range(20)})
    mlflow.log_metrics({f"metric-{i}": i / 3 for i in range(20)})
mlflow.MlflowClient().create_registered_model("kept")
# What the migration to 3.17 moves to columns of their own.
for number in range(3):
    with mlflow.start_span("root", span_type="LLM") as span:
        span.set_inputs({"question": number})
        span.set_outputs({"answer": number})
        span.set_attribute(
            "mlflow.chat.tokenUsage",
            {"input_tokens": 1 + number, "output_tokens": 2, "total_tokens": 3 + number},
        )
        span.set_attribute("mlflow.llm.model", "model")
        span.set_attribute("mlflow.llm.provider", "provider")
        mlflow.update_current_trace(metadata={"mlflow.trace.session": "session"})
        with mlflow.start_span("child") as child:
            child.set_inputs(number)
    mlflow.log_feedback(trace_id=span.trace_id, name="good", value=True)
    mlflow.log_feedback(trace_id=span.trace_id, name="score", value=0.5)
    mlflow.log_expectation(trace_id=span.trace_id, name="expected", value="text")

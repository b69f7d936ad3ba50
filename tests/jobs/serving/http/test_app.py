"""The HTTP interface: what it answers is what `predict` answers, and mistakes have one shape."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from intertitle.jobs.serving.config import ServerConfig
from intertitle.jobs.serving.http import app
from intertitle.jobs.serving.http.fetch import Fetcher
from intertitle.pipeline.corpus import Corpus
from intertitle.training.tracking.run import reopen
from intertitle.training.tracking.store.client import resolve_run
from tests.jobs.serving.site import Site
from tests.jobs.serving.tiny_models import GERMAN, NAMES, client, noise_png, png
from tests.training.evaluations import captions, log_evaluation, spoiled

Run = Callable[..., Any]


def predicted(intertitle: Run, store: str, *arguments: object) -> list[dict[str, Any]]:
    ended = intertitle("predict", *arguments, "--json", "--tracking-uri", store)
    assert ended.code == 0, ended.err
    results: list[dict[str, Any]] = json.loads(ended.out.splitlines()[-1])["results"]
    return results


def check_same(answer: dict[str, Any], expected: list[dict[str, Any]], nbest: int = 1) -> None:
    """Make sure that an answer has the texts and scores of `predict`."""
    answered = [candidate for result in answer["results"] for candidate in result["nbest"]]
    assert [c["text"] for c in answered] == [p["text"] for p in expected]
    assert [c["score"] for c in answered] == pytest.approx([p["score"] for p in expected], abs=1e-4)
    assert [c["rank"] for c in answered] == [*range(1, nbest + 1)] * len(answer["results"])


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({}, []),
        (
            {"nbest": 3, "beam": 4, "length_penalty": 1.2},
            ["--nbest", 3, "--beam", 4, "--length-penalty", 1.2],
        ),
        (
            {"sample": True, "temperature": 1.5, "top_p": 0.9, "seed": 7, "nbest": 2},
            ["--sample", "--temperature", 1.5, "--top-p", 0.9, "--seed", 7, "--nbest", 2],
        ),
        ({"prefix": "a", "min_tokens": 3}, ["--prefix", "a", "--min-tokens", 3]),
    ],
)
def test_texts_are_answered_as_by_predict(
    api: TestClient, intertitle: Run, store: str, fields: dict[str, Any], options: list[object]
) -> None:
    texts = [*GERMAN, ""]
    body = {"inputs": [{"text": text} for text in texts], **fields}
    answer = api.post("/v1/models/translator/predict", json=body).json()
    flags = [part for text in texts for part in ("--text", text)]
    expected = predicted(intertitle, store, "translator", *flags, *options)
    num = fields.get("nbest", 1)
    check_same({"results": answer["results"][:-1]}, expected[:-1], num)
    assert answer["results"][-1]["text"] == expected[-1]["text"] == ""
    assert answer["model"]["run"] == "translator"


def test_labels_and_texts_of_a_language_model(api: TestClient, intertitle: Run, store: str) -> None:
    answer = api.post(
        "/v1/models/classifier/predict", json={"inputs": [{"text": GERMAN[0]}], "nbest": 2}
    ).json()
    check_same(
        answer, predicted(intertitle, store, "classifier", "--text", GERMAN[0], "--nbest", 2), 2
    )
    answer = api.post("/v1/models/writer/predict", json={"seed": 3}).json()
    written = predicted(intertitle, store, "writer", "--seed", 3)
    assert [c["text"] for c in answer["results"][0]["nbest"]] == [p["text"] for p in written]


def test_files_are_answered_as_by_predict_in_json_and_in_forms(
    api: TestClient, intertitle: Run, store: str, tmp_path: Path
) -> None:
    files = {}
    for seed in range(3):
        path = tmp_path / f"{seed}.png"
        path.write_bytes(noise_png(seed))
        files[path.name] = path
    expected = predicted(intertitle, store, "captioner", *files.values())
    # In a form the name of a file is only a name: its content decides how it is decoded.
    form = [("file", ("../../etc/passwd", path.read_bytes())) for path in files.values()]
    answer = api.post("/v1/models/captioner/predict", files=form).json()
    check_same(answer, expected)
    assert answer["results"][0]["input"] == "../../etc/passwd"
    inputs = [
        {"data": base64.b64encode(path.read_bytes()).decode(), "name": name}
        for name, path in files.items()
    ]
    check_same(api.post("/v1/models/captioner/predict", json={"inputs": inputs}).json(), expected)

    question = "what colour is this"
    asked = predicted(
        intertitle, store, "answerer", files["0.png"], "--question", question, "--nbest", 5
    )
    answer = api.post(
        "/v1/models/answerer/predict",
        files=[("file", ("0.png", files["0.png"].read_bytes()))],
        data={"question": [question, "what"], "nbest": "5"},
    ).json()
    check_same({"results": answer["results"][:1]}, asked, 5)
    assert len(answer["results"]) == 2


def test_callers_at_the_same_time_get_their_own_answers(
    api: TestClient, intertitle: Run, store: str
) -> None:
    flags = [part for text in GERMAN for part in ("--text", text)]
    expected = {p["input"]: p["text"] for p in predicted(intertitle, store, "translator", *flags)}

    def ask(n: int) -> tuple[str, str]:
        text = GERMAN[n % len(GERMAN)]
        body = {"inputs": [{"text": text}]}
        return text, api.post("/v1/models/translator/predict", json=body).json()["results"][0][
            "text"
        ]

    with ThreadPoolExecutor(8) as pool:
        assert all(answer == expected[text] for text, answer in pool.map(ask, range(40)))


def test_tokens_and_attention(api: TestClient) -> None:
    body = {"inputs": [{"text": GERMAN[2]}], "nbest": 2, "tokens": True, "attention": True}
    (result,) = api.post("/v1/models/translator/predict", json=body).json()["results"]
    for candidate in result["nbest"]:
        assert " ".join(token["token"] for token in candidate["tokens"]) == candidate["text"]
        assert all(0 < token["probability"] <= 1 for token in candidate["tokens"])
    attention = result["attention"]
    assert attention["source"] == GERMAN[2].lower().split()
    assert len(attention["tokens"]) == len(result["nbest"][0]["tokens"]) + 1
    assert np.allclose(np.sum(attention["weights"], 1), 1, atol=1e-3)

    form = {"file": ("a.png", png())}
    options = {"attention": "true", "frames": "true"}
    answer = api.post("/v1/models/captioner/predict", files=form, data=options).json()
    (result,) = answer["results"]
    attention = result["attention"]
    frames, rows, columns = attention["shape"]
    assert (frames, rows * columns) == (1, len(attention["weights"][0]))
    assert len(result["frames"]) == frames
    assert base64.b64decode(result["frames"][0]).startswith(b"\xff\xd8")


def test_words_that_a_model_does_not_know_are_a_warning(api: TestClient) -> None:
    body = {"inputs": [{"text": text} for text in (GERMAN[0], "lorem ipsum Ball")]}
    known, unknown = api.post("/v1/models/translator/predict", json=body).json()["results"]
    assert known["warnings"] == []
    assert unknown["warnings"][0].startswith("2 of 3 words are unknown to the model")


def events(api: TestClient, name: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    with api.stream("POST", f"/v1/models/{name}/stream", json=body) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in response.iter_lines() if line.startswith("data: ")]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


@pytest.mark.parametrize(
    ("fields", "options"),
    [({}, ["--beam", 1]), ({"sample": True, "seed": 5}, ["--sample", "--seed", 5])],
)
def test_a_stream_ends_in_the_answer_of_predict(
    api: TestClient, intertitle: Run, store: str, fields: dict[str, Any], options: list[object]
) -> None:
    *tokens, last = events(api, "translator", {"inputs": [{"text": GERMAN[2]}], **fields})
    (expected,) = predicted(intertitle, store, "translator", "--text", GERMAN[2], *options)
    assert last["result"]["text"] == tokens[-1]["text"] == expected["text"]
    assert last["result"]["score"] == pytest.approx(expected["score"], abs=1e-4)
    assert [event["token"] for event in tokens] == expected["text"].split()


def test_a_language_model_streams_the_text_that_it_predicts(api: TestClient) -> None:
    options = {"seed": 4, "prefix": "a", "num_tokens": 30}
    *tokens, last = events(api, "writer", options)
    assert len(tokens) == 30
    body = {**options, "num_texts": 1}
    answer = api.post("/v1/models/writer/predict", json=body).json()
    assert last["result"]["text"] == answer["results"][0]["text"]
    assert "".join(event["token"] for event in tokens) == last["result"]["text"]


def test_models_are_described(api: TestClient) -> None:
    listed = {model["name"]: model["task"] for model in api.get("/v1/models").json()}
    assert listed == dict(
        zip(
            NAMES,
            (
                "translation",
                "text classification",
                "language modelling",
                "captioning",
                "question answering",
            ),
            strict=True,
        )
    )
    details = api.get("/v1/models/answerer").json()
    assert details["vocabulary"] == 10 and details["source_vocabulary"] == 8
    assert json.loads(details["signature"]["inputs"])[0]["name"] == "file"


def test_an_evaluated_model_has_scores_with_intervals(config: ServerConfig) -> None:
    with reopen(resolve_run("writer", config.tracking_uri)) as run:
        log_evaluation(
            run, spoiled(captions(6), 0.5), "test", "eval/test/beam_3/20260101T000000.000000"
        )
    models = tuple(model for model in config.models if model.name == "writer")
    with client(config.model_copy(update={"models": models})) as opened:
        scores = opened.get("/v1/models/writer").json()["scores"]
    bleu = {score["metric"]: score for score in scores}["sacrebleu"]
    assert bleu["split"] == "test"
    assert 0 <= bleu["low"] < bleu["value"] < bleu["high"] <= 100


def test_a_file_is_fetched_from_an_allowed_url(
    api: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site("127.0.0.1", png())
    try:
        # This machine stands for a public one that is on the list.
        fetcher = partial(Fetcher, accepts=lambda _: True)
        monkeypatch.setattr(app, "Fetcher", lambda _, *limits: fetcher((site.url,), *limits))
        body = {"inputs": [{"url": f"{site.url}/a.png"}]}
        answer = api.post("/v1/models/captioner/predict", json=body).json()
    finally:
        site.close()
    expected = api.post("/v1/models/captioner/predict", files={"file": ("a.png", png())}).json()
    assert answer["results"][0]["text"] == expected["results"][0]["text"] != ""
    assert answer["results"][0]["input"] == f"{site.url}/a.png"


def test_health_metrics_and_the_description_of_the_interface(api: TestClient) -> None:
    assert api.get("/healthz").json() == {"status": "ok"}
    assert api.get("/readyz").json() == {"status": "ready"}
    api.post("/v1/models/classifier/predict", json={"inputs": [{"text": "gut"}] * 3})
    metrics = api.get("/metrics").text
    assert 'intertitle_requests_total{path="/v1/models/{name}/predict",status="200"}' in metrics
    assert 'intertitle_inputs_total{model="classifier"}' in metrics
    schema = api.get("/openapi.json").json()
    assert "PredictRequest" in schema["components"]["schemas"]
    page = api.get("/docs").text
    assert (
        "//" not in page.replace("http://127.0.0.1", "").replace("//-->", "").split("<script>")[0]
    )
    assert api.get("/static-offline-docs/swagger-ui-bundle.js").status_code == 200


@pytest.mark.parametrize(
    ("name", "body", "status", "field", "allowed"),
    [
        ("nobody", {}, 404, "model", "translator, "),
        ("translator", {}, 422, "inputs.0.text", "required"),
        ("translator", {"inputs": [{"text": "a", "data": ""}]}, 422, "inputs.0.data", "none: "),
        ("captioner", {"inputs": [{"data": "%"}]}, 422, "inputs.0.data", "base64"),
        ("captioner", {"inputs": [{"data": "YQ=="}]}, 422, "inputs.0.data", "an image or a video"),
        ("translator", {"inputs": [{"text": "a"}], "beam": 0}, 422, "beam", "greater than"),
        ("translator", {"inputs": [{"text": "a"}], "width": 2}, 422, "width", "not permitted"),
        (
            "translator",
            {"inputs": [{"text": "a"}], "sample": True, "temperature": 1e-310},
            422,
            "temperature",
            "0.001",
        ),
        (
            "translator",
            {"inputs": [{"text": "a"}], "beam": 2, "sample": True},
            422,
            "beam",
            "only without --sample",
        ),
        (
            "translator",
            {"inputs": [{"text": "a"}], "min_tokens": 9, "max_tokens": 8},
            422,
            "min_tokens",
            "at most max_tokens",
        ),
        ("translator", {"inputs": [{"text": "a"}], "prefix": "x"}, 422, "prefix", "words that"),
        ("classifier", {"inputs": [{"text": "a"}], "attention": True}, 422, "attention", "false"),
        ("classifier", {"inputs": [{"text": "a"}], "frames": True}, 422, "frames", "false"),
        ("writer", {"nbest": 2}, 422, "nbest", "1 for this model"),
        ("translator", {"inputs": [{"text": "a"}], "num_tokens": 2}, 422, "num_tokens", "none"),
        ("translator", {"inputs": [{"text": "a"}] * 65}, 422, "inputs", "at most 64"),
        (
            "translator",
            {"inputs": [{"text": "a"}] * 64, "nbest": 9, "sample": True},
            422,
            "inputs",
            "inputs times the larger of beam and nbest: at most 512",
        ),
    ],
)
def test_a_mistake_is_a_field_its_value_and_what_is_allowed(
    api: TestClient, name: str, body: dict[str, Any], status: int, field: str, allowed: str
) -> None:
    response = api.post(f"/v1/models/{name}/predict", json=body)
    assert response.status_code == status, response.text
    error = response.json()
    assert set(error) == {"field", "value", "allowed"}
    assert error["field"] == field
    assert allowed in error["allowed"]


def test_a_file_that_cannot_be_read_does_not_cost_the_others(api: TestClient) -> None:
    form = [("file", ("good.png", png())), ("file", ("bad.png", png()[:40]))]
    good, bad = api.post("/v1/models/captioner/predict", files=form).json()["results"]
    assert good["text"] and good["error"] is None
    assert bad["error"]["field"] == "inputs.1.data"
    assert bad["error"]["value"] == "bad.png"
    assert "intertitle-serve" not in bad["error"]["allowed"]


def test_a_stream_refuses_what_it_cannot_do(api: TestClient) -> None:
    for name, body, field in (
        ("translator", {"inputs": [{"text": "a"}], "beam": 2}, "beam"),
        ("translator", {"inputs": [{"text": "a"}], "nbest": 2}, "nbest"),
        ("translator", {"inputs": [{"text": "a"}] * 2}, "inputs"),
        ("classifier", {"inputs": [{"text": "a"}]}, "model"),
    ):
        response = api.post(f"/v1/models/{name}/stream", json=body)
        assert (response.status_code, response.json()["field"]) == (422, field)


def test_a_job_is_looked_up_until_it_has_finished(api: TestClient) -> None:
    body = {"inputs": [{"text": text} for text in GERMAN * 3]}
    job = api.post("/v1/jobs?model=translator", json=body)
    assert job.status_code == 202 and job.json()["total"] == 12
    url = f"/v1/jobs/{job.json()['id']}"
    deadline = time.monotonic() + 60
    while (status := api.get(url).json())["state"] == "running":
        assert time.monotonic() < deadline
    assert (status["state"], status["done"]) == ("finished", 12)
    expected = api.post("/v1/models/translator/predict", json=body).json()["results"]
    assert [r["text"] for r in status["results"]] == [r["text"] for r in expected]
    assert api.get("/v1/jobs/none").json()["field"] == "job"


def test_feedback_is_kept_where_the_server_was_told_to(
    api: TestClient, config: ServerConfig, tmp_path: Path
) -> None:
    body = {"text": GERMAN[0], "answer": "good", "good": True, "run_id": "0"}
    assert api.post("/v1/models/classifier/feedback", json=body).json()["field"] == "feedback"
    models = tuple(model for model in config.models if model.name == "classifier")
    changes = {"feedback": str(tmp_path), "models": models}
    with client(config.model_copy(update=changes)) as keeping:
        url = "/v1/models/classifier/feedback"
        assert keeping.post(url, json=body).json() == {"examples": 1}
        refused = keeping.post(url, json={"answer": "x", "good": "maybe", "run_id": "0"})
        assert (refused.status_code, refused.json()["field"]) == (422, "good")
    (example,) = Corpus(tmp_path / "classifier").examples()
    assert (example.source, example.targets) == (GERMAN[0], ("good",))

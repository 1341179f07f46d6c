"""/v1/embeddings in OpenAI's shape: entries or base64, and errors as its clients read them."""

import base64
from dataclasses import replace

import numpy as np
import pytest
import torch

from fastclip.serve.questions import num_tokens
from tests.support.asgi import post
from tests.support.stub_model import numbered_model

URL = "/v1/embeddings"


def test_texts_have_vectors_in_their_order_in_both_encodings(app):
    body = {"input": ["number 3", "number 1"], "model": "index", "user": "me", "dimensions": 128}
    answer = post(app, URL, body).json
    assert answer["object"] == "list" and answer["model"] == "index"
    assert answer["usage"] == {"prompt_tokens": 2, "total_tokens": 2}
    assert [(d["object"], d["index"]) for d in answer["data"]] == [
        ("embedding", 0),
        ("embedding", 1),
    ]
    vectors = np.array([d["embedding"] for d in answer["data"]])
    assert vectors.shape == (2, 128) and vectors.argmax(1).tolist() == [3, 1]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1)
    packed = post(app, URL, body | {"encoding_format": "base64"}).json["data"]
    unpacked = [np.frombuffer(base64.b64decode(d["embedding"]), "<f4") for d in packed]
    np.testing.assert_array_equal(unpacked, vectors)


def test_one_text_and_the_models_own_name_will_do(app):
    answer = post(app, URL, {"input": "number 9", "model": "numbers"}).json
    assert len(answer["data"]) == 1 and answer["model"] == "numbers"


def test_tokens_are_counted_up_to_their_ends():
    class Model(torch.nn.Module):
        def text_lengths(self, tokens):
            return (tokens > 0).sum(1)

    tokens = torch.tensor([[1, 2, 3, 0, 0], [1, 2, 3, 4, 5]])
    ready = replace(numbered_model(), model=Model(), tokenizer=lambda texts: tokens)
    assert num_tokens(ready, ["a", "b"]) == 8


@pytest.mark.parametrize(
    ("change", "status", "param", "message"),
    [
        ({"input": [[1, 2]]}, 400, "input", "input must be a text or a list of texts"),
        ({"input": None}, 400, "input", "input must be a text or a list of texts, got None"),
        ({"input": [1, 2, 3]}, 400, "input", "input must be a text or a list of texts"),
        ({"input": []}, 400, "input", "input must have at least one text"),
        ({"input": ["a", ""]}, 400, "input", "no empty text"),
        ({"input": ["number 1"] * 513}, 400, "input", "must have at most 512 texts, got 513"),
        ({"model": None}, 400, "model", "model is missing; it must be 'index'"),
        ({"model": "clip"}, 404, "model", "no model 'clip'; this server has 'index'"),
        ({"encoding_format": "int8"}, 400, "encoding_format", "one of float, base64"),
        ({"dimensions": 64}, 400, "dimensions", "dimensions must be 128"),
        ({"inputs": "a"}, 400, "inputs", "unknown field inputs; nearest: input"),
    ],
)  # fmt: skip
def test_errors_are_in_openais_shape(app, change, status, param, message):
    answer = post(app, URL, {"input": "number 1", "model": "index"} | change)
    error = answer.json["error"]
    assert answer.status == status and message in error["message"] and error["param"] == param
    assert error["type"] == "invalid_request_error"
    assert error["code"] == ("model_not_found" if status == 404 else None)

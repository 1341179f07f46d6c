"""clip-retrieval's endpoints: its shapes, its defaults, and what this server refuses by name."""

import base64

import pytest

from tests.support.asgi import get, post
from tests.support.pair_files import image_bytes

# What clip_client.py sends if nothing is said but the text.
CLIENT = {
    "text": "number 5", "image": None, "image_url": None, "embedding_input": None,
    "deduplicate": True, "use_safety_model": True, "use_violence_detector": True,
    "indice_name": "index", "use_mclip": False, "aesthetic_score": 9, "aesthetic_weight": 0.5,
    "modality": "image", "num_images": 40, "num_result_ids": 40,
}  # fmt: skip


def ids(answer):
    return [result["id"] for result in answer.json]


def test_the_clients_default_call_is_answered_and_says_what_was_passed_over(app, capsys):
    answers = [post(app, "/knn-service", CLIENT) for _ in range(2)]
    answer = answers[0]
    assert answer.status == 200 and len(answer.json) == 40
    first = answer.json[0]
    assert first["id"] == 5 and first["alike"] == 2  # deduplicated
    assert first["similarity"] == pytest.approx(1) and first["stands_out"] is True
    assert first["caption"] == "number 6" and first["image_path"] == "005.png"
    assert first["url"] == "http://127.0.0.1:1234/image/5"
    named = "use_safety_model, use_violence_detector, aesthetic_score, aesthetic_weight"
    assert answer.headers["fastclip-ignored"] == named
    assert capsys.readouterr().err.count(named) == 1


def test_what_is_off_is_not_passed_over(app):
    off = {
        "use_safety_model": False, "use_violence_detector": False, "aesthetic_score": "",
        "aesthetic_weight": 0,
    }  # fmt: skip
    answer = post(app, "/knn-service", CLIENT | off)
    assert answer.status == 200 and "fastclip-ignored" not in answer.headers


def test_further_results_have_their_id_alone(app):
    answer = post(app, "/knn-service", {"text": "number 5", "num_images": 1, "num_result_ids": 3})
    assert "caption" in answer.json[0]
    assert [set(result) for result in answer.json[1:]] == [{"id", "similarity"}] * 2
    few = post(app, "/knn-service", {"text": "number 5", "num_images": 40, "num_result_ids": 3})
    assert len(few.json) == 3 and all("caption" in result for result in few.json)


def test_images_vectors_and_texts_are_searched_for_on_both_sides(app):
    image = base64.b64encode(image_bytes(7)).decode()
    vector = [3.0 * (i == 8) for i in range(128)]
    for query, row in (({"image": image}, 7), ({"embedding_input": vector}, 8)):
        for modality, found in (("image", row), ("text", row - 1)):
            body = query | {"modality": modality, "num_images": 1, "indice_name": "index"}
            answer = post(app, "/knn-service", body)
            assert ids(answer) == [found]
            assert answer.json[0]["similarity"] == pytest.approx(1)  # of unit vectors


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"use_mclip": True}, 400, "use_mclip = True is not supported by this server"),
        ({"aesthetic_score": 5}, 400, "aesthetic_score = 5"),
        ({"aesthetic_weight": True}, 400, "aesthetic_weight = True"),
        ({"text": None, "image_url": "http://x/y.png"}, 400, "image_url is not supported"),
        ({"image_url": "http://x/y.png"}, 400, "image_url is not supported"),
        ({"text": ""}, 400, "one of text, image, embedding_input must be given, got none"),
        ({"image": "AAAA"}, 400, "got text and image"),
        ({"text": None, "image": "/etc/passwd0"}, 400, "the image cannot be searched for"),
        ({"text": None, "image": "../photos/005.png"}, 400, "must be the base64 of an image"),
        ({"text": None, "embedding_input": [1.0]}, 400, "must be a list of 128 numbers"),
        ({"text": None, "embedding_input": [0] * 128}, 400, "be finite in float32, and not all 0"),
        ({"text": None, "embedding_input": [1e39] * 128}, 400, "must be finite in float32"),
        ({"text": None, "embedding_input": [10**400] * 128}, 400, "must be finite in float32"),
        ({"text": None, "embedding_input": "x" * 128}, 400, "must be a list of 128 numbers"),
        ({"indice_name": "laion5B"}, 404, "there is no index 'laion5B'; the index is 'index'"),
        ({"modality": "sound"}, 400, "modality must be one of image, text, got 'sound'"),
        ({"num_images": 0}, 400, "num_images must be an integer from 1 to 3000"),
        ({"num_images": True}, 400, "num_images must be an integer"),
        ({"deduplicate": 1}, 400, "deduplicate must be true or false"),
        ({"num_image": 3}, 400, "unknown field num_image; nearest: num_images"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_refused_by_name(app, change, status, message):
    answer = post(app, "/knn-service", CLIENT | change)
    assert answer.status == status and message in answer.json["message"]


def test_metadata_comes_in_the_order_asked_for(app):
    answer = post(app, "/metadata", {"ids": [7, 3], "indice_name": "index"})
    assert [row["id"] for row in answer.json] == [7, 3]
    assert answer.json[1]["metadata"]["caption"] == "number 4"


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([121], "rows are numbered from 0 to 120, got 121"),
        ([-1], "got -1"),
        ([10**30], "got 1000"),
        ([True], "ids must be a list of numbers"),
        (None, "ids must be a list"),
        ([1] * 3001, "ids must be 3000 at most, got 3001"),
    ],
)
def test_metadata_of_what_is_no_row_is_refused(app, ids, message):
    answer = post(app, "/metadata", {"ids": ids})
    assert answer.status == 400 and message in answer.json["message"]


def test_the_index_is_listed(app):
    assert get(app, "/indices-list").json == ["index"]

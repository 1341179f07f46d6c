"""Questions that come together are answered together, and faults are kept apart."""

import asyncio
import shutil
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from fastclip.embeddings import embed, open_embeddings
from fastclip.embeddings.same_file import FileChanged
from fastclip.search import searcher
from fastclip.search.encoding import vectors_of_texts
from fastclip.search.query import Part, QueryError
from fastclip.serve.apart import apart
from fastclip.serve.app import make_app
from fastclip.serve.batching import Batcher, Busy, Size, TooSlow
from fastclip.serve.limits import Limits
from fastclip.serve.questions import Embed, Search, answer_all, size_of
from fastclip.serve.service import open_service
from tests.support.asgi import get, post, together
from tests.support.pair_files import image_bytes
from tests.support.stub_model import numbered_model

PATIENT = replace(Limits(), gather_seconds=0.2, batch=4)


def test_questions_that_come_within_the_time_are_one_batch_and_no_larger_than_may_be():
    sizes, threads = [], set()

    def shout(questions):
        threads.add(threading.current_thread().name)
        return [question.upper() for question in questions]

    batcher = Batcher(shout, PATIENT, sizes.append)
    assert together(*map(batcher.ask, "abcdef")) == list("ABCDEF")
    assert sizes == [4, 2] and threads == {"model"}
    start = time.monotonic()
    assert together(batcher.ask("alone")) == ["ALONE"]
    assert time.monotonic() - start < 5
    batcher.close()


def test_what_waited_behind_a_busy_model_waits_no_longer():
    limits, sizes, begun = replace(Limits(), gather_seconds=0.0), [], threading.Event()
    release = threading.Event()

    def slow(questions):
        begun.set()
        release.wait(10)
        return questions

    async def ask():
        first = asyncio.ensure_future(batcher.ask(0))
        await asyncio.to_thread(begun.wait, 10)
        others = [asyncio.ensure_future(batcher.ask(n)) for n in (1, 2, 3)]
        while batcher.num_waiting < 3:
            await asyncio.sleep(0.001)
        release.set()
        return await asyncio.gather(first, *others)

    batcher = Batcher(slow, limits, sizes.append)
    assert asyncio.run(ask()) == [0, 1, 2, 3] and sizes == [1, 3]
    batcher.close()


def test_who_comes_when_too_many_wait_or_waits_too_long_is_told():
    release, begun = threading.Event(), threading.Event()

    def slow(questions):
        begun.set()
        release.wait(10)
        return questions

    async def ask():
        first = asyncio.ensure_future(batcher.ask(0))
        await asyncio.to_thread(begun.wait, 10)
        waits = asyncio.ensure_future(batcher.ask(1))
        await asyncio.sleep(0)
        with pytest.raises(Busy, match="1 questions are waiting already"):
            await batcher.ask(2)
        for task in (first, waits):
            with pytest.raises(TooSlow, match=r"no answer after 0\.2 seconds"):
                await task
        release.set()

    batcher = Batcher(slow, Limits(waiting=1, seconds=0.2, gather_seconds=0.0))
    asyncio.run(ask())
    batcher.close()


def test_large_questions_hold_up_no_small_one_and_what_is_late_is_not_begun():
    limits = Limits(seconds=0.5, batch_texts=256, batch_images=2, gather_seconds=0.05)
    begun = []

    def slow(questions):
        begun.append(questions)
        time.sleep(0.06 * sum(size.texts >= 512 for size in questions))
        return questions

    async def ask():
        large = [batcher.ask(Size(texts=512)) for _ in range(30)]
        images = [batcher.ask(Size(images=1)) for _ in range(3)]
        small = [batcher.ask(Size(texts=1)) for _ in range(3)]
        return await asyncio.gather(*large, *images, *small, return_exceptions=True)

    batcher = Batcher(slow, limits, size_of=lambda size: size)
    found = asyncio.run(ask())
    batcher.close()
    assert found[30:] == [Size(images=1)] * 3 + [Size(texts=1)] * 3
    late = [answer for answer in found[:30] if isinstance(answer, TooSlow)]
    assert late and begun[0] == [Size(texts=512), *[Size(texts=1)] * 3, *[Size(images=1)] * 2]
    assert begun[1] == [Size(texts=512), Size(images=1)]
    assert all(batch == [Size(texts=512)] for batch in begun[2:])
    assert len(begun) <= 9  # begun within half a second


def test_what_a_question_is_worth_is_what_the_model_encodes_for_it():
    parts = (Part("cat"), Part(b"", kind="image"), Part("dog", -1.0), Part(7, kind="row"))
    assert size_of(Search("images", parts, 1)) == Size(images=1, texts=2)
    assert size_of(Search("images", np.ones(3, np.float32), 1)) == Size()
    assert size_of(Embed(("a", "b"))) == Size(texts=2)


def test_who_has_gone_away_is_not_worked_for():
    release, begun, seen = threading.Event(), threading.Event(), []

    def slow(questions):
        begun.set()
        release.wait(10)
        seen.extend(questions)
        return questions

    async def ask():
        first = asyncio.ensure_future(batcher.ask(0))
        await asyncio.to_thread(begun.wait, 10)
        gone = asyncio.ensure_future(batcher.ask(1))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        release.set()
        assert [await first, await batcher.ask(2)] == [0, 2]

    batcher = Batcher(slow, Limits())
    asyncio.run(ask())
    batcher.close()
    assert seen == [0, 2]


def test_a_fault_is_told_to_all_and_the_thread_goes_on():
    def fail(questions):
        if "bad" in questions:
            raise RuntimeError("out of memory")
        return questions

    batcher = Batcher(fail, Limits(gather_seconds=0.0))
    with pytest.raises(RuntimeError, match="out of memory"):
        together(batcher.ask("bad"))
    assert together(batcher.ask("good")) == ["good"]
    batcher.close()
    with pytest.raises(Busy, match="about to stop"):
        together(batcher.ask("late"))


def test_closing_answers_what_waits():
    release = threading.Event()

    def slow(questions):
        release.wait(10)
        return questions

    async def ask():
        tasks = [asyncio.ensure_future(batcher.ask(n)) for n in range(5)]
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(asyncio.to_thread(batcher.close))
        release.set()
        assert await asyncio.gather(*tasks) == [0, 1, 2, 3, 4]
        await closing

    batcher = Batcher(slow, replace(Limits(), gather_seconds=0.0))
    asyncio.run(ask())


def test_one_pass_of_the_model_answers_all_and_a_fault_is_its_own(service, monkeypatch):
    calls = []

    def counted(ready, texts):
        calls.append(len(texts))
        return vectors_of_texts(ready, texts)

    monkeypatch.setattr(searcher, "vectors_of_texts", counted)
    questions = [Search("images", (Part(f"number {n}"),), 1 + n % 2) for n in range(6)]
    answers = answer_all(service.searchers, questions)
    assert [answer.results[0].id for answer in answers] == list(range(6))
    assert [len(answer.results) for answer in answers] == [1, 2] * 3 and calls == [6]
    bad = Search("images", (Part(b"no image", kind="image"),), 1)
    mixed = [questions[0], bad, Search("texts", (Part("number 4"),), 1), Embed(("number 1",))]
    answers = answer_all(service.searchers, mixed)
    assert answers[0].results[0].id == 0 and "cannot be searched for" in str(answers[1])
    assert answers[2].results[0].id == 3 and answers[3].vectors.argmax() == 1


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ((Part(1_000_000, kind="row"), Part("cat 1")), "rows are numbered from 0"),
        ((Part(b"no image", kind="image"),), "cannot be searched for"),
        ((Part("number 1"), Part("number 1", -1.0)), "cancel"),
        (np.ones(3, np.float32), "must have 128 entries"),
    ],
)
def test_a_bad_query_costs_others_no_pass_over_the_vectors(service, monkeypatch, bad, message):
    passes = []
    searched = searcher.search

    def counted(queries, *args):
        passes.append(len(queries))
        return searched(queries, *args)

    monkeypatch.setattr(searcher, "search", counted)
    good = [Search("images", (Part(f"number {n}"),), 1) for n in range(40)]
    answers = answer_all(service.searchers, [*good[:7], Search("images", bad, 1), *good[7:]])
    error = answers.pop(7)
    assert type(error) is QueryError and message in str(error)
    assert [answer.results[0].id for answer in answers] == list(range(40)) and passes == [40]


def test_metadata_that_cannot_be_read_is_the_error_of_those_who_found_it(service, monkeypatch):
    metadata = type(service.embeddings).metadata

    def damaged(self, numbers):
        if 5 in numbers:
            raise ValueError("line 6: not JSON")
        return metadata(self, numbers)

    monkeypatch.setattr(type(service.embeddings), "metadata", damaged)
    questions = [Search("images", (Part(f"number {n}"),), 1) for n in range(40)]
    answers = answer_all(service.searchers, questions)
    errors = [n for n, answer in enumerate(answers) if isinstance(answer, Exception)]
    assert errors == [5] and "line 6" in str(answers[5])
    assert type(answers[5]) is ValueError  # a fault of the server's, not of the question


def test_embeddings_that_were_replaced_are_told_at_once_and_in_the_log(tmp_path, caplog):
    (tmp_path / "photos").mkdir()
    for i in range(9):
        (tmp_path / "photos" / f"{i}.png").write_bytes(image_bytes(i))
        (tmp_path / "photos" / f"{i}.txt").write_text(f"number {i}")
    folder = tmp_path / "index"
    embed(numbered_model(), tmp_path / "photos", folder, metadata="jsonl")
    service = open_service(open_embeddings(folder), numbered_model())
    app = make_app(service)
    assert post(app, "/search", {"q": "number 3"}).status == 200
    shutil.rmtree(folder)
    asked = [("/search", {"q": "number 3"}), ("/metadata", {"ids": [1]})]
    gone = [post(app, *question) for question in asked]
    for i in range(9):
        (tmp_path / "photos" / f"{i}.txt").write_text(f"another number {i}")
    embed(numbered_model(), tmp_path / "photos", folder, metadata="jsonl")
    replaced = [post(app, *question) for question in asked]
    for answer in [*gone, *replaced, get(app, "/image/3")]:
        assert answer.status == 503 and "the embeddings were replaced" in answer.json["message"]
        assert str(tmp_path) not in answer.body.decode()
    assert "has changed since it was opened" in caplog.text and "was removed after" in caplog.text
    questions = [Search("images", (Part(f"number {n}"),), 1) for n in range(8)]
    assert [type(a) for a in answer_all(service.searchers, questions)] == [FileChanged] * 8
    service.close()


def test_a_least_z_that_cannot_be_applied_is_the_fault_of_who_gave_it(service):
    good = [Search("images", (Part(f"number {n}"),), 1, min_z=1.0) for n in range(8)]
    flat = Search("images", (Part("number 127"),), 1, min_z=1.0)
    *answers, error = answer_all(service.searchers, [*good, flat])
    assert [answer.results[0].id for answer in answers] == list(range(8))
    assert type(error) is QueryError and "a minimum z cannot be applied" in str(error)


def test_what_fails_for_all_is_not_tried_without_an_end():
    calls = []

    def broken(items):
        calls.append(len(items))
        raise OSError("the disk is gone")

    found = apart(broken, range(1024))
    assert len(found) == 1024 and all(isinstance(error, OSError) for error in found)
    assert len(calls) < 80 and apart(broken, []) == []


def test_a_text_that_the_tokenizer_refuses_is_the_fault_of_who_sent_it(service):
    def refusing(texts):
        if any("long" in text for text in texts):
            raise ValueError("a text has 78 tokens, and may have 77")
        return tokenizer(texts)

    one = service.searchers["images"]
    tokenizer = one.ready.tokenizer
    strict = {"images": replace(one, ready=replace(one.ready, tokenizer=refusing))}
    search = Search("images", (Part("number 3"),), 1)
    long = [Search("images", (Part("long 4"),), 1), Embed(("long 5",))]
    found = answer_all(strict, [search, *long])
    assert found[0].results[0].id == 3
    assert [type(error) for error in found[1:]] == [QueryError] * 2
    assert "may have 77" in str(found[1])


def test_a_fault_of_the_files_is_not_told_as_one_of_the_question(service, monkeypatch):
    def damaged(self, numbers):
        raise ValueError("/home/me/index/metadata_0.jsonl, line 3: not JSON")

    monkeypatch.setattr(type(service.embeddings), "metadata", damaged)
    app = make_app(service)
    for address, body in (("/search", {"q": "number 3"}), ("/metadata", {"ids": [1]})):
        answer = post(app, address, body)
        assert answer.status == 500 and b"/home" not in answer.body
    assert get(app, "/image/3").status == 500

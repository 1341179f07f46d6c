"""Search a folder of images by text, by image, and by "this minus that plus something else".

600 images of coloured shapes are written to a folder, embedded as `fastclip embed` does, indexed
as `fastclip index --captions` does, and searched as `fastclip search` does. The last query asks
for a colour that the folder does not have, and search says that nothing stands out from chance.

Captions of two other missing colours show which scores chance gives. The other criterion, the z of
a score, is not useful with this model: each of its few words fits many images, so the best match is
never far above the mean, whether it is right or not. Queries with images are judged by z, and none
of their results stands out, although they are right.

    python examples/search_shapes.py

It takes about ten seconds, and half a minute more the first time, when a small CLIP of shapes is
trained. The figure is examples-output/search_shapes.png.

The small model distinguishes eight colours, six forms and two sizes in images like these, and
nothing else. It knows 18 words, and ignores other words.
"""

import random
import shutil
from collections.abc import Sequence
from pathlib import Path

from fastclip.embeddings import embed, open_embeddings
from fastclip.models.inference import InferenceModel
from fastclip.search.prepare import prepare
from fastclip.search.query import IMAGE, Part
from fastclip.search.searcher import Searcher, open_searcher
from gallery import save_gallery
from shapes import EVERY_SHAPE, STEPS, WHERE, Shape, render, shapes_model
from small_clip import arguments

NUM = 600
IMAGES, VECTORS = "search_shapes-images", "search_shapes-embeddings"  # folders
# Colours that no shape in the folder has: one is searched for, the others show what chance gives.
ABSENT, OF_CHANCE = "cyan", ("white", "orange")


def write_folder(folder: Path) -> None:
    """Write images, each with its caption in a text file of the same name."""
    chance = random.Random(7)
    there = [shape for shape in EVERY_SHAPE if shape.colour not in (ABSENT, *OF_CHANCE)]
    folder.mkdir(parents=True)
    for number in range(NUM):
        shape = chance.choice(there)
        render(shape, chance).save(folder / f"{number:03}.png")
        (folder / f"{number:03}.txt").write_text(shape.captions[0])


def searchable(ready: InferenceModel, output: Path) -> Searcher:
    """Write the folder, embed it and open the embeddings, replacing an earlier run's files."""
    images, vectors = output / IMAGES, output / VECTORS
    for folder in (images, vectors):
        shutil.rmtree(folder, ignore_errors=True)
    write_folder(images)
    embed(ready, images, vectors, images=True, metadata="jsonl")
    embeddings = open_embeddings(vectors)
    others = {text for shape in EVERY_SHAPE if shape.colour in OF_CHANCE for text in shape.captions}
    prepare(embeddings, embeddings.images, ready, sorted(others))
    return open_searcher(embeddings, ready)


def main(argv: Sequence[str] | None = None) -> dict[str, tuple[int, str]]:
    args = arguments(__doc__, argv, steps=STEPS, checkpoint=WHERE)
    ready = shapes_model(args)
    searcher = searchable(ready, args.output)

    chance = random.Random(3)
    star = args.output / "a-red-star.png"  # not part of the folder
    render(Shape("red", "star", "large"), chance).save(star)
    like_it = Part(str(star), kind=IMAGE)
    queries = {
        "text: a yellow circle": ([Part("a yellow circle")], ["yellow", "circle"]),
        "image: a red star": ([like_it], ["red", "star"]),
        "that image - something red + something blue": (
            [like_it, Part("something red", -1.0), Part("something blue")], ["blue", "star"]),
        f"text: something {ABSENT}, which no image shows": (
            [Part(f"something {ABSENT}")], [ABSENT]),
    }  # fmt: skip
    rows, found = [], {}
    for title, (query, wanted) in queries.items():
        answer = searcher.answer(query, top=6)
        captions = [result.metadata["caption"] for result in answer.results]
        right = sum(all(word in caption.split() for word in wanted) for caption in captions)
        headline = f"{right} of 6 right; by {answer.judged_by}: {answer.headline}"
        found[title] = (right, answer.headline)
        print(
            f"{title}\n    {captions[0]}: cosine {answer.results[0].similarity:.2f}\n    {headline}"
        )
        paths = [args.output / IMAGES / r.metadata["image_path"] for r in answer.results]
        rows.append((f"{title}  ({headline})", list(zip(paths, captions, strict=True))))

    path = args.output / "search_shapes.png"
    save_gallery(path, "Search among 600 images of shapes", rows)
    print(f"wrote {path}")
    return found


if __name__ == "__main__":
    main()

import pytest
from PIL import Image

from fastclip.evaluate import zero_shot_task
from fastclip.evaluate.imagenet import IMAGENET_WNIDS, imagenet_classes
from fastclip.evaluate.zero_shot_task import open_imagenet, open_task


@pytest.fixture
def folder(tmp_path):
    for name in ("dog", "great_white_shark", "cat"):
        (tmp_path / "images" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "images" / name / "1.png")
    return tmp_path / "images"


def test_classes_are_the_folders_names_unless_a_file_says_others(folder, tmp_path):
    task = open_task(folder)
    assert list(task.class_names) == ["cat", "dog", "great white shark"]
    assert list(task.templates) == ["a photo of a {}."]
    assert task.labels(["dog", "cat"]).tolist() == [[1], [0]]
    (tmp_path / "names.txt").write_text("tom cat\nhound\n\nshark\n")
    (tmp_path / "prompts.txt").write_text("a {}\none {}\n")
    task = open_task(folder, tmp_path / "names.txt", tmp_path / "prompts.txt")
    assert list(task.class_names) == ["tom cat", "hound", "shark"]
    assert list(task.templates) == ["a {}", "one {}"]


def test_names_of_the_folders_are_theirs_in_whatever_order(folder, tmp_path):
    (tmp_path / "names.txt").write_text("great white shark\nCat\ndog\n")
    task = open_task(folder, tmp_path / "names.txt")
    assert list(task.class_names) == ["Cat", "dog", "great white shark"]
    (tmp_path / "names.txt").write_text("dog\nkitten\nshark\n")
    with pytest.raises(ValueError, match="'dog' would then name the class 'cat'"):
        open_task(folder, tmp_path / "names.txt")


def test_names_must_be_as_many_as_folders(folder, tmp_path):
    (tmp_path / "names.txt").write_text("one\ntwo\n")
    with pytest.raises(ValueError, match="got 2 names for 3 folders"):
        open_task(folder, tmp_path / "names.txt")
    with pytest.raises(FileNotFoundError):
        open_task(folder, tmp_path / "none.txt")


@pytest.mark.parametrize("names", [None, "shark\nshark\nshark\n"])
def test_one_class_alone_of_which_every_image_is_right_is_refused(folder, tmp_path, names):
    root, file = folder.parent, None  # its one folder is the folder of the classes
    if names is not None:
        root, file = folder, tmp_path / "names.txt"
        file.write_text(names)
    with pytest.raises(ValueError, match=r"zeroshot-val: .*two different class names.*got only"):
        open_task(root, file)


def test_digits_are_built_in():
    task = open_task("digits")
    assert task.class_names[3] == "three" and "top left {}" in task.templates
    assert task.source.load(0).caption in task.class_names


def test_imagenet_has_open_clips_names_and_prompts(folder):
    from tests.support.peers import open_clip

    metadata = open_clip.zero_shot_metadata
    names, templates = imagenet_classes()
    assert names == list(metadata.IMAGENET_CLASSNAMES) and len(names) == 1000
    texts = [template("tench") for template in metadata.OPENAI_IMAGENET_TEMPLATES]
    assert [template.format("tench") for template in templates] == texts
    with pytest.raises(ValueError, match="got 1000 names for 3 folders"):
        open_imagenet(folder)


def test_imagenets_folders_are_in_the_order_of_its_names():
    from tests.support.peers import timm

    info = timm.data.ImageNetInfo()
    assert list(IMAGENET_WNIDS) == info.label_names() == sorted(IMAGENET_WNIDS)
    names, _ = imagenet_classes()
    lemmas = [info.index_to_description(i, detailed=False) for i in range(1000)]
    assert sum(name in lemma for name, lemma in zip(names, lemmas, strict=True)) > 600


def test_imagenet_needs_no_open_clip(fresh_process):
    code = (
        "import sys; sys.modules['open_clip'] = None; "
        "from fastclip.evaluate.imagenet import imagenet_classes; "
        "print(*map(len, imagenet_classes()))"
    )
    done = fresh_process.run(code)
    assert done.stdout == "1000 80\n", done.stderr


def test_a_thousand_folders_of_something_else_are_no_imagenet(tmp_path):
    for name in [*IMAGENET_WNIDS[:-1], "n99999999"]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jpg").touch()
    with pytest.raises(ValueError, match="has the folders n99999999, which are not classes"):
        open_imagenet(tmp_path)
    (tmp_path / "n99999999").rename(tmp_path / IMAGENET_WNIDS[-1])
    task = open_imagenet(tmp_path)
    assert task.source.classes == list(IMAGENET_WNIDS) and task.class_names[0] == "tench"


def test_imagenet_v2_may_be_in_a_folder_of_its_own_name(tmp_path, monkeypatch):
    names = [f"class {i}" for i in range(12)]
    monkeypatch.setattr(zero_shot_task, "imagenet_classes", lambda: (names, ["a {}"]))
    for i in range(12):
        (tmp_path / "imagenetv2-matched-frequency" / str(i)).mkdir(parents=True)
        (tmp_path / "imagenetv2-matched-frequency" / str(i) / "a.jpg").touch()
    task = open_imagenet(tmp_path, "imagenetv2-zeroshot-val")
    pairs = dict(zip(task.source.classes, task.class_names, strict=True))
    assert pairs == {str(i): f"class {i}" for i in range(12)}

"""cifar-exp data: what it says about a user's own images, good and bad, and about the cache."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import program
import pytest
from PIL import Image

import cifar_exp
from cifar_exp import cli, exits
from cifar_exp.data import cache, datasets

ROOT = Path(cifar_exp.__file__).parent.parent
Answer = Callable[..., tuple[int, str, str]]


def environment(**variables: str) -> dict[str, str]:
    """That of this process, with the cache of the test."""
    return os.environ | {"PYTHONPATH": str(ROOT)} | variables


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CIFAR_EXP_CACHE", str(tmp_path / "cache"))
    yield
    datasets.forget()


@pytest.fixture
def answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Answer:
    """answer("data", ...) -> exit code, stdout and stderr of cifar-exp in the folder of the test."""
    monkeypatch.setattr(exits, "take_signals", lambda: None)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        datasets.forget()
        monkeypatch.setattr(sys, "argv", ["cifar-exp", *arguments])
        code = cli.main()
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twenty images of each of two classes."""
    folder = tmp_path / "photos"
    generator = np.random.default_rng(0)
    for number in range(40):
        path = folder / ("cat", "dog")[number % 2] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (4, 4, 3), np.uint8)
        Image.fromarray(pixels).resize((16, 12), Image.Resampling.BICUBIC).save(path)
    return folder


FOLDER = ("data", "data=folder", "data.dir=photos")


def test_numbers_page_and_json_agree(answer: Answer, photos: Path) -> None:
    code, out, err = answer(*FOLDER, "-o", "zoo.html", "data.test_share=0.25")
    assert (code, err) == (0, "")
    assert "folder: 40 images of 12 x 16 x 3 in 2 classes" in out
    assert re.search(r"^all +27 +3 +10$", out, re.M)
    assert re.search(r"^formats +PNG \(40\)$", out, re.M)
    assert re.search(r"^unreadable +none$", out, re.M)
    assert "refused" not in out
    html = Path("zoo.html").read_text()
    assert "40 images of 12 x 16 x 3 in 2 classes" in html and html.count("<img") == 20
    code, out, err = answer(*FOLDER, "data.test_share=0.25", "--json")
    found = json.loads(out)
    assert found["counts"]["test"] == [5, 5]
    assert [sum(counts) for counts in zip(*found["counts"].values(), strict=True)] == [20, 20]
    assert found["files"]["sizes"] == [[16, 12, 40]] and found["refusals"] == []


def test_bad_images_are_shown_and_no_error(answer: Answer, photos: Path) -> None:
    for number in range(0, 24, 2):
        (photos / "cat" / f"{number:02}.png").write_text("no image")
    (photos / "dog" / "01.png").write_bytes(b"")
    (photos / "dog" / "empty folder").mkdir()
    (photos / "dog" / "03.png").unlink()
    (photos / "dog" / "03.png").symlink_to("03.png")
    code, out, err = answer(*FOLDER, "-o", "zoo.html")
    assert (code, err) == (0, "")
    (line,) = (line for line in out.splitlines() if line.startswith("Images that cannot be read"))
    assert "leaves out: 14: cat/00.png (not an image in PNG" in line and line.endswith("and 4 more")
    html = Path("zoo.html").read_text()
    assert "dog/01.png" in html and "empty file" in html and "dog/03.png" in html


def test_a_set_that_cannot_be_split_is_shown_all_the_same(answer: Answer, photos: Path) -> None:
    for number in range(1, 39, 2):
        (photos / "dog" / f"{number:02}.png").write_text("no image")
    code, out, _ = answer(*FOLDER, "-o", "zoo.html")
    assert code == 0
    assert re.search(r"^all +21$", out, re.M) and "unassigned" in out
    assert "A run would be refused: data.test_share=0.2 of 21 images" in out
    assert Path("zoo.html").exists()


def test_images_of_several_sizes_need_no_size_to_be_shown(answer: Answer, photos: Path) -> None:
    Image.new("RGB", (3000, 20)).save(photos / "cat" / "wide.png")
    code, out, _ = answer(*FOLDER)
    assert code == 0
    assert "41 images of 64 x 64 x 3" in out
    assert "A run would be refused: the images have several sizes" in out
    code, out, _ = answer(*FOLDER, "data.size=[8,8]")
    assert "41 images of 8 x 8 x 3" in out and "refused" not in out


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("data.exclude=none.csv", "data.exclude=none.csv: No such file"),
        ("data.train_images=1000", "data.train_images=1000: a class has only"),
        ("data.class_weights={lynx: 2}", "data.class_weights: no class 'lynx'"),
        ("data.folds=50", "data.folds=50: 50 parts of 20 images"),
    ],
)
def test_settings_that_a_run_refuses_are_named(answer: Answer, photos: Path, override: str, says: str) -> None:
    code, out, err = answer(*FOLDER, override)
    assert (code, err) == (0, "")
    assert f"A run would be refused: {says}" in out


def test_a_remark_is_printed_once(answer: Answer, photos: Path) -> None:
    for number in range(1, 39, 2):
        (photos / "dog" / f"{number:02}.png").unlink()
    assert answer(*FOLDER)[1].count("one image only of class dog: it cannot") == 1
    (photos / "cat" / "00.png").write_text("no image")
    assert answer(*FOLDER)[1].count("one image only of class dog: it cannot") == 1


def test_formats_are_those_of_the_files_now(answer: Answer, photos: Path) -> None:
    assert re.search(r"^formats +PNG \(40\)$", answer(*FOLDER)[1], re.M)
    for path in photos.rglob("*.png"):
        Image.open(path).save(path, "BMP")
    assert re.search(r"^formats +BMP \(40\)$", answer(*FOLDER)[1], re.M)


def test_a_choice_in_a_folder_of_the_user_is_found(answer: Answer, photos: Path) -> None:
    choice = photos.parent / "my_conf" / "data" / "my_set.yaml"
    choice.parent.mkdir(parents=True)
    choice.write_text("defaults: [folder]\ndir: photos\n")
    code, out, err = answer("data", "--config-dir", "my_conf", "data=my_set")
    assert (code, err) == (0, "") and "40 images" in out


def test_copies_are_named(answer: Answer, photos: Path) -> None:
    for split, names in (("train", ("00", "02")), ("test", ("04",))):
        for name in ("cat", "dog"):
            (photos.parent / "given" / split / name).mkdir(parents=True)
            for one in names:
                number = int(one) + (name == "dog")
                source = photos / name / f"{number:02}.png"
                (photos.parent / "given" / split / name / source.name).write_bytes(source.read_bytes())
    given = photos.parent / "given"
    (given / "test" / "cat" / "copy.png").write_bytes((given / "train" / "cat" / "00.png").read_bytes())
    darker = Image.open(given / "train" / "dog" / "01.png").point(lambda value: value * 0.8)
    darker.save(given / "test" / "dog" / "darker.png")
    code, out, err = answer("data", "data=folder", "data.dir=given", "data.validation=test")
    assert (code, err) == (0, "")
    assert "1 image in several splits: train/cat/00.png (training) = test/cat/copy.png (test)" in out
    assert "Images with the same pixels as training images: 1 test: test/cat/copy.png (test) ~ train/cat/00.png" in out
    assert "Images that look the same as training images: 1 test: test/dog/darker.png (test) ~ train/dog/01.png" in out


def test_what_there_is_not_is_refused_in_one_line(answer: Answer, photos: Path) -> None:
    for arguments, message in (
        (("data", "data=folder", "data.dir=nowhere"), "nowhere: No such file or directory"),
        (("data", "data=foldr"), "did you mean 'folder'?"),
        (("data", "--clear", "all"), "add --cache"),
        (("data", "--cache", "data=digits"), "leave OVERRIDE and --output out"),
        (("data", "--cache", "--clear", "abc"), "no such entry"),
    ):
        code, out, err = answer(*arguments)
        assert (code, out) == (2, "") and message in err and err.count("\n") == 1, arguments


def test_the_cache_is_listed_and_cleared(answer: Answer, photos: Path) -> None:
    _, out, _ = answer("data", "--cache")
    assert "0 entries" in out
    for size in ("[4,4]", "[8,8]"):
        assert answer(*FOLDER, f"data.size={size}")[0] == 0
    code, out, _ = answer("data", "--cache")
    assert code == 0 and "2 entries" in out
    assert len(re.findall(rf"^\w{{32}} +40 .* {re.escape(str(photos))}$", out, re.M)) == 2
    listed = json.loads(answer("data", "--cache", "--json")[1])["entries"]
    assert [entry["bytes"] for entry in listed] == [40 * 4 * 4 * 3, 40 * 8 * 8 * 3]
    _, out, _ = answer("data", "--cache", "--clear", listed[0]["key"])
    assert "removed 1 of 2 entries" in out
    assert [entry.key for entry in cache.entries()] == [listed[1]["key"]]
    with cache.locked(listed[1]["key"]):
        _, out, _ = answer("data", "--cache", "--clear", "all")
        assert "removed 0 of 1 entries" in out and "is being filled by another process" in out
    _, out, _ = answer("data", "--cache", "--clear", "all")
    assert "removed 1 of 1 entries" in out and cache.entries() == []


def test_tensorflow_is_not_imported(tmp_path: Path) -> None:
    program = (
        "import sys; from cifar_exp import cli; sys.argv[1:] = ['data', 'data=digits', '-o', 'digits.html']; "
        "code = cli.main(); large = {'tensorflow', 'keras', 'mlflow', 'torch', 'matplotlib'} & set(sys.modules); "
        "sys.exit(code or (str(large) if large else 0))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "digits.html").exists()


def test_json_is_json_while_images_are_decoded(photos: Path) -> None:
    cache = {"CIFAR_EXP_CACHE": os.environ["CIFAR_EXP_CACHE"]}
    done = program.execute([*program.COMMAND, *FOLDER, "--json"], photos.parent, cache)
    assert json.loads(done.stdout)["images"] == 40
    assert "decoding 40 images" in done.stderr


AS_NOBODY = """
import os, sys
from contextlib import redirect_stdout
from cifar_exp import cli
cache = os.environ["CIFAR_EXP_CACHE"]
os.environ["CIFAR_EXP_CACHE"] = cache + "-of-root"
with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
    assert cli.main() == 0  # imports what the other user may not read
os.environ["CIFAR_EXP_CACHE"] = cache
os.setgid(65534)
os.setuid(65534)
sys.exit(cli.main())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become a user without permission")
def test_a_file_without_permission_is_listed_as_bad(photos: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:  # that of the test is closed to other users
        place = Path(folder)
        place.chmod(0o777)
        shutil.copytree(photos, place / "photos")
        for path in ("cat/02.png", "dog/03.png"):
            (place / "photos" / path).chmod(0)
        (place / "photos" / "dog" / "closed").mkdir(mode=0)
        command = [sys.executable, "-c", AS_NOBODY, *FOLDER]
        variables = environment(CIFAR_EXP_CACHE=str(place / "cache"), HOME=folder)
        as_nobody = partial(subprocess.run, cwd=place, env=variables, capture_output=True, text=True)
        closed = as_nobody(command)
        assert closed.returncode == 2
        assert closed.stderr == "cifar_exp: data.dir: photos/dog/closed: Permission denied\n"
        (place / "photos" / "dog" / "closed").rmdir()
        shown = as_nobody(command)
        assert (shown.returncode, shown.stderr) == (0, "")
        lines = [line for line in shown.stdout.splitlines() if "Permission denied" in line]
        assert lines == [
            "Images that cannot be read, which data.bad_images=skip leaves out: 2: "
            "cat/02.png (Permission denied), dog/03.png (Permission denied)"
        ]

"""Tests of listing the images of folders and tables; only names are read, so the files hold nothing."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from cifar_exp.data import csv_table, parquet_table
from cifar_exp.data.listing import Listing, list_folder
from cifar_exp.data.tables import Columns
from cifar_exp.errors import UserError


def make(root: Path, *paths: str) -> Path:
    """A folder that holds these files."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def refusal(listing: object, *arguments: object) -> str:
    assert callable(listing)
    with pytest.raises(UserError) as refused:
        listing(*arguments)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_folder_for_each_class_is_listed_in_the_order_of_the_file_names(tmp_path: Path) -> None:
    root = make(tmp_path, "dog/1.png", "dog/3.JPG", "cat/2.webp", "cat/more/0.gif", "cat/4.tiff")
    listing = list_folder(root)
    assert listing.paths == ("dog/1.png", "cat/2.webp", "dog/3.JPG", "cat/4.tiff", "cat/more/0.gif")
    assert listing.labels == ("dog", "cat", "dog", "cat", "cat")
    assert (listing.splits, listing.remarks, len(listing)) == ((), (), 5)
    assert listing.take([2, 0]) == Listing(root, ("dog/3.JPG", "dog/1.png"), ("dog", "dog"))


def test_folders_of_splits_are_taken_by_their_names(tmp_path: Path) -> None:
    files = [f"{split}/{name}/{i}.png" for split in ("Train", "val", "test") for name in "ab" for i in range(2)]
    listing = list_folder(make(tmp_path, *files))
    assert listing.splits == ("training",) * 4 + ("validation",) * 4 + ("test",) * 4
    assert listing.paths[:4] == ("Train/a/0.png", "Train/b/0.png", "Train/a/1.png", "Train/b/1.png")
    assert listing.labels == ("a", "b") * 6
    assert listing.remarks == ()


def test_names_that_are_not_utf8_are_refused_and_named(tmp_path: Path) -> None:
    root = make(tmp_path, "a/0.png", "b/0.png", "b/1.png")
    (root / "b" / "1.png").rename(os.fsdecode(os.fsencode(root) + b"/b/caf\xe9.png"))  # Latin-1
    assert refusal(list_folder, root).startswith(f"{root}/b: names that are not UTF-8: caf\\xe9.png; rename them")
    (root / "b").rename(os.fsdecode(os.fsencode(root) + b"/\xe9"))
    assert "names that are not UTF-8: \\xe9; rename them" in refusal(list_folder, root)


def test_files_of_operating_systems_are_no_images_and_others_are_named(tmp_path: Path) -> None:
    root = make(tmp_path, *(f"{name}/{i}.png" for name in "ab" for i in range(2)))
    make(root, "a/.DS_Store", "b/Thumbs.db", "b/.hidden.png", ".git/x.png", "a/.thumbnails/0.png", "top.png")
    assert list_folder(root).remarks == ()
    make(root, "a/notes.txt")
    listing = list_folder(root)
    assert len(listing) == 4
    assert listing.remarks == ("files without the extension of an image, left out: a/notes.txt",)


def test_a_class_that_cannot_be_learned_or_tested_is_named(tmp_path: Path) -> None:
    root = make(tmp_path, "train/a/1.png", "train/a/2.png", "train/b/1.png", "test/c/1.png", "test/c/2.png")
    remarks = "; ".join(list_folder(root).remarks)
    assert "one image only of class b" in remarks
    assert "no training image of class c, which is in the test images" in remarks
    assert "no test image of class a, b" in remarks


def test_an_empty_class_is_refused_by_its_name(tmp_path: Path) -> None:
    root = make(tmp_path, "a/1.png", "b/1.png")
    (root / "lynx").mkdir()
    assert "no image of class lynx; add images or remove the class" in refusal(list_folder, root)


def test_folders_that_hold_no_classes_are_refused(tmp_path: Path) -> None:
    assert "holds no folder" in refusal(list_folder, make(tmp_path / "flat", "1.png"))
    assert "only the folder a" in refusal(list_folder, make(tmp_path / "one", "a/1.png"))
    assert "No such file" in refusal(list_folder, tmp_path / "missing")
    mixed = make(tmp_path / "mixed", "train/a/1.png", "train/b/1.png", "cat/1.png")
    assert "cat beside train" in refusal(list_folder, mixed)
    twice = make(tmp_path / "twice", "train/a/1.png", "training/b/1.png")
    assert "expected one for each split" in refusal(list_folder, twice)


def test_a_class_may_have_the_name_of_a_split(tmp_path: Path) -> None:
    listing = list_folder(make(tmp_path, *(f"{name}/{i}.png" for name in ("bus", "plane", "train") for i in range(2))))
    assert listing.labels == ("bus", "plane", "train") * 2 and listing.splits == ()
    for name, others in (("flat", ()), ("more", ("unlabeled/1.png",))):
        assert "holds no folder" in refusal(list_folder, make(tmp_path / name, "train/1.png", "test/1.png", *others))


def test_a_link_to_a_parent_folder_is_not_followed_and_a_link_to_a_class_is(tmp_path: Path) -> None:
    root = make(tmp_path / "photos", "a/1.png", "a/2.png")
    (root / "a" / "up").symlink_to(root)
    (root / "b").symlink_to(make(tmp_path / "elsewhere", "3.png", "4.png"))
    assert list_folder(root).paths == ("a/1.png", "a/2.png", "b/3.png", "b/4.png")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return make(tmp_path / "images", "1.png", "2.png", "3.jpg", "sub/4.png", ".DS_Store")


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_csv_names_files_with_and_without_extension(images: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "labels.csv", "id,label\n3,cat\n1.png,dog\n./2,dog\nsub/4,cat\n")
    listing = csv_table.list_images(file, images, Columns())
    assert listing.paths == ("3.jpg", "1.png", "2.png", "sub/4.png")
    assert listing.labels == ("cat", "dog", "dog", "cat")
    assert listing.remarks == ()
    assert csv_table.classes(file, Columns()) == ("cat", "dog")


def test_columns_can_be_named_and_give_splits_and_groups(images: Path, tmp_path: Path) -> None:
    text = "who,picture,kind,part\np1,1,10,train\np1,2,9,train\np2,3,10,val\np3,sub/4,9,test\n"
    file = write(tmp_path / "labels.csv", text)
    columns = Columns("picture", "kind", "part", "who")
    listing = csv_table.list_images(file, images, columns)
    assert listing.groups == ("p1", "p1", "p2", "p3")
    assert listing.splits == ("training", "training", "validation", "test")
    assert csv_table.classes(file, columns) == ("9", "10")  # by value
    wrong = Columns("pict", "kind")
    assert "no column 'pict'; did you mean 'picture'?" in refusal(csv_table.list_images, file, images, wrong)
    assert "set data.image_column (its columns: who, picture" in refusal(csv_table.list_images, file, images, Columns())
    assert "got 'p1', 'p2', 'p3'" in refusal(csv_table.list_images, file, images, Columns("picture", "kind", "who"))


def test_labels_without_a_file_are_refused_by_name_or_left_out(images: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "labels.csv", "id,label\n1,a\n2,a\n3,b\nsub/4,b\n99,a\n")
    message = refusal(csv_table.list_images, file, images, Columns())
    assert "1 label without a file" in message and "99; data.bad_images=skip" in message
    listing = csv_table.list_images(file, images, Columns(), skip_missing=True)
    assert len(listing) == 4
    assert "1 label without a file" in listing.remarks[0]


def test_files_without_a_label_are_left_out_with_a_remark(images: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "labels.csv", "id,label\n1,a\n2,a\n3,b\n")
    remarks = csv_table.list_images(file, images, Columns()).remarks
    assert remarks == ("1 file without a label, left out: sub/4.png", "one image only of class b: it cannot both "
                       "train and be tested")  # fmt: skip


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("id,label\n../../etc/passwd,a\n1,b\n", "line 2: got the image '../../etc/passwd'"),
        ("id,label\n/etc/passwd,a\n1,b\n", "expected a file below data.dir"),
        ("id,label\n,a\n1,b\n", "line 2: got the image ''"),
        ("id,label\n1,\n2,b\n", "1 image without a label: 1"),
        ("id,label\n1,a\n1.png,b\n2,a\n", "several rows of 1 image: 1.png"),
        ("id,label\n1,a\n2,a\n", "fewer than two classes"),
        ("", "set data.image_column"),
        ("id,label\n" + "x" * 5000 + ",a\n", "field larger than field limit"),
        ("id,label\n\ud800,a\n", "expected a CSV file"),
    ],
)
def test_a_wrong_csv_is_refused_in_one_line(images: Path, tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "labels.csv"
    file.write_bytes(text.encode(errors="surrogatepass"))
    assert says in refusal(csv_table.list_images, file, images, Columns())


def test_a_stem_with_two_files_is_refused(images: Path, tmp_path: Path) -> None:
    make(images, "1.jpg")
    file = write(tmp_path / "labels.csv", "id,label\n1,a\n2,b\n")
    assert "1.jpg, 1.png; write it with its extension" in refusal(csv_table.list_images, file, images, Columns())


@pytest.mark.parametrize("between", [";", "\t", ", "])
def test_a_table_may_have_other_signs_between_its_fields(images: Path, tmp_path: Path, between: str) -> None:
    rows = [("id", "label"), ("1.png", "cat"), ("./2", "dog, small" if between != ", " else "dog")]
    file = write(tmp_path / "labels.csv", "".join(f"{between.join(row)}\n" for row in rows))
    assert csv_table.list_images(file, images, Columns()).labels == ("cat", rows[2][1])


def test_a_table_in_another_encoding_is_refused(images: Path, tmp_path: Path) -> None:
    for encoding, at in (("latin-1", 15), ("utf-16", 1)):
        (tmp_path / "labels.csv").write_bytes("id,label\n1,caf\u00e9\n2,b\n".encode(encoding))
        said = refusal(csv_table.list_images, tmp_path / "labels.csv", images, Columns())
        assert said.endswith(f"it is not UTF-8 (byte {at}), expected a CSV file in UTF-8")


def test_a_missing_csv_or_folder_is_refused(images: Path, tmp_path: Path) -> None:
    assert "No such file" in refusal(csv_table.list_images, tmp_path / "none.csv", images, Columns())
    file = write(tmp_path / "labels.csv", "id,label\n1,a\n2,b\n")
    assert "no such folder" in refusal(csv_table.list_images, file, tmp_path / "none", Columns())


STRUCT = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])


def test_parquet_is_read_by_row_groups_in_each_form(tmp_path: Path) -> None:
    file = tmp_path / "train.parquet"
    pixels = np.arange(5 * 2 * 3, dtype=np.uint8).reshape(5, 2, 3)
    forms = {
        "bytes": pyarrow.array([bytes([i]) for i in range(5)]),
        "struct": pyarrow.array([{"bytes": bytes([i]), "path": f"{i}.png"} for i in range(4)] + [None], STRUCT),
        "array": pyarrow.array(pixels.tolist()),
    }
    table = pyarrow.table({**forms, "label": [1, 0, 1, 0, 1]})
    pyarrow.parquet.write_table(table, file, row_group_size=2)
    assert list(parquet_table.read(file, "bytes")) == [bytes([i]) for i in range(5)]
    assert list(parquet_table.read(file, "struct")) == [b"\0", b"\1", b"\2", b"\3", b""]
    assert np.array_equal(np.stack([np.asarray(image) for image in parquet_table.read(file, "array")]), pixels)
    listing = parquet_table.list_images(file, Columns(image="bytes"))
    assert (listing.paths, listing.labels) == (("0", "1", "2", "3", "4"), ("1", "0", "1", "0", "1"))
    assert "set data.image_column" in refusal(parquet_table.list_images, file, Columns())


HUB = '{"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}'


def hub(file: Path, labels: list[int | None]) -> Path:
    """A Parquet file whose labels have names, as the hub writes it."""
    table = pyarrow.table({"image": [b"0"] * len(labels), "label": labels})
    pyarrow.parquet.write_table(table.replace_schema_metadata({"huggingface": HUB}), file)
    return file


def test_names_that_the_hub_keeps_of_its_labels_are_used(tmp_path: Path) -> None:
    assert parquet_table.list_images(hub(tmp_path / "hub.parquet", [1, 0]), Columns()).labels == ("dog", "cat")


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([1, 0, -1, None, 1, -1], "3 images without a label: row 2, row 3, row 5"),
        ([1, 0, 2], "row 2: label 2, expected 0 to 1, which the file has names for"),
    ],
)
def test_a_number_without_a_name_is_no_label(tmp_path: Path, labels: list[int | None], says: str) -> None:
    assert says in refusal(parquet_table.list_images, hub(tmp_path / "hub.parquet", labels), Columns())


@pytest.mark.parametrize("kind", [pyarrow.binary(), pyarrow.large_binary()])
def test_labels_that_are_bytes_are_text(tmp_path: Path, kind: pyarrow.DataType) -> None:
    file = tmp_path / "train.parquet"
    labels = pyarrow.array([b"cat", b"dog"], kind)
    pyarrow.parquet.write_table(pyarrow.table({"image": [b""] * 2, "label": labels}), file)
    assert parquet_table.classes(file, Columns()) == ("cat", "dog")


def test_an_image_whose_label_is_nan_is_without_a_label(tmp_path: Path) -> None:
    file = tmp_path / "train.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"image": [b""] * 3, "label": [0.0, float("nan"), 1.0]}), file)
    assert "1 image without a label: row 1" in refusal(parquet_table.list_images, file, Columns())


@pytest.mark.parametrize("column", ["image", "label"])
def test_a_damaged_page_is_refused_by_the_name_of_the_file(tmp_path: Path, column: str) -> None:
    file = tmp_path / "train.parquet"
    table = pyarrow.table({"image": [bytes([i]) * 50 for i in range(20)], "label": list("ab") * 10})
    pyarrow.parquet.write_table(table, file, use_dictionary=False)
    names = table.column_names
    start = pyarrow.parquet.ParquetFile(file).metadata.row_group(0).column(names.index(column)).data_page_offset
    content = bytearray(file.read_bytes())
    content[start : start + 20] = b"\xa5" * 20
    file.write_bytes(content)

    def everything() -> None:
        parquet_table.list_images(file, Columns())
        list(parquet_table.read(file, "image"))

    assert refusal(everything).startswith(f"data.file={file}: ")


def test_a_file_that_is_not_parquet_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "train.parquet", "id,label\n")
    assert str(file) in refusal(parquet_table.list_images, file, Columns())
    assert "none.parquet" in refusal(parquet_table.list_images, tmp_path / "none.parquet", Columns())

"""The official CIFAR-100 binary files: images of 100 classes, which make up 20 coarse classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from cifar_exp.data import cifar10
from cifar_exp.data.archive import Archive

IMAGE_SHAPE = cifar10.IMAGE_SHAPE
TRAINING_IMAGES = 50_000
TRAINING_FILE, TEST_FILE = "train.bin", "test.bin"

# https://www.cs.toronto.edu/~kriz/cifar.html: records of the coarse label, the fine label and 3,072 pixel bytes as in
# CIFAR-10. The names are those of fine_label_names.txt and coarse_label_names.txt in the archive.
ARCHIVE = "cifar-100-binary.tar.gz"
ARCHIVE_URL = f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}"
ARCHIVE_MD5 = "03b5dce01913d631647c71ecec9e9cb8"
FOLDER = "cifar-100-binary"
RECORD_BYTES = 2 + cifar10.PIXEL_BYTES
TRAINING_BYTES, TEST_BYTES = 50_000 * RECORD_BYTES, 10_000 * RECORD_BYTES

FINE = (
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle", "bowl", "boy",
    "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle", "chair", "chimpanzee", "clock",
    "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur", "dolphin", "elephant", "flatfish",
    "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard", "lamp", "lawn_mower", "leopard", "lion",
    "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain", "mouse", "mushroom", "oak_tree", "orange",
    "orchid", "otter", "palm_tree", "pear", "pickup_truck", "pine_tree", "plain", "plate", "poppy", "porcupine",
    "possum", "rabbit", "raccoon", "ray", "road", "rocket", "rose", "sea", "seal", "shark", "shrew", "skunk",
    "skyscraper", "snail", "snake", "spider", "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank",
    "telephone", "television", "tiger", "tractor", "train", "trout", "tulip", "turtle", "wardrobe", "whale",
    "willow_tree", "wolf", "woman", "worm",
)  # fmt: skip
COARSE = (
    "aquatic_mammals", "fish", "flowers", "food_containers", "fruit_and_vegetables", "household_electrical_devices",
    "household_furniture", "insects", "large_carnivores", "large_man-made_outdoor_things",
    "large_natural_outdoor_scenes", "large_omnivores_and_herbivores", "medium_mammals", "non-insect_invertebrates",
    "people", "reptiles", "small_mammals", "trees", "vehicles_1", "vehicles_2",
)  # fmt: skip
CLASS_NAMES = {"coarse": COARSE, "fine": FINE}  # in the order of the label bytes


def release() -> Archive:
    """The official release."""
    files = {TRAINING_FILE: TRAINING_BYTES, TEST_FILE: TEST_BYTES}
    return Archive("CIFAR-100", ARCHIVE_URL, ARCHIVE_MD5, FOLDER, files, "161 MB")


def read(folder: Path, name: str, labels: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Read images and labels from a CIFAR-100 binary file.

    Args:
        folder: contains the file.
        name: of the file.
        labels: `"fine"` or `"coarse"`.

    Returns:
        Images (N, 32, 32, 3) uint8 in 0..255 and labels (N,) uint8 in 0..99, or in 0..19 if they are coarse.

    Raises:
        UserError: if a label is out of range.
    """
    return cifar10.read_records([folder / name], 2, list(CLASS_NAMES).index(labels), len(CLASS_NAMES[labels]))

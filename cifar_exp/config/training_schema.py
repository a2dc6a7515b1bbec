"""Schema of the training and of the augmentation."""

from __future__ import annotations

from dataclasses import dataclass, field

from cifar_exp.setting import MISSING, setting


@dataclass(frozen=True)
class AugmentationConfig:
    """Random changes to each training image, drawn anew in every epoch."""

    name: str = setting(MISSING, "Name of the augmentation. Choose it with `augmentation=`.")
    horizontal_flip: bool = setting(False, "Mirror half of the images.")
    zoom: float = setting(0.0, "Scale each axis by a factor in [1 - zoom, 1 + zoom].", at_least=0, below=1)
    shift: float = setting(0.0, "Shift along each axis by up to this share of the image.", at_least=0, below=1)
    crop: int = setting(
        0, "Shift along each axis by up to this many whole pixels, at most half of the shorter side.", at_least=0
    )
    rotation: float = setting(
        0.0, "Rotate around the centre by an angle in [-rotation, rotation], in degrees.", at_least=0, at_most=180
    )
    rand_augment: int = setting(
        0, "Apply this many random operations to each image (RandAugment). `0`: off.", at_least=0, at_most=16
    )
    aug_mix: int = setting(
        0,
        "Mix each image with this many chains of one to three random operations (AugMix). `0`: off.",
        at_least=0,
        at_most=16,
    )
    magnitude: float = setting(
        9.0, "Strength of the operations of `rand_augment`; the largest of `aug_mix`.", at_least=0, at_most=30
    )
    brightness: float = setting(
        0.0, "Multiply the pixels by a factor in [1 - brightness, 1 + brightness].", at_least=0, at_most=1
    )
    contrast: float = setting(
        0.0,
        "Multiply the distances from the mean of the image by a factor in [1 - contrast, 1 + contrast].",
        at_least=0,
        at_most=1,
    )
    erase: int = setting(0, "Cover a square of this width in pixels with the mean colour of the image.", at_least=0)
    mixup: float = setting(
        0.0, "Mix each image with another; its share is drawn from Beta(mixup, mixup). `0`: off.", at_least=0
    )
    cutmix: float = setting(
        0.0,
        "Replace a rectangle of each image by one of another; its share is drawn from Beta(cutmix, cutmix). `0`: off.",
        at_least=0,
    )
    fill: str = setting(
        "nearest",
        "Pixels outside the image. `nearest`: the edge. `constant`: black. `reflect`: the mirror image.",
        choices=("nearest", "constant", "reflect"),
    )


@dataclass(frozen=True)
class EarlyStoppingConfig:
    """Stopping when a metric no longer improves."""

    patience: int | None = setting(None, "Stop after this many epochs without improvement. `null`: never.", at_least=1)
    monitor: str = setting(
        "val/loss",
        "Metric to improve.",
        choices=tuple(f"{part}/{metric}" for part in ("val", "train") for metric in ("loss", "accuracy", "objective")),
    )
    restore_best: bool = setting(
        True, "With a patience, end with the weights of the epoch in which `monitor` was best."
    )


@dataclass(frozen=True)
class CheckpointConfig:
    """How often the state of the training is saved. It does not change any result."""

    every: int | None = setting(1, "Save the state every N epochs. `null`: never.", at_least=1)
    log_seconds: float | None = setting(
        300.0,
        "Seconds between two checkpoints that are sent to the tracking server. `null`: none is sent.",
        at_least=0,
    )


@dataclass(frozen=True)
class TrainingConfig:
    """How the model is fitted."""

    epochs: int = setting(MISSING, "Number of epochs.", at_least=1)
    start_from: str | None = setting(
        None,
        "Initial weights: the id or fingerprint of a run, the name of an experiment (its latest finished run), or a "
        "`.keras` file. `null`: random weights.",
    )
    # the limit is the largest size that all backends support
    batch_size: int = setting(MISSING, "Images per batch.", at_least=1, at_most=2**31 - 1)
    early_stopping: EarlyStoppingConfig = field(default_factory=EarlyStoppingConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    whiten: bool = setting(
        False, "Set the filters of the first convolution to whiten the training images, and do not train them."
    )
    label_smoothing: float = setting(
        0.0, "Share of each training label that is spread over all classes.", at_least=0, below=1
    )
    focal_gamma: float = setting(
        0.0,
        "Exponent of the focal loss: how much less an image counts whose label has a high probability. `0`: off.",
        at_least=0,
    )
    precision: str = setting(
        "float32",
        "Keras dtype policy: arithmetic in half precision with the mixed policies, weights in float32 with all.",
        choices=("float32", "mixed_bfloat16", "mixed_float16"),
    )
    ghost_batches: int = setting(1, "Parts of each batch that batch normalization normalizes separately.", at_least=1)
    steps_per_execution: int = setting(32, "Batches between two returns to Python.", at_least=1)
    deterministic: bool = setting(False, "Make runs with the same seed equal to the last bit on the same machine.")
    device: str = setting(
        "auto",
        "`auto`: a GPU if there is one. `cpu`: no GPU. `gpu`: refuse to run without a GPU.",
        choices=("auto", "cpu", "gpu"),
    )

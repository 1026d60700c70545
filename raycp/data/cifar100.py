"""CIFAR-100 as published (Krizhevsky 2009): 100 fine classes, grouped into 20 coarse ones."""

from __future__ import annotations

from raycp.config.data import Cifar100Data
from raycp.data.cifar import CifarLayout, read_cifar
from raycp.data.images import ImageSet

# fine_label_names.txt and coarse_label_names.txt of the binary version, as tensorflow/datasets has them
# (image_classification/cifar100_n/dummy_data/cifar-100-binary); both in the order of the alphabet. The card of the
# Hugging Face copy (uoft-cs/cifar100) has the same fine names but "cra" for "crab".
FINE_NAMES = (
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
COARSE_NAMES = (
    "aquatic_mammals", "fish", "flowers", "food_containers", "fruit_and_vegetables", "household_electrical_devices",
    "household_furniture", "insects", "large_carnivores", "large_man-made_outdoor_things",
    "large_natural_outdoor_scenes", "large_omnivores_and_herbivores", "medium_mammals", "non-insect_invertebrates",
    "people", "reptiles", "small_mammals", "trees", "vehicles_1", "vehicles_2",
)  # fmt: skip

_ROWS = {"test": 10_000, "train": 50_000}


def read_cifar100(config: Cifar100Data) -> ImageSet:
    """The test file (10,000 images) or the training file (50,000), with its fine or its coarse labels."""
    layout = CifarLayout(
        title="CIFAR-100",
        split=config.split,
        stems=[config.split],
        num_rows=_ROWS[config.split],
        binary_folder="cifar-100-binary",
        python_folder="cifar-100-python",
        num_label_bytes=2,
        label_byte=0 if config.labels == "coarse" else 1,
        labels_key=f"{config.labels}_labels",
        labels_name=f"{config.labels} labels",
        class_names=COARSE_NAMES if config.labels == "coarse" else FINE_NAMES,
    )
    return read_cifar(layout, config.path, config.select)

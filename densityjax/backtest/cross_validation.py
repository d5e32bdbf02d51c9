"""Purged cross-validation of rows in time: one test block, or all combinations of several.

Rows are cut into N groups of neighbours. Around each run of test groups the training rows whose
labels overlap it are dropped (the purge, on both sides), and after it further rows whose windows
still look into it (the embargo). With k test groups there are C(N, k) splits, and their test
answers make C(N - 1, k - 1) whole paths, each row tested once on each.
"""

import itertools
from typing import NamedTuple

import numpy as np

from densityjax._typing import ArrayLike, NumpyArray


class PurgedSplit(NamedTuple):
    """Rows of one split.

    Attributes:
      train: [n] rows to fit on, increasing.
      test: tuple of [m] rows, one array for each test group, in order of time.
      groups: numbers of the test groups.
    """

    train: NumpyArray
    test: tuple[NumpyArray, ...]
    groups: tuple[int, ...]


def combinatorial_purged_splits(
    num_rows: int, *, num_groups: int = 6, num_test_groups: int = 2, purge: int, embargo: int = 0
) -> list[PurgedSplit]:
    """Makes every choice of test groups into a split.

    Args:
      num_rows: number of rows, in order of time.
      num_groups: groups N; the first ones have a row more where rows are no multiple.
      num_test_groups: test groups k of each split, 1 for plain purged folds.
      purge: rows dropped on both sides of a run of test rows; at least the horizon of the labels.
      embargo: further rows dropped after a run; at least the longest window of the features, since
        what follows a test block still looks into it.

    Returns:
      The C(N, k) splits, in the order of `itertools.combinations`.

    Raises:
      ValueError: if a number is out of range, or a split has no training row left.

    References:
      Lopez de Prado, Advances in Financial Machine Learning, 2018, sections 7.4 and 12.4.
    """
    if not 1 <= num_test_groups < num_groups <= num_rows:
        raise ValueError(
            f"num_test_groups is {num_test_groups}, num_groups {num_groups} and num_rows {num_rows}"
            ": accepted are 1 <= num_test_groups < num_groups <= num_rows"
        )
    if purge < 0 or embargo < 0:
        raise ValueError(f"purge is {purge} and embargo {embargo}: accepted are 0 and more rows")
    groups = np.array_split(np.arange(num_rows), num_groups)
    splits = []
    for chosen in itertools.combinations(range(num_groups), num_test_groups):
        is_train = np.ones(num_rows, bool)
        for group in chosen:
            first, last = groups[group][0], groups[group][-1]
            is_train[max(first - purge, 0) : last + 1 + purge + embargo] = False
        train = np.flatnonzero(is_train)
        if train.size == 0:
            raise ValueError(
                f"purge={purge} and embargo={embargo} leave no training row beside groups {chosen}"
            )
        splits.append(PurgedSplit(train, tuple(groups[group] for group in chosen), chosen))
    return splits


def backtest_paths(num_groups: int, num_test_groups: int) -> NumpyArray:
    """Says from which split each group of each path takes its test answers.

    Args:
      num_groups: groups N.
      num_test_groups: test groups k of each split.

    Returns:
      [C(N - 1, k - 1), N] numbers of splits, in the order of `combinatorial_purged_splits`.

    Raises:
      ValueError: if a number is out of range.
    """
    if not 1 <= num_test_groups < num_groups:
        raise ValueError(
            f"num_test_groups is {num_test_groups} of {num_groups}: accepted are 1 to N - 1"
        )
    choices = list(itertools.combinations(range(num_groups), num_test_groups))
    return np.array(
        [[i for i, chosen in enumerate(choices) if group in chosen] for group in range(num_groups)]
    ).T


def assemble_paths(splits: list[PurgedSplit], answers: list[ArrayLike]) -> NumpyArray:
    """Puts the test answers of all splits together into whole paths.

    Args:
      splits: all splits of `combinatorial_purged_splits`.
      answers: for each split [m, ...] answers on its test rows, the groups one after the other.

    Returns:
      [paths, T, ...] answers; report the distribution of a figure over the paths, not its best.

    Raises:
      ValueError: if an answer has another number of rows than the split's test groups.
    """
    num_groups = max(split.groups[-1] for split in splits) + 1
    parts: list[dict[int, NumpyArray]] = []
    for number, (split, answer) in enumerate(zip(splits, answers, strict=True)):
        values = np.asarray(answer)
        sizes = [len(rows) for rows in split.test]
        if len(values) != sum(sizes):
            raise ValueError(
                f"answers[{number}] has {len(values)} rows: accepted are its {sum(sizes)} test rows"
            )
        cuts = np.cumsum(sizes)[:-1]
        parts.append(dict(zip(split.groups, np.split(values, cuts), strict=True)))
    paths = backtest_paths(num_groups, len(splits[0].groups))
    return np.stack(
        [
            np.concatenate([parts[split][group] for group, split in enumerate(path)])
            for path in paths
        ]
    )

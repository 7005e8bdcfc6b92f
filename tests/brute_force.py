"""What `predict` should return, by the slowest and plainest route.

Written from the documentation alone: the whole image is padded, every window is cut out and scored
by itself, every prediction of every pixel is kept in a list, and each list is reduced in float64.
"""

import math
from fractions import Fraction

import numpy as np


def origins(length, window, stride, edges, padded):
    """Return (window origins in the padded axis, padding before, padding after)."""
    before = after = 0
    if padded:
        before = after = max(window - stride, 0)
        while before + length + after < window:
            after += 1
    total = before + length + after
    found = [o for o in range(0, total, stride) if o + window <= total]
    if edges == "cover" and found[-1] + window < total:
        found.append(total - window)
    return found, before, after


def score(
    model,
    images,
    n_classes,
    window_shape,
    dilation=1,
    stride=(1, 1),
    update_map=None,
    edges="cover",
    padding=None,
    nan_policy="propagate",
    bands="last",
    mask=None,
    skip_blank=False,
):
    """Return mean, variance, votes, n, visits and the mean square, each indexed by output pixel."""
    images = [np.moveaxis(image, 0, -1) if bands == "first" else image for image in images]
    height, width = images[0].shape[:2]
    h, w = window_shape
    valid = np.ones((height, width), bool) if mask is None else np.asarray(mask) == 0
    seen = valid
    if skip_blank:
        seen = valid & ~np.all([np.isnan(image).all(axis=-1) for image in images], axis=0)
    tops, above, below = origins(height, h, stride[0], edges, padding is not None)
    lefts, left_of, right_of = origins(width, w, stride[1], edges, padding is not None)
    if padding is not None:
        around = ((above, below), (left_of, right_of), (0, 0))
        images = [np.pad(image, around, mode=padding) for image in images]
    out_h, out_w = round(h * dilation), round(w * dilation)
    if update_map is None:
        update_map = np.ones((out_h, out_w))
    kept, heaviest = {}, {}
    for top in tops:
        for left in lefts:
            row, column = round((top - above) * dilation), round((left - left_of) * dilation)
            for (i, j), weight in np.ndenumerate(update_map):
                at = row + i, column + j
                heaviest[at] = max(float(weight), heaviest.get(at, 0.0))
            first = max(top - above, 0), max(left - left_of, 0)
            if not seen[first[0] : top - above + h, first[1] : left - left_of + w].any():
                continue
            batch = [image[np.newaxis, top : top + h, left : left + w] for image in images]
            prediction = np.asarray(model(batch), dtype=np.float64)[0]
            for (i, j), weight in np.ndenumerate(update_map):
                at = row + i, column + j
                if weight > 0:
                    kept.setdefault(at, []).append((float(weight), prediction[i, j]))
    shape = round(height * dilation), round(width * dilation)
    kept = {
        at: [(weight, p) for weight, p in entries if counts(weight, heaviest[at], p)]
        for at, entries in kept.items()
        if shows_valid(valid, at, dilation)
    }
    return reduce_pixels(kept, shape, n_classes, nan_policy)


def counts(weight, heaviest, prediction):
    """Say whether a prediction counts: one that is not finite and next to nothing does not."""
    return np.isfinite(prediction).all() or weight >= 1e-3 * heaviest


def shows_valid(valid, at, dilation):
    """Say whether one of the input pixels that an output pixel covers is valid."""
    (row, column), f = at, Fraction(dilation)
    rows = slice(math.floor(row / f), math.ceil((row + 1) / f))
    columns = slice(math.floor(column / f), math.ceil((column + 1) / f))
    return row < 0 or column < 0 or valid[rows, columns].any()


def reduce_pixels(kept, shape, n_classes, nan_policy):
    mean, variance, votes, square = (np.full((*shape, n_classes), math.nan) for _ in range(4))
    n, visits = np.zeros(shape), np.zeros(shape)
    for row in range(shape[0]):
        for column in range(shape[1]):
            entries = kept.get((row, column), [])
            if nan_policy == "omit":
                entries = [(weight, p) for weight, p in entries if np.isfinite(p).all()]
            if not entries:
                continue
            n[row, column] = sum(weight for weight, _ in entries)
            visits[row, column] = len(entries)
            if not all(np.isfinite(p).all() for _, p in entries):
                continue
            weights = np.array([weight for weight, _ in entries])[:, np.newaxis] / n[row, column]
            values = np.array([p for _, p in entries])
            mean[row, column] = (weights * values).sum(axis=0)
            square[row, column] = (weights * values**2).sum(axis=0)
            variance[row, column] = (weights * (values - mean[row, column]) ** 2).sum(axis=0)
            share = np.zeros(n_classes)
            for weight, p in entries:
                share[list(p).index(max(p))] += weight
            votes[row, column] = share / n[row, column]
    return mean, variance, votes, n, visits, square

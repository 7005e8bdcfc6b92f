"""Simulated galaxies with the votes of Galaxy Zoo, and a small network that is trained on them.

``python tests/simulated_galaxies.py`` trains it and prints how well it tells unseen galaxies apart.
"""

import numpy as np
import torch
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from torch import nn
from torch.nn import functional

#: The columns of the votes in table 2 of Lintott et al. 2011, MNRAS 410, 166.
VOTES = [
    "P_EL",
    "P_CW",
    "P_ACW",
    "P_EDGE",
    "P_DK",
    "P_MG",
    "P_CS",
    "P_EL_DEBIASED",
    "P_CS_DEBIASED",
]
#: Ellipticals, spirals clockwise and anticlockwise, seen edge-on, too faint to say, mergers.
KINDS = VOTES[:6]
SIZE = 32
#: Votes for each other kind.
DOUBT = 0.03
STEPS = 150
BATCH_SIZE = 48
#: Pixels between neighbouring galaxies of a field.
SPACING = 48


def draw(kind, random):
    """Return a galaxy in the middle of its window, with noise of 1 in each pixel, (SIZE, SIZE)."""
    light = profile(kind, random) * (2 if kind == "P_DK" else random.uniform(20, 60))
    return (light + random.normal(size=light.shape)).astype(np.float32)


def profile(kind, random):
    """Return surface brightness, 1 or so in the middle."""
    y, x = np.indices((SIZE, SIZE)) - (SIZE - 1) / 2 + random.uniform(-0.5, 0.5, (2, 1, 1))
    turn = random.uniform(0, 2 * np.pi)
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    scale = random.uniform(3, 4.5)
    if kind == "P_EDGE":
        return np.exp(-np.hypot(along / 1.8, 6 * across) / scale)
    if kind in ("P_CW", "P_ACW"):
        return spiral(along, across / random.uniform(0.8, 1), scale, 1 if kind == "P_CW" else -1)
    if kind == "P_MG":
        apart = random.uniform(7, 10)
        radii = [np.hypot(along - side * apart / 2, across) for side in (-1, 1)]
        return sum(np.exp(-radius / random.uniform(1.2, 2)) for radius in radii)
    return np.exp(-np.hypot(along, across / random.uniform(0.6, 1)) / scale * 1.5)


def spiral(along, across, scale, winding):
    """Return a disk with two logarithmic arms."""
    radius = np.hypot(along, across) + 0.3
    phase = 2 * (np.arctan2(across, along) - winding * 2.2 * np.log(radius))
    arms = 1 + 0.95 * np.cos(phase) * (1 - np.exp(-radius / 2))
    return 0.5 * arms * np.exp(-radius / (2 * scale)) + 0.5 * np.exp(-radius)


def votes_of(kind):
    """Return the shares of votes, in the order of `VOTES`."""
    votes = np.where(np.array(KINDS) == kind, 1 - DOUBT * (len(KINDS) - 1), DOUBT)
    spirals = votes[1:4].sum()
    # Faint spirals are taken for ellipticals; debiasing gives some of these votes back.
    return np.array([*votes, spirals, 0.9 * votes[0], spirals + 0.1 * votes[0]], np.float32)


class Voter(nn.Module):
    """Logits of the shares of votes, (batch, 1, SIZE, SIZE) → (batch, vote)."""

    def __init__(self):
        super().__init__()
        self.fine = nn.Conv2d(1, 12, 5, stride=2, padding=2)
        self.middle = nn.Conv2d(12, 24, 5, padding=2)
        self.coarse = nn.Conv2d(24, 32, 3, padding=1)
        self.votes = nn.Linear(2 * 32, len(VOTES))

    def forward(self, image):
        x = functional.relu(self.fine(torch.asinh(image / 3)))
        x = functional.max_pool2d(functional.relu(self.middle(x)), 2)
        x = functional.relu(self.coarse(x))
        return self.votes(torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1))


def trained():
    """Train for some seconds, in one thread: several wait for each other on a busy machine."""
    torch.set_num_threads(1)
    torch.manual_seed(1)
    random = np.random.default_rng(1)
    network = Voter()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, STEPS)
    for _ in range(STEPS):
        kinds = random.choice(KINDS, BATCH_SIZE)
        images = np.stack([draw(kind, random) for kind in kinds])[:, np.newaxis]
        votes = torch.from_numpy(np.stack([votes_of(kind) for kind in kinds]))
        loss = functional.binary_cross_entropy_with_logits(network(torch.from_numpy(images)), votes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def field(n_side, seed):
    """Return an image of galaxies the network has not seen, its catalogue, and what they are.

    Returns
    -------
    image : PrimaryHDU
        With world coordinates.
    catalog : Table
        OBJID, and RA and DEC as sexagesimal text.
    kinds : ndarray of str
        Of each row.
    """
    random = np.random.default_rng(seed)
    kinds = random.choice(KINDS, (n_side, n_side))
    length = n_side * SPACING
    image = random.normal(size=(length, length)).astype(np.float32)
    first = (SPACING - SIZE) // 2
    for (row, column), kind in np.ndenumerate(kinds):
        top, left = row * SPACING + first, column * SPACING + first
        image[top : top + SIZE, left : left + SIZE] = draw(kind, random)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval = 0.0, -10.4
    wcs.wcs.crpix = length / 2, length / 2
    wcs.wcs.cdelt = -0.396 / 3600, 0.396 / 3600
    rows, columns = np.indices(kinds.shape).reshape(2, -1) * SPACING + (SPACING - 1) / 2
    sky = wcs.pixel_to_world(columns, rows)
    catalog = Table(
        {
            "OBJID": 587722981736120347 + np.arange(kinds.size),
            "RA": sky.ra.to_string("hour", sep=":", precision=2, pad=True),
            "DEC": sky.dec.to_string("deg", sep=":", precision=1, pad=True, alwayssign=True),
        }
    )
    return fits.PrimaryHDU(image, wcs.to_header()), catalog, kinds.ravel()


def main():
    """Print how often the kind with the most votes is the right one, on unseen galaxies."""
    from morpheus_core import predict_catalog
    from morpheus_core.adapters import torch_model

    model = torch_model(trained(), activation="sigmoid")
    image, catalog, kinds = field(24, seed=2)
    table = predict_catalog(model, image, catalog, 9, 64, (SIZE, SIZE), class_names=VOTES)
    votes = np.stack([table[name] for name in KINDS], axis=1)
    found = np.array(KINDS)[votes.argmax(axis=1)]
    for kind in KINDS:
        print(f"{kind}: {np.mean(found[kinds == kind] == kind):.0%} of {np.sum(kinds == kind)}")


if __name__ == "__main__":
    main()

"""Models of all kinds as callables that `predict` takes."""

from morpheus_core.adapters.priors import adjust_priors

__all__ = ["adjust_priors"]

"""Masks of whole multi-extension exposures."""

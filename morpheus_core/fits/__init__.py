"""FITS as bytes and cards."""

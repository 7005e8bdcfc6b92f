"""Where pixels are on the sky."""

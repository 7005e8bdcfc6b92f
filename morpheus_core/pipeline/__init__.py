"""The straight line from images to finished rows, one module a step."""

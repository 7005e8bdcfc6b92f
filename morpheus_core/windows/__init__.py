"""Where windows lie: integer geometry."""

"""Pictures of finished outputs."""

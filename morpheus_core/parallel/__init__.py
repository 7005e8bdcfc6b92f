"""Running the strips of a run in other processes: `devices`, `pool` (here), `worker` (there)."""

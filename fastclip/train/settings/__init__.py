"""What a run is told, by flags, by a file or by a checkpoint: flat, and composed of parts."""

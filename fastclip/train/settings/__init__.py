"""The settings of a run, which flags, a file or a checkpoint give; they are composed of parts."""

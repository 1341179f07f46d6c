"""The subcommands of `fastclip`, one module for each."""

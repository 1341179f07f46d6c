"""The subcommands of `fastclip`, one module each."""

"""What `fastclip demo` shows."""

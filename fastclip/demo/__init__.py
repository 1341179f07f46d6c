"""What `fastclip demo` runs: a small CLIP, trained and evaluated on images of digits."""

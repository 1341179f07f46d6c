"""Other packages' names for fastclip's objects, module by module.

    import fastclip.compat.open_clip
    fastclip.compat.open_clip.install()     # from here on `import open_clip` means fastclip
    import open_clip

`fastclip.compat.clip` stands for OpenAI's `clip` in the same way. The modules hold names alone;
what a name means is written where the object is. A name without an object here is a class that says
so, with the reason, when it is used. `python -m fastclip.compat MODULE ARGUMENTS` runs a program,
unchanged, in a process in which both packages are fastclip.
"""

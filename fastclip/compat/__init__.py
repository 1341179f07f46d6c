"""fastclip's objects under the names of other packages, module by module.

    import fastclip.compat.open_clip
    fastclip.compat.open_clip.install()     # from here on `import open_clip` means fastclip
    import open_clip

`fastclip.compat.clip` stands for OpenAI's `clip` in the same way. The modules contain only names;
the objects are documented where they are defined. A name that fastclip does not implement is a
class that raises an error with the reason when it is used. `python -m fastclip.compat MODULE
ARGUMENTS` runs a program, unchanged, in a process in which both packages are fastclip.
"""

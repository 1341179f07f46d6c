"""What runs fastclip inside other people's engines; each module needs the package it is called by.

ray   embedding on all machines of a Ray cluster: `fastclip.integrations.ray.embed`
"""

"""The page of `gradtoken serve`: a picture or a text, a model and a class in, heat maps and their numbers out.

Everything but `page` and `serving` is plain functions and values, which know nothing of gradio.
"""

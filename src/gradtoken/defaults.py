"""What the shell and the page take where nothing is said."""

METHOD = "gaze"  # docs/beyond-gradtoken.md has the evidence; in Python the usual method is the paper's, `gradtoken`

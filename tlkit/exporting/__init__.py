"""Export a classifier to artifacts that other runtimes run without tlkit, and check that they give the same outputs."""

"""A classifier to artifacts that other runtimes run without tlkit, and the proof that they give the same."""

"""tlkit: a folder of images in; a classifier, a feature table and an honest report out.

Importing this package is cheap: Keras and its friends load when a function is first called.
"""

import os

__version__ = "0.1.0"

# Read by TensorFlow when it is first imported; silences its start-up chatter, not its errors.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

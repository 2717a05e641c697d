"""Clips in one file: mp4, mov, avi, mkv and webm by PyAV, GIF and animated WebP and PNG by Pillow; each frame becomes a file once."""

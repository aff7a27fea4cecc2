"""The page of `basicsr app`: restoring a picture or a short video in a browser."""

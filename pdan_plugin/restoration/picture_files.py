"""Pictures in files: which there are, reading them, writing them whole."""

PICTURE_SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')

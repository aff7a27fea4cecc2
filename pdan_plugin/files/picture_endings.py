"""The endings of picture files, one list for all commands: in a folder they select files, whose content decides."""

PICTURE_SUFFIXES = ('.avif', '.bmp', '.jfif', '.jpe', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')

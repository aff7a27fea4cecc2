"""What an option file may say: checked before the toolbox sees it."""

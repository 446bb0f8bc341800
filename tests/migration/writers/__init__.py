"""Programs that old releases run: they import nothing of this project."""

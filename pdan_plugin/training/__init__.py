"""Parts of the training engine: checkpoints, records, guards and displays. They import no models, data or options."""

"""The engine's own parts: what a training run keeps, guards and shows. They know nothing of models, data or options."""

"""A trained model becomes one that people talk to: export, import, chat and serving."""

"""The configuration: `settings` holds its shapes and defaults."""

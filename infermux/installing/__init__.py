"""Installing provider processes, each into an environment of its own, and updating them and infermux itself."""

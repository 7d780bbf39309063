"""Makes the tables and pictures of README.md and docs/ from results/ and from the sample recordings."""

"""An evaluation in the formats of others: SWE-bench's reports, R2E-Gym's trajectories, Parquet, Markdown, HTML."""
